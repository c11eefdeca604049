#include "core/safetensors.h"

#include <math.h>
#include <unistd.h>

#include "scratch.h"

/* A file with this header and `data` zero bytes behind it. */
static const char *write_file(const char *name, const char *json, size_t data)
{
    static unsigned char bytes[1 << 16];
    uint64_t length = strlen(json);
    memset(bytes, 0, sizeof bytes);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, json, length);
    return scratch_write(name, bytes, 8 + length + data);
}

static void refuse(const char *json, size_t data, const char *message)
{
    struct hb_safetensors *file;
    REFUSED(hb_safetensors_open(write_file("bad.safetensors", json, data), &file), HB_EFORMAT, message);
    assert_null(file);
}

static void hostile_headers(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        size_t data;
        const char *message;
    } cases[] = {
        {"", 0, "must start with '{'"},
        {"[]", 0, "must start with '{'"},
        {" {}", 0, "must start with '{'"},
        {"{", 0, "bad.safetensors:1:"},
        {"{} {}", 0, "end of file expected"},
        {"{\"a\": 5}", 0, "tensor 'a' must have dtype, shape and data_offsets"},
        {"{\"a\": {\"dtype\": 5, \"shape\": [], \"data_offsets\": [0, 4]}}", 4, "must have dtype"},
        {"{\"a\": {\"dtype\": \"F32\", \"data_offsets\": [0, 4]}}", 4, "must have dtype, shape"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1]}}", 4, "must have dtype, shape"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [-1], \"data_offsets\": [0, 4]}}", 4, "integers from 0 on"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1.0], \"data_offsets\": [0, 4]}}", 4,
         "integers from 0 on"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [\"1\"], \"data_offsets\": [0, 4]}}", 4,
         "integers from 0 on"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [4294967296, 4294967296], \"data_offsets\": [0, 4]}}", 4,
         "product of its shape overflows"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [4611686018427387905], \"data_offsets\": [0, 4]}}", 4,
         "do not fill its 4 bytes"}, /* times 4, this is 4 modulo 2^64 */
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [99999999999999999999], \"data_offsets\": [0, 4]}}", 4,
         "too big integer"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 4]}}", 4,
         "2 elements of F32 do not"},
        {"{\"a\": {\"dtype\": \"F64\", \"shape\": [], \"data_offsets\": [0, 4]}}", 4,
         "1 elements of F64 do not"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4, 8]}}", 4, "two integers"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4.0]}}", 4, "two integers"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [-4, 0]}}", 4, "must ascend from 0"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [4, 0]}}", 4, "must ascend from 0"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 4, "is the file cut?"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [9223372036854775800, "
         "9223372036854775804]}}",
         4, "is the file cut?"},
        {"{\"a\": {\"dtype\": \"NEW\", \"shape\": [1], \"data_offsets\": [0, 8]}}", 4, "is the file cut?"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}}", 5, "1 bytes at the end"},
        {"{}", 1, "1 bytes at the end"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [4, 8]}}", 8,
         "4 bytes before tensor 'a'"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]},"
         " \"b\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [8, 12]}}",
         12, "4 bytes before tensor 'b'"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]},"
         " \"b\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [4, 12]}}",
         12, "tensor 'b' overlaps 'a'"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]},"
         " \"b\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}}",
         4, "tensor 'b' overlaps 'a'"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]},"
         " \"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [4, 8]}}",
         8, "duplicate"},
        {"{\"a\\u0000b\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}}", 4, "NUL"},
        {"{\"__metadata__\": 3}", 0, "__metadata__ must be an object"},
        {"{\"__metadata__\": {\"a\": 3}}", 0, "key 'a' must be a string"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refuse(cases[i].json, cases[i].data, cases[i].message);
}

