#include "parallel/footprint.h"

const char *hb_footprint_name(enum hb_footprint which)
{
    static const char *const names[HB_FOOTPRINTS] = {"parameters", "gradients", "optimizer", "gathered",
                                                     "activations", "fold", "exchange", "messages"};
    return names[which];
}
