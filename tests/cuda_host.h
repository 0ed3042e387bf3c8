// CUDA C on the CPU, for tests: the intrinsics the kernels use, and the threads of a block as coroutines that take
// turns at every shuffle and barrier.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <ucontext.h>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))

struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct uint4 { unsigned x, y, z, w; };
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
struct Position { unsigned x; };
static Position threadIdx, blockIdx, blockDim;

template <class To, class From> static inline To cast(From from) {
  To to;
  static_assert(sizeof to == sizeof from, "");
  memcpy(&to, &from, sizeof to);
  return to;
}

static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
// not inlined: GCC takes -fma(a, b, -c) for fma(-a, b, c), which loses the sign of a zero
__attribute__((noinline)) static float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline int __float_as_int(float x) { return cast<int>(x); }
static inline float __int_as_float(int i) { return cast<float>(i); }
static inline float __int2float_rn(int i) { return (float)i; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __dsqrt_rn(double a) { return sqrt(a); }
__attribute__((noinline)) static double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
static inline long long __double_as_longlong(double x) { return cast<long long>(x); }
static inline double __longlong_as_double(long long i) { return cast<double>(i); }
static inline double __ll2double_rn(long long i) { return (double)i; }
static inline double __hiloint2double(int high, int low) {
  return cast<double>((long long)((unsigned long long)(unsigned)high << 32 | (unsigned)low));
}
static inline int __double2loint(double x) { return (int)cast<long long>(x); }
static inline int __double2hiint(double x) { return (int)(cast<long long>(x) >> 32); }

// What a GPU approximates, wrong by up to one unit in the last place either way: results must not depend on it.
static inline float nudged(double exact, unsigned seed) {
  float x = (float)exact;
  if (!(fabsf(x) >= 0x1p-126f && fabsf(x) < INFINITY)) return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
  const unsigned step = (seed * 2654435761u >> 16) % 3;
  const float y = step == 0 ? x : nextafterf(x, step == 1 ? INFINITY : -INFINITY);
  return fabs(y - exact) <= nextafterf(fabsf(x), INFINITY) - fabsf(x) ? y : x;
}
static inline float ptx_rcp_approx_ftz_f32(float d) {
  const unsigned bits = cast<unsigned>(d);
  const float r = nudged(1.0 / d, bits);
  // 1/2 for the float below 2 would stay in a Newton step: NVIDIA's own division relies on its not being the result, too.
  return (bits & 0x7fffff) == 0x7fffff && !(cast<unsigned>(r) & 0x7fffff) ? nextafterf(r, copysignf(INFINITY, r)) : r;
}
static inline float ptx_rsqrt_approx_ftz_f32(float d) { return nudged(1.0 / sqrt((double)d), cast<unsigned>(d)); }

static inline unsigned ptx_and_b32(unsigned a, unsigned b) { return a & b; }

static inline float ptx_cvt_f32_f16(unsigned short h) {
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  const float magnitude = exponent == 31  ? (mantissa ? NAN : INFINITY)
                          : exponent == 0 ? ldexpf((float)mantissa, -24)
                                          : ldexpf((float)(1024 + mantissa), exponent - 25);
  return h & 0x8000 ? -magnitude : magnitude;
}
static inline unsigned short ptx_cvt_rn_f16_f32(float x) {
  const unsigned short sign = std::signbit(x) ? 0x8000 : 0;
  if (x != x) return 0x7fff;
  const double magnitude = fabs((double)x);
  if (magnitude >= 65520.0) return sign | 0x7c00;
  if (magnitude < 0x1p-14) return sign | (unsigned short)nearbyint(magnitude * 0x1p24);
  int exponent;
  frexp(magnitude, &exponent);  // magnitude = m 2^exponent, 1/2 <= m < 1
  const int rounded = (int)nearbyint(ldexp(magnitude, 11 - exponent));  // 1024 to 2048
  return sign | (unsigned short)(((exponent + 13) << 10) + rounded);
}
static inline unsigned short ptx_cvt_rn_bf16_f32(float x) {
  const unsigned i = cast<unsigned>(x);
  return x != x ? 0x7fff : (unsigned short)((i + 0x7fff + (i >> 16 & 1)) >> 16);
}
static inline unsigned ptx_cvt_rn_f16x2_f32(float high, float low) {
  return (unsigned)ptx_cvt_rn_f16_f32(high) << 16 | ptx_cvt_rn_f16_f32(low);
}
static inline unsigned ptx_cvt_rn_bf16x2_f32(float high, float low) {
  return (unsigned)ptx_cvt_rn_bf16_f32(high) << 16 | ptx_cvt_rn_bf16_f32(low);
}

// --- the threads of a block

struct Coroutine {
  ucontext_t context;
  std::vector<char> stack;
  bool done = false;
};
static std::vector<Coroutine> coroutines;
static ucontext_t scheduler;
static std::function<void()> *work;
static std::vector<uint64_t> exchanged;
static std::vector<uint64_t> handed;  // in which turn and line each thread handed over what it exchanges
static uint64_t turn;
static int missed;  // exchanges to which not all threads came that were to

static void pause() { swapcontext(&coroutines[threadIdx.x].context, &scheduler); }

static inline void __syncthreads() { pause(); }

// What the threads of this warp exchange: all in `mask` that have not ended must be at this line of the source.
template <class T, class Look> static inline void exchange(unsigned line, unsigned mask, T value, Look look) {
  const unsigned me = threadIdx.x, first = me & ~31u;
  const uint64_t now = turn << 32 | line;
  memcpy(&exchanged[me], &value, sizeof value);
  handed[me] = now;
  pause();
  for (unsigned t = first; t < first + 32 && t < coroutines.size(); t++) {
    if (!(mask >> (t - first) & 1) || coroutines[t].done) continue;
    missed += handed[t] != now;
    look(t, exchanged[t]);
  }
  missed += !(mask >> (me - first) & 1);
  pause();
}

template <class T> static inline T shuffled(unsigned line, unsigned mask, T value, int distance) {
  T other = value;
  exchange(line, mask, value, [&](unsigned t, const uint64_t &given) {
    if (t == (threadIdx.x ^ distance)) memcpy(&other, &given, sizeof other);
  });
  return other;
}

static inline int any(unsigned line, unsigned mask, int wanted) {
  int found = 0;
  exchange(line, mask, wanted, [&](unsigned, const uint64_t &given) { found |= (int)given != 0; });
  return found;
}

#define __shfl_xor_sync(...) shuffled(__LINE__, __VA_ARGS__)
#define __any_sync(...) any(__LINE__, __VA_ARGS__)

static void body() {
  const unsigned me = threadIdx.x;
  (*work)();
  coroutines[me].done = true;
  swapcontext(&coroutines[me].context, &scheduler);
}

static void run_block(unsigned threads, std::function<void()> call) {
  work = &call;
  coroutines.resize(threads);
  exchanged.resize(threads);
  handed.assign(threads, 0);
  for (unsigned t = 0; t < threads; t++) {
    Coroutine &one = coroutines[t];
    one.done = false;
    one.stack.resize(1 << 15);
    getcontext(&one.context);
    one.context.uc_stack.ss_sp = one.stack.data();
    one.context.uc_stack.ss_size = one.stack.size();
    one.context.uc_link = nullptr;
    makecontext(&one.context, body, 0);
  }
  for (bool left = true; left;) {
    left = false;
    turn++;
    for (unsigned t = 0; t < threads; t++) {
      if (coroutines[t].done) continue;
      threadIdx.x = t;
      swapcontext(&scheduler, &coroutines[t].context);
      left |= !coroutines[t].done;
    }
  }
}
