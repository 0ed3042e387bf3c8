"""From the states that a pass along rows leaves, a vector an item, to totals.

There is a function of its own for each pass, which all loops along rows call: inside, in each place where a pass is
made, it would take longer to compile than the pass.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ..kernels.rows import Reduction, State
from .emit import INTP, POINTER
from .lanes import Builder, inner_function, split
from .row_frame import Frame, folded
from .row_items import FEW_ITEMS

FLAG = ir.IntType(1)


def leave_totals(frame: Frame, reduction: Reduction, states: Any, few: Any, long: Any, to: Any) -> None:
    """Leave the totals of items at `to`: vectors of a lane an item, or single numbers if `long`, which is of one row.

    At `states` lie those of the items, the vectors of one number after those of another; with `few`, `FEW_ITEMS` of
    each.
    """
    builder, number = frame.builder, next(k for k, one in enumerate(frame.function.passes) if one is reduction)

    def body(inside: Builder, *arguments: Any) -> None:
        _emit(Frame(inside, frame.function, frame.dtype, None, frame.target), reduction, *arguments)

    function = inner_function(builder.module, f"fastact.totals.{number}", [POINTER, FLAG, FLAG, POINTER], body)
    place, target = (builder.bitcast(pointer, POINTER) for pointer in (states, to))
    builder.call(function, [place, few, long, target])


def _emit(frame: Frame, reduction: Reduction, states: Any, few: Any, long: Any, to: Any) -> None:
    builder = frame.builder
    numbers = frame.laid_out(states, [frame.lanes] * len(reduction.initial))
    with builder.if_else(few) as (then, otherwise):
        for branch, count in ((then, FEW_ITEMS), (otherwise, frame.lanes)):
            with branch:
                items = [tuple(frame.get(frame.at(room, item)) for room in numbers) for item in range(count)]
                total = reduction.settle(folded(frame, items, reduction.merge))
                with builder.if_else(long) as (one_row, rows):
                    with one_row:
                        places = builder.bitcast(to, frame.float.as_pointer())
                        for k, part in enumerate(_of_one_row(frame, reduction, total, count)):
                            builder.store(part.value, builder.gep(places, [INTP(k)]))
                    with rows:
                        frame.keep([frame.at(room, 0) for room in frame.laid_out(to, [1] * len(total))], total)


def _of_one_row(frame: Frame, reduction: Reduction, total: State, count: int) -> State:
    """The first `count` lanes as one."""
    while total[0].count > count:
        total = tuple(split(part)[0] for part in total)
    while total[0].count > 1:
        halves = [split(part) for part in total]
        total = frame.join(reduction, tuple(low for low, _ in halves), tuple(high for _, high in halves))
    return total
