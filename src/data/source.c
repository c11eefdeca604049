#include "data/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "data/buffer.h"
#include "data/byte_reader.h"
#include "data/file_list.h"
#include "data/utf8.h"

enum { CHUNK = 1 << 20 };

struct hb_source {
    struct hb_source_options options;
    struct hb_file_list files;
    size_t next_file;
    struct hb_source_counts counts;

    /* the file being read; reader == NULL between files */
    struct hb_byte_reader *reader;
    const struct hb_file_entry *file;
    bool records;         /* JSONL */
    int64_t line;         /* of `text`'s last line, counted from 1 */
    int64_t piece;        /* of a text file, counted from 1 */
    uint64_t offset;      /* of `text` in the unpacked file */
    size_t taken, filled; /* of `chunk` */
    char chunk[CHUNK];

    /* the document being put together */
    struct hb_bytes text;
    char *id;
    size_t id_room;
    json_t *record; /* owns id and text of a record */
};

hb_status hb_source_create(const struct hb_source_options *options, struct hb_source **out)
{
    *out = NULL;
    if (options->input_count == 0)
        return HB_FAIL(HB_EARGUMENT, "no input: name at least one file or folder");
    struct hb_source *source = calloc(1, sizeof *source);
    if (!source)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot read the inputs");
    source->options = *options;
    if (source->options.limit == 0)
        source->options.limit = HB_DOCUMENT_LIMIT;
    hb_status status = hb_file_list_init(&source->files, options->inputs, options->input_count);
    if (status != HB_OK) {
        hb_source_destroy(source);
        return status;
    }
    *out = source;
    return HB_OK;
}

void hb_source_destroy(struct hb_source *source)
{
    if (!source)
        return;
    json_decref(source->record);
    hb_byte_reader_destroy(source->reader);
    hb_file_list_release(&source->files);
    hb_bytes_release(&source->text);
    free(source->id);
    free(source);
}

const struct hb_source_counts *hb_source_counts(const struct hb_source *source)
{
    return &source->counts;
}

/* NAME.jsonl, NAME.jsonl.gz, NAME.jsonl.zst */
static bool holds_records(const char *path)
{
    static const char *const suffixes[] = {".jsonl", ".jsonl.gz", ".jsonl.zst"};
    size_t length = strlen(path);
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        size_t tail = strlen(suffixes[i]);
        if (length > tail && strcmp(path + length - tail, suffixes[i]) == 0)
            return true;
    }
    return false;
}

static hb_status open_next_file(struct hb_source *s)
{
    s->file = &s->files.entries[s->next_file++];
    HB_TRY(hb_byte_reader_create(s->file->path, &s->reader));
    s->records = holds_records(s->file->path);
    s->line = 0;
    s->piece = 0;
    s->offset = 0;
    s->taken = s->filled = 0;
    s->counts.files++;
    return HB_OK;
}

static hb_status append(struct hb_source *s, const char *bytes, size_t count)
{
    if (count > s->options.limit - s->text.count) {
        if (s->records)
            return HB_FAIL(HB_EFORMAT, "%s:%" PRId64 ": the line is longer than %zu bytes", s->file->path,
                           s->line, s->options.limit);
        return HB_FAIL(HB_EFORMAT,
                       "%s: the document at byte %" PRIu64
                       " is longer than %zu bytes; cut it into documents by "
                       "lines of <|endoftext|>, or into files",
                       s->file->path, s->offset, s->options.limit);
    }
    return hb_bytes_append(&s->text, bytes, count);
}

/* Puts one line, with its newline, behind `text`; nothing at the end of the file. */
static hb_status append_line(struct hb_source *s)
{
    bool first = s->line == 0;
    size_t start = s->text.count;
    s->line++;
    for (;;) {
        if (s->taken == s->filled) {
            s->taken = 0;
            HB_TRY(hb_byte_reader_read(s->reader, s->chunk, CHUNK, &s->filled));
            if (s->filled == 0)
                break;
        }
        const char *from = s->chunk + s->taken;
        const char *newline = memchr(from, '\n', s->filled - s->taken);
        size_t count = newline ? (size_t)(newline - from) + 1 : s->filled - s->taken;
        HB_TRY(append(s, from, count));
        s->taken += count;
        if (newline)
            break;
    }
    if (first && s->text.count - start >= 3 && memcmp(s->text.data + start, "\xef\xbb\xbf", 3) == 0) {
        memmove(s->text.data + start, s->text.data + start + 3, s->text.count - start - 3);
        s->text.count -= 3;
        s->offset += 3;
    }
    return HB_OK;
}

static bool is_mark(const unsigned char *line, size_t size)
{
    static const char mark[] = "<|endoftext|>";
    if (size > 0 && line[size - 1] == '\n')
        size--;
    if (size > 0 && line[size - 1] == '\r')
        size--;
    return size == sizeof mark - 1 && memcmp(line, mark, size) == 0;
}

/* "path", or "path" + `between` + number. */
static hb_status make_id(struct hb_source *s, const char *between, int64_t number)
{
    size_t room = strlen(s->file->path) + 32;
    if (room > s->id_room) {
        char *larger = realloc(s->id, room);
        if (!larger)
            return HB_FAIL(HB_EMEMORY, "out of memory: cannot name a document of %s", s->file->path);
        s->id = larger;
        s->id_room = room;
    }
    if (between)
        snprintf(s->id, s->id_room, "%s%s%" PRId64, s->file->path, between, number);
    else
        snprintf(s->id, s->id_room, "%s", s->file->path);
    return HB_OK;
}