static void lying_lengths(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {3, 9, 100000000, 100000001, INT64_MAX, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        unsigned char bytes[10] = {0, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
        memcpy(bytes, &lengths[i], 8);
        struct hb_safetensors *file;
        REFUSED(hb_safetensors_open(scratch_write("bad.safetensors", bytes, sizeof bytes), &file), HB_EFORMAT,
                lengths[i] > 100000000 ? "beyond the format's limit" : "is the file cut?");
    }
    struct hb_safetensors *file;
    for (size_t size = 0; size < 8; size++)
        REFUSED(hb_safetensors_open(scratch_write("bad.safetensors", "\2\0\0\0\0\0\0", size), &file),
                HB_EFORMAT, "too few");
    REFUSED(hb_safetensors_open(scratch("none"), &file), HB_EIO, "No such file");
    REFUSED(hb_safetensors_open(scratch_folder, &file), HB_EFORMAT, "not a regular file");
}

static void odd_but_right(void **state)
{
    (void)state;
    struct hb_safetensors *file;
    struct hb_safetensors_tensor t;
    OK(hb_safetensors_open(write_file("empty.safetensors", "{}", 0), &file));
    assert_int_equal(hb_safetensors_count(file), 0);
    assert_false(hb_safetensors_has(file, "a"));
    REFUSED(hb_safetensors_find(file, "a", &t), HB_EFORMAT, "empty.safetensors has no tensor 'a'");
    REFUSED(hb_safetensors_at(file, 0, &t), HB_EARGUMENT, "has 0 tensors");
    assert_null(hb_safetensors_metadata(file, "a"));
    hb_safetensors_close(file);
    hb_safetensors_close(NULL);

    /* Unknown dtypes and high ranks hurt only when asked for; no order in the
     * header; padding; an empty tensor in the middle. */
    OK(hb_safetensors_open(
        write_file("odd.safetensors",
                   "{\"last\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [7, 11]},"
                   " \"f8\": {\"dtype\": \"F8_E4M3\", \"shape\": [3], \"data_offsets\": [0, 3]},"
                   " \"none\": {\"dtype\": \"F64\", \"shape\": [3, 0], \"data_offsets\": [3, 3]},"
                   " \"deep\": {\"dtype\": \"F32\", \"shape\": [1,1,1,1,1,1,1], \"data_offsets\": [3, 7]},"
                   " \"__metadata__\": {\"format\": \"pt\", \"empty\": \"\"}}     ",
                   11),
        &file));
    static const char *const order[] = {"f8", "none", "deep", "last"};
    assert_int_equal(hb_safetensors_count(file), 4);
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(hb_safetensors_name(file, i), order[i]);
    REFUSED(hb_safetensors_find(file, "f8", &t), HB_EUNSUPPORTED, "tensor 'f8' has dtype F8_E4M3");
    REFUSED(hb_safetensors_at(file, 2, &t), HB_EUNSUPPORTED, "tensor 'deep' has 7 dimensions");
    OK(hb_safetensors_find(file, "none", &t));
    assert_int_equal(t.count, 0);
    assert_int_equal(t.bytes, 0);
    assert_int_equal(t.shape[0], 3);
    OK(hb_safetensors_find(file, "last", &t));
    assert_int_equal(t.shape[1], 1);
    assert_string_equal(hb_safetensors_metadata(file, "format"), "pt");
    assert_string_equal(hb_safetensors_metadata(file, "empty"), "");
    assert_null(hb_safetensors_metadata(file, "other"));
    hb_safetensors_close(file);
}

static void misaligned_data_can_be_copied(void **state)
{
    (void)state;
    static const float values[] = {1.5f, -2.0f, 0x1p-149f};
    const char *json = "{\"u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                       "\"f\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[1,13]},"
                       "\"h\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[13,17]},"
                       "\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[17,21]},"
                       "\"d\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[21,29]}}";
    static const uint16_t f16[] = {0x3c00, 0xc000}, bf16[] = {0x3f80, 0x7fc0};
    static const double f64 = -0.1;
    unsigned char bytes[1024] = {0};
    uint64_t length = strlen(json);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, json, length);
    unsigned char *data = bytes + 8 + length;
    memcpy(data + 1, values, sizeof values);
    memcpy(data + 13, f16, sizeof f16);
    memcpy(data + 17, bf16, sizeof bf16);
    memcpy(data + 21, &f64, sizeof f64);

    struct hb_safetensors *file;
    struct hb_safetensors_tensor t;
    float floats[3];
    OK(hb_safetensors_open(scratch_write("odd.safetensors", bytes, 8 + length + 29), &file));
    OK(hb_safetensors_find(file, "f", &t));
    OK(hb_safetensors_copy_f32(&t, floats));
    assert_memory_equal(floats, values, sizeof values);
    OK(hb_safetensors_find(file, "h", &t));
    OK(hb_safetensors_copy_f32(&t, floats));
    assert_true(floats[0] == 1.0f && floats[1] == -2.0f);
    OK(hb_safetensors_find(file, "b", &t));
    OK(hb_safetensors_copy_f32(&t, floats));
    assert_true(floats[0] == 1.0f && isnan(floats[1]));
    double back;
    OK(hb_safetensors_find(file, "d", &t));
    hb_safetensors_copy(&t, &back);
    assert_true(back == f64);
    REFUSED(hb_safetensors_copy_f32(&t, floats), HB_EUNSUPPORTED, "tensor 'd' is f64");
    hb_safetensors_close(file);
}

