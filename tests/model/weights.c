/* Model folders: what is saved comes back to the bit, every form that Hugging
 * Face writes is read, and what does not fit is refused by name, with nothing
 * changed. */
#include "model/weights.h"

#include "core/json.h"
#include "core/safetensors.h"
#include "core/scratch.h"
#include "model/tiny.h"

/* --- a model file in memory, to be changed and written again --- */

struct item {
    char name[200];
    int rank;
    int64_t shape[3];
    float *data;
};

struct items {
    struct item item[200];
    int count;
};

static int64_t item_count(const struct item *item)
{
    int64_t count = 1;
    for (int d = 0; d < item->rank; d++)
        count *= item->shape[d];
    return count;
}

static struct item *find_item(struct items *all, const char *name)
{
    for (int i = 0; i < all->count; i++)
        if (strcmp(all->item[i].name, name) == 0)
            return &all->item[i];
    fail_msg("no item %s", name);
    return NULL;
}

static struct item *add_item(struct items *all, const char *name, int rank, int64_t n0, int64_t n1,
                             int64_t n2)
{
    struct item *item = &all->item[all->count++];
    assert_true(all->count <= 200);
    *item = (struct item){.rank = rank, .shape = {n0, n1, n2}};
    snprintf(item->name, sizeof item->name, "%s", name);
    item->data = calloc((size_t)item_count(item), sizeof *item->data);
    assert_non_null(item->data);
    return item;
}

static void drop_item(struct items *all, const char *name)
{
    struct item *item = find_item(all, name);
    free(item->data);
    *item = all->item[--all->count];
}

/* Saves the model and takes the file apart. */
static struct items *items_of(const struct hb_model *model)
{
    struct hb_safetensors *file;
    struct items *all = calloc(1, sizeof *all);
    assert_non_null(all);
    OK(hb_model_save(model, scratch("whole"), NULL));
    OK(hb_safetensors_open(scratch("whole/model.safetensors"), &file));
    for (size_t i = 0; i < hb_safetensors_count(file); i++) {
        struct hb_safetensors_tensor t;
        OK(hb_safetensors_at(file, i, &t));
        struct item *item = add_item(all, t.name, t.rank, t.shape[0], t.shape[1], t.shape[2]);
        OK(hb_safetensors_copy_f32(&t, item->data));
    }
    hb_safetensors_close(file);
    return all;
}

static void free_items(struct items *all)
{
    for (int i = 0; i < all->count; i++)
        free(all->item[i].data);
    free(all);
}

static void write_some(const struct items *all, int begin, int end, enum hb_dtype dtype, const char *path)
{
    struct hb_safetensors_writer *writer;
    OK(hb_safetensors_writer_create(path, &writer));
    for (int i = begin; i < end; i++)
        OK(hb_safetensors_writer_declare(writer, all->item[i].name, dtype, all->item[i].rank,
                                         all->item[i].shape));
    for (int i = begin; i < end; i++) {
        const struct item *item = &all->item[i];
        int64_t count = item_count(item);
        uint16_t *half = malloc((size_t)count * sizeof *half);
        for (int64_t k = 0; k < count; k++)
            half[k] = dtype == HB_BF16 ? hb_bf16_of_f32(item->data[k]) : hb_f16_of_f32(item->data[k]);
        bool wide = dtype == HB_F32 || dtype == HB_I32;
        OK(hb_safetensors_writer_write(writer, item->name, wide ? (void *)item->data : (void *)half,
                                       (size_t)count * (wide ? sizeof *item->data : sizeof *half)));
        free(half);
    }
    OK(hb_safetensors_writer_finish(writer, NULL));
    hb_safetensors_writer_destroy(writer);
}

/* A fresh folder with model.safetensors of these items. */
static const char *folder_of(const struct items *all, enum hb_dtype dtype)
{
    OK(hb_folder_remove(scratch("changed")));
    OK(hb_folder_create(scratch("changed")));
    write_some(all, 0, all->count, dtype, scratch("changed/model.safetensors"));
    return scratch("changed");
}

/* --- tests --- */

