"""The CUDA C around a graph: types, loads and stores of 16 bytes, and the kernels themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..graph.trace import Graph
from .source import FLOAT_NAMES, Tables, device_function

THREADS = 256
# Operations of a kernel that gets more registers, and words of one for a single result that gets still more: with fewer
# it would spill. Of 16-bit arrays a thread has most elements, and LONG_KERNEL takes longer than memory does.
LONG_KERNEL, LONGEST_KERNEL = 44, 120
LOADS = 2  # of 16 bytes that a thread has in flight for each input
MANY_LOADS = 4  # where a kernel is slower than memory, or looks results up, so that more elements share a beginning
MAX_DIMS = 8
ITEMSIZE = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}

# What all kernels share. Division, reciprocal and square root below are the sequences that NVIDIA's compiler makes of
# the correctly rounded operations when their operands are in range; it cannot know that they are, so it would add a
# test and a call for those that are not.
PRELUDE = """
typedef unsigned short half_bits;

// As many blocks as keep enough bytes in flight. Left to itself the compiler would spill for more of them.
#if __CUDA_ARCH__ >= 800
#define BLOCKS 5
#define FEWER_BLOCKS 4
#define FEWEST_BLOCKS 3
#else
#define BLOCKS 4
#define FEWER_BLOCKS 3
#define FEWEST_BLOCKS 2
#endif

static __device__ __forceinline__ float reciprocal_seed(float d) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(d));
  return r;
}

static __device__ __forceinline__ float reciprocal_root_seed(float d) {
  float r;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(d));
  return r;
}

// 16 (i & last). Without asm the compiler would mask once more where a half or a quarter of it is needed.
static __device__ __forceinline__ unsigned bytes_of_four(int i, unsigned last) {
  const unsigned all = (unsigned)i << 4, mask = last << 4;
  unsigned at;
  asm("and.b32 %0, %1, %2;" : "=r"(at) : "r"(all), "r"(mask));
  return at;
}
"""

ARITHMETIC = """
static __device__ __forceinline__ float reciprocal_in_range(float d) {
  const float r = reciprocal_seed(d);
  return __fmaf_rn(r, __fmaf_rn(-d, r, 1.0f), r);
}

static __device__ __forceinline__ float divide_in_range(float n, float d) {
  const float r = reciprocal_in_range(d);
  float q = __fmul_rn(n, r);
  // d q - n, not n - d q, so that -0 stays -0
  q = __fmaf_rn(__fmaf_rn(d, q, -n), -r, q);
  return __fmaf_rn(__fmaf_rn(d, q, -n), -r, q);
}

static __device__ __forceinline__ float divide_scaled(float n, float d) {
  const bool tiny = fabsf(n) < 0x1p-40f;
  return __fmul_rn(divide_in_range(__fmul_rn(n, tiny ? 0x1p+64f : 1.0f), d), tiny ? 0x1p-64f : 1.0f);
}

static __device__ __forceinline__ float sqrt_in_range(float d) {
  const float r = reciprocal_root_seed(d);
  const float s = __fmul_rn(d, r);
  return __fmaf_rn(__fmaf_rn(-s, s, d), __fmul_rn(r, 0.5f), s);
}
"""

# From memory to registers and back, for every dtype: one element, and a word of 32 bits that holds two halves.
CONVERSIONS = {
    "float32": "",
    "float64": "",
    "float16": """
static __device__ __forceinline__ float widen(half_bits h) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
  return x;
}

static __device__ __forceinline__ half_bits narrow(float x) {
  half_bits h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
  return h;
}
""",
    "bfloat16": """
static __device__ __forceinline__ float widen(half_bits h) {
  return __int_as_float((int)h << 16);
}

static __device__ __forceinline__ half_bits narrow(float x) {
#if __CUDA_ARCH__ >= 800
  half_bits h;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(x));
  return h;
#else
  const unsigned i = (unsigned)__float_as_int(x);
  return (half_bits)(x != x ? i >> 16 | 0x40 : (i + 0x7fff + (i >> 16 & 1)) >> 16);
