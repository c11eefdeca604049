/* hornbook verify: checks a backend against golden outputs and against ref. */
#ifndef HB_CLI_VERIFY_H
#define HB_CLI_VERIFY_H

/* argv[0] is "verify". Returns the exit code: 0 success, 1 failed, 2 wrong usage. */
int hb_cli_verify(int argc, char **argv);

#endif