static void round_trip(const struct hb_model_config *config, int tensors)
{
    struct tiny a, b;
    tiny_open(&a, config, false, 1);
    tiny_open(&b, config, false, 2);
    struct hb_file_receipt receipt, again;
    OK(hb_model_save(a.model, scratch("deep/er"), &receipt));
    OK(hb_file_receipt(scratch("deep/er/model.safetensors"), &again));
    assert_int_equal(receipt.bytes, again.bytes);
    assert_string_equal(receipt.hash, again.hash);

    struct hb_safetensors *file;
    OK(hb_safetensors_open(scratch("deep/er/model.safetensors"), &file));
    assert_int_equal(hb_safetensors_count(file), tensors);
    assert_string_equal(hb_safetensors_metadata(file, "format"), "pt");
    assert_true(hb_safetensors_has(file, "model.embed_tokens.weight"));
    assert_int_equal(hb_safetensors_has(file, "lm_head.weight"), !config->tie_word_embeddings);
    assert_int_equal(hb_safetensors_has(file, "model.layers.1.mlp.experts.3.up_proj.weight"),
                     config->num_experts > 0);
    hb_safetensors_close(file);

    struct hb_model_config read;
    OK(hb_model_config_read(scratch("deep/er/config.json"), &read));
    assert_int_equal(read.num_experts, config->num_experts);
    assert_int_equal(read.balance, config->balance);
    assert_false(tiny_equal(a.model, b.model));
    OK(hb_model_load(b.model, scratch("deep/er")));
    assert_true(tiny_equal(a.model, b.model));
    tiny_close(&a);
    tiny_close(&b);
}

static void comes_back_as_saved(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(0);
    round_trip(&c, 2 * 11 + 3);
    c.tie_word_embeddings = true;
    round_trip(&c, 2 * 11 + 2);
    c = tiny_config(4);
    round_trip(&c, 11 + 9 + 3 * 4 + 3);
    c.router_bias = true;
    c.balance = HB_BALANCE_BIAS;
    round_trip(&c, 11 + 9 + 3 * 4 + 3 + 2);
    /* fp32 biases among 16-bit tensors of odd sizes. */
    c.hidden_size = 23;
    c.precision.weights = HB_STORED_BF16;
    round_trip(&c, 11 + 9 + 3 * 4 + 3 + 2);
}

/* Larger than the piece in which tensors move. */
static void moves_large_tensors(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(0);
    c.vocab_size = 70001;
    round_trip(&c, 2 * 11 + 3);
}

static void reads_half_width(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(4);
    struct tiny a, b;
    tiny_open(&a, &c, false, 1);
    tiny_open(&b, &c, false, 2);
    struct items *all = items_of(a.model);
    static const enum hb_dtype dtypes[] = {HB_BF16, HB_F16};
    for (int d = 0; d < 2; d++) {
        OK(hb_model_load(b.model, folder_of(all, dtypes[d])));
        int64_t rounded = 0;
        for (int64_t p = 0; p < a.model->param_count; p++) {
            float *x = tiny_values(a.model->params[p]), *y = tiny_values(b.model->params[p]);
            for (int64_t i = 0; i < hb_tensor_count(&a.model->params[p]->value); i++) {
                float wanted = dtypes[d] == HB_BF16 ? hb_f32_of_bf16(hb_bf16_of_f32(x[i]))
                                                    : hb_f32_of_f16(hb_f16_of_f32(x[i]));
                assert_true(wanted == y[i]);
                rounded += wanted != x[i];
            }
            free(x);
            free(y);
        }
        assert_true(rounded > 1000);
    }
    REFUSED(hb_model_load(b.model, folder_of(all, HB_I32)), HB_EUNSUPPORTED, "is i32");
    free_items(all);
    tiny_close(&a);
    tiny_close(&b);
}