static void round_trip_of_all_dtypes(void **state)
{
    (void)state;
    static const enum hb_dtype dtypes[] = {HB_F64, HB_I64, HB_F32, HB_I32, HB_BF16, HB_F16, HB_U8};
    enum { COUNT = sizeof dtypes / sizeof dtypes[0] };
    static const int64_t shape[] = {3, 1, 5};
    unsigned char bytes[COUNT][3 * 5 * 8];
    for (size_t i = 0; i < sizeof bytes; i++)
        ((unsigned char *)bytes)[i] = (unsigned char)(i * 37 + 11);

    struct hb_safetensors_writer *writer;
    struct hb_file_receipt receipt, read_back;
    const char *path = scratch("all.safetensors");
    OK(hb_safetensors_writer_create(path, &writer));
    OK(hb_safetensors_writer_metadata(writer, "format", "pt"));
    OK(hb_safetensors_writer_metadata(writer, "quote", "\"\n\\ \xe4\xb8\xad"));
    for (size_t i = 0; i < COUNT; i++)
        OK(hb_safetensors_writer_declare(writer, hb_dtype_name(dtypes[i]), dtypes[i], 3, shape));
    OK(hb_safetensors_writer_declare(writer, "scalar", HB_U8, 0, NULL));
    OK(hb_safetensors_writer_declare(writer, "none", HB_U8, 2, (int64_t[]){0, 4}));
    for (size_t i = 0; i < COUNT; i++) {
        size_t size = 15 * hb_dtype_size(dtypes[i]), first = size / 3;
        const char *name = hb_dtype_name(dtypes[i]);
        OK(hb_safetensors_writer_write(writer, name, bytes[i], first));
        OK(hb_safetensors_writer_write(writer, name, bytes[i] + first, size - first));
    }
    OK(hb_safetensors_writer_write(writer, "scalar", "s", 1));
    assert_false(hb_file_exists(path));
    OK(hb_safetensors_writer_finish(writer, &receipt));
    hb_safetensors_writer_destroy(writer);

    OK(hb_file_receipt(path, &read_back));
    assert_int_equal(receipt.bytes, read_back.bytes);
    assert_string_equal(receipt.hash, read_back.hash);

    struct hb_safetensors *file;
    struct hb_safetensors_tensor t;
    OK(hb_safetensors_open(path, &file));
    assert_int_equal(hb_safetensors_count(file), COUNT + 2);
    for (size_t i = 0; i < COUNT; i++) {
        OK(hb_safetensors_find(file, hb_dtype_name(dtypes[i]), &t));
        assert_int_equal(t.dtype, dtypes[i]);
        assert_int_equal(t.rank, 3);
        assert_memory_equal(t.shape, ((int64_t[HB_RANK_MAX]){3, 1, 5, 1, 1, 1}), sizeof t.shape);
        assert_int_equal(t.count, 15);
        assert_int_equal(t.bytes, 15 * hb_dtype_size(t.dtype));
        assert_memory_equal(t.data, bytes[i], t.bytes);
        assert_int_equal((uintptr_t)t.data % hb_dtype_size(t.dtype), 0);
    }
    OK(hb_safetensors_find(file, "scalar", &t));
    assert_int_equal(t.rank, 0);
    assert_int_equal(t.count, 1);
    assert_int_equal(*(const char *)t.data, 's');
    OK(hb_safetensors_find(file, "none", &t));
    assert_int_equal(t.bytes, 0);
    assert_string_equal(hb_safetensors_metadata(file, "quote"), "\"\n\\ \xe4\xb8\xad");
    hb_safetensors_close(file);

    /* Cut anywhere, it is refused. */
    char *whole;
    size_t size;
    OK(hb_file_read(path, &whole, &size));
    for (size_t kept = 0; kept < size; kept++)
        assert_int_equal(hb_safetensors_open(scratch_write("cut.safetensors", whole, kept), &file),
                         HB_EFORMAT);
    free(whole);
}

