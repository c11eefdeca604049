/* Plans: formulas of the literature where they apply, the memory that a real run asks for, and refusals. */
#include "core/scratch.h"

#include "model/tiny.h"
#include "parallel/plan.h"
#include "train/step.h"

static const struct hb_machine machine = {
    .name = "test",
    .node = 4,
    .memory = 1e9,
    .compute = 1e9,
    .memory_bandwidth = 1e10,
    .inside = {1e-6, 1e9},
    .between = {1e-5, 1e8},
};

static struct hb_plan_request request_of(const struct hb_model_config *config, const char *layout)
{
    struct hb_plan_request r = {.model = config,
                                .sequences = 2,
                                .length = 10,
                                .microbatches = 8,
                                .schedule = "1f1b",
                                .target = 0.92,
                                .machine = machine};
    OK(hb_mesh_parse(layout, &r.shape));
    return r;
}

static double sum(const struct hb_plan *plan, enum hb_footprint which)
{
    double all = 0;
    for (int64_t s = 0; s < plan->request.shape.pp; s++)
        all += plan->rank[s].bytes[which];
    return all;
}

/* One rank, really run: every byte that a step asks for, at any number of microbatches. */
static void test_one_rank(void **state)
{
    (void)state;
    static const struct hb_recompute policies[] = {{HB_RECOMPUTE_NONE, 0},
                                                   {HB_RECOMPUTE_SELECTIVE, 0},
                                                   {HB_RECOMPUTE_FULL, 0}};
    enum { N = 20, MOST = 7 };
    for (int c = 0; c < 3; c++)
        for (int64_t M = 1; M <= MOST; M += 2)
            for (int p = 0; p < 3; p++) {
                struct hb_model_config config = tiny_config(c ? 4 : 0);
                config.tie_word_embeddings = c == 2;
                struct hb_plan_request request = request_of(&config, "dp=1");
                struct hb_plan plan;
                request.microbatches = M;
                request.recompute = policies[p];
                OK(hb_plan_make(&request, &plan));

                static const struct hb_optimizer_config optimizer_config = {
                    .schedule = {.peak = 1e-3, .updates = 10}, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8,
                    .clip = 1};
                const struct hb_backend *ref;
                struct hb_context context;
                struct hb_model *model;
                struct hb_optimizer optimizer;
                struct hb_stepper stepper;
                struct hb_step_report report;
                int32_t ids[N], segments[3] = {0, 10, N};
                struct hb_batch batches[MOST];
                for (int i = 0; i < N; i++)
                    ids[i] = (i * 7 + 3) % 61;
                for (int m = 0; m < MOST; m++)
                    batches[m] = (struct hb_batch){N, ids, ids, segments, 2};
                OK(hb_backend_find("ref", &ref));
                OK(hb_context_open(ref, HB_CANONICAL, 1, &context));
                OK(hb_model_create(&context, &config, 10, true, &model));
                OK(hb_model_initialise(model, 1));
                model->recompute = policies[p];
                const double *bytes = plan.rank[0].bytes;
                assert_int_equal(hb_memory_now(HB_MEMORY_PARAMETERS), bytes[HB_FOOTPRINT_PARAMETERS]);
                assert_int_equal(hb_memory_now(HB_MEMORY_OPTIMIZER), bytes[HB_FOOTPRINT_OPTIMIZER]);
                assert_int_equal(hb_memory_now(HB_MEMORY_GRADIENTS), bytes[HB_FOOTPRINT_GRADIENTS]);
                OK(hb_optimizer_init(&optimizer, model, &optimizer_config));
                OK(hb_stepper_init(&stepper, model, &optimizer, M, N));
                OK(hb_step(&stepper, batches, M, 1, false, &report));
                assert_int_equal(stepper.tape.pool.in_use_peak, bytes[HB_FOOTPRINT_ACTIVATIONS]);
                assert_int_equal(stepper.gradients.pool.in_use_peak, bytes[HB_FOOTPRINT_FOLD]);
                assert_true(M == 1 || bytes[HB_FOOTPRINT_FOLD] > 0);
                hb_stepper_release(&stepper);
                hb_optimizer_release(&optimizer);
                hb_model_destroy(model);
                hb_context_close(&context);
                hb_plan_release(&plan);
            }
}

