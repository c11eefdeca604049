/* hornbook train: trains a model from a run configuration. */
#ifndef HB_CLI_TRAIN_H
#define HB_CLI_TRAIN_H

/* argv[0] is "train". Returns the exit code: 0 success, 1 failed, 2 wrong usage. */
int hb_cli_train(int argc, char **argv);

#endif
