/* Status codes and error messages.
 *
 * Library functions return hb_status. Zero is success. A positive code means
 * "refused": the arguments or the input were not acceptable and nothing was
 * changed. A negative code means "failed": something broke on the way and the
 * object concerned can only be released.
 *
 * The message that belongs to the last failure of a thread is kept in that
 * thread; it names the thing and the remedy. The library never prints it and
 * never exits: the program does, at the top. */
#ifndef HB_CORE_STATUS_H
#define HB_CORE_STATUS_H

typedef int hb_status;

enum {
    HB_OK = 0,
    /* refused, nothing changed */
    HB_EARGUMENT = 1,    /* a value outside its range */
    HB_ESHAPE = 2,       /* shapes or dtypes that do not fit together */
    HB_EFORMAT = 3,      /* a file whose content is not what it must be */
    HB_EUNSUPPORTED = 4, /* known, but not offered here */
    HB_EEXIST = 5,       /* somebody else has it (a locked run folder) */
    /* failed, the object is unusable */
    HB_EMEMORY = -1,   /* out of memory */
    HB_EIO = -2,       /* the operating system refused a read or a write */
    HB_ENONFINITE = -3, /* a number that must be finite is not */
    HB_EINTERNAL = -4,  /* a broken promise inside this library */
};

#define HB_MUST_USE __attribute__((warn_unused_result))

/* Records the message of this thread and returns `code`. Use HB_FAIL. */
hb_status hb_fail_at(const char *file, int line, hb_status code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "context: " in front of the current message and returns `code`; for
 * callers who know the name of the thing that their callee does not. */
hb_status hb_fail_in(hb_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The last message of this thread ("" if there was none). */
const char *hb_error(void);

/* Where the last failure was raised, "file.c:123". */
const char *hb_error_place(void);

/* The code stands at the end once more, so that the compiler sees that it is not HB_OK. */
#define HB_FAIL(code, ...) (hb_fail_at(__FILE__, __LINE__, (code), __VA_ARGS__), (code))

/* Passes a failure up. */
#define HB_TRY(call)                           \
    do {                                       \
        hb_status hb_try_status_ = (call);     \
        if (hb_try_status_ != HB_OK)           \
            return hb_try_status_;             \
    } while (0)

/* Passes a failure up through a `cleanup:` label; needs a local `status`. */
#define HB_TRY_CLEAN(call)                     \
    do {                                       \
        status = (call);                       \
        if (status != HB_OK)                   \
            goto cleanup;                      \
    } while (0)

#endif