/* Passes the failure up, or counts a broken document that is to be skipped. */
static hb_status broken(struct hb_source *s, hb_status failure)
{
    if (failure != HB_EFORMAT || !s->options.skip_invalid)
        return failure;
    if (s->counts.invalid++ == 0)
        snprintf(s->counts.first_invalid, sizeof s->counts.first_invalid, "%s", hb_error());
    return HB_OK;
}

static void close_file(struct hb_source *s)
{
    hb_byte_reader_destroy(s->reader);
    s->reader = NULL;
}

/* The next piece of a text file; `*found` when it is a document. */
static hb_status next_piece(struct hb_source *s, struct hb_document *document, bool *found)
{
    s->text.count = 0;
    uint64_t consumed = 0;
    bool marked = false;
    for (;;) {
        size_t start = s->text.count;
        HB_TRY(append_line(s));
        if (s->text.count == start) {
            close_file(s);
            break;
        }
        if (is_mark(s->text.data + start, s->text.count - start)) {
            consumed = s->text.count;
            s->text.count = start;
            marked = true;
            break;
        }
    }
    uint64_t offset = s->offset;
    s->offset += consumed;
    if (s->text.count == 0) {
        if (marked || s->piece == 0) /* an end after the last mark is no document */
            s->counts.empty++;
        s->piece++;
        return HB_OK;
    }
    s->piece++;
    size_t valid = hb_utf8_valid_bytes(s->text.data, s->text.count);
    if (valid < s->text.count)
        return broken(s, HB_FAIL(HB_EFORMAT,
                                 "%s: invalid UTF-8 at byte %" PRIu64
                                 "; convert the file to UTF-8, or skip such documents",
                                 s->file->path, offset + valid));
    HB_TRY(make_id(s, s->piece > 1 ? "#" : NULL, s->piece));
    *document = (struct hb_document){s->id, s->text.data, s->text.count, s->file->input};
    *found = true;
    return HB_OK;
}

static bool is_blank(const unsigned char *line, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r' && line[i] != '\n')
            return false;
    return true;
}

/* Parses the line in `text` into `record`, with its two fields checked. */
static hb_status parse_record(struct hb_source *s)
{
    const char *path = s->file->path;
    size_t valid = hb_utf8_valid_bytes(s->text.data, s->text.count);
    if (valid < s->text.count)
        return HB_FAIL(HB_EFORMAT, "%s:%" PRId64 ": invalid UTF-8 at byte %zu of the line", path, s->line,
                       valid);
    HB_TRY(hb_json_parse(path, s->line, (const char *)s->text.data, s->text.count, HB_JSON_ALLOW_NUL,
                         &s->record));
    if (!json_is_string(json_object_get(s->record, "text")))
        return HB_FAIL(HB_EFORMAT, "%s:%" PRId64 ": no \"text\"; every line must be like {\"text\": \"...\"}",
                       path, s->line);
    const json_t *id = json_object_get(s->record, "id");
    if (id && !json_is_string(id) && !json_is_integer(id) && !json_is_null(id))
        return HB_FAIL(HB_EFORMAT, "%s:%" PRId64 ": \"id\" must be a text or a whole number", path, s->line);
    return HB_OK;
}

/* The next line of a JSONL file; `*found` when it is a document. */
static hb_status next_record(struct hb_source *s, struct hb_document *document, bool *found)
{
    s->text.count = 0;
    HB_TRY(append_line(s));
    if (s->text.count == 0) {
        close_file(s);
        return HB_OK;
    }
    if (is_blank(s->text.data, s->text.count))
        return HB_OK;
    while (s->text.data[s->text.count - 1] == '\n' || s->text.data[s->text.count - 1] == '\r')
        s->text.count--; /* or the parser would find its errors in the next line */
    json_decref(s->record);
    s->record = NULL;
    hb_status status = parse_record(s);
    if (status != HB_OK)
        return broken(s, status);
    const json_t *text = json_object_get(s->record, "text");
    const json_t *id = json_object_get(s->record, "id");
    if (json_string_length(text) == 0) {
        s->counts.empty++;
        return HB_OK;
    }
    if (json_is_integer(id)) {
        HB_TRY(make_id(s, ":", 0));
        snprintf(s->id, s->id_room, "%" JSON_INTEGER_FORMAT, json_integer_value(id));
    } else {
        HB_TRY(make_id(s, ":", s->line));
    }
    const char *name = json_is_string(id) ? json_string_value(id) : s->id;
    *document = (struct hb_document){name, (const unsigned char *)json_string_value(text),
                                     json_string_length(text), s->file->input};
    *found = true;
    return HB_OK;
}

hb_status hb_source_next(struct hb_source *s, struct hb_document *document, bool *end)
{
    *end = false;
    bool found = false;
    while (!found) {
        if (!s->reader) {
            if (s->next_file == s->files.count) {
                *end = true;
                return HB_OK;
            }
            HB_TRY(open_next_file(s));
        }
        HB_TRY(s->records ? next_record(s, document, &found) : next_piece(s, document, &found));
    }
    return HB_OK;
}
