#include "train/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fault.h"
#include "core/file.h"
#include "core/json.h"
#include "core/log.h"
#include "model/weights.h"
#include "train/checkpoint_folders.h"
#include "train/checkpoint_manifest.h"
#include "train/moments.h"
#include "train/weights_ranks.h"

static const char *const required_files[] = {"config.json", "model.safetensors", "optimizer-00000-of-*",
                                             "state.json", NULL};

static hb_status join(const char *folder, const char *name, char **path)
{
    *path = hb_path_join(folder, name);
    return *path ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for the path of %s", name);
}

/* --- saving --- */

struct saving {
    const char *folder; /* the temporary one */
    struct hb_checkpoint_manifest manifest;
};

/* Enters a file into the manifest as it now lies in the folder. */
static hb_status enter(struct saving *s, const char *name)
{
    char *path;
    struct hb_file_receipt receipt;
    HB_TRY(join(s->folder, name, &path));
    hb_status status = hb_file_receipt(path, &receipt);
    free(path);
    return status == HB_OK ? hb_checkpoint_manifest_add(&s->manifest, name, &receipt) : status;
}

static hb_status write_text(struct saving *s, const char *name, const void *data, size_t size)
{
    char *path;
    HB_TRY(join(s->folder, name, &path));
    hb_status status = hb_file_write(path, data, size);
    free(path);
    return status == HB_OK ? enter(s, name) : status;
}

static hb_status copy_file(struct saving *s, const char *from, const char *name)
{
    char *data;
    size_t size;
    HB_TRY(hb_file_read(from, &data, &size));
    hb_status status = write_text(s, name, data, size);
    free(data);
    return status;
}

/* tokenizer_config.json beside `tokenizer`, which need not be there: without
 * one, transformers would take the tokenizer of the model's type and change
 * tokenizer.json to its liking. */
static hb_status copy_tokenizer_config(struct saving *s, const char *tokenizer)
{
    static const char plain[] = "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n";
    static const char name[] = "tokenizer_config.json";
    const char *slash = strrchr(tokenizer, '/');
    char *folder = strndup(tokenizer, slash ? (size_t)(slash - tokenizer) + 1 : 0), *path = NULL;
    hb_status status =
        folder ? join(folder, name, &path) : HB_FAIL(HB_EMEMORY, "out of memory: cannot copy %s", name);
    if (status == HB_OK)
        status =
            hb_file_exists(path) ? copy_file(s, path, name) : write_text(s, name, plain, sizeof plain - 1);
    free(folder);
    free(path);
    return status;
}

static hb_status copy_tokenizer(struct saving *s, const char *tokenizer)
{
    char *path = hb_file_is_folder(tokenizer) ? hb_path_join(tokenizer, "tokenizer.json") : strdup(tokenizer);
    hb_status status = path ? copy_file(s, path, "tokenizer.json")
                            : HB_FAIL(HB_EMEMORY, "out of memory for the path of %s", tokenizer);
    if (status == HB_OK)
        status = copy_tokenizer_config(s, path);
    free(path);
    return status;
}

/* --- of one rank or several --- */

static bool is_chief(const struct hb_optimizer *o)
{
    return !o->mesh || hb_comm_rank(o->mesh->world) == 0;
}

/* One rank's failure is everybody's. */
static hb_status agree(const struct hb_optimizer *o, hb_status status)
{
    return o->mesh ? hb_comm_agree(o->mesh->world, status) : status;
}

static hb_status write_weights(struct saving *s, struct hb_optimizer *o)
{
    struct hb_file_receipt receipt;
    HB_TRY(o->mesh ? hb_weights_save_ranks(o, s->folder, &receipt)
                   : hb_model_save(o->model, s->folder, &receipt));
    if (!is_chief(o))
        return HB_OK;
    HB_TRY(hb_checkpoint_manifest_add(&s->manifest, "model.safetensors", &receipt));
    return enter(s, "config.json");
}

/* Every rank writes its own file; the first one enters them all. */
static hb_status write_moments(struct saving *s, const struct hb_optimizer *o)
{
    int rank = o->mesh ? hb_comm_rank(o->mesh->world) : 0, ranks = o->mesh ? hb_comm_size(o->mesh->world) : 1;
    char name[HB_MOMENTS_NAME], *path;
    struct hb_file_receipt own = {0}, *all = calloc((size_t)ranks, sizeof *all);
    size_t *bytes = calloc((size_t)ranks, sizeof *bytes);
    hb_status status = all && bytes ? HB_OK
                                    : HB_FAIL(HB_EMEMORY, "out of memory for the receipts of a checkpoint");
    if (status == HB_OK)
        status = join(s->folder, hb_moments_file(rank, ranks, name), &path);
    if (status == HB_OK) {
        status = hb_moments_save(o, path, &own);
        free(path);
    }
    status = agree(o, status);
    for (int r = 0; status == HB_OK && r < ranks; r++)
        bytes[r] = sizeof own;
    if (status == HB_OK && o->mesh)
        status = hb_comm_gather(o->mesh->world, &own, all, bytes);
    else
        all[0] = own;
    for (int r = 0; status == HB_OK && is_chief(o) && r < ranks; r++)
        status = hb_checkpoint_manifest_add(&s->manifest, hb_moments_file(r, ranks, name), &all[r]);
    free(all);
    free(bytes);
    return status;
}

