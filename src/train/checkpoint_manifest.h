/* manifest.json of a checkpoint: which files it has, their sizes and hashes.
 *
 *     {"format": "hornbook-checkpoint", "version": 1,
 *      "files": {"NAME": {"bytes": N, "xxh3_128": "32 hexadecimal digits"}, ...}}
 *
 * It is written last and covers every other file, so that a checkpoint is whole
 * exactly when its manifest agrees. */
#ifndef HB_TRAIN_CHECKPOINT_MANIFEST_H
#define HB_TRAIN_CHECKPOINT_MANIFEST_H

#include "core/file_receipt.h"

struct json_t;

/* Files as they are written. Zeroed: none yet. */
struct hb_checkpoint_manifest {
    struct json_t *files; /* owned */
};

HB_MUST_USE hb_status hb_checkpoint_manifest_add(struct hb_checkpoint_manifest *manifest, const char *name,
                                                 const struct hb_file_receipt *receipt);
void hb_checkpoint_manifest_release(struct hb_checkpoint_manifest *manifest);

/* Writes FOLDER/manifest.json. */
HB_MUST_USE hb_status hb_checkpoint_manifest_write(const struct hb_checkpoint_manifest *manifest,
                                                   const char *folder);

/* Reads FOLDER/manifest.json and every byte of the files it names, among which
 * must be the `required` ones (ended by NULL; "NAME*": one that begins so). HB_EFORMAT names the first file
 * that is missing or other than written. */
HB_MUST_USE hb_status hb_checkpoint_manifest_verify(const char *folder, const char *const *required);

#endif