/* Any byte changed, any two: refused or read, never a crash. */
static void mutations(void **state)
{
    (void)state;
    char *whole;
    size_t size;
    OK(hb_file_read(scratch("all.safetensors"), &whole, &size));
    uint32_t random = 1;
    int opened = 0, refused = 0;
    for (int round = 0; round < 3000; round++) {
        unsigned char copy[4096];
        assert_true(size <= sizeof copy);
        memcpy(copy, whole, size);
        for (int change = 0; change <= round % 4; change++) {
            random = random * 1664525u + 1013904223u;
            size_t at = (random >> 8) % (size - 15 * 30);
            copy[at] = (random & 1) ? (unsigned char)(random >> 24)
                                    : (unsigned char)"0123456789-\"{}[],:e."[random >> 28];
        }
        struct hb_safetensors *file;
        hb_status status = hb_safetensors_open(scratch_write("bad.safetensors", copy, size), &file);
        assert_true(status == HB_OK || status == HB_EFORMAT);
        refused += status != HB_OK;
        opened += status == HB_OK;
        for (size_t i = 0; status == HB_OK && i < hb_safetensors_count(file); i++) {
            struct hb_safetensors_tensor t;
            if (hb_safetensors_at(file, i, &t) != HB_OK)
                continue;
            void *aside = malloc(t.bytes + 1);
            hb_safetensors_copy(&t, aside);
            free(aside);
        }
        hb_safetensors_close(file);
    }
    free(whole);
    assert_true(opened > 10 && refused > 1000);
}

static void writer_refuses_misuse(void **state)
{
    (void)state;
    struct hb_safetensors_writer *w;
    int64_t two[] = {2}, negative[] = {-1}, vast[] = {INT64_MAX, 2};
    const char *path = scratch("misuse.safetensors");
    OK(hb_safetensors_writer_create(path, &w));
    OK(hb_safetensors_writer_declare(w, "a", HB_U8, 1, two));
    REFUSED(hb_safetensors_writer_declare(w, "a", HB_U8, 1, two), HB_EARGUMENT, "declared twice");
    REFUSED(hb_safetensors_writer_declare(w, "__metadata__", HB_U8, 1, two), HB_EARGUMENT, "reserved");
    REFUSED(hb_safetensors_writer_declare(w, "b", HB_F32, 1, two), HB_EARGUMENT, "misaligned");
    REFUSED(hb_safetensors_writer_declare(w, "b", HB_U8, 1, negative), HB_ESHAPE, "negative or too large");
    REFUSED(hb_safetensors_writer_declare(w, "b", HB_U8, 2, vast), HB_ESHAPE, "negative or too large");
    REFUSED(hb_safetensors_writer_declare(w, "b", HB_U8, 7, vast), HB_ESHAPE, "rank 7");
    REFUSED(hb_safetensors_writer_declare(w, "\xff", HB_U8, 1, two), HB_EARGUMENT, "UTF-8");
    OK(hb_safetensors_writer_metadata(w, "k", "v"));
    REFUSED(hb_safetensors_writer_metadata(w, "k", "v"), HB_EARGUMENT, "given twice");
    REFUSED(hb_safetensors_writer_metadata(w, "l", "\xff"), HB_EARGUMENT, "UTF-8");
    OK(hb_safetensors_writer_declare(w, "b", HB_U8, 1, two));
    REFUSED(hb_safetensors_writer_write(w, "b", "xx", 2), HB_EARGUMENT, "it is the turn of 'a'");
    REFUSED(hb_safetensors_writer_declare(w, "c", HB_U8, 1, two), HB_EARGUMENT, "after data");
    REFUSED(hb_safetensors_writer_metadata(w, "m", "v"), HB_EARGUMENT, "after data");
    REFUSED(hb_safetensors_writer_write(w, "a", "xxx", 3), HB_EARGUMENT, "too many for 'a', which lacks 2");
    OK(hb_safetensors_writer_write(w, "a", "x", 1));
    REFUSED(hb_safetensors_writer_finish(w, NULL), HB_EARGUMENT, "'a' is not complete");
    OK(hb_safetensors_writer_write(w, "a", "x", 1));
    OK(hb_safetensors_writer_write(w, "b", "xx", 2));
    REFUSED(hb_safetensors_writer_write(w, "b", "x", 1), HB_EARGUMENT, "all tensors are complete");
    assert_false(hb_file_exists(path));
    OK(hb_safetensors_writer_finish(w, NULL));
    hb_safetensors_writer_destroy(w);
    struct hb_safetensors *file;
    OK(hb_safetensors_open(path, &file));
    assert_int_equal(hb_safetensors_count(file), 2);
    hb_safetensors_close(file);
    REFUSED(hb_safetensors_writer_create(scratch("no/file"), &w), HB_EIO, "cannot create");
    hb_safetensors_writer_destroy(NULL);
}