#endif
}
""",
}

_PACKING = {
    "float16": "cvt.rn.f16x2.f32",
    "bfloat16": "cvt.rn.bf16x2.f32",
}


@dataclass(frozen=True)
class Kernel:
    """An elementwise kernel to be made: `arrays` inputs in memory, then `scalars` inputs that are arguments."""

    function: Callable[..., Any]
    dtype: str
    arrays: int
    outputs: int
    scalars: int = 0
    loads: int = LOADS

    @property
    def width(self) -> int:
        return 64 if self.dtype == "float64" else 32

    @property
    def item(self) -> str:
        """The C type of an element in memory."""
        return {8: "double", 4: "float", 2: "half_bits"}[ITEMSIZE[self.dtype]]

    @property
    def per_thread(self) -> int:
        return self.loads * 16 // ITEMSIZE[self.dtype]


def prologue(dtype: str) -> str:
    """The types and functions that kernels of a dtype use."""
    packing = ""
    if ITEMSIZE[dtype] == 2:
        low, high = (
            ("widen((half_bits)w)", "widen((half_bits)(w >> 16))")
            if dtype == "float16"
            else ("__int_as_float((int)(w << 16))", "__int_as_float((int)(w & 0xffff0000u))")
        )
        packing = f"""
static __device__ __forceinline__ void unpack(unsigned w, float *x) {{
  x[0] = {low};
  x[1] = {high};
}}

static __device__ __forceinline__ unsigned pack(const float *x) {{
#if __CUDA_ARCH__ >= 800
  unsigned w;
  asm("{_PACKING[dtype]} %0, %1, %2;" : "=r"(w) : "f"(x[1]), "f"(x[0]));
  return w;
#else
  return (unsigned)narrow(x[0]) | (unsigned)narrow(x[1]) << 16;
#endif
}}

static __device__ __forceinline__ void unpack16(uint4 v, float *x) {{
  unpack(v.x, x);
  unpack(v.y, x + 2);
  unpack(v.z, x + 4);
  unpack(v.w, x + 6);
}}

static __device__ __forceinline__ uint4 pack16(const float *x) {{
  return make_uint4(pack(x), pack(x + 2), pack(x + 4), pack(x + 6));
}}
"""
    elif dtype == "float32":
        packing = """
static __device__ __forceinline__ float widen(float x) { return x; }
static __device__ __forceinline__ float narrow(float x) { return x; }

static __device__ __forceinline__ void unpack16(uint4 v, float *x) {
  x[0] = __int_as_float((int)v.x);
  x[1] = __int_as_float((int)v.y);
  x[2] = __int_as_float((int)v.z);
  x[3] = __int_as_float((int)v.w);
}

static __device__ __forceinline__ uint4 pack16(const float *x) {
  return make_uint4((unsigned)__float_as_int(x[0]), (unsigned)__float_as_int(x[1]), (unsigned)__float_as_int(x[2]),
                    (unsigned)__float_as_int(x[3]));
}
"""
    else:
        packing = """
static __device__ __forceinline__ double widen(double x) { return x; }
static __device__ __forceinline__ double narrow(double x) { return x; }

static __device__ __forceinline__ void unpack16(uint4 v, double *x) {
  x[0] = __hiloint2double((int)v.y, (int)v.x);
  x[1] = __hiloint2double((int)v.w, (int)v.z);
}

static __device__ __forceinline__ uint4 pack16(const double *x) {
  return make_uint4((unsigned)__double2loint(x[0]), (unsigned)__double2hiint(x[0]), (unsigned)__double2loint(x[1]),
                    (unsigned)__double2hiint(x[1]));
}
"""
    return PRELUDE + ARITHMETIC + CONVERSIONS[dtype] + packing


# A block reads its tables while its first loads are under way.
_FILL = """
  __shared__ __align__(16) {real} table[TABLE_ENTRIES];
{copy}
  __syncthreads();
