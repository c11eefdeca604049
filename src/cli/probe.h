/* hornbook probe: logits, losses and gradients of one microbatch, for comparison. */
#ifndef HB_CLI_PROBE_H
#define HB_CLI_PROBE_H

/* argv[0] is "probe". Returns the exit code: 0 success, 1 failed, 2 wrong usage. */
int hb_cli_probe(int argc, char **argv);

#endif
