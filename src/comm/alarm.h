/* When a rank fails, all end together.
 *
 * A rank that has failed cannot give the others what they wait for. So it tells
 * every one of them (a notice); whoever waits hears it, gives up what it waits
 * for, and tells the others that it is here, too. When all are here, each takes
 * in and throws away what is still on its way to it, until everything it sent
 * itself has gone; then nothing is under way in the whole job, memory and
 * communicators can be released, and all know the same message.
 *
 * The meeting is held inside of the wait that failed, while the memory of its
 * messages is still there; a rank that failed elsewhere holds it in hb_comm_fail.
 * After it every operation of the job's ranks fails at once. */
#ifndef HB_COMM_ALARM_H
#define HB_COMM_ALARM_H

#include "comm/transport.h"

/* What a rank is in the meeting for. */
enum hb_alarm {
    HB_ALARM_FAILED,  /* it has failed itself */
    HB_ALARM_SILENCE, /* it waited in vain for others */
    HB_ALARM_FOLLOWS  /* it heard of it */
};

/* For the world of several ranks; memory is taken now, since later there may be none. */
HB_MUST_USE hb_status hb_alarm_arm(struct hb_comm *world);
/* No longer, if it is that one. */
void hb_alarm_disarm(const struct hb_comm *world);

/* Seconds to wait for the others in a meeting; 0: for ever. */
void hb_alarm_patience(double seconds);

/* Has the meeting been held? Then its message, as an error. HB_OK on one rank. */
HB_MUST_USE hb_status hb_alarm_over(void);

/* For those who wait: HB_OK while nobody has failed; else the meeting. */
HB_MUST_USE hb_status hb_alarm_listen(void);

/* Holds the meeting because of `status`, not HB_OK, whose message is hb_error(). The first of `suspects`,
 * ranks of the world that were waited for, are told to the others. Does nothing on one rank, and after the
 * meeting. Returns a status that is not HB_OK; hb_error() is the message of all. */
HB_MUST_USE hb_status hb_alarm_raise(enum hb_alarm why, hb_status status, const int *suspects, int count);

/* After the meeting: were all there, so that nothing is under way? And is this the rank to print the message,
 * the first of those who were? */
bool hb_alarm_whole(void);
bool hb_alarm_speaks(void);

/* hb_error() comes from another rank: an agreement brought it. */
void hb_alarm_follow(void);

#endif