/* fp32 states are 16 bytes a parameter; N ranks at level 3 keep 16 / N (chunks do not divide evenly). */
static void test_levels(void **state)
{
    (void)state;
    struct hb_model_config config = tiny_config(0);
    config.vocab_size = 40000; /* chunks enough to divide */
    struct hb_plan_request request = request_of(&config, "dp=1");
    struct hb_plan plan;
    OK(hb_plan_make(&request, &plan));
    double whole = (double)plan.parameters, tables = 4 * 10 * 8;
    assert_true(sum(&plan, HB_FOOTPRINT_PARAMETERS) == 4 * whole + tables);
    double flags = 4.0 * (double)config.vocab_size; /* which rows of the embedding have a gradient */
    assert_true(sum(&plan, HB_FOOTPRINT_GRADIENTS) == 4 * whole + flags);
    assert_true(sum(&plan, HB_FOOTPRINT_OPTIMIZER) == 8 * whole);
    hb_plan_release(&plan);
    for (int level = 0; level <= 3; level++) {
        static const int shared[4] = {0, 8, 12, 16}; /* of 16 bytes */
        request = request_of(&config, "dp=5");
        request.level = level;
        request.data_rank = 1;
        OK(hb_plan_make(&request, &plan));
        double states = sum(&plan, HB_FOOTPRINT_PARAMETERS) + sum(&plan, HB_FOOTPRINT_GRADIENTS) +
                        sum(&plan, HB_FOOTPRINT_OPTIMIZER) - flags;
        double expected = (16 - shared[level]) * whole + shared[level] * whole / 5 + tables;
        assert_true(states > 0.97 * expected && states < 1.03 * expected);
        /* The block at work and the next one: a decoder and the head, which has the last norm, too. */
        double vocabulary = (double)(config.vocab_size * config.hidden_size),
               norm = (double)config.hidden_size,
               decoder = (whole - 2 * vocabulary - norm) / (double)config.num_hidden_layers;
        double both = level == 3 ? 4 * (decoder + vocabulary + norm) : 0, gaps = 64 * (level == 3 ? 16 : 0);
        assert_true(plan.rank[0].bytes[HB_FOOTPRINT_GATHERED] >= both &&
                    plan.rank[0].bytes[HB_FOOTPRINT_GATHERED] <= both + gaps);
        /* (N - 1) / N of everything to the shards and back; level 3 gathers for every F and B of 2 rounds,
         * but not what the pass before has left: the head twice, the embedding once. */
        double once = 4 * whole * 4 / 5, gathers = level == 3 ? 4 - 3 * vocabulary / whole : 1;
        double reduced = plan.rank[0].sent[HB_PLAN_REDUCE] / once,
               gathered = plan.rank[0].sent[HB_PLAN_GATHER] / once;
        assert_true(gathered > 0.97 * gathers && gathered < 1.03 * gathers);
        /* Data rank 1 has [1, 3) of 8: two nodes; or 1 and 6. */
        assert_true(reduced > 1.94 && reduced < 2.06);
        hb_plan_release(&plan);
    }
}

/* To the byte what the literature says, over all ranks: at levels 0 to 2 every gradient goes to its keeper
 * and every weight (0: root) comes from there, 4 P (N - 1); of experts (dp - 1) times. */
static void test_nothing_but_values(void **state)
{
    (void)state;
    static const struct {
        const char *layout;
        double ranks, replicas;
    } layouts[] = {{"dp=4", 4, 4}, {"ep=4", 4, 1}, {"dp=2,ep=2", 4, 2}, {"dp=3", 3, 3}};
    struct hb_model_config config = tiny_config(4);
    config.vocab_size = 4001; /* rows that are cut by chunks */
    for (size_t l = 0; l < sizeof layouts / sizeof *layouts; l++)
        for (int level = 0; level <= 2; level++) {
            struct hb_plan_request request = request_of(&config, layouts[l].layout);
            double reduced = 0, gathered = 0, all = 0;
            request.level = level;
            request.microbatches = (int64_t)layouts[l].ranks;
            for (int d = 0; d < layouts[l].ranks; d++) {
                struct hb_plan plan;
                request.data_rank = d;
                OK(hb_plan_make(&request, &plan));
                reduced += plan.rank[0].sent[HB_PLAN_REDUCE];
                gathered += plan.rank[0].sent[HB_PLAN_GATHER];
                all = (double)plan.parameters;
                hb_plan_release(&plan);
            }
            double experts = 3.0 * 4 * (double)(config.moe_intermediate_size * config.hidden_size);
            double formula = 4 * (all - experts) * (layouts[l].ranks - 1) +
                             4 * experts * (layouts[l].replicas - 1);
            assert_true(reduced == formula && gathered == formula);
        }
}

