"""From a `RowFunction` to CUDA C: a row stays in the registers of a part of a warp, or of a block if it is long."""

from __future__ import annotations

from ..kernels.rows import RowFunction
from ..kernels.sparse import Projection
from .row_support import support
from .row_writer import Share, Writer, share
from .templates import ITEMSIZE, MAX_DIMS, fill, prologue

__all__ = ["Share", "is_loss", "operands", "row_kernel", "share", "usual_ways"]

# How the operands of a row function reach its kernel is said by `ways`, a letter each, rows first:
#   a  an array of the kernel's dtype: an element an entry of the row, or one a row
#   n  the same, negated
#   m  an array of bool
#   s  a number that is an argument of the kernel
#   c  counted: an argument, more by the stride from one row to the next
#   i, l  an array of classes, int32 or int64; as a row, the distribution that has all its weight there
#   q  an array of distributions
#   w  the weight of the class
# The last four belong to losses, whose kernels have more arguments: `_LOSS`.

_LOSS = (
    "const {item} *weights",  # of the classes, or null
    "long long e_weights",
    "long long ignoring",  # whether there is a class to be ignored
    "long long ignored",
    "{real} kept",  # what distributions are multiplied by, and what is added: smoothing
    "{real} spread",
    "{real} at_class",  # the smoothed distribution that has all its weight at one class, there
)

# Anything but a class or the one that is ignored makes the row NaN: a kernel cannot raise an error.
_CLASS = """
  const long long given = *{pointer};
  const bool ignore = ignoring && given == ignored, wrong = !ignore && (given < 0 || given >= n);
  const long long target = ignore || wrong ? 0 : given;
"""

_DISTRIBUTION = """
  const auto rounded = [](real v) { return widen(narrow(v)); };
  const auto weighted = [&](real q, long long at) {
    return weights ? rounded(multiply(q, widen(weights[at * e_weights]))) : q;
  };
"""

_SMOOTHED = """
  const auto smoothed = [&](real q, long long at) {
    if (kept != 1 || spread != 0) q = rounded(add(multiply(q, kept), spread));
    return weighted(q, at);
  };
"""

_OF_CLASS = """
  const auto of_class = [&](long long at) {
    const real q = ignore ? 0 : wrong ? NOT_A_NUMBER : rounded(at == target ? at_class : spread);
    return weighted(q, at);
  };
"""


def usual_ways(function: RowFunction) -> str:
    """Nothing but arrays."""
    return "a" * len(function.rows) + "".join("l" if kind == "index" else "a" for kind in function.values)


def is_loss(ways: str) -> bool:
    return any(way in ways for way in "ilqw")


def operands(function: RowFunction, ways: str | None = None) -> list[str]:
    """The operands that have strides, in order: rows, numbers, results that are numbers, the row written."""
    ways = ways or usual_ways(function)
    names = [f"x{k}" for k in range(len(function.rows))] + [f"v{k}" for k in range(len(function.values))]
    names = [name for name, way in zip(names, ways, strict=True) if way not in "sw"]
    names += [f"r{k}" for k in range(function.results)]
    return names + (["y"] if function.write is not None else [])


def _numbers(writer: Writer) -> list[str]:
    """The lines that read the numbers of a row, as v0, v1 ... and `picked`."""
    lines, real, integer = [], writer.real, writer.integer
    rows = len(writer.function.rows)
    for k, way in enumerate(writer.ways[:rows]):
        if way in "il":
            lines += [_CLASS.format(pointer=f"x{k}"), _DISTRIBUTION, _OF_CLASS]
        elif way == "q":
            lines += [_DISTRIBUTION, _SMOOTHED]
    for k, way in enumerate(writer.ways[rows:]):
        if way in "an":
            lines.append(f"  const {real} v{k} = {'-' if way == 'n' else ''}widen(*q_v{k});")
        elif way == "c":
            lines.append(f"  const {integer} v{k} = ({integer})(p_v{k} + o_v{k} < n ? p_v{k} + o_v{k} : n);")
        elif way in "il":
            lines += [_CLASS.format(pointer=f"q_v{k}"), f"  const {integer} v{k} = ({integer})target;"]
        elif way == "w":
            weight = "weights ? widen(weights[target * e_weights]) : 1"
            lines.append(f"  const {real} v{k} = ignore ? 0 : wrong ? NOT_A_NUMBER : {weight};")
    if writer.function.pick:
        lines.append(f"  const {real} picked = widen(x0[v0 * e_x0]);")
    return lines


