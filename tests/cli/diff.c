/* hornbook train --trace and hornbook diff, as an auditor runs them: small runs
 * that are equal, and runs that part in a known place. HB_PROGRAM names the program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "core/file.h"

static char folder[] = "/tmp/hornbook-diff-XXXXXX";
static const char *program;

static const char config[] =
    "run_folder: a\n"
    "threads: 1\n"
    "data: {train: data-train, tokenizer: tok, sequence_length: 24}\n"
    "model: {hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, "
    "head_dim: 16,\n"
    "        intermediate_size: 40, num_experts: 3, num_experts_per_tok: 2, moe_intermediate_size: 24,\n"
    "        mlp_only_layers: [0], tie_word_embeddings: true}\n"
    "training: {steps: 4, microbatch: 2, accumulate: 3, learning_rate: 2e-3, checkpoint_every: 2,\n"
    "           keep_checkpoints: 9, tensorboard: false}\n";

/* --- running --- */

static char *read_in(const char *name, size_t *size)
{
    char path[512], *data;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (hb_file_read(path, &data, size) != HB_OK)
        fail_msg("%s", hb_error());
    return data;
}

static void write_in(const char *name, const void *data, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* A shell command in the folder; "hornbook" is the program. */
static int shell(const char *command)
{
    char text[2048];
    snprintf(text, sizeof text, "cd '%s' && hornbook() { '%s' \"$@\"; } && { %s; } > out 2> err", folder,
             program, command);
    int status = system(text);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void must(const char *command)
{
    if (shell(command) != 0) {
        size_t n;
        char *err = read_in("err", &n);
        fail_msg("%s: %s", command, err);
    }
}

/* Runs a command and wants this code and all of these parts, NULL at the end,
 * in what it printed, in this order. */
static void expect(const char *command, int code, const char *const *parts)
{
    size_t n;
    int got = shell(command);
    char *out = read_in(code == 2 ? "err" : "out", &n), *at = out;
    if (got != code)
        fail_msg("%s: exit %d, not %d: %s", command, got, code, out);
    for (; *parts; parts++) {
        at = strstr(at, *parts);
        if (!at)
            fail_msg("%s does not say '%s' (there) in\n%s", command, *parts, out);
        at += strlen(*parts);
    }
    free(out);
}
#define EXPECT(command, code, ...) expect(command, code, (const char *const[]){__VA_ARGS__, NULL})

static void expect_not(const char *part)
{
    size_t n;
    char *out = read_in("out", &n);
    if (strstr(out, part))
        fail_msg("should not say '%s': %s", part, out);
    free(out);
}

static int setup(void **state)
{
    (void)state;
    program = getenv("HB_PROGRAM");
    if (!mkdtemp(folder))
        return -1;
    char text[8192] = "";
    for (int i = 0; strlen(text) < sizeof text - 64; i++)
        snprintf(text + strlen(text), 64, "line %d of %d times %d is %d.\n", i, i * 7 % 13, i, i * i % 101);
    write_in("text.txt", text, strlen(text));
    write_in("run.yaml", config, sizeof config - 1);
    must("hornbook tokenizer train --vocab-size 264 --output tok text.txt");
    must("hornbook data build --tokenizer tok --output data --held-out 0 text.txt");
    must("hornbook train run.yaml --trace");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return hb_folder_remove(folder);
}

/* --- equal runs --- */

static void test_equal_everywhere(void **state)
{
    (void)state;
    must("hornbook train run.yaml --set run_folder=ref --set backend=ref --trace 1:4");
    must("hornbook train run.yaml --set run_folder=strict --set backend=strict --set threads=2 --trace");
    must("hornbook train run.yaml --set run_folder=three --set threads=3 --trace=2:3");
    must("cmp a/trace.jsonl ref/trace.jsonl && cmp a/trace.jsonl strict/trace.jsonl");
    must("grep -e '\"step\": [23],' a/trace.jsonl | cmp - three/trace.jsonl");
    EXPECT("hornbook diff a strict", 0, "A  a: steps 1 to 4\n", "run_folder", "no bit depends on it",
           "backend", "4 steps of both are equal, digests and all numbers", "from step 1 on are equal.");
    EXPECT("hornbook diff a/ ref//", 0, "4 steps of both are equal");
    EXPECT("hornbook diff a three", 0, "calls of ops from step 2 on are equal.");
    EXPECT("hornbook diff a a", 0, "The configurations are the same.", "4 steps of both are equal");
}

/* A trace changes nothing, and a resumed run goes on with it. */
static void test_resumed(void **state)
{
    (void)state;
    must(
        "hornbook train run.yaml --set run_folder=plain && cmp a/checkpoints/step-00000004/model.safetensors "
        "plain/checkpoints/step-00000004/model.safetensors && [ ! -e plain/trace.jsonl ]");
    must("mkdir -p late/checkpoints && cp -r a/checkpoints/step-00000002 late/checkpoints && cp "
         "a/config.yaml late && "
         "cp a/trace.jsonl late && hornbook train a/config.yaml --set run_folder=late --resume --trace 3");
    must("grep -e '\"step\": [123],' a/trace.jsonl | cmp - late/trace.jsonl");
    EXPECT("hornbook diff a late", 0, "B  late: steps 3 to 4\n", "2 steps of both are equal",
           "from step 1 on are equal.");
}

static void test_shorter_or_without_digests(void **state)
{
    (void)state;
    must("rm -rf short && mkdir short && cp a/config.yaml short && head -n 2 a/metrics.jsonl > "
         "short/metrics.jsonl");
    EXPECT("hornbook diff a short", 0, "B  short: steps 1 to 2", "2 steps of both are equal",
           "A goes on to step 4");
    /* A line that is still being written, or was cut off by a crash, is none. */
    must("head -c -5 a/metrics.jsonl > short/metrics.jsonl");
    EXPECT("hornbook diff a short", 0, "B  short: steps 1 to 3", "3 steps of both are equal");
    must("sed 's/, \"digest\": \"[0-9a-f]*\"//' a/metrics.jsonl > short/metrics.jsonl");
    EXPECT("hornbook diff a short", 0, "B  short: steps 1 to 4, without digests",
           "4 steps of both are equal in loss, gradient norm and the other numbers; they have no digests in "
           "common");
    must("sed -i '3s/\"loss\": [0-9]/\"loss\": 1/' short/metrics.jsonl");
    EXPECT("hornbook diff a short", 1, "2 steps of both are equal in loss",
           "Step 3 is the first that differs", "loss ", "The loss differs", "--trace 3:3");
}

/* --- runs that part --- */

static void test_another_learning_rate(void **state)
{
    (void)state;
    must("hornbook train run.yaml --set run_folder=rate --set training.learning_rate=3e-3 --trace 1");
    EXPECT("hornbook diff a rate", 1, "training.learning_rate", "A 0.002", "B 0.003",
           "Step 1 is the first that differs", "lr ", "A 0.002", "B 0.003", "digest ",
           "optimizer, update, adamw\n", "with step_size       DIFFERS", "in   grad            equal",
           "gradient of model.embed_tokens.weight", "out  param           DIFFERS",
           "weights of model.embed_tokens.weight", "The call has another");
    expect_not("--trace-values"); /* elements would explain nothing */
    /* Without a trace: the update, and the parameters of the next common checkpoint. */
    must("rm rate/trace.jsonl");
    EXPECT("hornbook diff a rate", 1, "they parted in the update, which has another learning rate",
           "Parameters in the checkpoints of step 2", "model.embed_tokens.weight, f32[264,32]",
           "elements differ", "[0, 0]", "A  ", "B  ", "and ", "more of the",
           "hornbook train a/config.yaml --set run_folder=a-traced --trace 1:1",
           "hornbook diff a-traced rate-traced");
}

static void test_another_seed(void **state)
{
    (void)state;
    must("hornbook train run.yaml --set run_folder=seed --set seed=2 --trace 1");
    EXPECT("hornbook diff a seed", 1, "seed ", "A 1", "B 2", "call 0 of step 1", "embedding_forward",
           "in   weight          DIFFERS",
           "No op before made this difference: the weights of model.embed_tokens.weight");
    must("rm seed/trace.jsonl");
    EXPECT("hornbook diff a seed", 1, "in the first step that both have: look at the seed");
}

static void test_other_work(void **state)
{
    (void)state;
    must("hornbook train run.yaml --set run_folder=wide --set training.microbatch=3 --trace 1");
    EXPECT("hornbook diff a wide", 1, "training.microbatch", "i32[48] and i32[72]",
           "the shapes are not the same");
    must("hornbook train run.yaml --set run_folder=deep --set model.num_hidden_layers=3 --trace 1");
    EXPECT("hornbook diff a deep", 1, "model.num_hidden_layers",
           "A  microbatch 0, head, forward, rmsnorm_forward",
           "B  microbatch 0, decoder 2, forward, rmsnorm_forward", "The runs do different work");
    must("cp -r a cut && head -n 1 a/trace.jsonl > cut/trace.jsonl");
    EXPECT("hornbook diff a cut", 1, "call 1 of step 1", "A  microbatch 0, decoder 0",
           "B  nothing more in this step");
}

/* One bit of one number, down to its place. */
static void test_one_bit(void **state)
{
    (void)state;
    must("hornbook train run.yaml --set run_folder=kept --trace-values 3:0");
    must("grep -e '\"step\": 3,' a/trace.jsonl | cmp - kept/trace.jsonl && [ $(ls kept/trace-values | wc -l) "
         "= 1 ]");
    must("rm -rf bent && cp -r kept bent");
    /* The last tensor of the file is out.out [48,32]; its last element's lowest bit. */
    static const char values[] = "bent/trace-values/step-00000003-call-000000.safetensors";
    size_t n;
    char *data = read_in(values, &n);
    data[n - 4] ^= 1;
    write_in(values, data, n);
    free(data);
    must("sed -i '1s/\"out\": {\"out\": \\[\"f32\\[48,32\\]\", \"..../\"out\": {\"out\": [\"f32[48,32]\", "
         "\"0000/' "
         "bent/trace.jsonl");
    EXPECT("hornbook diff kept bent", 1, "4 steps of both are equal", "call 0 of step 3",
           "microbatch 0, embedding, forward, embedding_forward",
           "in   weight          equal     f32[264,32], weights of", "in   ids             equal",
           "out  out             DIFFERS", " B 0000", "f32[48,32]\n",
           "computed embedding_forward differently. Its contract: docs/ops/embedding.md",
           "Its tensors:", "out.out, f32[48,32]: 1 of 1536 elements differ; the first is [47, 31]", "A  ",
           "0x1.", "B  ", "0x1.", "1 ulp apart");
    must("rm -r bent/trace-values");
    EXPECT("hornbook diff kept bent", 1, "To see the elements",
           "cp -r kept/checkpoints/step-00000002 kept-values/checkpoints",
           "hornbook train kept/config.yaml --set run_folder=kept-values --resume --trace-values 3:0",
           "hornbook diff kept-values bent-values");
    /* The advice works. */
    must("mkdir -p kept-values/checkpoints && cp kept/config.yaml kept-values && "
         "cp -r kept/checkpoints/step-00000002 kept-values/checkpoints && "
         "hornbook train kept/config.yaml --set run_folder=kept-values --resume --trace-values 3:0");
    must(
        "cmp kept/trace.jsonl kept-values/trace.jsonl && diff -r kept/trace-values kept-values/trace-values");
}

/* All tensors of a step; every argument is there, under its name. */
static void test_values_of_a_step(void **state)
{
    (void)state;
    must("hornbook train run.yaml --set run_folder=all --set training.accumulate=1 --trace-values 2");
    must("[ $(ls all/trace-values | wc -l) = $(wc -l < all/trace.jsonl) ]");
    must("grep -a -q '\"in.q_begin\"' all/trace-values/* && grep -a -q '\"out.dq\"' all/trace-values/*");
}

static void test_data_from_outside(void **state)
{
    (void)state;
    must("rm -rf data2 && cp -r a data2");
    must("sed -i '1s/\\(\"ids\": \\[\"i32\\[48\\]\", \"\\)..../\\10000/' data2/trace.jsonl");
    EXPECT("hornbook diff a data2", 1, "in   ids             DIFFERS", "ids was copied in so (the data)");
}

/* --- wrong use, damaged files --- */

static void test_trouble(void **state)
{
    (void)state;
    EXPECT("hornbook diff a", 2, "two run folders");
    EXPECT("hornbook diff a b c", 2, "two run folders");
    EXPECT("hornbook diff --fast a a", 2, "--fast");
    EXPECT("hornbook diff a nowhere", 2, "nowhere holds no run; expected is a folder with config.yaml");
    EXPECT("hornbook diff a tok", 2, "tok holds no run");
    EXPECT("hornbook diff --help", 0, "usage: hornbook diff RUN_A RUN_B");
    must("rm -rf bad && cp -r a bad && sed -i '2s/.*/{broken/' bad/metrics.jsonl");
    EXPECT("hornbook diff a bad", 2, "metrics.jsonl:2");
    must("cp a/metrics.jsonl bad && sed -i '2s/.*/[]/' bad/trace.jsonl");
    EXPECT("hornbook diff a bad", 2, "trace.jsonl:2");
    must("cp a/trace.jsonl bad && tail -n 1 a/metrics.jsonl > bad/metrics.jsonl && head -n 1 a/metrics.jsonl "
         "> "
         "late.jsonl && rm -rf early && cp -r a early && mv late.jsonl early/metrics.jsonl && rm "
         "early/trace.jsonl");
    EXPECT("hornbook diff early bad", 2, "no step in common");
    EXPECT("hornbook train run.yaml --set run_folder=x --trace 5:x", 2, "--trace");
    EXPECT("hornbook train run.yaml --set run_folder=x --trace-values", 2, "--trace-values needs a step");
    EXPECT("hornbook train run.yaml --set run_folder=x --trace 1:2 --trace-values 3", 2,
           "must be among those of --trace");
}

int main(void)
{
    if (!getenv("HB_PROGRAM")) {
        puts("skipped: HB_PROGRAM does not name the program");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_everywhere),
        cmocka_unit_test(test_resumed),
        cmocka_unit_test(test_shorter_or_without_digests),
        cmocka_unit_test(test_another_learning_rate),
        cmocka_unit_test(test_another_seed),
        cmocka_unit_test(test_other_work),
        cmocka_unit_test(test_one_bit),
        cmocka_unit_test(test_values_of_a_step),
        cmocka_unit_test(test_data_from_outside),
        cmocka_unit_test(test_trouble),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