"""


def fill(tables: Tables, threads: int | None = None) -> str:
    """Tables copied to shared memory, by a block of `threads` if that is known."""
    real, count = FLOAT_NAMES[tables.width], len(tables.entries)
    if not count:
        return f"  const {real} *table = nullptr;\n"
    if threads is None:
        copy = "  for (int k = threadIdx.x; k < TABLE_ENTRIES; k += blockDim.x) table[k] = table_entries[k];"
    elif count <= threads:
        copy = "  if (threadIdx.x < TABLE_ENTRIES) table[threadIdx.x] = table_entries[threadIdx.x];"
    else:  # 16 bytes at a time
        copy = f"""#pragma unroll
  for (int k = 0; k < (int)sizeof table; k += 16 * {threads})
    if (k + 16 * {threads} <= (int)sizeof table || k + 16 * (int)threadIdx.x < (int)sizeof table)
      ((uint4 *)table)[k / 16 + threadIdx.x] = ((const uint4 *)table_entries)[k / 16 + threadIdx.x];"""
    return _FILL.replace("{real}", real).replace("{copy}", copy)


@dataclass(frozen=True)
class Usual:
    """A kernel's graph without what is rare, and its divisions and square roots that have a cheap form."""

    graph: Graph
    cheap: Mapping[int, str]


def _functions(tables: Tables, graph: Graph, cheap: Mapping[int, str] | None, usual: Usual | None) -> str:
    """`apply`, which is always right, and `usually`, which says where it is not."""
    found = device_function("apply", graph, tables, cheap)
    return found if usual is None else device_function("usually", usual.graph, tables, usual.cheap) + found


def _call(kernel: Kernel, inputs: Sequence[str], outputs: Sequence[str], function: str = "apply") -> str:
    scalars = [f"p{k}" for k in range(kernel.scalars)]
    return f"{function}({', '.join(['table', *inputs, *scalars, *outputs])})"


def _scalar_parameters(kernel: Kernel) -> list[str]:
    return [f"{FLOAT_NAMES[kernel.width]} p{k}" for k in range(kernel.scalars)]


def _scalar_code(kernel: Kernel, index: Callable[[str], str], indent: str) -> str:
    """One element: loaded, computed, stored. `index` gives the position in an operand."""
    real = FLOAT_NAMES[kernel.width]
    results = [f"r{k}" for k in range(kernel.outputs)]
    lines = [
        f"{real} {', '.join(results)};",
        _call(kernel, [f"widen(x{k}[{index(f'x{k}')}])" for k in range(kernel.arrays)], results) + ";",
        *(f"y{k}[{index(f'y{k}')}] = narrow(r{k});" for k in range(kernel.outputs)),
    ]
    return "\n".join(indent + line for line in lines)


def _elements(kernel: Kernel, count: int, usual: Usual | None) -> str:
    """Those of 16 bytes: what is rare is looked for once for all of them, so that they are computed side by side.

    With `USUAL_PATH` defined, what is rare takes one instruction: `tools/cuda_budget.py` counts what is left.
    """
    operands = [f"u{k}[e]" for k in range(kernel.arrays)], [f"w{k}[e]" for k in range(kernel.outputs)]
    each = f"#pragma unroll\n      for (int e = 0; e < {count}; e++)"
    if usual is None:
        return f"{each} {_call(kernel, *operands)};"
    return f"""      bool rare = false;
{each} rare |= {_call(kernel, *operands, function="usually")};
      if (rare) {{
#ifdef USUAL_PATH
        __trap();
#else
{each} {_call(kernel, *operands)};
#endif
      }}"""


