/* hornbook bench: times a training step, op by op. */
#ifndef HB_CLI_BENCH_H
#define HB_CLI_BENCH_H

/* argv[0] is "bench". Returns the exit code: 0 success, 1 failed, 2 wrong usage. */
int hb_cli_bench(int argc, char **argv);

#endif
