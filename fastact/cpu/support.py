"""The search for the support of a projection, as LLVM code.

Whether numbers are single ones or as many as there are rows side by side, and how a row is folded, is the caller's
(`fastact.cpu.selection`).
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from numba.core import cgutils

from ..kernels.language import select
from ..kernels.pairs import two_diff
from ..kernels.sparse import CLOSE, REACH, Projection, State, add
from .lanes import Lanes

# fold(initial, step, merge, keep): the state after `step(state, entries)` for all entries, which also returns which
# entries it took. With `keep`, no later fold needs to see the others.
Fold = Callable[..., State]


class Variable:
    """A number that changes in the course of the compiled code."""

    def __init__(self, value: Lanes) -> None:
        self.like = value.like
        self.builder = value.builder
        self.room = cgutils.alloca_once(value.builder, value.value.type)
        self.set(value)

    def get(self) -> Lanes:
        return self.like(self.builder.load(self.room))

    def set(self, value: Lanes) -> None:
        self.builder.store(value.value, self.room)


def _repeat(builder: Any, body: Callable[[], Any]) -> None:
    """Run `body` until no number of what it returns is true."""
    again, done = builder.append_basic_block("again"), builder.append_basic_block("done")
    builder.branch(again)
    builder.position_at_end(again)
    builder.cbranch(body().any(), again, done)
    builder.position_at_end(done)


def _smaller(a: State, b: State) -> State:
    return (select(b[0] < a[0], b[0], a[0]),)


def _merge_sums(a: State, b: State) -> State:
    return (*add(a[:-1], b[:-1]), *_smaller(a[-1:], b[-1:]))


def find_support(
    projection: Projection, top: Lanes, relative: Lanes, fold: Fold, spread: Callable[[Lanes], Lanes]
) -> State:
    """The smallest entry of the support, and by how much tau is below it, as a pair.

    `top` is the largest entry, `relative` bounds the relative error of a fold's plain sums, `spread` makes a number as
    wide as the entries a step is given. Rows whose `top` is not finite get something.
    """
    tau = Variable(top.const(-projection.reach * REACH))
    smallest = Variable(top.const(inf))
    below, below_low = Variable(top.const(0.0)), Variable(top.const(0.0))

    def search() -> Any:
        """One step of Newton's method in plain arithmetic, on entries less `top`; whether another one is needed."""
        limit, m = spread(tau.get()), spread(top)

        def step(state: State, x: Lanes) -> tuple[State, Lanes]:
            above = (x - m) - limit
            inside = above > 0.0
            *before, low = state
            sums = projection.sums(tuple(before), select(inside, above, 0.0), select(inside, x.const(1.0), 0.0))
            return (*sums, select(inside & (x < low), x, low)), inside

        *sums, low = fold((*[0.0] * projection.zeros, inf), step, _merge_sums, keep=True)
        z = low - top
        out, gain = projection.advance(tuple(sums), z - tau.get(), relative)
        following = tau.get() + gain
        # the smallest entry is out: at the least, tau moves up to it
        tau.set(select(out, select(following > z, following, z), tau.get()))
        smallest.set(low)
        return out

    def settle() -> Any:
        """All that follows from the smallest entry; whether it was none of the support, and the next one is tried."""
        least = spread(smallest.get())

        def step(state: State, x: Lanes) -> tuple[State, Lanes]:
            inside = x >= least
            w, w_low = two_diff(x, least)
            return projection.exact(state, *(select(inside, v, 0.0) for v in (w, w_low, x.const(1.0)))), inside

        state = fold((0.0,) * projection.exact_zeros, step, projection.merge_exact)
        left, found, found_low, up = projection.settle(state)
        below.set(found)
        below_low.set(found_low)
        out = left < 0.0
        with top.builder.if_then(out.any(), likely=False):
            bound = spread(up * CLOSE)

            def next_one(state: State, x: Lanes) -> tuple[State, Lanes]:
                inside = (x - least) > bound
                return (select(inside & (x < state[0]), x, state[0]),), inside

            (low,) = fold((inf,), next_one, _smaller)
            smallest.set(select(out, low, smallest.get()))
        return out

    _repeat(top.builder, search)
    _repeat(top.builder, settle)
    return smallest.get(), below.get(), below_low.get()


def result(projection: Projection, x: Lanes, smallest: Lanes, below: Lanes, below_low: Lanes) -> Any:
    """The projection of entries, from what `find_support` found."""
    w, w_low = two_diff(x, smallest)
    return select(x >= smallest, projection.write(w, w_low, below, below_low), 0.0)
