/* Absent parts in the values themselves: every float type, ranges that begin and end within a part, a part
 * that is there and begins with the very bits of the mark. */
#include "parallel/absence.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backends/registry.h"

enum { SIZE = 5, PARTS = 4 };

static double value(const void *values, enum hb_dtype dtype, int64_t i)
{
    switch (dtype) {
    case HB_F64:
        return ((const double *)values)[i];
    case HB_F32:
        return ((const float *)values)[i];
    case HB_BF16:
        return hb_f32_of_bf16(((const uint16_t *)values)[i]);
    default:
        return hb_f32_of_f16(((const uint16_t *)values)[i]);
    }
}

/* Sends the range with these flags: they arrive, and of a part that is there every value is what it was, but
 * for the bits of a NaN. */
static void send(enum hb_dtype dtype, struct hb_range range, unsigned flags, unsigned char fill)
{
    size_t each = hb_dtype_size(dtype);
    int64_t count = range.end - range.begin, first = range.begin / SIZE;
    unsigned char sent[SIZE * PARTS * 8], before[sizeof sent];
    int32_t present[PARTS], arrived[PARTS + 1] = {0};
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = fill ? fill : (unsigned char)(i * 37 % 0x70);
    memcpy(before, sent, sizeof sent);
    for (int64_t part = 0; part < PARTS; part++)
        present[part] = flags >> (first + part) & 1;
    arrived[(range.end - 1) / SIZE + 1 - first] = 77; /* stays */
    hb_absence_mark(sent, dtype, range, SIZE, present);
    hb_absence_read(sent, dtype, range, SIZE, arrived);
    assert_memory_equal(arrived, present, (size_t)((range.end - 1) / SIZE + 1 - first) * sizeof *present);
    assert_int_equal(arrived[(range.end - 1) / SIZE + 1 - first], 77);
    for (int64_t i = 0; i < count; i++) {
        if (!(flags >> (range.begin + i) / SIZE & 1))
            continue;
        if (isnan(value(before, dtype, i)))
            assert_true(isnan(value(sent, dtype, i)));
        else
            assert_memory_equal(sent + (size_t)i * each, before + (size_t)i * each, each);
    }
    assert_memory_equal(sent + (size_t)count * each, before + (size_t)count * each,
                        sizeof sent - (size_t)count * each);
}

static void test_flags_arrive(void **state)
{
    (void)state;
    static const enum hb_dtype dtypes[] = {HB_F64, HB_F32, HB_BF16, HB_F16};
    for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++)
        for (int64_t begin = 0; begin < SIZE * PARTS; begin++)
            for (int64_t end = begin + 1; end <= SIZE * PARTS; end++)
                for (unsigned flags = 0; flags < 1u << PARTS; flags++) {
                    send(dtypes[d], (struct hb_range){begin, end}, flags, 0);
                    send(dtypes[d], (struct hb_range){begin, end}, flags, 0xff); /* all are marks */
                }
}

/* A NaN keeps its sign: what is printed of a sum with it stays the same. */
static void test_another_nan(void **state)
{
    (void)state;
    uint32_t values[2] = {0xffffffff, 0xffffffff};
    hb_absence_mark(values, HB_F32, (struct hb_range){0, 2}, 1, (const int32_t[]){1, 0});
    assert_int_equal(values[0], 0xfffffffe);
    assert_int_equal(values[1], 0xffffffff);
}

/* --- in a device's memory --- */

#define OK(call)                        \
    do {                                \
        if ((call) != HB_OK)            \
            fail_msg("%s", hb_error()); \
    } while (0)

static struct hb_context device;

static void *on_device(const void *host, size_t bytes)
{
    void *memory;
    OK(hb_alloc(&device, HB_MEMORY_COMMUNICATION, bytes, &memory));
    OK(device.backend->copy_in(&device, memory, host, bytes));
    return memory;
}

static void check_device(enum hb_dtype dtype, struct hb_range range, unsigned flags, unsigned char fill)
{
    size_t bytes = (size_t)(range.end - range.begin) * hb_dtype_size(dtype);
    int64_t first = range.begin / SIZE, parts = (range.end - 1) / SIZE + 1 - first;
    unsigned char values[SIZE * PARTS * 4], got[sizeof values];
    int32_t present[PARTS], arrived[PARTS];
    for (size_t i = 0; i < bytes; i++)
        values[i] = fill ? fill : (unsigned char)(i * 37);
    for (int64_t part = 0; part < parts; part++)
        present[part] = flags >> (first + part) & 1;
    struct hb_parted p = {on_device(values, bytes), dtype, range.begin, range.end, SIZE,
                          on_device(present, (size_t)parts * sizeof *present)};
    OK(device.backend->mark_absent(&device, &p));
    OK(device.backend->copy_out(&device, got, p.values, bytes));
    hb_absence_mark(values, dtype, range, SIZE, present);
    assert_memory_equal(got, values, bytes);
    OK(device.backend->read_absent(&device, &p));
    OK(device.backend->copy_out(&device, arrived, p.present, (size_t)parts * sizeof *present));
    assert_memory_equal(arrived, present, (size_t)parts * sizeof *present);
    hb_free(&device, p.values);
    hb_free(&device, p.present);
}

static void test_device(void **state)
{
    (void)state;
    static const enum hb_dtype dtypes[] = {HB_F32, HB_BF16};
    const struct hb_backend *backend;
    const char *name = getenv("HB_KERNELS");
    if (hb_backend_find(name ? name : "cuda-emulated", &backend) != HB_OK)
        skip(); /* built without a C++ compiler */
    OK(hb_context_open(backend, HB_CANONICAL, 1, &device));
    for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++)
        for (int64_t begin = 0; begin < SIZE * PARTS; begin += 2)
            for (int64_t end = begin + 1; end <= SIZE * PARTS; end += 3)
                for (unsigned flags = 0; flags < 1u << PARTS; flags += 5) {
                    check_device(dtypes[d], (struct hb_range){begin, end}, flags, 0);
                    check_device(dtypes[d], (struct hb_range){begin, end}, flags, 0xff);
                }
    hb_context_close(&device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flags_arrive),
        cmocka_unit_test(test_another_nan),
        cmocka_unit_test(test_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
