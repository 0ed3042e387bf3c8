"""What a loop along rows writes once all is known of them: line by line, past the caches if there is much of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..kernels.language import select
from ..kernels.rows import State
from .emit import INTP, narrow
from .row_items import Items
from .row_numbers import Places

if TYPE_CHECKING:
    from .row_along import Along

LINES = 128  # elements from which on it pays to read and write whole lines
BYTES_SOON = 16 << 10  # bytes by which a pass over what is in no cache asks for it ahead
# Vectors that are read before the one that is written past the caches. A load waits for every store before it whose
# address has the same lowest twelve bits: so each vector would wait for the one before it, from beginning to end, if
# the output lay a little ahead of the input, modulo 4 KB.
VECTORS_AHEAD = 3


def write_items(
    along: Along,
    items: Items,
    remembered: Sequence[Places],
    done: Places,
    kept: bool,
    wrong: Any = None,
) -> None:
    """The output of rows, or of a part of one; `kept` says that there are terms in it.

    With `wrong` they are written at once: a lane there is made 1 where other passes are needed.
    """
    frame, builder, function, output = along.frame, along.frame.builder, along.frame.function, along.output
    assert output is not None
    assert function.write is not None
    write, wide = function.write, f"float{frame.width}"
    with frame.loop(items.count) as item:
        offset, elements = items.extent(item)
        sources = along.sources(items, item, elements)
        values, numbers = along.numbers.spread(along.wide, item), along.numbers.spread(done, item)
        known = tuple(along.numbers.spread(places, item) for places in remembered)
        real = items.address(item, output)
        to = builder.select(along.staged, along.out_stage, real)
        terms = along.terms(items, item) if kept else None

        def place(start: Any) -> Any:
            return frame.offset(to, frame.times(start, output.size))

        def read(start: Any, mask: Any = None) -> State:
            row = along.load(sources, start, mask)
            if not kept:
                return row
            return *row, frame.load(frame.offset(terms, frame.times(start, frame.width // 8)), wide, mask)

        def result(start: Any, row: State, known: tuple[State, ...] = known) -> Any:
            position = frame.places(builder.add(offset, start))
            if wrong is not None:
                assert function.at_once is not None
                made, too_soon = function.at_once.write(row, values, position, known)
                frame.put(wrong, select(too_soon, 1.0, frame.get(wrong)))
                return narrow(made, output.dtype)
            if not kept and function.term is not None:
                row = (*row, function.term(row, values, position, known)[0])
            return narrow(write(row, values, position, numbers)[0], output.dtype)

        def lines(first: Any) -> None:
            whole = builder.sdiv(builder.sub(elements, first), INTP(frame.lanes))
            for chosen in frame.branches(known, not kept and function.term is not None):
                with frame.loop(whole) as index:
                    start = builder.add(frame.times(index, frame.lanes), first)
                    frame.save(place(start), result(start, read(start), chosen))

        def lines_past_caches(first: Any) -> None:
            last = frame.plus(elements, -frame.lanes)  # is read instead of what is beyond it
            whole = builder.sdiv(builder.sub(elements, first), INTP(frame.lanes))
            for chosen in frame.branches(known, function.term is not None):
                rooms = [[frame.room(frame.vector) for _ in sources] for _ in range(VECTORS_AHEAD)]
                for k, room in enumerate(rooms):
                    keep(room, read(frame.min(frame.plus(first, frame.lanes * k), last)))

                def one(index: Any, rooms: Sequence[Any] = rooms, chosen: tuple[State, ...] = chosen) -> None:
                    start = builder.add(frame.times(index, frame.lanes), first)
                    for source, operand in zip(sources, along.inputs, strict=True):
                        soon = frame.plus(frame.times(start, operand.size), BYTES_SOON)
                        frame.prefetch(frame.offset(source, soon), False)
                    row, *others = (tuple(map(frame.get, room)) for room in rooms)
                    further = read(frame.min(frame.plus(start, frame.lanes * VECTORS_AHEAD), last))
                    for room, later in zip(rooms, (*others, further), strict=True):
                        keep(room, later)
                    frame.save(place(start), result(start, row, chosen), None, True)

                with frame.loop(builder.ashr(whole, INTP(1))) as pair:  # two save half of the moves among the rooms
                    for k in range(2):
                        one(frame.plus(frame.times(pair, 2), k))
                with builder.if_then(frame.is_positive(builder.and_(whole, INTP(1)))):
                    one(frame.plus(whole, -1))

        def keep(room: Sequence[Any], row: State) -> None:
            for part, value in zip(room, row, strict=True):
                frame.put(part, value)

        def by_lines() -> None:
            """Whole lines, for a store that crosses two takes as long as two; the ends overlap with them."""
            # What is written past the caches must begin a line: rows that are so short do, where they are.
            before = builder.select(builder.icmp_signed("<", elements, INTP(LINES)), INTP(0), frame.to_line(to, output))
            rest = builder.srem(builder.sub(elements, before), INTP(frame.lanes))
            ends = [
                (INTP(0), frame.is_positive(before)),
                (frame.plus(elements, -frame.lanes), frame.is_positive(rest)),
            ]
            rooms = [frame.room(frame.memory(output.dtype, frame.lanes)) for _ in ends]
            for (start, needed), room in zip(ends, rooms, strict=True):
                with builder.if_then(needed):  # before anything is written: it may be to where they lie
                    builder.store(result(start, read(start)), room)
            if kept or not along.streams:
                lines(before)
            else:
                with builder.if_else(along.streaming, likely=False) as (then, otherwise):
                    with then:
                        lines_past_caches(before)
                    with otherwise:
                        lines(before)
            for (start, needed), room in zip(ends, rooms, strict=True):
                with builder.if_then(needed):
                    frame.save(place(start), builder.load(room))

        few = builder.icmp_signed("<", elements, INTP(frame.lanes))
        with builder.if_else(few, likely=False) as (then, otherwise):
            with then:
                mask = frame.first(elements)
                frame.save(place(INTP(0)), result(INTP(0), read(INTP(0), mask)), mask)
            with otherwise:
                by_lines()
        with builder.if_then(along.staged, likely=False):
            size = INTP(output.size)
            frame.copy(real, output.core, along.out_stage, size, elements, output.dtype)
