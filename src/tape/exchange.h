/* How token rows reach the experts that work on them, where a layer's experts are
 * divided among ranks. The expert layer calls what is handed to it and knows no
 * ranks; without an exchange all experts are here.
 *
 * Rows arrive source by source, in each by expert, then token and slot: so each
 * source's rows are those of one microbatch, in the order in which one rank would
 * have them, and each (expert, microbatch) is a product of its own. */
#ifndef HB_TAPE_EXCHANGE_H
#define HB_TAPE_EXCHANGE_H

#include "tape/tape.h"

struct hb_arrival {
    int64_t begin, rows; /* among the rows here */
    int64_t microbatch;  /* -1: none */
};

/* Who sent what in one layer of one microbatch. One block of memory, free()d by
 * the entry that keeps it. */
struct hb_arrivals {
    int64_t rows, sources;
    /* [sources, experts here + 1]: rows of each expert, counted from the source's begin */
    int32_t *offsets;
    size_t *sent;               /* [sources]: rows that went to each */
    struct hb_arrival source[]; /* [sources] */
};

struct hb_exchange {
    /* Tells the others how many rows come: `offsets` i32 [E+1] of this rank's own,
     * sorted by expert; of which layer of experts and which microbatch. */
    hb_status (*meet)(struct hb_exchange *exchange, struct hb_tensor offsets, int64_t layer,
                      int64_t microbatch, struct hb_arrivals **arrivals);
    /* rows [own, C] to arrived [arrivals->rows, C], and the way back. */
    hb_status (*dispatch)(struct hb_exchange *exchange, const struct hb_arrivals *arrivals,
                          struct hb_tensor rows, struct hb_tensor arrived);
    hb_status (*combine)(struct hb_exchange *exchange, const struct hb_arrivals *arrivals,
                         struct hb_tensor arrived, struct hb_tensor rows);
};

#endif
