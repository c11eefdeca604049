/* What hornbook loads: your entries, everything else from `base`, whose memory they work on. */
#include "ops/backend.h"

hb_status my_rmsnorm_forward(struct hb_context *context, const struct hb_rmsnorm_forward_args *args);

const struct hb_backend hb_backend_plugin = {
    .api_version = HB_BACKEND_API,
    .name = "mine",
    .base = BASE,
    .about = "one kernel of mine",
    .rmsnorm_forward = my_rmsnorm_forward,
};
