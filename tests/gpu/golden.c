/* Every golden case has the bits of ref on the kernels, and the checker has
 * nothing to say. Products and attention have tests of their own here too. */
#include "gpu/subjects.h"

#include "verify/folder.h"
#include "verify/verify.h"

static void run_all(const struct hb_backend *backend, const struct hb_case_list *list)
{
    struct hb_context ref, subject;
    TH_OK(hb_context_open(&hb_backend_ref, HB_CANONICAL, 1, &ref));
    TH_OK(hb_context_open(backend, HB_CANONICAL, 1, &subject));
    for (int i = 0; i < list->count; i++) {
        struct hb_case c;
        struct hb_verdict v;
        TH_OK(hb_case_open(list->paths[i], &c));
        TH_OK(hb_verify_case(&c, &subject, &ref, &v));
        if (!v.covered || !v.passed || !v.same_bits)
            fail_msg("%s on %s (%s): %s", list->paths[i], backend->name, c.label,
                     v.covered ? v.problem : "not covered");
        hb_case_close(&c);
    }
    hb_context_close(&subject);
    hb_context_close(&ref);
}

static void test_golden(void **state)
{
    (void)state;
    const struct subjects *s = subjects();
    char folder[4096];
    const char *source = getenv("HB_SRCDIR");
    struct hb_case_list list;
    snprintf(folder, sizeof folder, "%s/golden/ops", source ? source : ".");
    TH_OK(hb_case_list_init(&list, folder));
    for (int i = 0; i < s->count; i++)
        run_all(s->backend[i], &list);
    hb_case_list_release(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
