"""The order in which the states of a row's elements are merged, where they are made one after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from ..kernels.rows import FEW_ELEMENTS, Reduction, State
from .emit import INTP
from .lanes import call_intrinsic
from .row_frame import Frame

Step = Callable[..., State]  # step(element, tile, state, begins=False)


def walk(
    frame: Frame,
    bottom: Any,
    count: Any,
    size: int,
    leaf: Callable[[Any, Any], None],
    merge: Callable[[Any, Any], None],
) -> None:
    """Make states 0..count and merge each with the one h on, h = ..., 4, 2, 1, into the one at the depth `bottom`.

    `leaf(number, depth)` leaves state `number` at a depth, where nothing waits from there on; `merge(a, b)` leaves that
    of those at the depths a and b at a. A state takes `size` of depth. This is a walk through a tree whose leaves are
    numbered with the bits of their place reversed.
    """
    builder = frame.builder
    depth = frame.room(INTP)
    builder.store(bottom, depth)
    digits = builder.sub(INTP(64), call_intrinsic(builder, "llvm.ctlz.i64", INTP, [frame.plus(count, -1), _NO]))

    def number(place: Any) -> Any:
        backwards = builder.lshr(call_intrinsic(builder, "llvm.bitreverse.i64", INTP, [place]), INTP(1))
        return builder.lshr(backwards, builder.sub(INTP(63), digits))

    with frame.loop(builder.shl(INTP(1), digits)) as place:
        own = number(place)
        with builder.if_then(builder.icmp_signed("<", own, count)):
            top = builder.load(depth)
            leaf(own, top)
            builder.store(frame.plus(top, size), depth)
        # it completes as many pairs as its place ends in ones
        with frame.loop(call_intrinsic(builder, "llvm.cttz.i64", INTP, [builder.not_(place), _NO])) as bit:
            right = builder.shl(builder.lshr(place, bit), bit)
            with builder.if_then(builder.icmp_signed("<", number(right), count)):
                b = frame.plus(builder.load(depth), -size)
                merge(frame.plus(b, -size), b)
                builder.store(b, depth)


def state_of_few(frame: Frame, length: Any, step: Step, reduction: Reduction, tile: Any) -> State:
    """The state of a row of at most `FEW_ELEMENTS` elements, each with one of its own, which is never in memory."""
    initial, merge = reduction.few or (reduction.initial, reduction.merge)
    fresh = frame.state(initial)

    def merged(first: int, stride: int) -> State:
        """That of elements first, first + stride, ..."""
        if stride == FEW_ELEMENTS:
            return reduction.ended(step(INTP(first), tile, fresh, begins=True))
        left = merged(first, 2 * stride)
        rooms = [frame.room(frame.vector) for _ in left]
        frame.keep(rooms, left)
        with frame.builder.if_then(frame.builder.icmp_signed(">", length, INTP(first + stride))):
            frame.keep(rooms, merge(left, merged(first + stride, 2 * stride)))
        return tuple(frame.get(room) for room in rooms)

    return merged(0, 1)


_NO = ir.IntType(1)(0)  # zero is a number as any other
