/* hornbook diff: where do two runs part? */
#ifndef HB_CLI_DIFF_H
#define HB_CLI_DIFF_H

/* argv[0] is "diff". Returns the exit code: 0 equal, 1 they differ, 2 wrong usage
 * or a run that cannot be read. */
int hb_cli_diff(int argc, char **argv);

#endif
