/* numerics: fast on a device: products by cuBLAS, with bf16 and fp16 on tensor
 * cores. The library is loaded when it is first needed, so that a program starts
 * without it. What cuBLAS has no routine for is computed by the canonical kernel,
 * which keeps the same bound: groups, whose sizes only the device knows, and
 * operands of different types.
 *
 * fp32 is multiplied in fp32; HB_CUDA_TF32=1 in the environment asks for TF32 (10 bits). */
#include "gpu/fast.h"

#include <limits.h>
#include <stdlib.h>

#if __has_include(<cublas_api.h>)

#include <cublas_api.h>
#include <dlfcn.h>

/* cublasGemmEx; the header overloads the name. */
typedef cublasStatus_t (*gemm_function)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m, int n,
                                        int k, const void *alpha, const void *a, cudaDataType, int lda,
                                        const void *b, cudaDataType, int ldb, const void *beta, void *c,
                                        cudaDataType, int ldc, cublasComputeType_t, cublasGemmAlgo_t);

/* The functions that are called, from the shared object. */
struct blas {
    void *object;
    cublasHandle_t handle;
    decltype(&cublasCreate_v2) create;
    decltype(&cublasDestroy_v2) destroy;
    decltype(&cublasSetStream_v2) set_stream;
    decltype(&cublasSetMathMode) set_math_mode;
    decltype(&cublasGetStatusString) text;
    gemm_function gemm;
};

static void close_blas(void *library)
{
    struct blas *blas = static_cast<struct blas *>(library);
    if (!blas)
        return;
    if (blas->handle)
        blas->destroy(blas->handle);
    if (blas->object)
        dlclose(blas->object);
    free(blas);
}

template <typename F> static bool find(void *object, const char *name, F *function)
{
    *function = reinterpret_cast<F>(dlsym(object, name));
    return *function != NULL;
}

static hb_status load_blas(struct blas *blas)
{
    static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so"};
    for (size_t i = 0; !blas->object && i < sizeof names / sizeof *names; i++)
        blas->object = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!blas->object)
        return HB_FAIL(
            HB_EUNSUPPORTED,
            "cuda: numerics: fast multiplies with cuBLAS, which cannot be loaded (%s); install it or use "
            "numerics: canonical",
            dlerror());
    bool found = find(blas->object, "cublasCreate_v2", &blas->create) &&
                 find(blas->object, "cublasDestroy_v2", &blas->destroy) &&
                 find(blas->object, "cublasSetStream_v2", &blas->set_stream) &&
                 find(blas->object, "cublasSetMathMode", &blas->set_math_mode) &&
                 find(blas->object, "cublasGetStatusString", &blas->text) &&
                 find(blas->object, "cublasGemmEx", &blas->gemm);
    return found ? HB_OK
                 : HB_FAIL(HB_EUNSUPPORTED,
                           "cuda: this cuBLAS lacks a function; install version 12 or later or use "
                           "numerics: canonical");
}

static hb_status start_blas(struct hb_context *context, struct blas *blas)
{
    HB_TRY(load_blas(blas));
    cublasStatus_t status = blas->create(&blas->handle);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = blas->set_stream(blas->handle, gpu_stream_of(context));
    /* Parts of a sum over k stay fp32 until all are added: the bound knows one rounding to storage. */
    if (status == CUBLAS_STATUS_SUCCESS)
        status = blas->set_math_mode(blas->handle, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
    if (status != CUBLAS_STATUS_SUCCESS)
        return HB_FAIL(HB_EUNSUPPORTED, "cuda: cuBLAS does not start: %s", blas->text(status));
    return HB_OK;
}

/* Of the context; loaded by the first call. */
static hb_status blas_of(struct hb_context *context, struct blas **out)
{
    void **place = HB_GPU(library)(context, close_blas);
    if (!*place) {
        struct blas *blas = static_cast<struct blas *>(calloc(1, sizeof *blas));
        if (!blas)
            return HB_FAIL(HB_EMEMORY, "cuda: out of host memory for cuBLAS");
        hb_status status = start_blas(context, blas);
        if (status != HB_OK) {
            close_blas(blas);
            return status;
        }
        *place = blas;
    }
    *out = static_cast<struct blas *>(*place);
    return HB_OK;
}

static cudaDataType type_of(const struct hb_tensor *t)
{
    return t->dtype == HB_BF16 ? CUDA_R_16BF : t->dtype == HB_F16 ? CUDA_R_16F : CUDA_R_32F;
}

bool HB_GPU(fast_takes)(const struct hb_product_args *args)
{
    struct hb_product_sizes s = hb_product_sizes(args);
    bool types =
        args->a.dtype == args->b.dtype && (args->out.dtype == HB_F32 || args->out.dtype == args->a.dtype);
    bool sizes = s.m > 0 && s.n > 0 && s.k > 0 && s.m <= INT_MAX && s.n <= INT_MAX && s.k <= INT_MAX;
    return types && sizes && !args->offsets.data;
}

/* Row-major out = a b is column-major out^T = b^T a^T. */
extern "C" hb_status HB_GPU(fast_product)(struct hb_context *context, const struct hb_product_args *args)
{
    struct hb_product_sizes s = hb_product_sizes(args);
    struct blas *blas;
    HB_TRY(blas_of(context, &blas));
    const char *asked = getenv("HB_CUDA_TF32");
    cublasComputeType_t compute =
        asked && asked[0] == '1' ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    bool b_by_row = args->form == HB_PRODUCT_NT, a_by_column = args->form == HB_PRODUCT_TN;
    const float one = 1.0f, keep = args->epilogue == HB_STORE ? 0.0f : 1.0f;
    cublasStatus_t status = blas->gemm(
        blas->handle, b_by_row ? CUBLAS_OP_T : CUBLAS_OP_N, a_by_column ? CUBLAS_OP_T : CUBLAS_OP_N, (int)s.n,
        (int)s.m, (int)s.k, &one, args->b.data, type_of(&args->b), (int)(b_by_row ? s.k : s.n), args->a.data,
        type_of(&args->a), (int)(a_by_column ? s.m : s.k), &keep, args->out.data, type_of(&args->out),
        (int)s.n, compute, CUBLAS_GEMM_DEFAULT);
    if (status != CUBLAS_STATUS_SUCCESS)
        return HB_FAIL(HB_EINTERNAL, "cuda: product by cuBLAS: %s", blas->text(status));
    return HB_OK;
}

extern "C" hb_status HB_GPU(fast_start)(struct hb_context *context)
{
    struct blas *blas;
    return blas_of(context, &blas);
}

#else

extern "C" hb_status HB_GPU(fast_start)(struct hb_context *)
{
    return HB_OK; /* its products are refused */
}

bool HB_GPU(fast_takes)(const struct hb_product_args *)
{
    return true;
}

extern "C" hb_status HB_GPU(fast_product)(struct hb_context *, const struct hb_product_args *)
{
    return HB_FAIL(HB_EUNSUPPORTED,
                   "cuda: numerics: fast multiplies with cuBLAS, whose header this build did not have; "
                   "use numerics: canonical");
}

#endif
