"""A pass over rows whose elements lie side by side: from the elements of each to one vector of states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..kernels.rows import VECTORS, Reduction, State
from .emit import INTP
from .row_items import FEW_ITEMS, Items
from .row_numbers import Places
from .row_writing import BYTES_SOON, LINES

if TYPE_CHECKING:
    from .row_along import Along


def reduce_items(
    along: Along,
    reduction: Reduction,
    items: Items,
    remembered: Sequence[Places],
    last: bool,
    keep: bool,
) -> None:
    """The states of rows, or of blocks of one; `keep` says that what the output needs again is kept on the way."""
    frame, builder, function = along.frame, along.frame.builder, along.frame.function
    size = len(reduction.initial)

    def clear(item: Any) -> None:
        frame.keep([frame.at(room, item) for room in along.states[:size]], frame.state(reduction.initial))

    with builder.if_else(items.few()) as (then, otherwise):
        with then, builder.if_then(builder.icmp_signed("<", items.count, INTP(FEW_ITEMS))):
            for item in range(FEW_ITEMS):  # a loop would become a call of memset
                clear(item)
        with otherwise, builder.if_then(builder.icmp_signed("<", items.count, INTP(frame.lanes))):
            every = INTP(frame.lanes)
            with frame.loop(every) as item:
                clear(item)
    with frame.loop(items.count) as item:
        offset, elements = items.extent(item)
        sources = along.sources(items, item, elements)
        values = along.numbers.spread(along.wide, item)
        known = tuple(along.numbers.spread(places, item) for places in remembered)
        rooms = [[frame.room(frame.vector) for _ in range(size)] for _ in range(VECTORS)]
        for four in rooms:
            frame.keep(four, frame.state(reduction.initial))
        to = along.terms(items, item) if keep else None

        def one(vector: int, start: Any, mask: Any, known: tuple[State, ...] = known, begins: bool = False) -> None:
            row = along.load(sources, start, mask)
            position = frame.places(builder.add(offset, start))
            if last and function.term is not None:
                term = function.term(row, values, position, known)
                row = (*row, *term)
                if to is not None:
                    frame.save(frame.offset(to, frame.times(start, frame.width // 8)), term[0].value, mask)
            state = tuple(frame.get(room) for room in rooms[vector])
            state = (reduction.begun if begins else reduction.step)(state, row, values, position, known)
            frame.keep(rooms[vector], state)

        # Before a first pass, the CPU finds by itself what is read next.
        ahead = along.ahead(items, item) if last and reduction is not function.passes[0] else []
        # Whether what is asked for, and what is at work, fit the first cache; of long rows neither does.
        by_parts = along.by_parts and reduction is function.passes[1]
        near = (along.keeps or not along.plain) and (keep or not by_parts)

        def fours(
            first: Any, count: Any, known: tuple[State, ...], ahead: Sequence[Any] = ahead, begins: bool = False
        ) -> None:
            with frame.loop(count) as index:
                for vector in range(VECTORS):
                    start = frame.plus(frame.times(index, frame.residues), vector * frame.lanes)
                    start = builder.add(first, start)
                    for pointer, operand, writes in ahead:
                        frame.prefetch(frame.offset(pointer, frame.times(start, operand.size)), writes, near)
                    one(vector, start, None, known, begins)

        def in_order() -> None:
            whole = builder.sdiv(elements, INTP(frame.residues))
            for chosen in frame.branches(known, reduction.when is None):
                if reduction.begin is None:
                    fours(INTP(0), whole, chosen)
                    continue
                with builder.if_then(frame.is_positive(whole)):
                    fours(INTP(0), 1, chosen, begins=True)
                    fours(INTP(frame.residues), frame.plus(whole, -1), chosen)
            done = frame.times(whole, frame.residues)
            left = builder.sub(elements, done)
            for vector in range(VECTORS):
                rest = frame.plus(left, -vector * frame.lanes)
                with builder.if_then(frame.is_positive(rest)):
                    one(vector, frame.plus(done, vector * frame.lanes), frame.first(rest))

        def by_lines() -> None:
            """Those that are whole lines, and at the ends vectors that overlap with them."""
            before = frame.to_line(sources[0], along.inputs[0])
            with builder.if_then(frame.is_positive(before)):
                one(0, INTP(0), None)
            rest = builder.sub(elements, before)
            whole = builder.sdiv(rest, INTP(frame.residues))
            soon = [(frame.offset(p, INTP(BYTES_SOON)), o, False) for p, o in zip(sources, along.inputs, strict=True)]
            # a part was asked for while the one before was summed up
            away = builder.and_(along.long, builder.not_(along.parted))
            with builder.if_else(away) as (then, otherwise):
                for branch, asked in ((then, soon), (otherwise, ahead)):
                    with branch:
                        fours(before, whole, known, asked)
            rest = builder.sub(rest, frame.times(whole, frame.residues))
            for vector in range(VECTORS):
                with builder.if_then(frame.is_positive(frame.plus(rest, -vector * frame.lanes))):
                    one(vector, frame.plus(elements, -(vector + 1) * frame.lanes), None)

        if reduction.repeats:
            with builder.if_else(builder.icmp_signed("<", elements, INTP(LINES))) as (then, otherwise):
                with then:
                    in_order()
                with otherwise:
                    by_lines()
        else:
            in_order()
        for merge in frame.merges(reduction, elements):
            states = [reduction.ended(tuple(frame.get(room) for room in four)) for four in rooms]
            while len(states) > 1:
                half = len(states) // 2
                states = [merge(a, b) for a, b in zip(states[:half], states[half:], strict=True)]
            for room, part in zip(along.states, states[0], strict=False):
                frame.put(frame.at(room, item), part)
