#include "parallel/machine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/yaml.h"
#include "ops/clock.h"

/* --- described --- */

struct described {
    const char *name;
    int64_t node;
    double memory, compute, memory_bandwidth;
    double inside_latency, inside_bandwidth, between_latency, between_bandwidth;
};

#define AT(member) offsetof(struct described, member)
#define POSITIVE(path, where) {path, HB_YAML_FLOAT, where, NULL, NULL, 0, INFINITY, true, false}
static const struct hb_yaml_field fields[] = {
    {"name", HB_YAML_STRING, AT(name), NULL, NULL, 0, 0, false, false},
    {"node", HB_YAML_INT, AT(node), NULL, NULL, 1, 1 << 20, false, false},
    POSITIVE("memory", AT(memory)),
    POSITIVE("compute", AT(compute)),
    POSITIVE("memory_bandwidth", AT(memory_bandwidth)),
    {"inside.latency", HB_YAML_FLOAT, AT(inside_latency), NULL, NULL, 0, 1, false, false},
    POSITIVE("inside.bandwidth", AT(inside_bandwidth)),
    {"between.latency", HB_YAML_FLOAT, AT(between_latency), NULL, NULL, 0, 1, false, false},
    POSITIVE("between.bandwidth", AT(between_bandwidth)),
};

hb_status hb_machine_load(const char *path, struct hb_machine *machine)
{
    struct hb_yaml *doc;
    struct described d;
    HB_TRY(hb_yaml_load(path, &doc));
    hb_status status = hb_yaml_bind(doc, fields, sizeof fields / sizeof fields[0], &d);
    if (status == HB_OK) {
        *machine = (struct hb_machine){
            .node = d.node,
            .memory = d.memory,
            .compute = d.compute,
            .memory_bandwidth = d.memory_bandwidth,
            .inside = {d.inside_latency, d.inside_bandwidth},
            .between = {d.between_latency, d.between_bandwidth},
        };
        snprintf(machine->name, sizeof machine->name, "%s", d.name);
    }
    hb_yaml_destroy(doc);
    return status;
}

/* --- measured --- */

enum { SIDE = 384 };
static const double long_enough = 0.2; /* seconds of each measurement */

/* FLOP a second of a square product that fits the cache. */
static hb_status measure_products(struct hb_context *context, double *rate)
{
    struct hb_tensor t[3];
    hb_status status = HB_OK;
    for (int i = 0; i < 3; i++) {
        t[i] = hb_tensor_2d(context, NULL, HB_F32, SIDE, SIDE);
        if (status == HB_OK)
            status = hb_alloc(context, HB_MEMORY_WORKSPACE, hb_tensor_bytes(&t[i]), &t[i].data);
        if (status == HB_OK)
            status = hb_zero(context, t[i]);
    }
    struct hb_product_args args = {.form = HB_PRODUCT_NT, .a = t[0], .b = t[1], .out = t[2]};
    if (status == HB_OK)
        status = hb_product(context, &args); /* the first one starts threads and makes workspace */
    double start = hb_clock_now(), end = start;
    int64_t count = 0;
    for (; status == HB_OK && end - start < long_enough; end = hb_clock_now(), count++)
        status = hb_product(context, &args);
    for (int i = 0; i < 3; i++)
        hb_free(context, t[i].data);
    *rate = 2.0 * SIDE * SIDE * SIDE * (double)count / (end - start);
    return status;
}

/* Bytes a second of a copy that no cache holds, read and write counted. */
static hb_status measure_copies(struct hb_context *context, double *rate)
{
    enum { ELEMENTS = 16 << 20 };
    struct hb_tensor a = hb_tensor_1d(context, NULL, HB_F32, ELEMENTS), b = a;
    HB_TRY(hb_alloc(context, HB_MEMORY_WORKSPACE, hb_tensor_bytes(&a), &a.data));
    hb_status status = hb_alloc(context, HB_MEMORY_WORKSPACE, hb_tensor_bytes(&b), &b.data);
    if (status == HB_OK)
        status = hb_zero(context, a);
    if (status == HB_OK)
        status = hb_copy(context, b, a);
    double start = hb_clock_now(), end = start;
    int64_t count = 0;
    for (; status == HB_OK && end - start < long_enough; end = hb_clock_now(), count++)
        status = hb_copy(context, b, a);
    hb_free(context, a.data);
    hb_free(context, b.data);
    *rate = 2.0 * 4.0 * ELEMENTS * (double)count / (end - start);
    return status;
}

/* Seconds for a message of `bytes` there and back, halved; ranks 0 and 1 only. */
static hb_status ping(struct hb_comm *world, char *memory, size_t bytes, int times, double *seconds)
{
    int rank = hb_comm_rank(world), other = 1 - rank;
    double start = hb_clock_now();
    for (int i = 0; i < times; i++)
        for (int turn = 0; turn < 2; turn++) {
            struct hb_comm_request request;
            if (turn == rank)
                HB_TRY(hb_comm_send(world, other, memory, bytes, &request));
            else
                HB_TRY(hb_comm_receive(world, other, memory, bytes, &request));
            HB_TRY(hb_comm_wait(world, &request, 1));
        }
    *seconds = (hb_clock_now() - start) / (2.0 * times);
    return HB_OK;
}

/* Rank 0's figures go to all. */
static hb_status measure_link(struct hb_comm *world, struct hb_link *link)
{
    enum { LARGE = 4 << 20 };
    double small = 0, large = 0;
    char *memory = calloc(1, LARGE);
    hb_status status = memory ? HB_OK : HB_FAIL(HB_EMEMORY, "out of memory for timing messages");
    if (status == HB_OK && hb_comm_rank(world) < 2) {
        status = ping(world, memory, 8, 50, &small);
        if (status == HB_OK)
            status = ping(world, memory, LARGE, 8, &large);
    }
    free(memory);
    HB_TRY(hb_comm_agree(world, status));
    double both[2] = {small, large > small ? LARGE / (large - small) : 1e12};
    HB_TRY(hb_comm_broadcast(world, 0, both, sizeof both));
    *link = (struct hb_link){both[0], both[1]};
    return HB_OK;
}

hb_status hb_machine_measure(struct hb_context *context, struct hb_comm *world, int64_t ranks,
                             struct hb_machine *machine)
{
    double compute = 0, copies = 0;
    *machine = (struct hb_machine){.measured = true, .node = ranks};
    hb_status status = measure_products(context, &compute);
    if (status == HB_OK)
        status = measure_copies(context, &copies);
    HB_TRY(hb_comm_agree(world, status));
    /* Those measured here ran at a time: what they reached is each one's share of the machine. */
    int64_t here = hb_comm_size(world), sharing = (ranks + here - 1) / here;
    machine->compute = compute / (double)sharing;
    machine->memory_bandwidth = copies / (double)sharing;
    machine->memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (double)ranks;
    if (here > 1) {
        HB_TRY(measure_link(world, &machine->inside));
    } else {
        machine->links_assumed = true;
        machine->inside = (struct hb_link){2e-6, machine->memory_bandwidth / 4};
    }
    machine->between = machine->inside;
    snprintf(machine->name, sizeof machine->name, "this machine, %ld processors, %lld rank%s, backend %s",
             sysconf(_SC_NPROCESSORS_ONLN), (long long)ranks, ranks == 1 ? "" : "s", context->backend->name);
    return HB_OK;
}
