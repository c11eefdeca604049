#include "data/byte_reader.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum { PACKED = 128 * 1024 };

struct hb_byte_reader {
    char *path;
    FILE *file;
    z_stream *inflate;   /* .gz only */
    ZSTD_DStream *zstd;  /* .zst only */
    size_t used, filled; /* of `packed` */
    bool inside;         /* a member or frame has begun and not ended */
    bool started;        /* at least one has begun */
    char packed[PACKED];
};

static bool ends_with(const char *path, const char *suffix)
{
    size_t length = strlen(path), tail = strlen(suffix);
    return length > tail && strcmp(path + length - tail, suffix) == 0;
}

static hb_status open_unpacker(struct hb_byte_reader *r)
{
    if (ends_with(r->path, ".gz")) {
        r->inflate = calloc(1, sizeof *r->inflate);
        /* 16 + 15 bits: a gzip header is demanded, the largest window is allowed. */
        if (!r->inflate || inflateInit2(r->inflate, 16 + 15) != Z_OK) {
            free(r->inflate);
            r->inflate = NULL;
            return HB_FAIL(HB_EMEMORY, "out of memory: cannot unpack %s", r->path);
        }
    } else if (ends_with(r->path, ".zst")) {
        r->zstd = ZSTD_createDStream();
        if (!r->zstd)
            return HB_FAIL(HB_EMEMORY, "out of memory: cannot unpack %s", r->path);
    }
    return HB_OK;
}

hb_status hb_byte_reader_create(const char *path, struct hb_byte_reader **out)
{
    *out = NULL;
    struct hb_byte_reader *r = calloc(1, sizeof *r);
    if (!r || !(r->path = strdup(path))) {
        free(r);
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot read %s", path);
    }
    hb_status status;
    r->file = fopen(path, "rbe");
    if (!r->file) {
        status = HB_FAIL(HB_EIO, "cannot open %s: %s", path, strerror(errno));
        goto failed;
    }
    setvbuf(r->file, NULL, _IONBF, 0); /* our own buffers are large */
    status = open_unpacker(r);
    if (status != HB_OK)
        goto failed;
    *out = r;
    return HB_OK;
failed:
    hb_byte_reader_destroy(r);
    return status;
}

void hb_byte_reader_destroy(struct hb_byte_reader *r)
{
    if (!r)
        return;
    if (r->inflate)
        inflateEnd(r->inflate);
    free(r->inflate);
    ZSTD_freeDStream(r->zstd);
    if (r->file)
        fclose(r->file);
    free(r->path);
    free(r);
}

static hb_status read_file(struct hb_byte_reader *r, char *to, size_t room, size_t *count)
{
    errno = 0;
    *count = fread(to, 1, room, r->file);
    if (*count == 0 && ferror(r->file))
        return HB_FAIL(HB_EIO, "cannot read %s: %s", r->path, strerror(errno));
    return HB_OK;
}

static hb_status unpack_gzip(struct hb_byte_reader *r, char *to, size_t room, size_t *count)
{
    z_stream *z = r->inflate;
    z->next_in = (Bytef *)r->packed + r->used;
    z->avail_in = (uInt)(r->filled - r->used);
    z->next_out = (Bytef *)to;
    z->avail_out = (uInt)room;
    int result = inflate(z, Z_NO_FLUSH);
    r->used = r->filled - z->avail_in;
    *count = room - z->avail_out;
    r->inside = result != Z_STREAM_END;
    if (result == Z_STREAM_END)
        result = inflateReset(z); /* another member may follow */
    if (result != Z_OK && result != Z_BUF_ERROR)
        return HB_FAIL(HB_EFORMAT, "%s is damaged gzip data: %s", r->path, z->msg ? z->msg : zError(result));
    return HB_OK;
}

static hb_status unpack_zstd(struct hb_byte_reader *r, char *to, size_t room, size_t *count)
{
    ZSTD_inBuffer in = {r->packed, r->filled, r->used};
    ZSTD_outBuffer out = {to, room, 0};
    size_t result = ZSTD_decompressStream(r->zstd, &out, &in);
    r->used = in.pos;
    *count = out.pos;
    r->inside = result != 0;
    if (ZSTD_isError(result))
        return HB_FAIL(HB_EFORMAT, "%s is damaged zstd data: %s", r->path, ZSTD_getErrorName(result));
    return HB_OK;
}

hb_status hb_byte_reader_read(struct hb_byte_reader *r, char *to, size_t room, size_t *count)
{
    if (!r->inflate && !r->zstd)
        return read_file(r, to, room, count);
    *count = 0;
    if (room > (size_t)1 << 30) /* zlib counts in 32 bits */
        room = (size_t)1 << 30;
    while (*count == 0) {
        bool drained = r->used == r->filled;
        if (drained) {
            r->used = 0;
            HB_TRY(read_file(r, r->packed, PACKED, &r->filled));
            if (r->filled == 0 && !r->inside && r->started)
                return HB_OK;
            /* At the end of the file the unpacker may still hold text: it is
             * asked once more, and only then is the end found premature. */
        }
        r->started = true;
        HB_TRY(r->inflate ? unpack_gzip(r, to, room, count) : unpack_zstd(r, to, room, count));
        if (*count == 0 && drained && r->filled == 0)
            return HB_FAIL(HB_EFORMAT,
                           "%s ends in the middle of its compressed data; it was cut short, get it again",
                           r->path);
    }
    return HB_OK;
}
