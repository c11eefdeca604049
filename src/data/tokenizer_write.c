#include "data/tokenizer_write.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "data/byte_level.h"
#include "data/json_text.h"
#include "data/pretokenize.h"

static hb_status put_special(struct hb_bytes *out, const char *special, int64_t id, bool last)
{
    HB_TRY(hb_bytes_append_text(out, "    {\"id\": "));
    HB_TRY(hb_json_text_number(out, id));
    HB_TRY(hb_bytes_append_text(out, ", \"content\": "));
    HB_TRY(hb_json_text_string(out, special, strlen(special)));
    HB_TRY(hb_bytes_append_text(out, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                                     "\"normalized\": false, \"special\": true}"));
    return hb_bytes_append_text(out, last ? "\n" : ",\n");
}

static hb_status put_head(struct hb_bytes *out, const struct hb_bpe_vocabulary *v,
                          const char *const *specials, size_t special_count)
{
    HB_TRY(hb_bytes_append_text(out,
                                "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n"
                                "  \"added_tokens\": [\n"));
    for (size_t i = 0; i < special_count; i++)
        HB_TRY(put_special(out, specials[i], (int64_t)(v->tokens.count + i), i + 1 == special_count));
    HB_TRY(hb_bytes_append_text(out, "  ],\n  \"normalizer\": {\"type\": \"NFC\"},\n"
                                     "  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [\n"
                                     "    {\"type\": \"Split\", \"pattern\": {\"Regex\": "));
    HB_TRY(hb_json_text_string(out, hb_pattern_qwen, strlen(hb_pattern_qwen)));
    static const char byte_level[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                                     "\"trim_offsets\": false, \"use_regex\": false}";
    HB_TRY(hb_bytes_append_text(out, "}, \"behavior\": \"Isolated\", \"invert\": false},\n    "));
    HB_TRY(hb_bytes_append_text(out, byte_level));
    HB_TRY(hb_bytes_append_text(out, "\n  ]},\n  \"post_processor\": null,\n  \"decoder\": "));
    HB_TRY(hb_bytes_append_text(out, byte_level));
    return hb_bytes_append_text(out, ",\n");
}

/* A token in the byte-level alphabet, quoted. */
static hb_status put_token(struct hb_bytes *out, const struct hb_bpe_vocabulary *v, uint32_t id,
                           struct hb_bytes *scratch)
{
    scratch->count = 0;
    HB_TRY(hb_byte_level_encode(hb_byte_map_text(&v->tokens, id), v->tokens.entries[id].length, scratch));
    return hb_json_text_string(out, scratch->data, scratch->count);
}

static hb_status put_model(struct hb_bytes *out, const struct hb_bpe_vocabulary *v, struct hb_bytes *scratch)
{
    HB_TRY(hb_bytes_append_text(out, "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n"
                                     "    \"unk_token\": null,\n    \"continuing_subword_prefix\": null,\n"
                                     "    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n"
                                     "    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n"
                                     "    \"vocab\": {"));
    for (size_t i = 0; i < v->tokens.count; i++) {
        HB_TRY(hb_bytes_append_text(out, i ? ",\n      " : "\n      "));
        HB_TRY(put_token(out, v, (uint32_t)i, scratch));
        HB_TRY(hb_bytes_append_text(out, ": "));
        HB_TRY(hb_json_text_number(out, (int64_t)i));
    }
    HB_TRY(hb_bytes_append_text(out, "\n    },\n    \"merges\": ["));
    for (size_t i = 0; i < v->merge_count; i++) {
        HB_TRY(hb_bytes_append_text(out, i ? ",\n      [" : "\n      ["));
        HB_TRY(put_token(out, v, v->merges[i].left, scratch));
        HB_TRY(hb_bytes_append_text(out, ", "));
        HB_TRY(put_token(out, v, v->merges[i].right, scratch));
        HB_TRY(hb_bytes_append_text(out, "]"));
    }
    return hb_bytes_append_text(out, v->merge_count ? "\n    ]\n  }\n}\n" : "]\n  }\n}\n");
}

static hb_status put_config(struct hb_bytes *out, const char *const *specials, size_t special_count)
{
    HB_TRY(hb_bytes_append_text(out, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n"
                                     "  \"clean_up_tokenization_spaces\": false"));
    static const char *const roles[] = {"eos_token", "pad_token"};
    for (size_t i = 0; special_count && i < sizeof roles / sizeof *roles; i++) {
        HB_TRY(hb_bytes_append_text(out, ",\n  "));
        HB_TRY(hb_json_text_string(out, roles[i], strlen(roles[i])));
        HB_TRY(hb_bytes_append_text(out, ": "));
        HB_TRY(hb_json_text_string(out, specials[0], strlen(specials[0])));
    }
    return hb_bytes_append_text(out, "\n}\n");
}

static hb_status write_file(const char *folder, const char *name, const struct hb_bytes *content)
{
    char *path = hb_path_join(folder, name);
    if (!path)
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot write %s", name);
    hb_status status = hb_file_write(path, content->data, content->count);
    free(path);
    return status;
}

hb_status hb_tokenizer_write(const struct hb_bpe_vocabulary *v, const char *const *specials,
                             size_t special_count, const char *folder)
{
    struct hb_bytes out = {0}, scratch = {0};
    hb_status status;
    HB_TRY_CLEAN(hb_folder_create(folder));
    HB_TRY_CLEAN(put_head(&out, v, specials, special_count));
    HB_TRY_CLEAN(put_model(&out, v, &scratch));
    HB_TRY_CLEAN(write_file(folder, "tokenizer.json", &out));
    out.count = 0;
    HB_TRY_CLEAN(put_config(&out, specials, special_count));
    HB_TRY_CLEAN(write_file(folder, "tokenizer_config.json", &out));
cleanup:
    hb_bytes_release(&out);
    hb_bytes_release(&scratch);
    return status;
}