static void full_disk_leaves_no_file(void **state)
{
    (void)state;
    static float values[50000];
    const char *path = scratch("full/model.safetensors");
    OK(hb_folder_create(scratch("full")));
    struct hb_safetensors_writer *w;
    OK(hb_safetensors_writer_create(path, &w));
    OK(hb_safetensors_writer_declare(w, "a", HB_F32, 1, (int64_t[]){50000}));
    scratch_limit_files(100000);
    hb_status status = hb_safetensors_writer_write(w, "a", values, sizeof values);
    scratch_limit_files(0);
    REFUSED(status, HB_EIO, "free some space");
    assert_int_equal(hb_safetensors_writer_write(w, "a", values, sizeof values), HB_OK);
    REFUSED(hb_safetensors_writer_finish(w, NULL), HB_EIO, "earlier piece");
    hb_safetensors_writer_destroy(w);
    assert_int_equal(scratch_count(scratch("full")), 0);
}

static void write_shard(const char *path, const char *first, const char *second, const char *text)
{
    struct hb_safetensors_writer *w;
    OK(hb_safetensors_writer_create(path, &w));
    OK(hb_safetensors_writer_metadata(w, "shard", text));
    OK(hb_safetensors_writer_declare(w, first, HB_U8, 0, NULL));
    OK(hb_safetensors_writer_declare(w, second, HB_U8, 0, NULL));
    OK(hb_safetensors_writer_write(w, first, text, 1));
    OK(hb_safetensors_writer_write(w, second, text, 1));
    OK(hb_safetensors_writer_finish(w, NULL));
    hb_safetensors_writer_destroy(w);
}

static void refuse_index(const char *json, const char *message)
{
    struct hb_safetensors *model;
    scratch_write("model/model.safetensors.index.json", json, strlen(json));
    REFUSED(hb_safetensors_open_model(scratch("model"), &model), HB_EFORMAT, message);
    assert_null(model);
}

