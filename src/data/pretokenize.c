#include "data/pretokenize.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "data/pattern.h"

const char hb_pattern_qwen[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char hb_pattern_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

enum { STACK_START = 32 << 10, STACK_LIMIT = 64 << 20 };

struct hb_pretokenizer {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    bool jit;
};

/* `code` is a number of PCRE2. */
static hb_status engine_fail(hb_status status, int code, const char *what)
{
    PCRE2_UCHAR reason[128];
    pcre2_get_error_message(code, reason, sizeof reason);
    return HB_FAIL(status, "pattern: %s: %s", what, (const char *)reason);
}

static hb_status compile(struct hb_pretokenizer *p, const char *translated)
{
    int error;
    PCRE2_SIZE offset;
    p->code = pcre2_compile((PCRE2_SPTR)translated, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &error,
                            &offset, NULL);
    if (!p->code)
        return engine_fail(HB_EFORMAT, error, translated);
    uint32_t match_empty;
    pcre2_pattern_info(p->code, PCRE2_INFO_MATCHEMPTY, &match_empty);
    if (match_empty)
        return HB_FAIL(HB_EFORMAT, "pattern: it can match nothing, which is no way to cut a text: %s",
                       translated);
    p->jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0; /* without JIT: the same matches, slower */
    p->match = pcre2_match_data_create(1, NULL);
    p->context = pcre2_match_context_create(NULL);
    p->stack = p->jit ? pcre2_jit_stack_create(STACK_START, STACK_LIMIT, NULL) : NULL;
    if (!p->match || !p->context || (p->jit && !p->stack))
        return HB_FAIL(HB_EMEMORY, "out of memory: cannot prepare the pattern");
    if (p->jit)
        pcre2_jit_stack_assign(p->context, NULL, p->stack);
    /* A long text is not a hard one: the limit counts steps, and one piece may be the whole text. */
    pcre2_set_match_limit(p->context, UINT32_MAX);
    return HB_OK;
}

hb_status hb_pretokenizer_create(const char *pattern, struct hb_pretokenizer **out)
{
    *out = NULL;
    struct hb_bytes translated = {0};
    struct hb_pretokenizer *p = NULL;
    hb_status status;
    HB_TRY_CLEAN(hb_pattern_translate(pattern, &translated));
    p = calloc(1, sizeof *p);
    status = p ? compile(p, (const char *)translated.data)
               : HB_FAIL(HB_EMEMORY, "out of memory: cannot prepare the pattern");
cleanup:
    hb_bytes_release(&translated);
    if (status == HB_OK)
        *out = p;
    else
        hb_pretokenizer_destroy(p);
    return status;
}

void hb_pretokenizer_destroy(struct hb_pretokenizer *p)
{
    if (!p)
        return;
    pcre2_jit_stack_free(p->stack);
    pcre2_match_context_free(p->context);
    pcre2_match_data_free(p->match);
    pcre2_code_free(p->code);
    free(p);
}

hb_status hb_pretokenizer_next(struct hb_pretokenizer *p, const unsigned char *text, size_t n, size_t begin,
                               size_t *end)
{
    int found = p->jit ? pcre2_jit_match(p->code, text, n, begin, PCRE2_NO_UTF_CHECK, p->match, p->context)
                       : pcre2_match(p->code, text, n, begin, PCRE2_NO_UTF_CHECK, p->match, p->context);
    if (found < 0 && found != PCRE2_ERROR_NOMATCH)
        return engine_fail(HB_EUNSUPPORTED, found, "the engine gives up on this text");
    if (found == PCRE2_ERROR_NOMATCH) {
        *end = n;
        return HB_OK;
    }
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(p->match);
    *end = span[0] > begin ? span[0] : span[1];
    return HB_OK;
}
