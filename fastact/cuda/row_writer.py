"""The parts of a row kernel as CUDA C: how a row is shared by threads, its elements, folds over them, what is written.

Each thread folds its elements in order, then the threads' states are merged in pairs, always the one of the lower
thread first. So the order of all operations follows from the length of the row and the dtype alone, and a row has the
same bits in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from ..graph.evaluate import as_bits
from ..graph.trace import Graph, Value, trace_with
from ..kernels.language import fabs, select
from ..kernels.row_sums import join_exp, larger
from ..kernels.rows import OTHERS, SHIFT, RowFunction
from ..kernels.sparse import Projection
from .source import FLOAT_NAMES, INT_NAMES, ROUNDED, Tables, device_function, literal
from .templates import ITEMSIZE


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
        """Rows of one block; those of more than a warp have one of their own, for they wait for all its threads."""
        return 128 // self.threads if self.threads <= 32 else 1

    @property
    def block(self) -> int:
        return self.rows * self.threads


# The shortest rows first. The more elements a thread has, the less each takes of what is done once a row and of joining
# threads; eight threads read 128 bytes at a time, which is what a GPU's caches are made of.
_SHARES = ((8, 4), (8, 8), (8, 16), (8, 32), (16, 32), (32, 32), (64, 32), (128, 32), (256, 32), (512, 32))
# Of two arrays, and of float64, as many elements take twice the registers.
_OF_LARGE = ((8, 4), (8, 8), (8, 16), (16, 16), (32, 16), (32, 32), (128, 16), (256, 16), (512, 16), (512, 32))
_ENDLESS = 512

# Ways to join two states that give the same bits in either order: sums, and two_sum of what does not overflow, whose
# error is exact. (-0 and 0 are equally large, and which of them is found shows in no result.)
_SYMMETRIC = frozenset({larger, join_exp, OTHERS.join})


def share(function: RowFunction, length: int, dtype: str, vector: bool = True) -> Share:
    """How rows of a length are shared."""
    least = 16 // ITEMSIZE[dtype]
    # Threads that search go round as often as their own row needs, and keep more than the row.
    searches = any(isinstance(pass_, Projection) for pass_ in function.passes)
    fewest = 32 if searches else 8
    large = searches or len(function.rows) > 1 or dtype == "float64"
    for threads, kept in _OF_LARGE if large else _SHARES:
        found = Share(max(threads, fewest), max(kept, least), vector)
        if length <= found.threads * found.kept:
            return found
    return Share(_ENDLESS, 0, vector)


def _is_maximum(graph: Graph) -> bool:
    """Whether the first output is what `larger` makes of the operand before, which is never NaN, and another."""
    found = graph.nodes[graph.outputs[0]]
    if found.op != "select":
        return False
    mask, (_, *chosen) = graph.nodes[found.operands[0]], found.operands
    return mask.op == "gt" and list(mask.operands) == chosen


class Writer:
    """What the parts of one kernel have in common."""

    def __init__(self, function: RowFunction, dtype: str, how: Share, ways: str) -> None:
        self.function, self.dtype, self.how, self.ways = function, dtype, how, ways
        self.keeps_term = function.term is not None and function.write is not None and how.kept > 0
        self.width = 64 if dtype == "float64" else 32
        self.real, self.integer = FLOAT_NAMES[self.width], INT_NAMES[self.width]
        self.tables = Tables(self.width)
        self.vector = 16 // ITEMSIZE[dtype]
        self.functions: list[str] = []
        self.values = [f"v{k}" for k in range(len(function.values))]
        self.value_kinds = ["int" if kind == "index" else "float" for kind in function.values]
        if function.pick:
            self.values.append("picked")
            self.value_kinds.append("float")
        if function.length:
            self.values.append(f"({self.integer})n")
            self.value_kinds.append("int")
        # a class that is made a distribution of zeros, which is not enough if there is no number among the logits
        self.ignores = any(way in "il" for way in ways[: len(function.rows)])
        # whether rows are told apart in which nothing is taken from entries and no exponential is 0, by what `MAXIMUM`
        # leaves: that is the first pass of functions that shift entries so
        self.tells = function.zero == SHIFT and how.kept > 0 and len(function.rows) == 1
        self.known: list[str] = []  # the variables of the states of the passes so far
        self.sizes: list[int] = []

    def traced(self, name: str, call: Callable[[list[Value]], Any], kinds: Sequence[str], maximum: bool = False) -> int:
        """Write the device function `name`; the number of its results. Is its first one a `maximum` so far?"""
        graph = trace_with(call, kinds, self.width, functions=True)
        cheap = {graph.outputs[0]: "larger"} if maximum and self.width == 32 and _is_maximum(graph) else {}
        self.functions.append(device_function(name, graph, self.tables, cheap))
        return len(graph.outputs)

    def split_known(self, lanes: Sequence[Value]) -> tuple[tuple[Value, ...], ...]:
        found, start = [], 0
        for size in self.sizes:
            found.append(tuple(lanes[start : start + size]))
            start += size
        return tuple(found)

    def operation(self, name: str) -> str:
        """The intrinsic of a rounded operation."""
        return ROUNDED[name, self.width]

    def constant(self, value: float) -> str:
        return literal("float", self.width, as_bits(value, "float", self.width))

    # -- a chunk: the elements one 16-byte load brings ---------------------------------------------------------------

    def load(self, place: Callable[[int], str]) -> list[str]:
        """Load the chunk at `start` into the arrays `place(operand)`, padded."""
        lines = []
        for k, padding in enumerate(self.function.rows):
            to, way = place(k), self.ways[k]
            if self.how.vector and way == "a":
                lines += [
                    f"if (start < n) unpack16(*(const uint4 *)(x{k} + start), {to});",
                    "else {",
                    "#pragma unroll",
                    f"  for (int e = 0; e < {self.vector}; e++) {to}[e] = {self.constant(padding)};",
                    "}",
                ]
                continue
            at = f"x{k}[(start + e) * e_x{k}]"
            element = {"a": f"widen({at})", "m": f"({self.real})({at} != 0)", "q": f"smoothed(widen({at}), start + e)"}
            lines += [
                "#pragma unroll",
                f"for (int e = 0; e < {self.vector}; e++)",
                f"  {to}[e] = start + e < n ? {element.get(way, 'of_class(start + e)')} : {self.constant(padding)};",
            ]
        return lines

    def chunks(self, body: Sequence[str], load: bool = False, reread: bool = False) -> list[str]:
        """`body` for every chunk of this thread, with `start` and the elements in `c0`, `c1` ...

        They are in registers, or are read: then, too, if `reread` is asked for.
        """
        rows = range(len(self.function.rows))
        threads, vector = self.how.threads, self.vector
        if self.how.kept and not reread:
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
        """One pass: fold this thread's elements, then all threads'.

        Whether one with `when` is done is the same for all threads of a warp, and of a row.
        """
        pass_ = self.function.passes[number]
        size, rows, values = len(pass_.initial), len(self.function.rows), len(self.values)
        last = pass_ is self.function.last

        def stepped(v: list[Value], usual: bool = False) -> tuple[Value, ...]:
            known: tuple[tuple[Any, ...], ...] = self.split_known(v[size + rows + values + 1 :])
            if usual:
                _, k, _, *more = known[0]
                known = ((None, k, None, *more), *known[1:])
            row, numbers = tuple(v[size : size + rows]), tuple(v[size + rows : size + rows + values])
            position = v[size + rows + values]
            term = self.function.term(row, numbers, position, known) if last and self.function.term else ()
            state = pass_.step(tuple(v[:size]), (*row, *term), numbers, position, known)
            return (*state, term[0]) if last and self.keeps_term else tuple(state)

        state = [f"s{number}_{k}" for k in range(size)]
        kinds = ["float"] * (size + rows) + self.value_kinds + ["int"] + ["float"] * len(self.known)
        self.traced(f"step{number}", stepped, kinds, pass_.merge is larger)
        # a thread's elements are a block of their own, so states are settled before they are joined
        self.traced(f"settle{number}", lambda v: tuple(pass_.settle(tuple(v))), ["float"] * size)
        elements = [f"c{k}[e]" for k in range(rows)]
        rest = [*self.values, f"({self.integer})(start + e)", *self.known]
        call = ["table", *state, *elements, *rest, *state]
        if last and self.keeps_term:
            call.append("term[e]")
        step, usual = f"step{number}({', '.join(call)});", ""
        if self.tells and number == 0:  # the least entry is less the largest of those negated
            step = f"{{ {step} step{number}({', '.join(['table', 'least', '-c0[e]', *rest, 'least'])}); }}"
        elif self.tells and last:
            usual = f"usual_{step}"
            self.traced(f"usual_step{number}", lambda v: stepped(v, True), kinds)
        lines = self.folded(
            str(number),
            state,
            pass_.initial,
            step,
            pass_.join or pass_.merge,
            f"settle{number}({', '.join(['table', *state, *state])});",
            reread=pass_.when is not None,  # registers are not kept full for what happens seldom
            usual=usual,
        )
        count = self.traced(
            f"result{number}",
            lambda v: tuple(
                pass_.result(tuple(v[:size]), tuple(v[size : size + values]), self.split_known(v[size + values :]))
            ),
            ["float"] * size + self.value_kinds + ["float"] * len(self.known),
        )
        found = [f"k{number}_{k}" for k in range(count)]
        lines.append(f"result{number}({', '.join(['table', *state, *self.values, *self.known, *found])});")
        if pass_.when is not None:
            lines = self.if_wanted(number, pass_.when, found, lines)
        lines.insert(0, f"{self.real} {', '.join(found)};")
        if self.tells and number == 0:
            lines.insert(0, f"{self.real} least = {self.constant(-inf)};")
        self.known += found
        self.sizes.append(count)
        return [*lines, *self.told()] if self.tells and number == 0 else lines

    def told(self) -> list[str]:
        """Whether all rows of this warp are usual."""

        def usual(v: list[Value]) -> Any:
            (shift, _, bottom, _, largest), least = v[:5], -v[-1]
            found = (shift == 0.0) & (least > bottom) & (fabs(largest) < inf)
            return select(found, least.const(0.0), 1.0)

        self.traced("usual", usual, ["float"] * (len(self.known) + 1))
        return [
            f"{self.real} unusual;",
            f"usual({', '.join(['table', *self.known, 'least', 'unusual'])});",
            "const bool all_usual = !__any_sync(0xffffffffu, unusual != 0);",
        ]

    def if_wanted(self, number: int, when: Callable[..., Any], found: Sequence[str], lines: Sequence[str]) -> list[str]:
        """The `lines` of a second attempt, in an if; else `found` is what the attempt before has found.

        All threads of a warp shuffle together: if it has several rows, they make the attempt if one of them wants it.
        """
        values = len(self.values)

        def wanted(v: list[Value]) -> Any:
            mask = when(tuple(v[:values]), self.split_known(v[values:]))
            return select(mask, v[0].const(1.0, "float"), 0.0)

        self.traced(f"when{number}", wanted, self.value_kinds + ["float"] * len(self.known))
        before = " ".join(f"{new} = {old};" for new, old in zip(found, self.known[-len(found) :], strict=True))
        several = self.how.threads < 32
        return [
            f"{self.real} w{number};",
            f"when{number}({', '.join(['table', *self.values, *self.known, f'w{number}'])});",
            before,
            *([f"const bool own{number} = w{number} != 0;"] if several else []),
            *([f"w{number} = __any_sync(0xffffffffu, own{number});"] if several else []),
            f"if (w{number} != 0) {{",
            *(f"  {line}" for line in lines),
            *([f"  if (!own{number}) {{ {before} }}"] if several else []),
            "}",
        ]

    def folded(
        self,
        label: str,
        state: Sequence[str],
        initial: Sequence[float],
        step: str,
        join: Callable[[Any, Any], Any],
        settle: str = "",
        again: bool = False,
        reread: bool = False,
        usual: str = "",
    ) -> list[str]:
        """Declare `state` and fold the row into it: a thread's elements by the C statement `step`, then all threads'.

        `again`: the lines may be run several times. `reread`: the row is not taken from registers. `usual`: what `step`
        is in rows that are.
        """
        size = len(state)
        self.traced(
            f"merge{label}",
            lambda v: tuple(join(tuple(v[:size]), tuple(v[size:]))),
            ["float"] * 2 * size,
            join is larger,
        )
        first = ", ".join(f"{s} = {self.constant(v)}" for s, v in zip(state, initial, strict=True))

        def elements(step: str) -> list[str]:
            body = ["if (start < n) {", "#pragma unroll", f"  for (int e = 0; e < {self.vector}; e++) {step}", "}"]
            return self.chunks(body, reread=reread)

        lines = [f"{self.real} {first};"]
        if usual:
            lines += ["if (all_usual) {", *elements(usual), "} else {", *elements(step), "}"]
        else:
            lines += elements(step)
        lines += [settle] if settle else []
        symmetric = join in _SYMMETRIC
        lines += self.merged(label, state, min(self.how.threads, 32), symmetric)
        if self.how.threads > 32:
            warps = self.how.threads // 32
            kept = " ".join(f"room{label}[{k}][lane / 32] = {s};" for k, s in enumerate(state))
            lines += [
                f"__shared__ {self.real} room{label}[{size}][{warps}];",
                *(["__syncthreads();"] if again else []),  # all have read what was there before
                f"if ((lane & 31) == 0) {{ {kept} }}",
                "__syncthreads();",
                *(f"{s} = room{label}[{k}][lane & {warps - 1}];" for k, s in enumerate(state)),
                *self.merged(label, state, warps, symmetric),
            ]
        return lines

    def merged(self, label: str, state: Sequence[str], threads: int, symmetric: bool = False) -> list[str]:
        """Merge the states of neighbouring threads until all of `threads` have the same."""
        others = [f"o{k}" for k in range(len(state))]
        low, high = list(state), others
        if not symmetric:
            low = [f"upper ? {o} : {s}" for o, s in zip(others, state, strict=True)]
            high = [f"upper ? {s} : {o}" for o, s in zip(others, state, strict=True)]
        lines = ["#pragma unroll", f"for (int distance = 1; distance < {threads}; distance *= 2) {{"]
        lines += [
            f"  const {self.real} {o} = __shfl_xor_sync(0xffffffffu, {s}, distance);"
            for o, s in zip(others, state, strict=True)
        ]
        lines += [] if symmetric else ["  const bool upper = lane & distance;"]
        lines += [f"  merge{label}({', '.join(['table', *low, *high, *state])});", "}"]
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
                *([f"  if (ignore) for (int e = 0; e < {self.vector}; e++) w[e] = 0;"] if self.ignores else []),
                *stores,
                "}",
            ]
        )