static hb_status write_state(struct saving *s, const struct hb_run_state *state)
{
    char *path;
    HB_TRY(join(s->folder, "state.json", &path));
    hb_status status = hb_run_state_write(path, state);
    free(path);
    return status == HB_OK ? enter(s, "state.json") : status;
}

/* What only the first rank writes. */
static hb_status write_rest(struct saving *s, const struct hb_run_state *state, const char *tokenizer)
{
    if (tokenizer)
        HB_TRY(copy_tokenizer(s, tokenizer));
    HB_TRY(write_state(s, state));
    HB_TRY(hb_checkpoint_manifest_write(&s->manifest, s->folder));
    return hb_folder_sync(s->folder);
}

static hb_status write_files(struct saving *s, struct hb_optimizer *optimizer,
                             const struct hb_run_state *state, const char *tokenizer)
{
    struct hb_run_state written = *state;
    written.applied = optimizer->applied;
    HB_TRY(hb_optimizer_digest(optimizer, true, written.digest));
    HB_TRY(write_weights(s, optimizer));
    HB_TRY(hb_fault_point(HB_FAULT_WRITE));
    HB_TRY(write_moments(s, optimizer));
    return agree(optimizer, is_chief(optimizer) ? write_rest(s, &written, tokenizer) : HB_OK);
}

/* The folder in which the checkpoint grows. */
static hb_status prepare(const char *run_folder, const char *root)
{
    HB_TRY(hb_folder_create(root));
    HB_TRY(hb_folder_sync(run_folder));
    return hb_checkpoint_remove_leftovers(root);
}

static hb_status save(const char *run_folder, const char *root, const char *folder,
                      struct hb_optimizer *optimizer, const struct hb_run_state *state, const char *tokenizer)
{
    struct saving s = {.folder = folder};
    bool chief = is_chief(optimizer);
    HB_TRY(agree(optimizer, chief ? prepare(run_folder, root) : HB_OK));
    hb_status status = write_files(&s, optimizer, state, tokenizer);
    hb_checkpoint_manifest_release(&s.manifest);
    HB_TRY(status);
    return agree(optimizer, chief ? hb_checkpoint_publish(root, state->attempted) : HB_OK);
}

hb_status hb_checkpoint_save(const char *run_folder, struct hb_optimizer *optimizer,
                             const struct hb_run_state *state, const char *tokenizer, int keep)
{
    char root[HB_CHECKPOINT_PATH], folder[HB_CHECKPOINT_PATH];
    if (state->attempted < 0)
        return HB_FAIL(HB_EARGUMENT, "a checkpoint cannot have the number %lld", (long long)state->attempted);
    HB_TRY(hb_checkpoint_root(run_folder, root));
    HB_TRY(hb_checkpoint_path(root, state->attempted, "tmp", folder));
    hb_status status = save(run_folder, root, folder, optimizer, state, tokenizer);
    if (status != HB_OK) {
        /* A full disk wants its space back; the message to keep is the first. */
        char message[1024];
        snprintf(message, sizeof message, "%s", hb_error());
        if (is_chief(optimizer) && hb_checkpoint_remove_leftovers(root) != HB_OK)
            hb_log(HB_LOG_WARNING, "%s", hb_error());
        return HB_FAIL(status, "step %lld is not saved: %s", (long long)state->attempted, message);
    }
    if (keep > 0 && is_chief(optimizer) && hb_checkpoint_prune(root, keep) != HB_OK)
        hb_log(HB_LOG_WARNING, "an old checkpoint stays: %s", hb_error());
    return HB_OK;
}

hb_status hb_checkpoint_clean(const char *run_folder)
{
    char root[HB_CHECKPOINT_PATH];
    HB_TRY(hb_checkpoint_root(run_folder, root));
    return hb_checkpoint_remove_leftovers(root);
}

/* --- finding --- */

hb_status hb_checkpoint_verify(const char *path)
{
    return hb_checkpoint_manifest_verify(path, required_files);
}

