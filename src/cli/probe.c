#include "cli/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/registry.h"
#include "cli/options.h"
#include "core/file.h"
#include "model/probe.h"
#include "model/weights.h"

static const char usage[] =
    "usage: hornbook probe MODEL_DIR --input FILE --output FILE [option...]\n"
    "\n"
    "Runs one microbatch through a model and writes what comes out, so that other\n"
    "code can be compared with it. MODEL_DIR holds config.json and model.safetensors\n"
    "(or shards with an index), as Hugging Face stores Qwen3 and Qwen3-MoE.\n"
    "\n"
    "  --input FILE        safetensors: input_ids i64 [B,T]; labels i64 [B,T] if losses\n"
    "                      are wanted (shifted here; -100: no label)\n"
    "  --output FILE       safetensors: logits [B,T,V], and with labels ce_loss, aux_loss\n"
    "                      and loss = ce_loss + router_aux_loss_coef aux_loss\n"
    "  --grad              also the gradient of loss, as grad.NAME for every tensor\n"
    "  --hidden            also hidden_states [L+1,B,T,C]\n"
    "  --router            also router_index and router_weight [MoE layers,B T,K]\n"
    "  --backend NAME      (default cpu; ref64 computes and writes fp64)\n"
    "  --numerics NAME     canonical or fast (default canonical)\n"
    "  --threads N         0: all processors (default 0)\n"
    "  --help              this text\n";

struct request {
    const char *folder, *input, *output, *backend, *numerics;
    int64_t threads;
    bool grad, hidden, router;
};

static void print_losses(const struct hb_probe *probe)
{
    if (probe->has_loss)
        printf("ce_loss %.9g\n", probe->ce_loss);
    if (probe->has_aux)
        printf("aux_loss %.9g\n", probe->aux_loss);
    if (probe->has_z)
        printf("z_loss %.9g\n", probe->z_loss);
    if (probe->has_loss)
        printf("loss %.9g\n", probe->loss);
}

static hb_status probe(const struct request *r, enum hb_numerics numerics)
{
    const struct hb_backend *backend;
    struct hb_context context = {0};
    struct hb_model_config config;
    struct hb_model *model = NULL;
    struct hb_probe_input input = {0};
    struct hb_probe found = {.want_hidden = r->hidden, .want_router = r->router, .want_gradients = r->grad};
    char *path = hb_path_join(r->folder, "config.json");
    hb_status status = path ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory");
    if (status == HB_OK)
        status = hb_model_config_read(path, &config);
    free(path);
    HB_TRY(status);
    HB_TRY(hb_backend_find(r->backend, &backend));
    HB_TRY(hb_probe_input_read(r->input, config.vocab_size, &input));
    HB_TRY_CLEAN(hb_context_open(backend, numerics, (int)r->threads, &context));
    HB_TRY_CLEAN(hb_model_create(&context, &config, input.length, r->grad, &model));
    HB_TRY_CLEAN(hb_model_load(model, r->folder));
    HB_TRY_CLEAN(hb_probe_run(&found, model, &input));
    HB_TRY_CLEAN(hb_probe_write(&found, r->output));
    print_losses(&found);
cleanup:
    hb_probe_release(&found);
    hb_model_destroy(model);
    hb_context_close(&context);
    hb_probe_input_release(&input);
    return status;
}

int hb_cli_probe(int argc, char **argv)
{
    struct request r = {.backend = "cpu", .numerics = "canonical"};
    const struct hb_option options[] = {
        {"--input", HB_OPTION_TEXT, &r.input, 0, 0},       {"--output", HB_OPTION_TEXT, &r.output, 0, 0},
        {"--grad", HB_OPTION_FLAG, &r.grad, 0, 0},         {"--hidden", HB_OPTION_FLAG, &r.hidden, 0, 0},
        {"--router", HB_OPTION_FLAG, &r.router, 0, 0},     {"--backend", HB_OPTION_TEXT, &r.backend, 0, 0},
        {"--numerics", HB_OPTION_TEXT, &r.numerics, 0, 0}, {"--threads", HB_OPTION_INT, &r.threads, 0, 4096},
    };
    int rest, code;
    if (!hb_options_read(argc, argv, options, sizeof options / sizeof options[0], usage, &rest, &code))
        return code;
    if (rest != 1)
        return hb_wrong_usage("probe",
                              rest ? "only one model folder, please" : "the model folder is missing");
    if (!r.input || !r.output)
        return hb_wrong_usage("probe", "%s is missing", r.input ? "--output" : "--input");
    bool fast = strcmp(r.numerics, "fast") == 0;
    if (!fast && strcmp(r.numerics, "canonical") != 0)
        return hb_wrong_usage("probe", "--numerics must be canonical or fast, got '%s'", r.numerics);
    r.folder = argv[1];
    return hb_finish("probe", probe(&r, fast ? HB_FAST : HB_CANONICAL));
}
