#include "train/run_state.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "ops/backend.h"

hb_status hb_run_state_write(const char *path, const struct hb_run_state *s)
{
    /* JSON has no unsigned integers: the upper half of the seeds is written as
     * negative numbers, which is also how YAML gave them. */
    json_t *root =
        json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:f, s:s}", "numerics_version", HB_NUMERICS_VERSION, "seed",
                  (json_int_t)s->seed, "attempted", (json_int_t)s->attempted, "applied",
                  (json_int_t)s->applied, "samples", (json_int_t)s->samples, "tokens", (json_int_t)s->tokens,
                  "scale", s->scale, "digest", s->digest);
    char *text;
    hb_status status = hb_json_text(root, &text);
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
