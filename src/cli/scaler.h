/* hornbook scaler: replays a trace of overflows through a loss scaler. */
#ifndef HB_CLI_SCALER_H
#define HB_CLI_SCALER_H

int hb_cli_scaler(int argc, char **argv);

#endif
