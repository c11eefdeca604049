/* The verdict on one golden case: within the derived bound of the expected
 * values, and in canonical numerics equal to `ref` bit for bit. */
#ifndef HB_VERIFY_VERIFY_H
#define HB_VERIFY_VERIFY_H

#include <stdbool.h>

#include "verify/case.h"

struct hb_verdict {
    bool passed;
    bool covered;      /* false: the backend has no such storage type; not run, not failed */
    bool ran;          /* false: it ended in an error, which is the problem, and nothing was compared */
    bool same_bits;    /* every output equals ref's */
    double share;      /* largest error over its bound; exact outputs: 0 or infinity */
    double worst;      /* over the worst-case bound */
    char place[64];    /* of the largest share: "out[3,5]"; empty when there is no error */
    char problem[384]; /* empty when passed: first wrong element, expected and got */
};

/* Runs the case on `subject` and on `ref` (a canonical context of backend ref).
 * Fails only without memory or when `ref` itself refuses the case; whatever the
 * subject does wrong, a refusal included, is in the verdict. */
HB_MUST_USE hb_status hb_verify_case(const struct hb_case *c, struct hb_context *subject,
                                     struct hb_context *ref, struct hb_verdict *out);

#endif
