/* Where bytes lie while they travel between ranks, and who carries them: in the host's memory, by MPI; or in
 * the device's, where the backend's ranks send to each other by themselves (struct hb_backend's join).
 * Tensors of a backend whose memory is the host's, and of one that sends by itself, travel from where they
 * are. */
#ifndef HB_PARALLEL_WIRE_H
#define HB_PARALLEL_WIRE_H

#include "comm/comm.h"
#include "ops/backend.h"

struct hb_mesh;

enum hb_transport_choice {
    HB_TRANSPORT_AUTO, /* the device's own, if it has one */
    HB_TRANSPORT_HOST,
    HB_TRANSPORT_NCCL /* the device's own, or an error */
};

struct hb_wire {
    struct hb_context *context; /* NULL: not yet opened */
    bool on_device;
    struct hb_comm *data, *experts, *replicas, *pipe; /* those of the mesh, or of the same ranks */
    char why_host[256]; /* of a device whose bytes go through the host: "" if that was asked for */
};

/* The mesh's own communicators. */
void hb_wire_init(struct hb_wire *wire, const struct hb_mesh *mesh);
/* HB_EUNSUPPORTED: NCCL was asked for and cannot be. Collective: world. */
HB_MUST_USE hb_status hb_wire_open(struct hb_wire *wire, struct hb_context *context,
                                   const struct hb_mesh *mesh, enum hb_transport_choice choice);
void hb_wire_close(struct hb_wire *wire, const struct hb_mesh *mesh);

/* May tensors themselves be sent and received? Otherwise, and where pieces are put together, memory of the
 * wire is. */
bool hb_wire_is_direct(const struct hb_wire *wire);

/* Memory for what travels (category communication). NULL is freed, too. */
HB_MUST_USE hb_status hb_wire_alloc(const struct hb_wire *wire, size_t bytes, void **out);
void hb_wire_free(const struct hb_wire *wire, void *memory);
/* At least so many bytes; what was there is lost. */
HB_MUST_USE hb_status hb_wire_grow(const struct hb_wire *wire, char **memory, size_t *size, size_t bytes);

/* Between a tensor and memory of the wire. */
HB_MUST_USE hb_status hb_wire_put(const struct hb_wire *wire, void *to, struct hb_tensor from);
HB_MUST_USE hb_status hb_wire_get(const struct hb_wire *wire, struct hb_tensor to, const void *from);

#endif