def _parameters(writer: Writer, names: list[str], item: str) -> list[str]:
    function, ways = writer.function, writer.ways
    labels = [f"x{k}" for k in range(len(function.rows))] + [f"v{k}" for k in range(len(function.values))]
    way_of = dict(zip(labels, ways, strict=True))
    types = {"i": "const int *", "l": "const long long *", "m": "const unsigned char *", "c": "long long "}
    parameters = [
        f"{types.get(way_of[name], f'const {item} *') if name in way_of else f'{item} *'}p_{name}" for name in names
    ]
    parameters += [f"{writer.real} {name}" for name, way in way_of.items() if way == "s"]
    parameters += ["long long rows", "long long n", "long long dims", *(f"long long s{d}" for d in range(MAX_DIMS))]
    parameters += [f"long long {name}_{d}" for name in names for d in range(MAX_DIMS)]
    parameters += [f"long long e_{name}" for name in names if name[0] in "xy"]
    if is_loss(ways):
        parameters += [p.format(item=item, real=writer.real) for p in _LOSS]
    return parameters


def row_kernel(function: RowFunction, dtype: str, how: Share, ways: str | None = None) -> str:
    """The CUDA C of a row function.

    Arguments: pointers, numbers, the number of rows (below 2^31), their length, the dimensions over rows with their
    sizes and the strides of every operand, the fastest first, then the strides within rows, and what a loss has more.
    """
    ways = ways or usual_ways(function)
    writer = Writer(function, dtype, how, ways)
    item = {8: "double", 4: "float", 2: "half_bits"}[ITEMSIZE[dtype]]
    names = operands(function, ways)
    parameters = _parameters(writer, names, item)

    body: list[str] = []
    if how.kept:
        body += [f"{writer.real} {', '.join(f'a{k}[{how.kept}]' for k in range(len(function.rows)))};"]
        body += [f"{writer.real} terms[{how.kept}];"] if writer.keeps_term else []
        body += writer.chunks([], load=True)
    for number, pass_ in enumerate(function.passes):
        body += support(writer, pass_) if isinstance(pass_, Projection) else writer.reduction(number)
    lines, done = writer.finish()
    body += lines
    if function.results:
        results = [f"ignore ? 0 : {v}" if writer.ignores else v for v in done]
        stores = " ".join(f"*r{k} = narrow({results[k]});" for k in range(function.results))
        body.append(f"if (lane == 0) {{ {stores} }}")
    body += writer.write(done)

    steps = "\n".join(
        f"  if (dims > {d}) {{ const unsigned next = left / (unsigned)s{d}, at = left - next * (unsigned)s{d}; "
        + "left = next; "
        + " ".join(f"o_{name} += (long long)at * {name}_{d};" for name in names)
        + " }"
        for d in range(MAX_DIMS)
    )
    one = " ".join(f"o_{name} = (long long)left * {name}_0;" for name in names)  # without a division
    counted = [f"v{k}" for k, way in enumerate(ways[len(function.rows) :]) if way == "c"]
    pointers = "\n".join(
        f"  auto *{name if name[0] != 'v' else 'q_' + name} = p_{name} + o_{name};"
        for name in names
        if name not in counted
    )
    return f"""{prologue(dtype)}
typedef {writer.real} real;
#define NOT_A_NUMBER {writer.constant(float("nan"))}
static __device__ __forceinline__ real multiply(real a, real b) {{ return {writer.operation("mul")}(a, b); }}
static __device__ __forceinline__ real add(real a, real b) {{ return {writer.operation("add")}(a, b); }}
{writer.tables.definition()}
{"".join(writer.functions)}
extern "C" __global__ void __launch_bounds__({how.block}) rows({", ".join(parameters)}) {{
{fill(writer.tables)}
  const int lane = threadIdx.x % {how.threads};
  unsigned left = blockIdx.x * {how.rows}u + threadIdx.x / {how.threads}u;
  if (left >= rows) return;
  long long {", ".join(f"o_{name} = 0" for name in names)};
  if (dims == 1) {{ {one} }} else {{
{steps}
  }}
{pointers}
{chr(10).join(_numbers(writer))}
{chr(10).join("  " + line for line in body)}
}}
"""
