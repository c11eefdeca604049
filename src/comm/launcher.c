/* What the launcher of a job says in the environment of its processes. */
#include <stdlib.h>

#include "comm/comm.h"

/* Variables that launchers set in every process of a job of several. */
bool hb_comm_is_parallel(void)
{
    static const char *const sizes[] = {"PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS", "PMIX_SIZE"};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const char *text = getenv(sizes[i]);
        if (text && atoi(text) > 1)
            return true;
    }
    return getenv("PMIX_RANK") && getenv("SLURM_NTASKS") && atoi(getenv("SLURM_NTASKS")) > 1;
}

/* The first of the variables that is there and at least `least`. */
static int variable(const char *const *names, int count, int least)
{
    for (int i = 0; i < count; i++) {
        const char *text = getenv(names[i]);
        if (text && *text && atoi(text) >= least)
            return atoi(text);
    }
    return least;
}

int hb_comm_local_ranks(void)
{
    static const char *const sizes[] = {"MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE",
                                        "SLURM_NTASKS_PER_NODE", "PMI_SIZE"};
    return variable(sizes, 4, 1);
}

int hb_comm_local_rank(void)
{
    static const char *const ranks[] = {"MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"};
    return variable(ranks, 3, 0);
}
