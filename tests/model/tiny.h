/* Models small enough for a test, and their weights as numbers. Include after core/scratch.h. */
#ifndef HB_TESTS_MODEL_TINY_H
#define HB_TESTS_MODEL_TINY_H

#include "backends/registry.h"
#include "model/model.h"

struct tiny {
    struct hb_context context;
    struct hb_model *model;
};

/* Two layers; `experts` 0 makes it dense, otherwise the first layer stays dense. */
static inline struct hb_model_config tiny_config(int64_t experts)
{
    struct hb_model_config c;
    hb_model_config_defaults(&c);
    c.vocab_size = 61;
    c.hidden_size = 24;
    c.num_hidden_layers = 2;
    c.num_attention_heads = 4;
    c.num_key_value_heads = 2;
    c.head_dim = 8;
    c.intermediate_size = 40;
    if (experts) {
        c.num_experts = experts;
        c.num_experts_per_tok = 2;
        c.moe_intermediate_size = 16;
        c.norm_topk_prob = true;
        c.dense_layer[0] = true;
    }
    return c;
}

/* One thread: tests that fork must not have started others. */
static inline void tiny_open(struct tiny *t, const struct hb_model_config *config, bool trained,
                             uint64_t seed)
{
    const struct hb_backend *backend;
    OK(hb_backend_find("ref", &backend));
    OK(hb_context_open(backend, HB_CANONICAL, 1, &t->context));
    OK(hb_model_create(&t->context, config, 32, trained, &t->model));
    OK(hb_model_initialise(t->model, seed));
}

static inline void tiny_close(struct tiny *t)
{
    hb_model_destroy(t->model);
    hb_context_close(&t->context);
}

static inline float *tiny_values(const struct hb_param *p)
{
    float *values = malloc(hb_tensor_bytes(&p->value));
    assert_non_null(values);
    OK(hb_copy_out((struct hb_context *)(uintptr_t)p->value.home, values, p->value));
    return values;
}

/* Every byte of every parameter. */
static inline bool tiny_equal(const struct hb_model *a, const struct hb_model *b)
{
    assert_int_equal(a->param_count, b->param_count);
    bool equal = true;
    for (int64_t i = 0; i < a->param_count; i++) {
        float *x = tiny_values(a->params[i]), *y = tiny_values(b->params[i]);
        equal = equal && memcmp(x, y, hb_tensor_bytes(&a->params[i]->value)) == 0;
        free(x);
        free(y);
    }
    return equal;
}

#endif
