/* The machine that a plan is made for: described in a file, or this one, measured. docs/plan.md lists the
 * keys. */
#ifndef HB_PARALLEL_MACHINE_H
#define HB_PARALLEL_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/comm.h"
#include "ops/backend.h"

struct hb_link {
    double latency;   /* seconds a message */
    double bandwidth; /* bytes a second out of one rank */
};

struct hb_machine {
    char name[128];
    bool measured;
    int64_t node;             /* ranks on one node; ranks r and s share a node if r / node == s / node */
    double memory;            /* bytes that a rank may use */
    double compute;           /* FLOP a second of one rank in the model's products */
    double memory_bandwidth;  /* bytes a second, reading and writing, of one rank */
    struct hb_link inside;    /* between ranks of a node */
    struct hb_link between;   /* between nodes */
    bool links_assumed;       /* measured on one rank: links follow from the memory's bandwidth */
};

/* "machine.yaml"; HB_EFORMAT with file and line. */
HB_MUST_USE hb_status hb_machine_load(const char *path, struct hb_machine *machine);

/* This machine as `ranks` ranks that share its processors: products of the backend and copies are timed for
 * about a fifth of a second each, messages between ranks 0 and 1 of `world` if there are two. Collective:
 * world. */
HB_MUST_USE hb_status hb_machine_measure(struct hb_context *context, struct hb_comm *world, int64_t ranks,
                                         struct hb_machine *machine);

#endif
