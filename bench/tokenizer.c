/* Speed of encoding and decoding on one thread.
 *
 *     bench/tokenizer TOKENIZER FILE...
 *
 * Every file is one UTF-8 text. The first pass starts with an empty word cache;
 * the others show the speed of a long run. The best pass counts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/file.h"
#include "data/tokenizer.h"

enum { PASSES = 5 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static hb_status measure(const struct hb_tokenizer *t, const char *path, const char *text, size_t n,
                         struct hb_ids *ids, struct hb_bytes *back)
{
    double first = 0, best = 0, decode = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        ids->count = 0;
        double start = now();
        HB_TRY(hb_tokenizer_encode(t, text, n, false, ids));
        double speed = (double)n / (now() - start) / 1e6;
        first = pass ? first : speed;
        best = speed > best ? speed : best;
        back->count = 0;
        start = now();
        HB_TRY(hb_tokenizer_decode(t, ids->data, ids->count, back));
        speed = (double)back->count / (now() - start) / 1e6;
        decode = speed > decode ? speed : decode;
    }
    printf("%s: %.2f MB, %.2f bytes a token; encode %.1f MB/s (first pass %.1f), decode %.0f MB/s%s\n", path,
           (double)n / 1e6, (double)n / (double)ids->count, best, first, decode,
           back->count == n && memcmp(back->data, text, n) == 0 ? "" : " (the text was not NFC)");
    return HB_OK;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s TOKENIZER FILE...\n", argv[0]);
        return 2;
    }
    struct hb_tokenizer *t;
    struct hb_ids ids = {0};
    struct hb_bytes back = {0};
    double start = now();
    hb_status status = hb_tokenizer_open(argv[1], &t);
    if (status == HB_OK)
        printf("opened in %.2f s\n", now() - start);
    for (int i = 2; status == HB_OK && i < argc; i++) {
        char *text = NULL;
        size_t n;
        status = hb_file_read(argv[i], &text, &n);
        if (status == HB_OK)
            status = measure(t, argv[i], text, n, &ids, &back);
        free(text);
    }
    hb_tokenizer_destroy(t);
    hb_ids_release(&ids);
    hb_bytes_release(&back);
    if (status != HB_OK)
        fprintf(stderr, "%s\n", hb_error());
    return status == HB_OK ? 0 : 1;
}
