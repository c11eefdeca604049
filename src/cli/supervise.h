/* hornbook supervise: starts a training run again when it dies. */
#ifndef HB_CLI_SUPERVISE_H
#define HB_CLI_SUPERVISE_H

int hb_cli_supervise(int argc, char **argv);

#endif
