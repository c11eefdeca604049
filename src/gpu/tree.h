/* The fold tree (core/tree.h) for leaves that one thread brings in order. */
#ifndef HB_GPU_TREE_H
#define HB_GPU_TREE_H

#include "gpu/dialect.h"

/* After n leaves it holds the full trees that the binary digits of n stand for, node[b] one of 2^b leaves. */
template <typename T> struct tree_sum {
    T node[40];
    int64_t leaves;

    __device__ inline tree_sum() : leaves(0)
    {
    }

    __device__ inline void add(T x)
    {
        int b = 0;
        for (; leaves >> b & 1; b++)
            x = node[b] + x;
        node[b] = x;
        leaves++;
    }

    /* Of no leaves +0. */
    __device__ inline T root() const
    {
        T sum = 0;
        bool any = false;
        for (int b = 0; leaves >> b != 0; b++)
            if (leaves >> b & 1) {
                sum = any ? node[b] + sum : node[b];
                any = true;
            }
        return sum;
    }
};

#endif
