/* Probes: what is written with and without each request, that it is what
 * training computes, and that bad input is refused by name. Whether the numbers
 * are right is the business of tests/model/golden.c. */
#include "model/probe.h"

#include "core/safetensors.h"
#include "core/scratch.h"
#include "model/tiny.h"
#include "train/step.h"

enum { B = 2, T = 5, V = 61 };

static const int64_t good_ids[B * T] = {1, 2, 3, 4, 5, 60, 0, 7, 8, 9};
static const int64_t good_labels[B * T] = {1, 2, -100, 4, 5, -100, 0, 7, -100, 9};

struct part {
    const char *name;
    enum hb_dtype dtype;
    int rank;
    int64_t shape[3];
    const void *data;
};

static const char *input_file(const struct part *parts, int count)
{
    struct hb_safetensors_writer *writer;
    const char *path = scratch("input.safetensors");
    OK(hb_safetensors_writer_create(path, &writer));
    for (int i = 0; i < count; i++)
        OK(hb_safetensors_writer_declare(writer, parts[i].name, parts[i].dtype, parts[i].rank,
                                         parts[i].shape));
    for (int i = 0; i < count; i++) {
        int64_t bytes = (int64_t)hb_dtype_size(parts[i].dtype);
        for (int d = 0; d < parts[i].rank; d++)
            bytes *= parts[i].shape[d];
        OK(hb_safetensors_writer_write(writer, parts[i].name, parts[i].data, (size_t)bytes));
    }
    OK(hb_safetensors_writer_finish(writer, NULL));
    hb_safetensors_writer_destroy(writer);
    return path;
}

static hb_status read(const struct part *parts, int count, struct hb_probe_input *input)
{
    return hb_probe_input_read(input_file(parts, count), V, input);
}

static void good_input(bool labelled, struct hb_probe_input *input)
{
    const struct part parts[] = {{"input_ids", HB_I64, 2, {B, T}, good_ids},
                                 {"labels", HB_I64, 2, {B, T}, good_labels}};
    OK(read(parts, labelled ? 2 : 1, input));
}

static void shifts_the_labels(void **state)
{
    (void)state;
    static const int32_t shifted[B * T] = {2, -100, 4, 5, -100, 0, 7, -100, 9, -100};
    struct hb_probe_input input;
    good_input(true, &input);
    assert_int_equal(input.sequences, B);
    assert_int_equal(input.length, T);
    assert_int_equal(input.label_count, 6);
    assert_memory_equal(input.labels, shifted, sizeof shifted);
    for (int i = 0; i < B * T; i++)
        assert_int_equal(input.ids[i], good_ids[i]);
    hb_probe_input_release(&input);
    good_input(false, &input);
    assert_null(input.labels);
    hb_probe_input_release(&input);
}

/* `ids` with element i replaced. */
static void refuse_value(const char *name, const int64_t *ids, int i, int64_t value, const char *message)
{
    int64_t changed[B * T];
    struct hb_probe_input input;
    memcpy(changed, ids, sizeof changed);
    changed[i] = value;
    bool labels = strcmp(name, "labels") == 0;
    const struct part parts[] = {{"input_ids", HB_I64, 2, {B, T}, labels ? good_ids : changed},
                                 {"labels", HB_I64, 2, {B, T}, labels ? changed : good_labels}};
    REFUSED(read(parts, 2, &input), HB_EARGUMENT, message);
    assert_null(input.ids);
}

static void refuses_bad_input(void **state)
{
    (void)state;
    static const int64_t none[B * T] = {3, -100, -100, -100, -100, 4, -100, -100, -100, -100};
    static const int32_t narrow[B * T] = {1};
    struct hb_probe_input input;
    refuse_value("input_ids", good_ids, 7, 61, "input_ids[1, 2] is 61, it must be from 0 to 60");
    refuse_value("input_ids", good_ids, 0, -1, "input_ids[0, 0] is -1");
    refuse_value("input_ids", good_ids, 0, INT64_MIN, "input_ids[0, 0] is -9223372036854775808");
    refuse_value("labels", good_labels, 3, 4294967297, "labels[0, 3] is 4294967297");
    refuse_value("labels", good_labels, 9, -1, "labels[1, 4] is -1, it must be from 0 to 60, or -100");

    struct part ids = {"input_ids", HB_I64, 2, {B, T}, good_ids};
    REFUSED(read(&(struct part){"tokens", HB_I64, 2, {B, T}, good_ids}, 1, &input), HB_EFORMAT, "input_ids");
    REFUSED(read(&(struct part){"input_ids", HB_I32, 2, {B, T}, narrow}, 1, &input), HB_ESHAPE, "is i32");
    REFUSED(read(&(struct part){"input_ids", HB_I64, 1, {B * T}, good_ids}, 1, &input), HB_ESHAPE, "[B, T]");
    REFUSED(read(&(struct part){"input_ids", HB_I64, 2, {0, T}, good_ids}, 1, &input), HB_ESHAPE,
            "one token");
    REFUSED(read((struct part[]){ids, {"labels", HB_I64, 2, {T, B}, good_labels}}, 2, &input), HB_ESHAPE,
            "'labels' must have the shape of 'input_ids', [2, 5]");
    REFUSED(read((struct part[]){ids, {"labels", HB_I64, 2, {B, T}, none}}, 2, &input), HB_EARGUMENT,
            "no row has a label");
    REFUSED(hb_probe_input_read(scratch("nowhere"), V, &input), HB_EIO, "nowhere");
    REFUSED(hb_probe_input_read(scratch_write("noise", "noise, no more", 14), V, &input), HB_EFORMAT,
            "noise");
}