static void sharded_models(void **state)
{
    (void)state;
    struct hb_safetensors *model;
    struct hb_safetensors_tensor t;
    OK(hb_folder_create(scratch("model")));
    REFUSED(hb_safetensors_open_model(scratch("model"), &model), HB_EFORMAT,
            "has neither model.safetensors nor");
    write_shard(scratch("model/one.safetensors"), "a", "shared", "1");
    write_shard(scratch("model/two.safetensors"), "b", "shared", "2");
    refuse_index("{\"metadata\": {}}", "key 'weight_map' is missing");
    refuse_index("{\"weight_map\": {\"a\": 5}}", "must be the name of a file");
    refuse_index("{\"weight_map\": {\"a\": \"../one.safetensors\"}}", "must be the name of a file");
    refuse_index("{\"weight_map\": {\"a\": \"..\"}}", "not a regular file");
    refuse_index("{\"weight_map\": {\"a\": \"one.safetensors\", \"b\": \"three.safetensors\"}}",
                 "the shard three.safetensors is missing; it holds 'b'");
    refuse_index("{\"weight_map\": {\"a\": \"one.safetensors\", \"b\": \"one.safetensors\"}}",
                 "tensor 'b' is not in its shard one.safetensors");
    refuse_index("{\"weight_map\": {\"a\": \"one.safetensors\", \"a\": \"two.safetensors\"}}", "duplicate");

    const char *index = "{\"metadata\": {\"total_size\": 3}, \"weight_map\": {\"a\": \"one.safetensors\", "
                        "\"shared\": \"two.safetensors\", \"b\": \"two.safetensors\"}}";
    scratch_write("model/model.safetensors.index.json", index, strlen(index));
    OK(hb_safetensors_open_model(scratch("model"), &model));
    assert_int_equal(hb_safetensors_count(model), 3);
    assert_string_equal(hb_safetensors_name(model, 0), "a");
    assert_string_equal(hb_safetensors_name(model, 1), "b");
    OK(hb_safetensors_find(model, "shared", &t));
    assert_int_equal(*(const char *)t.data, '2');
    assert_string_equal(hb_safetensors_metadata(model, "shard"), "1");
    hb_safetensors_close(model);

    write_shard(scratch("model/model.safetensors"), "x", "y", "0");
    OK(hb_safetensors_open_model(scratch("model"), &model));
    assert_true(hb_safetensors_has(model, "x"));
    assert_false(hb_safetensors_has(model, "a"));
    hb_safetensors_close(model);
}

/* Files by another writer, in the shared folder that HB_SHARED names. */
static void foreign_files(void **state)
{
    (void)state;
    const char *shared = getenv("HB_SHARED");
    char folder[512];
    snprintf(folder, sizeof folder, "%s/conformance/onnx", shared ? shared : "");
    DIR *open = shared ? opendir(folder) : NULL;
    if (!open) {
        print_message("skipped: HB_SHARED names no folder with conformance/onnx\n");
        skip();
    }
    struct dirent *entry;
    int files = 0;
    while ((entry = readdir(open))) {
        if (!strstr(entry->d_name, ".safetensors"))
            continue;
        char *path = hb_path_join(folder, entry->d_name);
        struct hb_safetensors *file;
        OK(hb_safetensors_open(path, &file));
        assert_non_null(hb_safetensors_metadata(file, "source"));
        assert_true(hb_safetensors_count(file) >= 2);
        for (size_t i = 0; i < hb_safetensors_count(file); i++) {
            struct hb_safetensors_tensor t;
            OK(hb_safetensors_at(file, i, &t));
            assert_int_equal(t.bytes, (size_t)t.count * hb_dtype_size(t.dtype));
            if (t.dtype != HB_F32 && t.dtype != HB_F16)
                continue;
            float *values = malloc((size_t)t.count * sizeof *values + 1);
            OK(hb_safetensors_copy_f32(&t, values));
            for (int64_t k = 0; k < t.count; k++)
                assert_false(isnan(values[k]));
            free(values);
        }
        hb_safetensors_close(file);
        free(path);
        files++;
    }
    closedir(open);
    assert_true(files > 0);
    print_message("read %d files\n", files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_headers),
        cmocka_unit_test(lying_lengths),
        cmocka_unit_test(odd_but_right),
        cmocka_unit_test(misaligned_data_can_be_copied),
        cmocka_unit_test(round_trip_of_all_dtypes),
        cmocka_unit_test(mutations),
        cmocka_unit_test(writer_refuses_misuse),
        cmocka_unit_test(full_disk_leaves_no_file),
        cmocka_unit_test(sharded_models),
        cmocka_unit_test(foreign_files),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
