/* Messages and progress on standard error: the only output this library ever
 * makes, and only for who calls it. Failures do not come here; they travel as
 * hb_status. Any thread may call. */
#ifndef HB_CORE_LOG_H
#define HB_CORE_LOG_H

enum hb_log_level { HB_LOG_ERROR, HB_LOG_WARNING, HB_LOG_INFO, HB_LOG_DEBUG };

/* Messages above `level` are dropped from now on; HB_LOG_INFO at the start. */
void hb_log_set_level(enum hb_log_level level);

/* One line, without "\n": "error: ...", "warning: ...", "...", "debug: ...".
 * A progress line makes way and comes back. */
void hb_log(enum hb_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Shows where a long job is, at HB_LOG_INFO. On a terminal one line that is
 * written over and cut to its width; elsewhere a plain line, and at most one in
 * five seconds. Cheap enough to call at every step. */
void hb_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ends the job's line: the last state stays visible. */
void hb_progress_end(void);

#endif
