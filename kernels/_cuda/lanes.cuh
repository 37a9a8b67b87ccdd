// Warp and block code that is also plain C++.
//
// On a GPU a lane is a thread: LANES is 1 and a per-lane array is one register. On a host LANES is 32, a per-lane array
// holds the whole warp, and FOR_LANES is a loop; code between two exchanges stands in one FOR_LANES body.
//
//     u64 x[LANES], y[LANES];
//     FOR_LANES(i, lane) x[i] = lane;
//     FOR_LANES(i, lane) y[i] = from_lane(x, i, lane + 1);     // the value of the next lane, periodic
//
// Kernels are declared KERNEL void name(...) and take pointers and i64; KERNEL_OF(threads, blocks) tells the compiler the
// size of a block and how many of them are to share a multiprocessor. FOR_WARPS(w, n) gives each warp its share of n
// pieces of work, FOR_BLOCKS(b, n) each block; FOR_THREADS(t, n) shares n pieces among the threads of a block (one
// "thread" on a host) and must be followed by barrier() before other threads' results are read. SHARED memory belongs to
// a block; what its warps do not share is an array of warps there, of which each takes number warp_of_block().
#pragma once

typedef unsigned long long u64;
typedef unsigned int u32;
typedef long long i64;

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)

#define KERNEL extern "C" __global__
#define KERNEL_OF(threads, blocks) extern "C" __global__ __launch_bounds__(threads, blocks)
#define DEVICE __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__
#define LANES 1
#define UNROLL _Pragma("unroll")
#define UNROLL_BY(number) AS_PRAGMA(unroll number)
#define AS_PRAGMA(text) _Pragma(#text)
#define SHARED __shared__
#define FOR_LANES(i, lane) for (int i = 0, lane = threadIdx.x & 31; i < 1; ++i)
#define FOR_WARPS(w, n)                                                      \
    for (i64 w = (blockIdx.x * (i64)blockDim.x + threadIdx.x) >> 5; w < (n); \
         w += ((i64)gridDim.x * blockDim.x) >> 5)
#define FOR_BLOCKS(b, n) for (i64 b = blockIdx.x; b < (n); b += gridDim.x)
#define FOR_THREADS(t, n) for (i64 t = threadIdx.x; t < (n); t += blockDim.x)

template <class T>
DEVICE T from_lane(const T (&x)[1], int, int lane) {
    return __shfl_sync(0xffffffffu, x[0], lane & 31);
}
DEVICE bool any_lane(const bool (&x)[1]) { return __any_sync(0xffffffffu, x[0]); }
DEVICE bool any_thread(bool x) { return __syncthreads_or(x); }
DEVICE void barrier() { __syncthreads(); }
DEVICE void warp_barrier() { __syncwarp(); }
DEVICE int warp_of_block() { return threadIdx.x >> 5; }
DEVICE int count_ones(u64 x) { return __popcll(x); }
DEVICE int place_of(u32 bit) { return 31 - __clz(bit); }  // of the only one that is set

// Takes the next ticket of a counter, for the whole warp.
DEVICE i64 take_ticket(u64* counter) {
    u64 ticket = 0;
    if ((threadIdx.x & 31) == 0) ticket = atomicAdd(counter, 1ull);
    return (i64)__shfl_sync(0xffffffffu, ticket, 0);
}

#else

#define KERNEL extern "C"
#define KERNEL_OF(threads, blocks) extern "C"
#define DEVICE static inline
#define DEVICE_MEMBER inline
#define LANES 32
#define UNROLL
#define UNROLL_BY(number)
#define SHARED
#define FOR_LANES(i, lane) for (int i = 0, lane = 0; lane < 32; lane = ++i)
#define FOR_WARPS(w, n) for (i64 w = 0; w < (n); ++w)
#define FOR_BLOCKS(b, n) for (i64 b = 0; b < (n); ++b)
#define FOR_THREADS(t, n) for (i64 t = 0; t < (n); ++t)

template <class T>
DEVICE T from_lane(const T (&x)[32], int, int lane) {
    return x[lane & 31];
}
DEVICE bool any_lane(const bool (&x)[32]) {
    bool any = false;
    for (bool b : x) any |= b;
    return any;
}
DEVICE bool any_thread(bool x) { return x; }
DEVICE void barrier() {}
DEVICE void warp_barrier() {}
DEVICE int warp_of_block() { return 0; }
DEVICE int count_ones(u64 x) { return __builtin_popcountll(x); }
DEVICE int place_of(u32 bit) { return __builtin_ctz(bit); }
DEVICE i64 take_ticket(u64* counter) { return (i64)(*counter)++; }

#endif
