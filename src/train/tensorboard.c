#include "train/tensorboard.h"

#include <string.h>
#include <sys/time.h>
#include <unistd.h>

/* CRC-32C (Castagnoli, reflected 0x82f63b78), bit by bit: events are short. */
static uint32_t crc32c(const unsigned char *data, size_t size)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

/* TFRecord masks a CRC so that a CRC of data that holds CRCs stays useful. */
static uint32_t masked(uint32_t crc)
{
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

struct message {
    unsigned char bytes[2048];
    size_t size;
};

static void put_bytes(struct message *m, const void *data, size_t size)
{
    if (m->size + size <= sizeof m->bytes)
        memcpy(m->bytes + m->size, data, size);
    m->size += size;
}

static void put_little_endian(struct message *m, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)(value >> 8 * i);
        put_bytes(m, &byte, 1);
    }
}

static void put_varint(struct message *m, uint64_t value)
{
    do {
        unsigned char byte = (unsigned char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        put_bytes(m, &byte, 1);
        value >>= 7;
    } while (value);
}

static void put_double(struct message *m, int field, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_varint(m, (uint64_t)field << 3 | 1);
    put_little_endian(m, bits, 8);
}

static void put_float(struct message *m, int field, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_varint(m, (uint64_t)field << 3 | 5);
    put_little_endian(m, bits, 4);
}

static void put_block(struct message *m, int field, const void *data, size_t size)
{
    put_varint(m, (uint64_t)field << 3 | 2);
    put_varint(m, size);
    put_bytes(m, data, size);
}

static void start_event(struct message *m)
{
    struct timeval now;
    gettimeofday(&now, NULL);
    put_double(m, 1, (double)now.tv_sec + 1e-6 * (double)now.tv_usec);
}

static hb_status write_record(FILE *file, const struct message *event)
{
    struct message head = {.size = 0}, tail = {.size = 0};
    if (event->size > sizeof event->bytes)
        return HB_FAIL(HB_EINTERNAL, "a TensorBoard event of %zu bytes", event->size);
    put_little_endian(&head, event->size, 8);
    put_little_endian(&head, masked(crc32c(head.bytes, 8)), 4);
    put_little_endian(&tail, masked(crc32c(event->bytes, event->size)), 4);
    if (fwrite(head.bytes, 1, head.size, file) != head.size ||
        fwrite(event->bytes, 1, event->size, file) != event->size ||
        fwrite(tail.bytes, 1, tail.size, file) != tail.size || fflush(file) != 0)
        return HB_FAIL(HB_EIO, "the TensorBoard file cannot be written; is the disk full?");
    return HB_OK;
}

hb_status hb_tensorboard_open(const char *folder, FILE **out)
{
    struct timeval now;
    char path[4096];
    gettimeofday(&now, NULL);
    snprintf(path, sizeof path, "%s/events.out.tfevents.%010lld.hornbook.%ld", folder, (long long)now.tv_sec,
             (long)getpid());
    FILE *file = fopen(path, "wb");
    if (!file)
        return HB_FAIL(HB_EIO, "%s: cannot be created", path);
    struct message event = {.size = 0};
    start_event(&event);
    put_block(&event, 3, "brain.Event:2", strlen("brain.Event:2"));
    hb_status status = write_record(file, &event);
    if (status != HB_OK) {
        fclose(file);
        return status;
    }
    *out = file;
    return HB_OK;
}

hb_status hb_tensorboard_write(FILE *file, int64_t step, const struct hb_scalar *scalars, int count)
{
    struct message summary = {.size = 0}, event = {.size = 0};
    for (int i = 0; i < count; i++) {
        struct message value = {.size = 0};
        put_block(&value, 1, scalars[i].name, strlen(scalars[i].name));
        put_float(&value, 2, (float)scalars[i].value);
        put_block(&summary, 1, value.bytes, value.size);
    }
    start_event(&event);
    put_varint(&event, 2 << 3);
    put_varint(&event, (uint64_t)step);
    put_block(&event, 5, summary.bytes, summary.size);
    return write_record(file, &event);
}
