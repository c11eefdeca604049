#include "train/checkpoint_manifest.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"

static const char format_name[] = "hornbook-checkpoint";

hb_status hb_checkpoint_manifest_add(struct hb_checkpoint_manifest *manifest, const char *name,
                                     const struct hb_file_receipt *receipt)
{
    if (!manifest->files)
        manifest->files = json_object();
    json_t *entry = json_pack("{s:I, s:s}", "bytes", (json_int_t)receipt->bytes, "xxh3_128", receipt->hash);
    if (!manifest->files || !entry || json_object_set_new(manifest->files, name, entry) != 0)
        return HB_FAIL(HB_EMEMORY, "out of memory for the manifest of a checkpoint");
    return HB_OK;
}

void hb_checkpoint_manifest_release(struct hb_checkpoint_manifest *manifest)
{
    json_decref(manifest->files);
    manifest->files = NULL;
}

hb_status hb_checkpoint_manifest_write(const struct hb_checkpoint_manifest *manifest, const char *folder)
{
    json_t *root = json_pack("{s:s, s:i, s:O}", "format", format_name, "version", 1, "files",
                             manifest->files);
    char *path = hb_path_join(folder, "manifest.json"), *text = NULL;
    hb_status status = path ? hb_json_text(root, &text)
                            : HB_FAIL(HB_EMEMORY, "out of memory: cannot write the manifest of %s", folder);
    if (status == HB_OK)
        status = hb_file_write(path, text, strlen(text));
    json_decref(root);
    free(path);
    free(text);
    return status;
}

static hb_status verify_file(const char *folder, const char *name, const json_t *entry)
{
    int64_t bytes;
    const char *hash;
    HB_TRY(hb_json_int(entry, name, "bytes", &bytes));
    HB_TRY(hb_json_string(entry, name, "xxh3_128", &hash));
    /* The manifest is input like any other: it may not lead out of the folder. */
    if (name[0] == '\0' || name[0] == '.' || strchr(name, '/'))
        return HB_FAIL(HB_EFORMAT, "'%s' is not the name of a file of a checkpoint", name);
    char *path = hb_path_join(folder, name);
    if (!path)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot verify %s", name);
    struct hb_file_receipt receipt;
    hb_status status = HB_OK;
    if (!hb_file_exists(path))
        status = HB_FAIL(HB_EFORMAT, "%s is missing", name);
    if (status == HB_OK)
        status = hb_file_receipt(path, &receipt);
    free(path);
    HB_TRY(status);
    if (receipt.bytes != (uint64_t)bytes)
        return HB_FAIL(HB_EFORMAT, "%s has %llu bytes, it was written with %lld", name,
                       (unsigned long long)receipt.bytes, (long long)bytes);
    if (strcmp(receipt.hash, hash) != 0)
        return HB_FAIL(HB_EFORMAT, "%s has hash %s, it was written with %s", name, receipt.hash, hash);
    return HB_OK;
}

static bool lists(json_t *files, const char *required)
{
    size_t length = strlen(required);
    const char *name;
    json_t *entry;
    if (required[length - 1] != '*')
        return json_object_get(files, required) != NULL;
    json_object_foreach(files, name, entry)
        if (strncmp(name, required, length - 1) == 0)
            return true;
    return false;
}

static hb_status verify_root(const char *folder, const json_t *root, const char *const *required)
{
    static const char where[] = "manifest.json";
    const char *format;
    int64_t version;
    json_t *files, *entry;
    HB_TRY(hb_json_string(root, where, "format", &format));
    HB_TRY(hb_json_int(root, where, "version", &version));
    if (strcmp(format, format_name) != 0 || version != 1)
        return HB_FAIL(HB_EFORMAT, "%s: format \"%s\" version %lld; only \"%s\" version 1 is known", where,
                       format, (long long)version, format_name);
    HB_TRY(hb_json_object(root, where, "files", &files));
    for (int i = 0; required[i]; i++)
        if (!lists(files, required[i]))
            return HB_FAIL(HB_EFORMAT, "%s does not list %s", where, required[i]);
    const char *name;
    json_object_foreach(files, name, entry)
        HB_TRY(verify_file(folder, name, entry));
    return HB_OK;
}

hb_status hb_checkpoint_manifest_verify(const char *folder, const char *const *required)
{
    char *path = hb_path_join(folder, "manifest.json");
    if (!path)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot verify %s", folder);
    json_t *root = NULL;
    hb_status status =
        hb_file_exists(path) ? hb_json_load(path, 0, &root) : HB_FAIL(HB_EFORMAT, "manifest.json is missing");
    free(path);
    if (status == HB_OK)
        status = verify_root(folder, root, required);
    json_decref(root);
    if (status == HB_EMEMORY)
        return hb_fail_in(status, "checkpoint %s", folder);
    return status == HB_OK ? HB_OK : hb_fail_in(status, "checkpoint %s is damaged", folder);
}
