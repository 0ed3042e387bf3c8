"""From a `RowFunction` to CUDA C: a row is shared by a warp, or by a block if it is long, and stays in registers.

Each thread folds its elements in order, then the threads' states are merged in pairs, always the one of the lower
thread first. So the order of all operations follows from the length of the row and the dtype alone, and a row has the
same bits in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..kernels.rows import RowFunction
from .evaluate import as_bits
from .source import FLOAT_NAMES, INT_NAMES, Tables, device_function, literal
from .templates import ITEMSIZE, MAX_DIMS, fill, prologue
from .trace import Value, trace_with


@dataclass(frozen=True)
class Share:
    """How a row is shared: by how many threads, how many elements each keeps (0: too many, they are read again).

    `vector` says that all rows begin at multiples of 16 bytes and consist of such: they are read and written that way.
    """

    threads: int
    kept: int
    vector: bool = True

    @property
    def label(self) -> str:
        return f"{self.threads}x{self.kept}{'' if self.vector else '-any'}"

    @property
    def rows(self) -> int:
        """Rows of one block."""
        return max(1, 128 // self.threads)

    @property
    def block(self) -> int:
        return self.rows * self.threads


# Beyond a warp's 1024 elements: what a block keeps in registers.
_LONG = (Share(128, 16), Share(256, 16), Share(512, 16), Share(512, 32))
_ENDLESS = 512


def share(length: int, dtype: str, vector: bool = True) -> Share:
    """How rows of a length are shared."""
    return replace(_share(length, dtype), vector=vector)


def _share(length: int, dtype: str) -> Share:
    least = 16 // ITEMSIZE[dtype]
    kept = least
    while kept < 32:
        if length <= 32 * kept:
            return Share(32, kept)
        kept *= 2
    if length <= 32 * kept:
        return Share(32, kept)
    for found in _LONG:
        if length <= found.threads * found.kept:
            return found
    return Share(_ENDLESS, 0)


class _Writer:
    """What the parts of one kernel have in common."""

    def __init__(self, function: RowFunction, dtype: str, how: Share) -> None:
        self.function, self.dtype, self.how = function, dtype, how
        self.keeps_term = function.term is not None and function.write is not None and how.kept > 0
        self.width = 64 if dtype == "float64" else 32
        self.real, self.integer = FLOAT_NAMES[self.width], INT_NAMES[self.width]
        self.tables = Tables(self.width)
        self.vector = 16 // ITEMSIZE[dtype]
        self.functions: list[str] = []
        self.values = [f"v{k}" for k in range(len(function.values))]
        self.value_kinds = ["int" if kind == "index" else "float" for kind in function.values]
        if function.length:
            self.values.append(f"({self.integer})n")
            self.value_kinds.append("int")
        self.known: list[str] = []  # the variables of the states of the passes so far
        self.sizes: list[int] = []

    def traced(self, name: str, call: Callable[[list[Value]], Any], kinds: Sequence[str]) -> int:
        """Write the device function `name`; the number of its results."""
        graph = trace_with(call, kinds, self.width)
        self.functions.append(device_function(name, graph, self.tables))
        return len(graph.outputs)

    def split_known(self, lanes: Sequence[Value]) -> tuple[tuple[Value, ...], ...]:
        found, start = [], 0
        for size in self.sizes:
            found.append(tuple(lanes[start : start + size]))
            start += size
        return tuple(found)

    def constant(self, value: float) -> str:
        return literal("float", self.width, as_bits(value, "float", self.width))

    # -- a chunk: the elements one 16-byte load brings ---------------------------------------------------------------

    def load(self, place: Callable[[int], str]) -> list[str]:
        """Load the chunk at `start` into the arrays `place(operand)`, padded."""
        lines = []
        for k, padding in enumerate(self.function.rows):
            to = place(k)
            if self.how.vector:
                lines += [
                    f"if (start < n) unpack16(*(const uint4 *)(x{k} + start), {to});",
                    "else {",
                    "#pragma unroll",
                    f"  for (int e = 0; e < {self.vector}; e++) {to}[e] = {self.constant(padding)};",
                    "}",
                ]
                continue
            lines += [
                "#pragma unroll",
                f"for (int e = 0; e < {self.vector}; e++)",
                f"  {to}[e] = start + e < n ? widen(x{k}[(start + e) * e_x{k}]) : {self.constant(padding)};",
            ]
        return lines

    def chunks(self, body: Sequence[str], load: bool = False) -> list[str]:
        """`body` for every chunk of this thread, with `start` and the elements in `c0`, `c1` ..."""
        rows = range(len(self.function.rows))
        threads, vector = self.how.threads, self.vector
        if self.how.kept:
            count = self.how.kept // vector
            lines = ["#pragma unroll", f"for (int c = 0; c < {count}; c++) {{"]
            lines += [f"  const long long start = (long long)(c * {threads} + lane) * {vector};"]
            lines += [f"  {self.real} *c{k} = a{k} + c * {vector};" for k in rows]
            if self.keeps_term and not load:
                lines += [f"  {self.real} *term = terms + c * {vector};"]
            lines += [f"  {line}" for line in self.load(lambda k: f"c{k}")] if load else []
        else:
            lines = ["#pragma unroll 1"]
            lines += [f"for (long long start = (long long)lane * {vector}; start < n; start += {threads * vector}) {{"]
            lines += [f"  {self.real} c{k}[{vector}];" for k in rows]
            lines += [f"  {line}" for line in self.load(lambda k: f"c{k}")]
        return [*lines, *(f"  {line}" for line in body), "}"]

    # -- the parts of the kernel -------------------------------------------------------------------------------------

    def reduction(self, number: int) -> list[str]:
        """One pass: fold this thread's elements, then all threads'."""
        pass_ = self.function.passes[number]
        size, rows, values = len(pass_.initial), len(self.function.rows), len(self.values)
        last = number == len(self.function.passes) - 1

        def stepped(v: list[Value]) -> tuple[Value, ...]:
            known = self.split_known(v[size + rows + values + 1 :])
            row, numbers = tuple(v[size : size + rows]), tuple(v[size + rows : size + rows + values])
            position = v[size + rows + values]
            term = self.function.term(row, numbers, position, known) if last and self.function.term else ()
            state = pass_.step(tuple(v[:size]), (*row, *term), numbers, position, known)
            return (*state, term[0]) if last and self.keeps_term else tuple(state)

        state = [f"s{number}_{k}" for k in range(size)]
        self.traced(
            f"step{number}",
            stepped,
            ["float"] * (size + rows) + self.value_kinds + ["int"] + ["float"] * len(self.known),
        )
        # a thread's elements are a block of their own, so states are settled before they are joined
        self.traced(f"settle{number}", lambda v: tuple(pass_.settle(tuple(v))), ["float"] * size)
        join = pass_.join or pass_.merge
        self.traced(f"merge{number}", lambda v: join(tuple(v[:size]), tuple(v[size:])), ["float"] * 2 * size)
        initial = ", ".join(f"{s} = {self.constant(v)}" for s, v in zip(state, pass_.initial, strict=True))
        lines = [f"{self.real} {initial};"]
        elements = [f"c{k}[e]" for k in range(rows)]
        call = ["table", *state, *elements, *self.values, f"({self.integer})(start + e)", *self.known, *state]
        if last and self.keeps_term:
            call.append("term[e]")
        step = f"step{number}({', '.join(call)});"
        lines += self.chunks(
            ["if (start < n) {", "#pragma unroll", f"  for (int e = 0; e < {self.vector}; e++) {step}", "}"]
        )
        lines.append(f"settle{number}({', '.join(['table', *state, *state])});")
        lines += self.merged(number, state, min(self.how.threads, 32))
        if self.how.threads > 32:
            warps = self.how.threads // 32
            kept = " ".join(f"room{number}[{k}][lane / 32] = {s};" for k, s in enumerate(state))
            lines += [
                f"__shared__ {self.real} room{number}[{size}][{warps}];",
                f"if ((lane & 31) == 0) {{ {kept} }}",
                "__syncthreads();",
                *(f"{s} = room{number}[{k}][lane & {warps - 1}];" for k, s in enumerate(state)),
                *self.merged(number, state, warps),
            ]
        count = self.traced(
            f"result{number}",
            lambda v: tuple(
                pass_.result(tuple(v[:size]), tuple(v[size : size + values]), self.split_known(v[size + values :]))
            ),
            ["float"] * size + self.value_kinds + ["float"] * len(self.known),
        )
        found = [f"k{number}_{k}" for k in range(count)]
        lines += [
            f"{self.real} {', '.join(found)};",
            f"result{number}({', '.join(['table', *state, *self.values, *self.known, *found])});",
        ]
        self.known += found
        self.sizes.append(count)
        return lines

    def merged(self, number: int, state: Sequence[str], threads: int) -> list[str]:
        """Merge the states of neighbouring threads until all of `threads` have the same."""
        others = [f"o{k}" for k in range(len(state))]
        low = [f"upper ? {o} : {s}" for o, s in zip(others, state, strict=True)]
        high = [f"upper ? {s} : {o}" for o, s in zip(others, state, strict=True)]
        lines = ["#pragma unroll", f"for (int distance = 1; distance < {threads}; distance *= 2) {{"]
        lines += [
            f"  const {self.real} {o} = __shfl_xor_sync(0xffffffffu, {s}, distance);"
            for o, s in zip(others, state, strict=True)
        ]
        lines += ["  const bool upper = lane & distance;"]
        lines += [f"  merge{number}({', '.join(['table', *low, *high, *state])});", "}"]
        return lines

    def finish(self) -> tuple[list[str], list[str]]:
        """What is computed once a row: the lines, and the variables."""
        values = len(self.values)
        kinds = self.value_kinds + ["float"] * len(self.known)
        count = self.traced(
            "finish", lambda v: tuple(self.function.finish(tuple(v[:values]), self.split_known(v[values:]))), kinds
        )
        done = [f"f{k}" for k in range(count)]
        if not done:
            return [], []
        call = ", ".join(["table", *self.values, *self.known, *done])
        return [f"{self.real} {', '.join(done)};", f"finish({call});"], done

    def write(self, done: Sequence[str]) -> list[str]:
        write = self.function.write
        if write is None:
            return []
        rows, values, term = len(self.function.rows), len(self.values), self.function.term
        # a term that is not kept is computed again, from what is known
        known = ["term[e]"] if self.keeps_term else self.known if term is not None else []

        def written(v: list[Value]) -> Any:
            row, numbers, position = tuple(v[:rows]), tuple(v[rows : rows + values]), v[rows + values]
            finished, rest = v[rows + values + 1 :][: len(done)], v[rows + values + 1 :][len(done) :]
            if self.keeps_term:
                row = (*row, *rest)
            elif term is not None:
                row = (*row, term(row, numbers, position, self.split_known(rest))[0])
            return write(row, numbers, position, tuple(finished))

        kinds = ["float"] * rows + self.value_kinds + ["int"] + ["float"] * (len(done) + len(known))
        self.traced("write", written, kinds)
        elements = [f"c{k}[e]" for k in range(rows)]
        call = ["table", *elements, *self.values, f"({self.integer})(start + e)", *done, *known, "w[e]"]
        stores = ["  *(uint4 *)(y + start) = pack16(w);"]
        if not self.how.vector:
            stores = [
                "#pragma unroll",
                f"  for (int e = 0; e < {self.vector}; e++)",
                "    if (start + e < n) y[(start + e) * e_y] = narrow(w[e]);",
            ]
        return self.chunks(
            [
                "if (start < n) {",
                f"  {self.real} w[{self.vector}];",
                "#pragma unroll",
                f"  for (int e = 0; e < {self.vector}; e++) write({', '.join(call)});",
                *stores,
                "}",
            ]
        )


def operands(function: RowFunction) -> list[str]:
    """The operands of the kernel in order: rows, numbers, results that are numbers, the row written."""
    names = [f"x{k}" for k in range(len(function.rows))]
    names += [f"v{k}" for k in range(len(function.values))]
    names += [f"r{k}" for k in range(function.results)]
    return names + (["y"] if function.write is not None else [])


def row_kernel(function: RowFunction, dtype: str, how: Share) -> str:
    """The CUDA C of a row function.

    Arguments: pointers, the number of rows (below 2^31), their length, the dimensions over rows with their sizes and
    the strides of every operand, the fastest first, then the strides within rows.
    """
    writer = _Writer(function, dtype, how)
    item = {8: "double", 4: "float", 2: "half_bits"}[ITEMSIZE[dtype]]
    names = operands(function)
    kinds = dict(zip(writer.values, function.values, strict=False))  # the length is no operand
    types = {name: "long long" if kinds.get(name) == "index" else item for name in names}
    parameters = [f"{'const ' if name[0] in 'xv' else ''}{types[name]} *p_{name}" for name in names]
    parameters += ["long long rows", "long long n", "long long dims", *(f"long long s{d}" for d in range(MAX_DIMS))]
    parameters += [f"long long {name}_{d}" for name in names for d in range(MAX_DIMS)]
    cores = [name for name in names if name[0] in "xy"]
    parameters += [*(f"long long e_{name}" for name in cores)]

    body: list[str] = []
    if how.kept:
        body += [f"{writer.real} {', '.join(f'a{k}[{how.kept}]' for k in range(len(function.rows)))};"]
        body += [f"{writer.real} terms[{how.kept}];"] if writer.keeps_term else []
        body += writer.chunks([], load=True)
    for number in range(len(function.passes)):
        body += writer.reduction(number)
    lines, done = writer.finish()
    body += lines
    if function.results:
        stores = " ".join(f"*r{k} = narrow({done[k]});" for k in range(function.results))
        body.append(f"if (lane == 0) {{ {stores} }}")
    body += writer.write(done)

    steps = "\n".join(
        f"  if (dims > {d}) {{ const unsigned next = left / (unsigned)s{d}, at = left - next * (unsigned)s{d}; "
        + "left = next; "
        + " ".join(f"o_{name} += (long long)at * {name}_{d};" for name in names)
        + " }"
        for d in range(MAX_DIMS)
    )
    pointers = "\n".join(
        f"  {'const ' if name[0] in 'xv' else ''}{types[name]} *{name if name[0] != 'v' else 'q_' + name} = "
        f"p_{name} + o_{name};"
        for name in names
    )
    numbers = "\n".join(
        f"  const {writer.integer} {name} = ({writer.integer})*q_{name};"
        if kind == "index"
        else f"  const {writer.real} {name} = widen(*q_{name});"
        for name, kind in kinds.items()
    )
    return f"""{prologue(dtype)}
{writer.tables.definition()}
{"".join(writer.functions)}
extern "C" __global__ void __launch_bounds__({how.block}) rows({", ".join(parameters)}) {{
{fill(writer.tables)}
  const int lane = threadIdx.x % {how.threads};
  unsigned left = blockIdx.x * {how.rows}u + threadIdx.x / {how.threads}u;
  if (left >= rows) return;
  long long {", ".join(f"o_{name} = 0" for name in names)};
{steps}
{pointers}
{numbers}
{chr(10).join("  " + line for line in body)}
}}
"""