/* Stacks the experts of layer 1 as transformers 5 holds them. */
static void fuse(struct items *all, int64_t E, int64_t F, int64_t C)
{
    struct item *up = add_item(all, "model.layers.1.mlp.experts.gate_up_proj", 3, E, 2 * F, C);
    struct item *down = add_item(all, "model.layers.1.mlp.experts.down_proj", 3, E, C, F);
    static const char *const parts[] = {"gate", "up", "down"};
    float *data[2] = {up->data, down->data};
    for (int64_t e = 0; e < E; e++)
        for (int k = 0; k < 3; k++) {
            char name[100];
            snprintf(name, sizeof name, "model.layers.1.mlp.experts.%d.%s_proj.weight", (int)e, parts[k]);
            float *to = k == 2 ? data[1] + e * C * F : data[0] + (e * 2 + k) * F * C;
            memcpy(to, find_item(all, name)->data, (size_t)(F * C) * sizeof *to);
            drop_item(all, name);
        }
}

static void reads_fused_experts(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(4);
    struct tiny a, b;
    tiny_open(&a, &c, false, 1);
    tiny_open(&b, &c, false, 2);
    struct items *all = items_of(a.model);
    fuse(all, 4, 16, 24);
    OK(hb_model_load(b.model, folder_of(all, HB_F32)));
    assert_true(tiny_equal(a.model, b.model));

    /* Transposed, as another family of models stores it: not taken for ours. */
    struct item *down = find_item(all, "model.layers.1.mlp.experts.down_proj");
    down->shape[1] = 16;
    down->shape[2] = 24;
    REFUSED(hb_model_load(b.model, folder_of(all, HB_F32)), HB_ESHAPE,
            "'model.layers.1.mlp.experts.down_proj' is [4, 16, 24], but config.json makes it [4, 24, 16]");
    drop_item(all, "model.layers.1.mlp.experts.down_proj");
    REFUSED(hb_model_load(b.model, folder_of(all, HB_F32)), HB_EFORMAT, "experts.0.down_proj.weight");
    free_items(all);

    /* Both forms at once contradict each other. */
    all = items_of(a.model);
    add_item(all, "model.layers.1.mlp.experts.gate_up_proj", 3, 4, 32, 24);
    REFUSED(hb_model_load(b.model, folder_of(all, HB_F32)), HB_EFORMAT,
            "no place for tensor 'model.layers.1.mlp.experts.gate_up_proj'");
    free_items(all);
    tiny_close(&a);
    tiny_close(&b);
}

static void write_index(const struct items *all, int split)
{
    json_t *map = json_object();
    for (int i = 0; i < all->count; i++)
        json_object_set_new(map, all->item[i].name,
                            json_string(i < split ? "model-1.safetensors" : "model-2.safetensors"));
    json_t *root = json_pack("{s:{}, s:o}", "metadata", "weight_map", map);
    char *text = json_dumps(root, 0);
    OK(hb_file_write(scratch("changed/model.safetensors.index.json"), text, strlen(text)));
    free(text);
    json_decref(root);
}

static void reads_shards(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(4);
    struct tiny a, b;
    tiny_open(&a, &c, false, 1);
    tiny_open(&b, &c, false, 2);
    struct items *all = items_of(a.model);
    int split = all->count / 2;
    OK(hb_folder_remove(scratch("changed")));
    OK(hb_folder_create(scratch("changed")));
    write_some(all, 0, split, HB_F32, scratch("changed/model-1.safetensors"));
    write_index(all, split);
    REFUSED(hb_model_load(b.model, scratch("changed")), HB_EFORMAT, "model-2.safetensors is missing");
    write_some(all, split, all->count, HB_F32, scratch("changed/model-2.safetensors"));
    OK(hb_model_load(b.model, scratch("changed")));
    assert_true(tiny_equal(a.model, b.model));
    free_items(all);
    tiny_close(&a);
    tiny_close(&b);
}