def contiguous(kernel: Kernel, graph: Graph, cheap: Mapping[int, str] | None = None, usual: Usual | None = None) -> str:
    """The kernel over arrays whose elements lie one after the other.

    `tiles` says how many tiles go 16 bytes at a time: none unless all pointers are multiples of 16. What is left, the
    last, incomplete tile for one, goes element by element. There are fewer than 2^31 tiles.
    """
    tables = Tables(kernel.width)
    functions = _functions(tables, graph, cheap, usual)
    real, per_load = FLOAT_NAMES[kernel.width], 16 // ITEMSIZE[kernel.dtype]
    parameters = [f"const {kernel.item} *x{k}" for k in range(kernel.arrays)]
    parameters += [f"{kernel.item} *y{k}" for k in range(kernel.outputs)]
    parameters += [*_scalar_parameters(kernel), "long long n", "long long tiles"]
    place, tile = f"threadIdx.x + l * {THREADS}", THREADS * kernel.per_thread
    load = "\n".join(
        f"#pragma unroll\n    for (int l = 0; l < {kernel.loads}; l++)"
        f" a{k}[l] = ((const uint4 *)(x{k} + base))[{place}];"
        for k in range(kernel.arrays)
    )
    unpacked = "\n".join(
        f"      {real} u{k}[{per_load}];\n      unpack16(a{k}[l], u{k});" for k in range(kernel.arrays)
    )
    results = ", ".join(f"w{k}[{per_load}]" for k in range(kernel.outputs))
    stored = "\n".join(f"      ((uint4 *)(y{k} + base))[{place}] = pack16(w{k});" for k in range(kernel.outputs))
    operations = sum(graph.nodes[k].op != "const" for k in graph.used())
    blocks = "FEWER_BLOCKS" if operations > LONG_KERNEL or kernel.outputs > 1 else "BLOCKS"
    words, half = operations * kernel.width // 32, ITEMSIZE[kernel.dtype] == 2
    long = usual is not None or operations > LONG_KERNEL
    if kernel.loads > LOADS or (long and half) or (words > LONGEST_KERNEL and kernel.outputs == 1):
        blocks = "FEWEST_BLOCKS"  # of which each has more under way
    return f"""{prologue(kernel.dtype)}
{tables.definition()}
{functions}
extern "C" __global__ void __launch_bounds__({THREADS}, {blocks}) contiguous({", ".join(parameters)}) {{
  const long long base = (long long)blockIdx.x * {tile};
  const bool whole = blockIdx.x < (unsigned)tiles;
  uint4 {", ".join(f"a{k}[{kernel.loads}]" for k in range(kernel.arrays))};
  if (whole) {{
{load}
  }}
{fill(tables, THREADS)}
  if (whole) {{
#pragma unroll
    for (int l = 0; l < {kernel.loads}; l++) {{
{unpacked}
      {real} {results};
{_elements(kernel, per_load, usual)}
{stored}
    }}
  }} else {{
    const long long end = base + {tile} < n ? base + {tile} : n;
#pragma unroll 1
    for (long long i = base + threadIdx.x; i < end; i += {THREADS}) {{
{_scalar_code(kernel, lambda name: "i", "      ")}
    }}
  }}
}}
"""


def strided(kernel: Kernel, graph: Graph, cheap: Mapping[int, str] | None = None) -> str:
    """The kernel over arrays of any layout, an element a thread.

    Dimensions come the fastest first; strides are in elements, 0 where an operand is broadcast. There are fewer than
    2^31 elements: index arithmetic in 64 bits would cost as much as the function.
    """
    tables = Tables(kernel.width)
    function = device_function("apply", graph, tables, cheap)
    names = [f"x{k}" for k in range(kernel.arrays)] + [f"y{k}" for k in range(kernel.outputs)]
    parameters = [f"{'const ' if name[0] == 'x' else ''}{kernel.item} *{name}" for name in names]
    parameters += [*_scalar_parameters(kernel), "long long n", "long long dims"]
    parameters += [f"long long s{d}" for d in range(MAX_DIMS)]
    parameters += [f"long long {name}_{d}" for name in names for d in range(MAX_DIMS)]

    steps = []
    for d in range(MAX_DIMS):
        moves = " ".join(f"o{name} += (long long)at * {name}_{d};" for name in names)
        steps.append(
            f"  if (dims > {d}) {{ const unsigned next = left / (unsigned)s{d}, at = left - next * (unsigned)s{d}; "
            f"left = next; {moves} }}"
        )
    walk = "\n".join(steps)
    offsets = ", ".join(f"o{name} = 0" for name in names)
    return f"""{prologue(kernel.dtype)}
{tables.definition()}
{function}
extern "C" __global__ void __launch_bounds__({THREADS}) strided({", ".join(parameters)}) {{
{fill(tables)}
  unsigned left = blockIdx.x * {THREADS}u + threadIdx.x;
  if (left >= n) return;
  long long {offsets};
{walk}
{_scalar_code(kernel, lambda name: f"o{name}", "  ")}
}}
"""
