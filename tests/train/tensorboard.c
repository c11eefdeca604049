/* The TensorBoard file, read back by a decoder of TFRecords and protocol
 * buffers that shares nothing with the writer (its CRC goes by a table). */
#include "train/tensorboard.h"

#include <math.h>

#include "core/scratch.h"

static uint32_t crc_table[256];

static void make_crc_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? 0x82f63b78u ^ crc >> 1 : crc >> 1;
        crc_table[i] = crc;
    }
}

static uint32_t masked_crc(const unsigned char *data, size_t size)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++)
        crc = crc_table[(crc ^ data[i]) & 0xff] ^ crc >> 8;
    crc = ~crc;
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

static void test_crc_itself(void **state)
{
    (void)state;
    /* RFC 3720, B.4: 32 zeros, and 0 .. 31. */
    unsigned char zeros[32] = {0}, counting[32];
    for (unsigned char i = 0; i < 32; i++)
        counting[i] = i;
    uint32_t a = 0x8a9136aau, b = 0x46dd794eu;
    assert_int_equal(masked_crc(zeros, 32), ((a >> 15) | (a << 17)) + 0xa282ead8u);
    assert_int_equal(masked_crc(counting, 32), ((b >> 15) | (b << 17)) + 0xa282ead8u);
}

/* --- protocol buffers --- */

struct reader {
    const unsigned char *at, *end;
};

static uint64_t little_endian(struct reader *r, int bytes)
{
    uint64_t value = 0;
    assert_true(r->end - r->at >= bytes);
    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | r->at[i];
    r->at += bytes;
    return value;
}

static uint64_t varint(struct reader *r)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
        uint64_t byte = little_endian(r, 1);
        value |= (byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return value;
    }
    fail_msg("a varint without end");
    return 0;
}

static struct reader block(struct reader *r)
{
    uint64_t size = varint(r);
    assert_true(size <= (uint64_t)(r->end - r->at));
    struct reader inside = {r->at, r->at + size};
    r->at += size;
    return inside;
}

struct event {
    double time;
    int64_t step;
    char version[32];
    int count;
    struct {
        char name[64];
        float value;
    } scalar[16];
};

static void copy_text(char *to, size_t size, struct reader from)
{
    assert_true((size_t)(from.end - from.at) < size);
    memcpy(to, from.at, (size_t)(from.end - from.at));
    to[from.end - from.at] = '\0';
}

static void read_summary(struct reader r, struct event *event)
{
    while (r.at < r.end) {
        assert_int_equal(varint(&r), 1 << 3 | 2);
        struct reader value = block(&r);
        int n = event->count++;
        while (value.at < value.end) {
            uint64_t key = varint(&value);
            if (key == (1 << 3 | 2)) {
                copy_text(event->scalar[n].name, sizeof event->scalar[n].name, block(&value));
            } else {
                assert_int_equal(key, 2 << 3 | 5);
                uint32_t bits = (uint32_t)little_endian(&value, 4);
                memcpy(&event->scalar[n].value, &bits, sizeof bits);
            }
        }
    }
}

static void read_event(struct reader r, struct event *event)
{
    memset(event, 0, sizeof *event);
    while (r.at < r.end) {
        uint64_t key = varint(&r), bits;
        switch (key) {
        case 1 << 3 | 1:
            bits = little_endian(&r, 8);
            memcpy(&event->time, &bits, sizeof bits);
            break;
        case 2 << 3: event->step = (int64_t)varint(&r); break;
        case 3 << 3 | 2: copy_text(event->version, sizeof event->version, block(&r)); break;
        case 5 << 3 | 2: read_summary(block(&r), event); break;
        default: fail_msg("an event with the key %d", (int)key);
        }
    }
}

static int read_events(const char *path, struct event *events, int most)
{
    char *data;
    size_t size;
    int count = 0;
    OK(hb_file_read(path, &data, &size));
    struct reader r = {(unsigned char *)data, (unsigned char *)data + size};
    while (r.at < r.end) {
        const unsigned char *start = r.at;
        uint64_t length = little_endian(&r, 8);
        assert_int_equal(little_endian(&r, 4), masked_crc(start, 8));
        assert_true(length <= (uint64_t)(r.end - r.at));
        struct reader event = {r.at, r.at + length};
        r.at += length;
        assert_int_equal(little_endian(&r, 4), masked_crc(event.at, length));
        assert_true(count < most);
        read_event(event, &events[count++]);
    }
    free(data);
    return count;
}

static const char *only_file(const char *folder)
{
    static char path[512];
    DIR *open = opendir(folder);
    assert_non_null(open);
    path[0] = '\0';
    for (struct dirent *entry; (entry = readdir(open));)
        if (strncmp(entry->d_name, "events.out.tfevents.", 20) == 0)
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    closedir(open);
    assert_true(path[0]);
    return path;
}

static void test_events(void **state)
{
    (void)state;
    static struct event events[8];
    FILE *file;
    OK(hb_tensorboard_open(scratch_folder, &file));
    struct hb_scalar scalars[] = {
        {"train/loss", 2.718281828}, {"train/grad_norm", (double)NAN}, {"x", -INFINITY}};
    OK(hb_tensorboard_write(file, 1, scalars, 3));
    OK(hb_tensorboard_write(file, 300000000000, scalars, 1));
    OK(hb_tensorboard_write(file, 128, scalars, 0));
    assert_int_equal(read_events(only_file(scratch_folder), events, 8), 4); /* flushed, before it is closed */
    assert_int_equal(fclose(file), 0);
    assert_string_equal(events[0].version, "brain.Event:2");
    assert_int_equal(events[0].count, 0);
    assert_true(events[0].time > 1.6e9 && events[0].time < 1e10);
    assert_int_equal(events[1].step, 1);
    assert_int_equal(events[1].count, 3);
    assert_string_equal(events[1].scalar[0].name, "train/loss");
    assert_true(events[1].scalar[0].value == 2.718281828f);
    assert_true(isnan(events[1].scalar[1].value));
    assert_true(events[1].scalar[2].value == -INFINITY);
    assert_true(events[2].step == 300000000000);
    assert_int_equal(events[2].count, 1);
    assert_int_equal(events[3].step, 128);
}

static void test_many_scalars(void **state)
{
    (void)state;
    static struct event events[2];
    struct hb_scalar scalars[16];
    FILE *file;
    for (int i = 0; i < 16; i++)
        scalars[i] = (struct hb_scalar){"a/rather/long/name/of/fifty/characters/in/all/abcd", i};
    OK(hb_folder_create(scratch("many")));
    OK(hb_tensorboard_open(scratch("many"), &file));
    OK(hb_tensorboard_write(file, 7, scalars, 16));
    assert_int_equal(fclose(file), 0);
    assert_int_equal(read_events(only_file(scratch("many")), events, 2), 2);
    assert_int_equal(events[1].count, 16);
    assert_true(events[1].scalar[15].value == 15);
}

static void test_no_folder(void **state)
{
    (void)state;
    FILE *file;
    REFUSED(hb_tensorboard_open(scratch("missing"), &file), HB_EIO, "missing");
}

static int setup(void **state)
{
    make_crc_table();
    return scratch_setup(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_crc_itself), cmocka_unit_test(test_events),
                                       cmocka_unit_test(test_many_scalars), cmocka_unit_test(test_no_folder)};
    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
