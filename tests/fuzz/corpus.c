/* Every input of the corpus through its target, so that corpus and targets do not
 * rot: good-* must be accepted, bad-* refused with a message, others (what fuzzing
 * once found) only survived. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <setjmp.h>

#include <cmocka.h>

#include "core/file.h"
#include "fuzz/targets.h"

static char scratch_folder[] = "/tmp/hornbook-test-XXXXXX";

static int setup(void **state)
{
    (void)state;
    return mkdtemp(scratch_folder) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return hb_folder_remove(scratch_folder) == HB_OK ? 0 : -1;
}

static void run_file(const struct fuzz_target *target, const char *folder, const char *name, int *good,
                     int *bad)
{
    char path[4096], *data;
    size_t size;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(hb_file_read(path, &data, &size), HB_OK);
    hb_status status = target->run(scratch_folder, (const uint8_t *)data, size);
    free(data);
    if (strncmp(name, "good-", 5) == 0 && ++*good && status != HB_OK)
        fail_msg("%s is refused: %s", path, hb_error());
    if (strncmp(name, "bad-", 4) == 0 && ++*bad && status == HB_OK)
        fail_msg("%s is accepted", path);
    if (status != HB_OK && !hb_error()[0])
        fail_msg("%s is refused without a word", path);
}

static void test_corpus(void **state)
{
    (void)state;
    const char *root = getenv("HB_SRCDIR");
    for (int i = 0; i < fuzz_target_count; i++) {
        char folder[2048];
        int good = 0, bad = 0;
        snprintf(folder, sizeof folder, "%s/tests/fuzz/corpus/%s", root ? root : ".", fuzz_targets[i].name);
        DIR *open = opendir(folder);
        if (!open)
            fail_msg("cannot open %s", folder);
        for (struct dirent *entry; (entry = readdir(open));)
            if (entry->d_name[0] != '.')
                run_file(&fuzz_targets[i], folder, entry->d_name, &good, &bad);
        closedir(open);
        if (good < 2 || bad < 2)
            fail_msg("%s has %d good and %d bad inputs, must have two of each", folder, good, bad);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_corpus, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