/* 4 T K C b (ep - 1) / ep bytes of rows a layer and microbatch, evenly; stages send residual and gradient. */
static void test_traffic(void **state)
{
    (void)state;
    struct hb_model_config config = tiny_config(4);
    struct hb_plan_request request = request_of(&config, "ep=2,pp=2");
    struct hb_plan plan;
    OK(hb_plan_make(&request, &plan));
    double rows = 0, worst = 0, stages = 0, messages = 0;
    for (int s = 0; s < 2; s++) {
        rows += plan.rank[s].sent[HB_PLAN_EXPERTS];
        worst += plan.rank[s].worst_sent[HB_PLAN_EXPERTS];
        stages += plan.rank[s].sent[HB_PLAN_MESSAGES];
        messages += plan.rank[s].messages[HB_PLAN_MESSAGES];
    }
    /* 4 microbatches of a data rank, one expert layer */
    double counts = 4 * (2 + 1) * 8; /* microbatch and rows of two experts, before them */
    assert_true(rows == 4 * (4.0 * 20 * 2 * 24 * 4 / 2) + counts);
    assert_true(worst == 4 * (4.0 * 20 * 2 * 24 * 4) + counts);
    /* Beside them go counts and sums of probabilities of the experts forwards, fractions backwards. */
    assert_true(stages == 4 * (2 * 20.0 * 24 * 4 + 4 * (8 + 4) + 4 * 4) && messages == 8);
    assert_true(plan.rank[0].worst_total > plan.rank[0].total ||
                plan.rank[1].worst_total > plan.rank[1].total);
    hb_plan_release(&plan);
}

/* Every second of every rank is accounted for; a slower link costs time. */
static void test_times(void **state)
{
    (void)state;
    struct hb_model_config config = tiny_config(4);
    static const char *const layouts[] = {"dp=1", "dp=2,ep=2,pp=2", "ep=4", "pp=4", "dp=3,pp=2"};
    for (size_t l = 0; l < sizeof layouts / sizeof layouts[0]; l++)
        for (int level = 0; level <= 3; level++) {
            struct hb_plan_request request = request_of(&config, layouts[l]);
            struct hb_plan plan, slow;
            request.level = level;
            OK(hb_plan_make(&request, &plan));
            for (int64_t s = 0; s < request.shape.pp; s++) {
                double all = 0;
                for (int t = 0; t < HB_PLAN_TIMES; t++) {
                    assert_true(plan.rank[s].seconds[t] > -1e-12);
                    all += plan.rank[s].seconds[t];
                }
                assert_true(all > 0.999999 * plan.seconds && all < 1.000001 * plan.seconds);
            }
            request.machine.inside.bandwidth /= 10;
            request.machine.between.bandwidth /= 10;
            OK(hb_plan_make(&request, &slow));
            assert_true(l == 0 ? slow.seconds == plan.seconds : slow.seconds > plan.seconds);
            hb_plan_release(&slow);
            hb_plan_release(&plan);
        }
}

static void test_refusals(void **state)
{
    (void)state;
    struct hb_model_config config = tiny_config(4);
    struct hb_plan plan;
    struct hb_plan_request request = request_of(&config, "ep=8");
    REFUSED(hb_plan_make(&request, &plan), HB_EARGUMENT, "divides 4 experts among more ranks");
    request = request_of(&config, "pp=4");
    request.schedule = "zb-v";
    REFUSED(hb_plan_make(&request, &plan), HB_EARGUMENT, "zb-v has 8 stages, the model only 4 blocks");
    request.schedule = "zb";
    REFUSED(hb_plan_make(&request, &plan), HB_EARGUMENT, "there is no schedule 'zb'");
    struct hb_machine m;
    static const char text[] = "name: x\nnode: 8\nmemory: 1e9\ncompute: -1\n";
    REFUSED(hb_machine_load(scratch_write("m.yaml", text, sizeof text - 1), &m), HB_EFORMAT,
            "m.yaml:4: compute");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_rank),           cmocka_unit_test(test_levels),
        cmocka_unit_test(test_nothing_but_values), cmocka_unit_test(test_traffic),
        cmocka_unit_test(test_times),              cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
