/* hornbook generate: lets a trained model write. */
#ifndef HB_CLI_GENERATE_H
#define HB_CLI_GENERATE_H

/* argv[0] is "generate". Returns the exit code: 0 success, 1 failed, 2 wrong usage. */
int hb_cli_generate(int argc, char **argv);

#endif