/* Runs and writes; the file that came out. */
static struct hb_safetensors *run(struct hb_model *model, struct hb_probe request, bool labelled)
{
    struct hb_probe_input input;
    struct hb_safetensors *file;
    const char *path = scratch("output.safetensors");
    good_input(labelled, &input);
    OK(hb_probe_run(&request, model, &input));
    OK(hb_probe_write(&request, path));
    hb_probe_release(&request);
    hb_probe_input_release(&input);
    OK(hb_safetensors_open(path, &file));
    return file;
}

static double number(const struct hb_safetensors *file, const char *name)
{
    struct hb_safetensors_tensor t;
    double value;
    OK(hb_safetensors_find(file, name, &t));
    assert_int_equal(t.rank, 0);
    assert_int_equal(t.dtype, HB_F64);
    hb_safetensors_copy(&t, &value);
    return value;
}

static void assert_shape(const struct hb_safetensors *file, const char *name, enum hb_dtype dtype, int rank,
                         const int64_t *shape)
{
    struct hb_safetensors_tensor t;
    OK(hb_safetensors_find(file, name, &t));
    assert_int_equal(t.dtype, dtype);
    assert_int_equal(t.rank, rank);
    assert_memory_equal(t.shape, shape, (size_t)rank * sizeof *shape);
}

static void writes_what_is_asked_for(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(4);
    struct tiny t;
    tiny_open(&t, &c, true, 1);
    struct hb_safetensors *file = run(t.model, (struct hb_probe){0}, false);
    assert_int_equal(hb_safetensors_count(file), 2); /* and the balance loss, which needs no labels */
    assert_shape(file, "logits", HB_F32, 3, (int64_t[]){B, T, V});
    assert_true(number(file, "aux_loss") > 0);
    hb_safetensors_close(file);

    file = run(t.model, (struct hb_probe){.want_hidden = true, .want_router = true,
        .want_gradients = true}, true);
    assert_int_equal(hb_safetensors_count(file), 3 + 1 + 1 + 2 + 11 + 9 + 3 * 4 + 3);
    assert_shape(file, "hidden_states", HB_F32, 4, (int64_t[]){3, B, T, 24});
    assert_shape(file, "router_index", HB_I64, 3, (int64_t[]){1, B * T, 2});
    assert_shape(file, "router_weight", HB_F32, 3, (int64_t[]){1, B * T, 2});
    assert_shape(file, "grad.model.layers.1.mlp.experts.3.down_proj.weight", HB_F32, 2, (int64_t[]){24, 16});
    assert_shape(file, "grad.model.norm.weight", HB_F32, 1, (int64_t[]){24});
    double ce = number(file, "ce_loss"), aux = number(file, "aux_loss");
    assert_true(number(file, "loss") == ce + c.router_aux_loss_coef * aux);
    hb_safetensors_close(file);

    struct hb_probe_input input;
    struct hb_probe blind = {.want_gradients = true};
    good_input(false, &input);
    REFUSED(hb_probe_run(&blind, t.model, &input), HB_EARGUMENT, "gradients need 'labels'");
    hb_probe_release(&blind);
    hb_probe_input_release(&input);
    tiny_close(&t);
}

/* Cross-entropy, balance loss and z-loss are those that a step reports. */
static void is_what_training_computes(void **state)
{
    (void)state;
    static const enum hb_balance_kind kinds[] = {HB_BALANCE_HF, HB_BALANCE_LAYER, HB_BALANCE_BIAS,
                                                 HB_BALANCE_NONE};
    for (int k = 0; k < 4; k++) {
        struct hb_model_config c = tiny_config(4);
        struct tiny t;
        struct hb_probe_input input;
        struct hb_optimizer optimizer;
        struct hb_stepper stepper;
        struct hb_step_report report;
        c.balance = kinds[k];
        c.dense_layer[0] = false;
        c.router_aux_loss_coef = 0.01;
        c.router_z_loss_coef = 0.002;
        tiny_open(&t, &c, true, 1);
        struct hb_safetensors *file = run(t.model, (struct hb_probe){0}, true);
        good_input(true, &input);
        struct hb_batch batch = {.tokens = B * T,
                                 .ids = input.ids,
                                 .labels = input.labels,
                                 .segments = (int32_t[]){0, T, B * T},
                                 .segment_count = B};
        OK(hb_optimizer_init(&optimizer, t.model, &(struct hb_optimizer_config){.schedule = {.updates = 1}}));
        OK(hb_stepper_init(&stepper, t.model, &optimizer, 1, B * T));
        OK(hb_step(&stepper, &batch, 1, 1, false, &report));
        bool aux = kinds[k] == HB_BALANCE_HF || kinds[k] == HB_BALANCE_LAYER;
        assert_true(number(file, "ce_loss") == report.loss);
        assert_int_equal(hb_safetensors_has(file, "aux_loss"), aux);
        if (aux)
            assert_true(number(file, "aux_loss") == report.aux && report.aux > 0);
        assert_true(number(file, "z_loss") == report.z && report.z > 0);
        assert_true(number(file, "loss") == report.loss + 0.01 * report.aux + 0.002 * report.z);
        hb_stepper_release(&stepper);
        hb_optimizer_release(&optimizer);
        hb_probe_input_release(&input);
        hb_safetensors_close(file);
        tiny_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shifts_the_labels),
        cmocka_unit_test(refuses_bad_input),
        cmocka_unit_test(writes_what_is_asked_for),
        cmocka_unit_test(is_what_training_computes),
    };
    return cmocka_run_group_tests_name("model/probe", tests, scratch_setup, scratch_teardown);
}
