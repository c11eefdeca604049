/* A pipeline schedule as data: for each pipeline rank the list of actions that it
 * performs in a step, in order. docs/schedules.md describes the text form.
 *
 *     0F0 0F1 1RECV_F0 ...        one line per rank; stage, kind, microbatch
 *
 * Kinds of work: F forward, I gradient of the inputs, W gradient of the weights,
 * B both (I and W in one). A stage is a run of blocks of the model; several may
 * live on one rank ("chunks"). Microbatches are numbered as the rank meets them:
 * 0 .. microbatches - 1 are the rounds of a step, whatever their global numbers.
 *
 * A schedule of work alone is complete; hb_schedule_add_messages and
 * hb_schedule_add_gathers put the communication in. Every data rank runs the
 * same schedule, so that collectives inside actions meet.
 *
 * Sends do not wait. A receive waits for its message; messages from one rank to
 * another arrive in the order in which they were sent, and are received in it. */
#ifndef HB_PARALLEL_SCHEDULE_H
#define HB_PARALLEL_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

enum hb_action_kind {
    HB_ACTION_F,
    HB_ACTION_I,
    HB_ACTION_W,
    HB_ACTION_B,
    HB_ACTION_SEND_F,  /* the stage's output, to the stage after it */
    HB_ACTION_RECV_F,  /* the stage's input, from the stage before it */
    HB_ACTION_SEND_B,  /* the gradient of the stage's input, to the stage before it */
    HB_ACTION_RECV_B,  /* the gradient of the stage's output, from the stage after it */
    HB_ACTION_GATHER,  /* the stage's parameters, of which a rank keeps a shard (ZeRO level 3) */
    HB_ACTION_RELEASE, /* drops them again */
    HB_ACTION_KINDS
};

struct hb_action {
    enum hb_action_kind kind;
    int stage;
    int64_t microbatch; /* of GATHER and RELEASE: -1 */
    int peer;           /* the other rank of SEND and RECV, else -1 */
};

struct hb_schedule_row {
    struct hb_action *actions;
    int64_t count, capacity;
};

enum { HB_STAGES_MAX = 4096, HB_ROUNDS_MAX = 1 << 20, HB_SCHEDULE_NAME = 64 };

struct hb_schedule {
    char name[HB_SCHEDULE_NAME]; /* "zb-h1", or the file's path */
    int ranks, stages;
    int64_t microbatches;
    struct hb_schedule_row *rows; /* [ranks] */
    int *rank_of;                 /* [stages] */
};

void hb_schedule_release(struct hb_schedule *schedule);

/* --- where schedules come from --- */

/* "gpipe", "1f1b", "interleaved" (two chunks a rank) or "interleaved:V", "zb-h1", "zb-v", else the path
 * of a file, which must have `ranks` rows and `microbatches` microbatches. The result is checked, and has no
 * messages unless the file has them. */
HB_MUST_USE hb_status hb_schedule_open(const char *name_or_path, int ranks, int64_t microbatches,
                                       struct hb_schedule *out);

/* One of the names above; HB_EARGUMENT when there is no such name, with the names. */
HB_MUST_USE hb_status hb_schedule_generate(const char *name, int ranks, int64_t microbatches,
                                           struct hb_schedule *out);
bool hb_schedule_is_name(const char *name);

/* Chunks a rank has under a name (1, V, 2); 0: not a name. */
int hb_schedule_chunks(const char *name);

/* Text to schedule and back. `name` stands in messages: "file:3:17: ...". Not checked beyond its form. */
HB_MUST_USE hb_status hb_schedule_parse(const char *name, const char *text, struct hb_schedule *out);
HB_MUST_USE hb_status hb_schedule_load(const char *path, struct hb_schedule *out);
/* The caller free()s it. */
HB_MUST_USE hb_status hb_schedule_text(const struct hb_schedule *schedule, char **text);

/* "1RECV_F3" */
enum { HB_ACTION_TEXT = 64 };
const char *hb_action_text(const struct hb_action *action, char text[HB_ACTION_TEXT]);
const char *hb_action_kind_name(enum hb_action_kind kind); /* "F", "RECV_F", "GATHER" */

/* --- passes --- */

/* Puts SEND right behind what makes a message, and RECV right before what needs it, or earlier where the
 * order of the messages between the two ranks asks for it. Neighbouring stages on one rank hand over without
 * a message. The schedule must be checked, and have no messages yet. */
HB_MUST_USE hb_status hb_schedule_add_messages(struct hb_schedule *schedule);

/* Puts GATHER before the first action that needs a stage's parameters (F, I, B; W needs none) and RELEASE
 * after the last, so that a rank holds those of at most `most` stages at a time. The one needed latest makes
 * way. */
HB_MUST_USE hb_status hb_schedule_add_gathers(struct hb_schedule *schedule, int most);

/* --- the validator --- */

/* Refuses (HB_EFORMAT) a schedule that is not a step: an action missing or doubled, a stage on two ranks, W
 * before I before F, ranks that wait for each other for ever, messages without a partner or received in
 * another order than sent, work on a stage whose parameters are released. The message names rank, position
 * and action; in a deadlock, what every rank waits for. */
HB_MUST_USE hb_status hb_schedule_check(const struct hb_schedule *schedule);

/* --- counting --- */

bool hb_schedule_has(const struct hb_schedule *schedule, enum hb_action_kind kind);

/* Microbatches of any stage whose activations a rank holds at once, at most: from F to the end of W or B. */
int64_t hb_schedule_in_flight(const struct hb_schedule *schedule, int rank);
/* The same of one stage. */
int64_t hb_schedule_stage_in_flight(const struct hb_schedule *schedule, int stage);

/* Messages of a rank that may be on their way at once, at most: those that are sent, and of which nothing
 * that the rank has received since proves that they have arrived. The schedule must have its messages. */
HB_MUST_USE hb_status hb_schedule_ahead(const struct hb_schedule *schedule, int rank, int64_t *most);

/* The microbatches of `stage` in the order in which their weight gradients are made (W or
 * B): [microbatches]. */
void hb_schedule_weight_order(const struct hb_schedule *schedule, int stage, int64_t *order);

/* --- for the files of this unit --- */

HB_MUST_USE hb_status hb_schedule_create(const char *name, int ranks, int stages, int64_t microbatches,
                                         struct hb_schedule *out);
HB_MUST_USE hb_status hb_schedule_append(struct hb_schedule *schedule, int rank, enum hb_action_kind kind,
                                         int stage, int64_t microbatch);
/* Fills rank_of from the rows, and every peer. HB_EFORMAT: a stage on two ranks, or on none. */
HB_MUST_USE hb_status hb_schedule_place(struct hb_schedule *schedule);

#endif
