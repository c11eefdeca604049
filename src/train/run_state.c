#include "train/run_state.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "ops/backend.h"

static json_t *numbers(const struct hb_spike_window *window)
{
    json_t *array = json_array();
    for (int64_t i = 0; i < window->count; i++)
        hb_json_append(&array, json_real(window->value[i]));
    return array;
}

hb_status hb_run_state_write(const char *path, const struct hb_run_state *s)
{
    /* JSON has no unsigned integers: the upper half of the seeds is written as
     * negative numbers, which is also how YAML gave them. */
    json_t *root =
        json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:f, s:s}", "numerics_version", HB_NUMERICS_VERSION, "seed",
                  (json_int_t)s->seed, "attempted", (json_int_t)s->attempted, "applied",
                  (json_int_t)s->applied, "samples", (json_int_t)s->samples, "tokens", (json_int_t)s->tokens,
                  "scale", s->scale, "digest", s->digest);
    json_t *scaler = json_pack("{s:I, s:I, s:I}", "clean", (json_int_t)s->scaler_clean, "patience",
                               (json_int_t)s->scaler_patience, "skips", (json_int_t)s->skips);
    json_t *spikes = json_pack("{s:o, s:o}", "loss", numbers(&s->spike_loss), "grad_norm",
                               numbers(&s->spike_grad_norm));
    char *text;
    hb_status status = HB_OK;
    /* Both calls take the reference, on failure too. */
    if (json_object_set_new(root, "scaler", scaler) != 0 || json_object_set_new(root, "spikes", spikes) != 0)
        status = HB_FAIL(HB_EMEMORY, "out of memory for the run's state");
    if (status == HB_OK)
        status = hb_json_text(root, &text);
    json_decref(root);
    if (status != HB_OK)
        return hb_fail_in(status, "%s", path);
    status = hb_file_write(path, text, strlen(text));
    free(text);
    return status;
}

static hb_status read_count(const json_t *root, const char *path, const char *key, int64_t *value)
{
    HB_TRY(hb_json_int(root, path, key, value));
    if (*value < 0)
        return HB_FAIL(HB_EFORMAT, "%s: key '%s' must not be negative", path, key);
    return HB_OK;
}

static hb_status read_window(const json_t *spikes, const char *path, const char *key,
                             struct hb_spike_window *window)
{
    json_t *array;
    HB_TRY(hb_json_array(spikes, path, key, &array));
    if (json_array_size(array) > HB_SPIKE_WINDOW_MAX)
        return HB_FAIL(HB_EFORMAT, "%s: key '%s' must have at most %d numbers", path, key,
                       HB_SPIKE_WINDOW_MAX);
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (!json_is_real(json_array_get(array, i)))
            return HB_FAIL(HB_EFORMAT, "%s: key '%s' must hold numbers", path, key);
        window->value[window->count++] = json_real_value(json_array_get(array, i));
    }
    return HB_OK;
}

static hb_status read_rules(const json_t *root, const char *path, struct hb_run_state *s)
{
    json_t *scaler, *spikes;
    HB_TRY(hb_json_object(root, path, "scaler", &scaler));
    HB_TRY(read_count(scaler, path, "clean", &s->scaler_clean));
    HB_TRY(read_count(scaler, path, "patience", &s->scaler_patience));
    HB_TRY(read_count(scaler, path, "skips", &s->skips));
    HB_TRY(hb_json_object(root, path, "spikes", &spikes));
    HB_TRY(read_window(spikes, path, "loss", &s->spike_loss));
    return read_window(spikes, path, "grad_norm", &s->spike_grad_norm);
}

static hb_status read_root(const json_t *root, const char *path, struct hb_run_state *s)
{
    int64_t version, seed;
    HB_TRY(hb_json_int(root, path, "numerics_version", &version));
    if (version != HB_NUMERICS_VERSION)
        return HB_FAIL(
            HB_EUNSUPPORTED,
            "%s: numerics version %lld, this program computes by version %d and would go on with other "
            "bits; use the release that wrote it, or start a new run from its weights with init_from",
            path, (long long)version, HB_NUMERICS_VERSION);
    HB_TRY(hb_json_int(root, path, "seed", &seed));
    s->seed = (uint64_t)seed;
    HB_TRY(read_count(root, path, "attempted", &s->attempted));
    HB_TRY(read_count(root, path, "applied", &s->applied));
    HB_TRY(read_count(root, path, "samples", &s->samples));
    HB_TRY(read_count(root, path, "tokens", &s->tokens));
    HB_TRY(hb_json_real(root, path, "scale", &s->scale));
    if (!(s->scale > 0))
        return HB_FAIL(HB_EFORMAT, "%s: key 'scale' must be above 0", path);
    HB_TRY(read_rules(root, path, s));
    const char *digest;
    HB_TRY(hb_json_string(root, path, "digest", &digest));
    if (strlen(digest) != HB_DIGEST_TEXT)
        return HB_FAIL(HB_EFORMAT, "%s: key 'digest' must have %d hexadecimal digits", path, HB_DIGEST_TEXT);
    memcpy(s->digest, digest, sizeof s->digest);
    return HB_OK;
}

hb_status hb_run_state_read(const char *path, struct hb_run_state *state)
{
    json_t *root;
    HB_TRY(hb_json_load(path, 0, &root));
    struct hb_run_state read = {0};
    hb_status status = read_root(root, path, &read);
    json_decref(root);
    if (status == HB_OK)
        *state = read;
    return status;
}
