/* hornbook verify: checks a backend against golden outputs and against ref. */
#ifndef HB_CLI_VERIFY_H
#define HB_CLI_VERIFY_H

/* argv[0] is "verify". Returns the exit code: 0 success, 1 failed, 2 wrong usage. */
int hb_cli_verify(int argc, char **argv);

/* Where the golden cases are: installed with the program, or in the source tree that we are in. */
const char *hb_cli_golden_folder(void);

#endif
