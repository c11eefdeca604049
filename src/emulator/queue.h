/* A queue of its own, for what others do with an emulated device's memory while the device goes on: messages
 * between ranks. A piece of work is asked again and again until it says that it is done, one behind the
 * other; that happens when somebody looks, at any queue of the process. */
#ifndef HB_EMULATOR_QUEUE_H
#define HB_EMULATOR_QUEUE_H

#include "emulator/emulator.h"

#ifdef __cplusplus
extern "C" {
#endif

struct hb_emulator_queue;

struct hb_emulator_work {
    hb_status (*go_on)(void *state, bool *done); /* an error ends it, and the queue with it */
    void (*release)(void *state);                /* at the end, also of work that was dropped */
    void *state;
};

HB_MUST_USE hb_status hb_emulator_queue_create(struct hb_emulator *emulator, struct hb_emulator_queue **out);
/* Drops what is left. NULL is allowed. */
void hb_emulator_queue_destroy(struct hb_emulator_queue *queue);
struct hb_emulator *hb_emulator_queue_device(const struct hb_emulator_queue *queue);

/* Takes the state, also when it fails. */
HB_MUST_USE hb_status hb_emulator_queue_add(struct hb_emulator_queue *queue, struct hb_emulator_work work);
/* How many pieces were added so far. Are the first `count` of them done? */
int64_t hb_emulator_queue_count(const struct hb_emulator_queue *queue);
HB_MUST_USE hb_status hb_emulator_queue_passed(struct hb_emulator_queue *queue, int64_t count, bool *passed);

#ifdef __cplusplus
}
#endif

#endif