static void refuses_what_does_not_fit(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(4);
    struct tiny a, b, untouched;
    tiny_open(&a, &c, false, 1);
    tiny_open(&b, &c, false, 2);
    tiny_open(&untouched, &c, false, 2);

    struct items *all = items_of(a.model);
    struct item *q = find_item(all, "model.layers.0.self_attn.q_proj.weight");
    q->shape[0] = 24;
    q->shape[1] = 32;
    REFUSED(hb_model_load(b.model, folder_of(all, HB_F32)), HB_ESHAPE,
            "'model.layers.0.self_attn.q_proj.weight' is [24, 32], but config.json makes it [32, 24]");
    free_items(all);

    static const char *const names[] = {"model.norm.weight", "lm_head.weight", "model.embed_tokens.weight",
                                        "model.layers.1.mlp.gate.weight",
                                        "model.layers.1.mlp.experts.2.up_proj.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        all = items_of(a.model);
        drop_item(all, names[i]);
        REFUSED(hb_model_load(b.model, folder_of(all, HB_F32)), HB_EFORMAT, names[i]);
        free_items(all);
    }

    static const char *const extra[] = {"model.layers.2.input_layernorm.weight",
                                        "model.layers.0.self_attn.q_proj.bias",
                                        "model.layers.1.mlp.experts.4.up_proj.weight",
                                        "model.layers.1.mlp.gate.e_score_correction_bias", "surprise"};
    for (size_t i = 0; i < sizeof extra / sizeof *extra; i++) {
        all = items_of(a.model);
        add_item(all, extra[i], 1, 24, 1, 1);
        REFUSED(hb_model_load(b.model, folder_of(all, HB_F32)), HB_EFORMAT, extra[i]);
        free_items(all);
    }
    REFUSED(hb_model_load(b.model, scratch("nowhere")), HB_EFORMAT, "nowhere");
    assert_true(tiny_equal(b.model, untouched.model));

    /* Rotary frequencies follow from the configuration. */
    all = items_of(a.model);
    add_item(all, "model.layers.0.self_attn.rotary_emb.inv_freq", 1, 4, 1, 1);
    OK(hb_model_load(b.model, folder_of(all, HB_F32)));
    assert_true(tiny_equal(a.model, b.model));
    free_items(all);
    tiny_close(&a);
    tiny_close(&b);
    tiny_close(&untouched);
}

static void checks_a_tied_head(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(0);
    c.tie_word_embeddings = true;
    struct tiny a, b;
    tiny_open(&a, &c, false, 1);
    tiny_open(&b, &c, false, 2);
    struct items *all = items_of(a.model);
    struct item *head = add_item(all, "lm_head.weight", 2, 61, 24, 1);
    memcpy(head->data, find_item(all, "model.embed_tokens.weight")->data, 61 * 24 * sizeof(float));
    head->data[700] = -head->data[700];
    REFUSED(hb_model_load(b.model, folder_of(all, HB_F32)), HB_EFORMAT, "lm_head.weight differs");
    head->data[700] = -head->data[700];
    OK(hb_model_load(b.model, folder_of(all, HB_F32)));
    assert_true(tiny_equal(a.model, b.model));
    head->shape[0] = 60;
    REFUSED(hb_model_load(b.model, folder_of(all, HB_F32)), HB_ESHAPE, "'lm_head.weight' is [60, 24]");
    free_items(all);
    tiny_close(&a);
    tiny_close(&b);
}

static void keeps_the_old_file_when_the_disk_is_full(void **state)
{
    (void)state;
    struct hb_model_config c = tiny_config(4);
    struct tiny a, b;
    tiny_open(&a, &c, false, 1);
    tiny_open(&b, &c, false, 2);
    OK(hb_model_save(a.model, scratch("kept"), NULL));
    scratch_limit_files(20000);
    hb_status status = hb_model_save(b.model, scratch("kept"), NULL);
    scratch_limit_files(0);
    REFUSED(status, HB_EIO, "model.safetensors");
    assert_int_equal(scratch_count(scratch("kept")), 2);
    OK(hb_model_load(b.model, scratch("kept")));
    assert_true(tiny_equal(a.model, b.model));
    tiny_close(&a);
    tiny_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back_as_saved), cmocka_unit_test(moves_large_tensors),
        cmocka_unit_test(reads_half_width),    cmocka_unit_test(reads_fused_experts),
        cmocka_unit_test(reads_shards),        cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(checks_a_tied_head),  cmocka_unit_test(keeps_the_old_file_when_the_disk_is_full),
    };
    return cmocka_run_group_tests_name("model/weights", tests, scratch_setup, scratch_teardown);
}
