/* hornbook data: text becomes shards. */
#ifndef HB_CLI_DATA_H
#define HB_CLI_DATA_H

/* argv[0] is "data", the rest are its arguments. Returns the exit code: 0
 * success, 1 failed, 2 wrong usage. */
int hb_cli_data(int argc, char **argv);

#endif
