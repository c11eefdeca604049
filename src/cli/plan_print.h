/* A plan as tables for people, and as JSON. */
#ifndef HB_CLI_PLAN_PRINT_H
#define HB_CLI_PLAN_PRINT_H

#include <stdio.h>

#include "parallel/plan.h"

HB_MUST_USE hb_status hb_plan_print(const struct hb_plan *plan, FILE *out);
HB_MUST_USE hb_status hb_plan_print_json(const struct hb_plan *plan, FILE *out);

#endif
