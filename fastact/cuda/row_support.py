"""sparsemax and entmax15 on a GPU: the search for the support as CUDA C, with a row in the registers of its threads.

The mathematics is in `fastact.kernels.sparse`. All threads of a row fold its entries and hold the same sums, so they
go through the search together.
"""

from __future__ import annotations

from math import inf
from typing import Any

from ..graph.trace import Value
from ..kernels.language import select
from ..kernels.pairs import two_diff
from ..kernels.rows import RowFunction
from ..kernels.sparse import CLOSE, REACH, ROUNDING, Projection, State, add, larger
from .row_writer import Writer


def row_function(projection: Projection) -> RowFunction:
    """A projection as a row function with one pass, which leaves what its results follow from."""

    def write(row: State, values: State, position: Any, done: State) -> State:
        smallest, below, below_low, otherwise = done
        w, w_low = two_diff(row[0], smallest)
        return (select(row[0] >= smallest, projection.write(w, w_low, below, below_low), otherwise),)

    return RowFunction(
        name=projection.name,
        signature="(n)->(n)",
        rows=(-inf,),
        passes=(projection,),  # type: ignore[arg-type]
        finish=lambda values, known: known[0],
        write=write,
        refuses_empty=True,
    )


def _smaller(a: State, b: State) -> State:
    return (select(b[0] < a[0], b[0], a[0]),)


def _flag(mask: Value, like: Value) -> Value:
    return like.select(mask, 1.0, 0.0)


def _step(writer: Writer, projection: Projection) -> None:
    """The functions of a step of Newton's method in plain arithmetic, on entries less `top`."""
    zeros = projection.zeros

    def step(v: list[Value]) -> State:
        *sums, low, x, top, tau = v
        above = (x - top) - tau
        inside = above > 0.0
        found = projection.sums(tuple(sums), select(inside, above, 0.0), select(inside, x.const(1.0), 0.0))
        return (*found, select(inside & (x < low), x, low))

    def advance(v: list[Value]) -> State:
        *sums, low, top, tau, relative = v
        z = low - top
        out, gain = projection.advance(tuple(sums), z - tau, relative)
        following = tau + gain
        # the smallest entry is out: at the least, tau moves up to it
        return select(out, select(following > z, following, z), tau), _flag(out, tau)

    writer.traced("search_step", step, ["float"] * (zeros + 4))
    writer.traced("search_advance", advance, ["float"] * (zeros + 4))


def _last(writer: Writer, projection: Projection) -> None:
    """The functions of the exact sums, and of the next entry should the smallest be none of the support."""
    zeros = projection.exact_zeros

    def step(v: list[Value]) -> State:
        *sums, x, least = v
        w, w_low = two_diff(x, least)
        inside = x >= least
        return projection.exact(tuple(sums), *(select(inside, part, 0.0) for part in (w, w_low, x.const(1.0))))

    def settle(v: list[Value]) -> State:
        left, below, below_low, up = projection.settle(tuple(v))
        return below, below_low, up * CLOSE, _flag(left < 0.0, left)

    def following(v: list[Value]) -> State:
        low, x, least, bound = v
        return (select(((x - least) > bound) & (x < low), x, low),)

    writer.traced("exact_step", step, ["float"] * (zeros + 2))
    writer.traced("exact_settle", settle, ["float"] * zeros)
    writer.traced("next_step", following, ["float"] * 4)


def support(writer: Writer, projection: Projection) -> list[str]:
    """The lines that find the smallest entry of the support and how far tau is below it; what they leave is known."""
    real, kept = writer.real, writer.how.kept
    found = ["smallest", "below", "below_low", "otherwise"]
    _step(writer, projection)
    _last(writer, projection)
    writer.traced("top_step", lambda v: larger((v[0],), (v[1],)), ["float"] * 2, True)
    search = [f"t{k}" for k in range(projection.zeros)] + ["low"]
    exact = [f"u{k}" for k in range(projection.exact_zeros)]

    def call(name: str, *arguments: str) -> str:
        return f"{name}({', '.join(['table', *arguments])});"

    lines = writer.folded("_top", ["top"], [-inf], call("top_step", "top", "c0[e]", "top"), larger)
    # what bounds the relative error of a sum: a thread's own entries and the merges, four units of rounding for each
    chain = f"{kept}" if kept else f"n / {writer.how.threads}"
    lines += [
        f"const {real} relative = ({real})({chain} + 64) * {writer.constant(4 * ROUNDING[writer.width])};",
        f"{real} tau = {writer.constant(-projection.reach * REACH)}, bound, again;",
        f"{real} smallest = {writer.constant(float('nan'))}, below = 0, below_low = 0, otherwise = 0;",
        "if (!(top - top == 0)) otherwise = smallest;",  # NaN or an infinity, or -inf alone
        "else {",
        "  do {",
    ]
    lines += writer.folded(
        "_search",
        search,
        [0.0] * projection.zeros + [inf],
        call("search_step", *search, "c0[e]", "top", "tau", *search),
        lambda a, b: (*add(a[:-1], b[:-1]), *_smaller(a[-1:], b[-1:])),
        again=True,
    )
    lines += [
        call("search_advance", *search, "top", "tau", "relative", "tau", "again"),
        "smallest = low;",
        "  } while (again != 0);",
        "  do {",
    ]
    lines += writer.folded(
        "_exact",
        exact,
        [0.0] * len(exact),
        call("exact_step", *exact, "c0[e]", "smallest", *exact),
        projection.merge_exact,
        again=True,
    )
    lines += [call("exact_settle", *exact, "below", "below_low", "bound", "again"), "if (again != 0) {"]
    lines += writer.folded(
        "_next", ["next"], [inf], call("next_step", "next", "c0[e]", "smallest", "bound", "next"), _smaller, again=True
    )
    lines += ["smallest = next;", "}", "  } while (again != 0);", "}"]
    writer.known += found
    writer.sizes.append(len(found))
    return lines
