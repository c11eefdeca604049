/* hornbook plan: what a run will need, before it is started. */
#ifndef HB_CLI_PLAN_H
#define HB_CLI_PLAN_H

int hb_cli_plan(int argc, char **argv);

#endif