static hb_status find(const char *root, const int64_t *steps, size_t count, char found[HB_CHECKPOINT_PATH])
{
    for (size_t i = 0; i < count; i++) {
        HB_TRY(hb_checkpoint_path(root, steps[i], NULL, found));
        hb_status status = hb_checkpoint_verify(found);
        if (status == HB_OK && i > 0)
            hb_log(HB_LOG_WARNING, "going back to %s", found);
        if (status == HB_OK || status == HB_EMEMORY)
            return status;
        hb_log(HB_LOG_WARNING, "%s", hb_error());
    }
    found[0] = '\0';
    if (count > 0)
        return HB_FAIL(HB_EFORMAT,
                       "none of the %zu checkpoints in %s is whole; remove them to start from the beginning",
                       count, root);
    return HB_OK;
}

hb_status hb_checkpoint_find(const char *run_folder, char *path, size_t size)
{
    char root[HB_CHECKPOINT_PATH], found[HB_CHECKPOINT_PATH];
    int64_t *steps;
    size_t count;
    HB_TRY(hb_checkpoint_root(run_folder, root));
    hb_status status = hb_checkpoint_list(root, &steps, &count);
    if (status == HB_OK)
        status = find(root, steps, count, found);
    free(steps);
    HB_TRY(status);
    if (strlen(found) >= size)
        return HB_FAIL(HB_EARGUMENT, "the path %.60s... is too long; choose a run folder with a shorter one",
                       found);
    memcpy(path, found, strlen(found) + 1);
    return HB_OK;
}

/* --- loading --- */

static const char *value_text(const json_t *value, char *text, size_t size)
{
    size_t length = value ? json_dumpb(value, text, size - 1, JSON_COMPACT | JSON_ENCODE_ANY) : 0;
    if (length == 0 || length >= size)
        return value ? "(long)" : "(nothing)";
    text[length] = '\0';
    return text;
}

static hb_status compare_configs(const char *path, const json_t *saved, json_t *wanted)
{
    const char *key;
    json_t *value;
    json_object_foreach(wanted, key, value) {
        const json_t *other = json_object_get(saved, key);
        char a[200], b[200];
        if (!other || !json_equal(value, other))
            return HB_FAIL(HB_EARGUMENT,
                           "%s says %s for %s, the run's configuration %s; a run goes on as it began", path,
                           value_text(other, a, sizeof a), key, value_text(value, b, sizeof b));
    }
    return HB_OK;
}

/* What no shape shows, such as rope_theta, must be the same too. */
static hb_status check_config(const char *path, const struct hb_model *model)
{
    json_t *saved = NULL, *wanted = NULL;
    char *text;
    HB_TRY(hb_model_config_text(&model->config, &text));
    hb_status status = hb_json_parse("the run's configuration", 1, text, strlen(text), 0, &wanted);
    free(text);
    if (status == HB_OK)
        status = hb_json_load(path, 0, &saved);
    if (status == HB_OK)
        status = compare_configs(path, saved, wanted);
    json_decref(saved);
    json_decref(wanted);
    return status;
}

static hb_status load(const char *folder, const char *config, const char *state_path, struct hb_model *model,
                      struct hb_optimizer *optimizer, struct hb_run_state *state)
{
    struct hb_run_state read;
    HB_TRY(agree(optimizer, is_chief(optimizer) ? hb_checkpoint_verify(folder) : HB_OK));
    HB_TRY(hb_run_state_read(state_path, &read));
    HB_TRY(check_config(config, model));
    HB_TRY(hb_moments_check(optimizer, folder));
    HB_TRY(hb_model_load(model, folder));
    HB_TRY(hb_moments_load(optimizer, folder));
    optimizer->applied = read.applied;
    optimizer->attempted = read.attempted;
    char digest[HB_DIGEST_TEXT + 1];
    HB_TRY(hb_optimizer_digest(optimizer, true, digest));
    if (strcmp(digest, read.digest) != 0)
        return HB_FAIL(HB_EINTERNAL,
                       "checkpoint %s gives parameters with the digest %s, but was saved with %s", folder,
                       digest, read.digest);
    *state = read;
    return HB_OK;
}

hb_status hb_checkpoint_load(const char *path, struct hb_model *model, struct hb_optimizer *optimizer,
                             struct hb_run_state *state)
{
    char *config = hb_path_join(path, "config.json"), *state_path = hb_path_join(path, "state.json");
    hb_status status = config && state_path ? load(path, config, state_path, model, optimizer, state)
                                            : HB_FAIL(HB_EMEMORY, "out of memory: cannot load %s", path);
    free(config);
    free(state_path);
    return status;
}
