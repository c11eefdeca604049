/* hornbook tokenizer train | encode | decode */
#ifndef HB_CLI_TOKENIZER_H
#define HB_CLI_TOKENIZER_H

/* argv[0] is "tokenizer". Returns the exit code: 0, 1 (failed), 2 (wrong usage). */
int hb_cli_tokenizer(int argc, char **argv);

#endif
