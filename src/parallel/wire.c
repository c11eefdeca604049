#include "parallel/wire.h"

#include <stdio.h>

#include "parallel/mesh.h"

/* --- life --- */

void hb_wire_init(struct hb_wire *wire, const struct hb_mesh *mesh)
{
    *wire = (struct hb_wire){
        .data = mesh->data, .experts = mesh->experts, .replicas = mesh->replicas, .pipe = mesh->pipe};
}

/* All or none: what one rank of the job cannot, none does. */
static hb_status join(struct hb_context *context, const struct hb_mesh *mesh, struct hb_comm *host,
                      bool pairs, struct hb_comm **out)
{
    hb_status status = HB_OK;
    if (hb_comm_size(host) > 1)
        status = context->backend->join(context, host, pairs, out);
    return hb_comm_agree(mesh->world, status);
}

static void part(struct hb_comm **comm, struct hb_comm *host)
{
    if (*comm != host)
        hb_comm_destroy(*comm);
    *comm = host;
}

void hb_wire_close(struct hb_wire *wire, const struct hb_mesh *mesh)
{
    part(&wire->data, mesh->data);
    part(&wire->experts, mesh->experts);
    part(&wire->replicas, mesh->replicas);
    part(&wire->pipe, mesh->pipe);
}

hb_status hb_wire_open(struct hb_wire *wire, struct hb_context *context, const struct hb_mesh *mesh,
                       enum hb_transport_choice choice)
{
    hb_wire_init(wire, mesh);
    wire->context = context;
    if (choice == HB_TRANSPORT_HOST || (choice == HB_TRANSPORT_AUTO && context->backend->host_memory))
        return HB_OK;
    hb_status status = HB_OK;
    if (!context->backend->join)
        status = HB_FAIL(HB_EUNSUPPORTED, "backend %s cannot send by itself", context->backend->name);
    if (status == HB_OK)
        status = join(context, mesh, mesh->data, false, &wire->data);
    if (status == HB_OK)
        status = join(context, mesh, mesh->experts, false, &wire->experts);
    if (status == HB_OK)
        status = join(context, mesh, mesh->replicas, false, &wire->replicas);
    if (status == HB_OK)
        status = join(context, mesh, mesh->pipe, true, &wire->pipe);
    wire->on_device = status == HB_OK;
    if (status == HB_OK)
        return HB_OK;
    hb_wire_close(wire, mesh);
    if (status != HB_EUNSUPPORTED)
        return status;
    if (choice == HB_TRANSPORT_NCCL)
        return hb_fail_in(status, "parallel.transport: nccl");
    snprintf(wire->why_host, sizeof wire->why_host, "%s", hb_error());
    return HB_OK;
}

/* --- memory --- */

bool hb_wire_is_direct(const struct hb_wire *wire)
{
    return wire->on_device || wire->context->backend->host_memory;
}

hb_status hb_wire_alloc(const struct hb_wire *wire, size_t bytes, void **out)
{
    return wire->on_device ? hb_alloc(wire->context, HB_MEMORY_COMMUNICATION, bytes, out)
                           : hb_memory_alloc(HB_MEMORY_COMMUNICATION, bytes, out);
}

void hb_wire_free(const struct hb_wire *wire, void *memory)
{
    if (wire->on_device)
        hb_free(wire->context, memory);
    else
        hb_memory_free(memory);
}

hb_status hb_wire_grow(const struct hb_wire *wire, char **memory, size_t *size, size_t bytes)
{
    void *grown;
    if (bytes <= *size)
        return HB_OK;
    hb_wire_free(wire, *memory);
    *memory = NULL;
    *size = 0;
    HB_TRY(hb_wire_alloc(wire, bytes, &grown));
    *memory = grown;
    *size = bytes;
    return HB_OK;
}

hb_status hb_wire_put(const struct hb_wire *wire, void *to, struct hb_tensor from)
{
    if (!wire->on_device)
        return hb_copy_out(wire->context, to, from);
    return wire->context->backend->copy(wire->context, to, from.data, hb_tensor_bytes(&from));
}

hb_status hb_wire_get(const struct hb_wire *wire, struct hb_tensor to, const void *from)
{
    if (!wire->on_device)
        return hb_copy_in(wire->context, to, from);
    return wire->context->backend->copy(wire->context, to.data, from, hb_tensor_bytes(&to));
}
