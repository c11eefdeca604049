/* hornbook ops: prints the table of ops. */
#ifndef HB_CLI_OPS_H
#define HB_CLI_OPS_H

/* argv[0] is "ops". Returns the exit code: 0 success, 1 failed, 2 wrong usage. */
int hb_cli_ops(int argc, char **argv);

#endif
