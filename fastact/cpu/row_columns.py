"""Loops over long rows that lie side by side, as along axis 0: each lane is a row, and a panel of them is staged.

What a panel holds is read from its array once, as it lies there, and written once. In between it is in scratch memory
that fits the second cache, in the order in which the elements are summed: those of four residues follow each other, so
that their states stay in registers. The largest entries are found on the way in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..kernels.rows import VECTORS, Reduction, RowFunction, State
from .emit import INTP, narrow
from .lanes import Lanes
from .layout import LINE
from .row_arena import MOST, WIDE, keeps_terms, panel, parts
from .row_frame import Frame, Operand

LEAST = 64  # elements of a row: with fewer, states would be merged more often than stepped
READ_AHEAD, WRITE_AHEAD = 8, 16
"""Elements of a row by which they are asked for: elements so far apart share few lines of the first cache."""
SEVERAL = 2  # panels from which on it pays to begin them at whole lines, though they may be one more


def has_columns(function: RowFunction) -> bool:
    """Whether there is one array to be read, of which a panel can be staged while its largest entries are found."""
    return len(function.rows) == 1 and function.passes[0].repeats


class Columns:
    """Emits the loop; it works in the memory at `arena`."""

    def __init__(
        self,
        frame: Frame,
        source: Operand,
        values: Sequence[Operand],
        results: Sequence[Operand],
        output: Any,
        arena: Any,
    ) -> None:
        self.frame, self.source, self.values, self.results, self.output = frame, source, values, results, output
        function = frame.function
        self.keeps = keeps_terms(function)
        # Without numbers of rows a panel may have lanes without a row.
        self.partly = output is not None and not values and not results
        self.groups = frame.residues // VECTORS
        self.size = panel(frame.dtype)
        self.scratch, *self.states = frame.laid_out(arena, [WIDE * self.size, *[frame.residues] * parts(function)])

    def emit(self, count: Any, length: Any, suitable: Any) -> Any:
        """The loop over whole panels; how many rows there are in them."""
        frame, builder = self.frame, self.frame.builder
        for operand in [self.source, *([] if self.output is None else [self.output])]:
            suitable = builder.and_(suitable, builder.icmp_signed("==", operand.outer, INTP(operand.size)))
        suitable = builder.and_(suitable, builder.icmp_signed("<=", length, INTP(MOST)))
        suitable = builder.and_(suitable, builder.icmp_signed(">=", length, INTP(LEAST)))
        wide = WIDE * frame.lanes
        lead = INTP(0)
        if self.partly:  # panels begin where a vector that is written crosses no line
            even = builder.icmp_signed("==", builder.and_(self.output.core, INTP(LINE - 1)), INTP(0))
            before = frame.to_line(self.output.base, self.output)
            lead = builder.and_(builder.neg(before), INTP(frame.lanes - 1))
            several = builder.icmp_signed(">=", count, INTP(SEVERAL * wide))
            lead = builder.select(builder.and_(even, several), lead, INTP(0))
        whole = builder.sdiv(frame.plus(builder.add(count, lead), wide - frame.lanes if self.partly else 0), INTP(wide))
        panels = builder.select(suitable, whole, INTP(0))
        self.count, self.length, self.turns = count, length, frame.parts(length, frame.residues)
        self.pitch = frame.times(builder.or_(self.turns, INTP(1)), VECTORS)
        with frame.loop(panels) as panel:
            self._panel(builder.sub(frame.times(panel, wide), lead))
        done = builder.sub(frame.times(panels, wide), lead)
        return builder.select(frame.is_positive(panels), frame.min(done, count), INTP(0))

    # --- where things are

    def _place(self, vector: Any, group: Any, turn: Any, residue: Any) -> Any:
        frame, builder = self.frame, self.frame.builder
        index = builder.add(builder.mul(group, self.pitch), frame.plus(frame.times(turn, VECTORS), residue))
        return frame.at(self.scratch, builder.add(frame.times(vector, self.size), index))

    def _where(self, element: Any) -> tuple[Any, Any, Any]:
        """The group, the turn and the residue of an element."""
        builder, residues = self.frame.builder, INTP(self.frame.residues)
        rest = builder.srem(element, residues)
        turn = builder.sdiv(element, residues)
        return builder.sdiv(rest, INTP(VECTORS)), turn, builder.srem(rest, INTP(VECTORS))

    def _address(self, operand: Operand, element: Any, row: Any) -> Any:
        frame = self.frame
        start = frame.offset(operand.base, frame.builder.mul(element, operand.core))
        return frame.offset(start, frame.times(row, operand.size))

    def _load(self, element: Any, row: Any, mask: Any) -> Lanes:
        source = self.source
        return self.frame.load(self._address(source, element, row), source.dtype, mask, source.padding)

    def _row(self, first: Any, vector: Any) -> Any:
        return self.frame.builder.add(first, self.frame.times(vector, self.frame.lanes))

    def _numbers(self, row: Any, pick: bool = False) -> State:
        """Numbers of rows. What is picked is in no cache before the first pass, which finds the largest entry only."""
        return tuple(self.frame.values(self.values, self.source, row, INTP(self.frame.lanes), pick))

    def _ask(self, operand: Operand, element: Any, row: Any, writes: bool) -> None:
        """For what will be needed soon."""
        frame, ahead = (
            self.frame,
            self._address(operand, self.frame.plus(element, WRITE_AHEAD if writes else READ_AHEAD), row),
        )
        for line in range(0, WIDE * frame.lanes * operand.size, LINE):
            frame.prefetch(frame.offset(ahead, INTP(line)), writes, True)

    # --- a panel

    def _panel(self, first: Any) -> None:
        frame, function = self.frame, self.frame.function
        largest = [frame.room(frame.vector, WIDE) for _ in function.passes[0].initial]
        for masks in self._panels(first):
            self._stage(first, largest, masks)
        kinds: list[str] = []
        rooms: list[Any] = []
        present = frame.min(frame.parts(frame.builder.sub(self.count, first), frame.lanes), INTP(WIDE))
        with frame.loop(present) as vector:
            row = self._row(first, vector)
            values = self._numbers(row, True)
            done = self._rows(vector, row, values, tuple(frame.get(frame.at(room, vector)) for room in largest))
            for operand, value in zip(self.results, done[: function.results], strict=True):
                frame.save_numbers(operand, value, row, INTP(frame.lanes))
            for number in done:
                kinds.append(number.kind)
                rooms.append(frame.room(frame.vector, WIDE))
                frame.put(frame.at(rooms[-1], vector), number)
        if self.output is None:
            return
        finished = []
        for vector in range(WIDE):
            numbers = [frame.get(frame.at(room, vector)) for room in rooms]
            finished.append(tuple(x.bits() if kind == "int" else x for x, kind in zip(numbers, kinds, strict=True)))
        for masks in self._panels(first):
            self._write(first, finished, masks)

    def _panels(self, first: Any) -> Iterator[Sequence[Any]]:
        """For two branches of the code, one for panels where each lane is a row: the masks of its vectors."""
        frame, builder = self.frame, self.frame.builder
        none = [None] * WIDE
        if not self.partly:
            yield none
            return
        end = frame.plus(first, WIDE * frame.lanes)
        begins = builder.icmp_signed(">=", first, INTP(0))
        full = builder.and_(begins, builder.icmp_signed("<=", end, self.count))
        with builder.if_else(full) as (then, otherwise):
            with then:
                yield none
            with otherwise:
                yield [self._mask(self._row(first, INTP(vector))) for vector in range(WIDE)]

    def _mask(self, row: Any) -> Any:
        """Which lanes of the vector from `row` on are rows."""
        builder, frame = self.frame.builder, self.frame
        before = frame.first(builder.neg(row))
        return builder.and_(frame.first(builder.sub(self.count, row)), builder.not_(before))

    def _stage(self, first: Any, largest: Sequence[Any], masks: Sequence[Any]) -> None:
        """Bring a panel into scratch memory, with the padding behind it, and find what the first pass finds."""
        frame, builder = self.frame, self.frame.builder
        reduction = frame.function.passes[0]
        values = [self._numbers(self._row(first, INTP(vector))) for vector in range(WIDE)]
        rooms = [[frame.room(frame.vector) for _ in reduction.initial] for _ in range(WIDE)]
        for room in rooms:
            frame.keep(room, frame.state(reduction.initial))

        def take(element: Any, group: Any, turn: Any, residue: Any) -> None:
            for vector in range(WIDE):
                row = self._row(first, INTP(vector))
                x = self._load(element, row, masks[vector])
                frame.put(self._place(INTP(vector), group, turn, residue), x)
                state = tuple(frame.get(room) for room in rooms[vector])
                frame.keep(rooms[vector], reduction.step(state, (x,), values[vector], frame.integer(element), ()))

        def take_or_pad(element: Any, group: Any, turn: Any, residue: Any) -> None:
            with builder.if_else(builder.icmp_signed("<", element, self.length)) as (then, otherwise):
                with then:
                    take(element, group, turn, residue)
                with otherwise:
                    for vector in range(WIDE):
                        padding = frame.constant(self.source.padding)
                        frame.put(self._place(INTP(vector), group, turn, residue), padding)

        self._walk(self.source, first, take, take_or_pad, frame.times(self.turns, frame.residues))
        for vector in range(WIDE):
            for room, each in zip(largest, rooms[vector], strict=True):
                frame.put(frame.at(room, vector), frame.get(each))

    def _rows(self, vector: Any, row: Any, values: State, largest: State) -> State:
        """All passes but the first over a vector of rows; what is left of them, finished."""
        frame, function = self.frame, self.frame.function
        first = function.passes[0]
        known: list[State] = [first.result(first.settle(largest), values, ())]
        before_last: tuple[State, ...] = ()
        for reduction in function.passes[1:]:
            if reduction is function.last:
                before_last = tuple(known)

            def total(reduction: Reduction = reduction, before_last: tuple[State, ...] = before_last) -> State:
                if reduction is function.last or not self.keeps:
                    return self._sum(vector, reduction, values, tuple(known), reduction is function.last)
                self._restage(vector, row)  # there are terms in its place
                result = self._sum(vector, reduction, values, tuple(known), False)
                self._each(vector, lambda place, x, position: self._term(place, x, values, position, before_last))
                return result

            known.append(frame.attempted(reduction, values, tuple(known), total))
        return function.finish(values, tuple(known))

    def _term(self, place: Any, x: Lanes, values: State, position: Lanes, known: tuple[State, ...]) -> State:
        """What the last pass and `write` both need of an element, of which scratch memory keeps the first."""
        assert self.frame.function.term is not None
        term = self.frame.function.term((x,), values, position, known)
        if self.keeps:
            self.frame.put(place, term[0])
        return term

    def _each(self, vector: Any, do: Any) -> None:
        """`do(place, x, position)` for all elements, in no matter what order."""
        frame, builder = self.frame, self.frame.builder
        with frame.loop(self.groups) as group, frame.loop(self.turns) as turn:
            for residue in range(VECTORS):
                place = self._place(vector, group, turn, residue)
                number = builder.add(frame.times(turn, frame.residues), frame.times(group, VECTORS))
                do(place, frame.get(place), frame.integer(frame.plus(number, residue)))

    def _restage(self, vector: Any, row: Any) -> None:
        """The elements of a vector of rows once more, and the padding behind them."""
        frame, builder = self.frame, self.frame.builder
        with frame.loop(self.length) as element:
            place = self._place(vector, *self._where(element))
            frame.put(place, self._load(element, row, self._mask(row) if self.partly else None))
        with frame.loop(builder.sub(frame.times(self.turns, frame.residues), self.length)) as beyond:
            place = self._place(vector, *self._where(builder.add(self.length, beyond)))
            frame.put(place, frame.constant(self.source.padding))

    def _sum(self, vector: Any, reduction: Reduction, values: State, known: tuple[State, ...], last: bool) -> State:
        frame, builder, function = self.frame, self.frame.builder, self.frame.function
        states = self.states[: len(reduction.initial)]
        rooms = [[frame.room(frame.vector) for _ in states] for _ in range(VECTORS)]
        for chosen in frame.branches(known, reduction.when is None):
            with frame.loop(self.groups) as group:
                for room in rooms:
                    frame.keep(room, frame.state(reduction.initial))
                with frame.loop(self.turns) as turn:
                    for residue in range(VECTORS):
                        place = self._place(vector, group, turn, residue)
                        x = frame.get(place)
                        number = builder.add(frame.times(turn, frame.residues), frame.times(group, VECTORS))
                        position = frame.integer(frame.plus(number, residue))
                        row: State = (x,)
                        if last and function.term is not None:
                            row = (x, *self._term(place, x, values, position, chosen))
                        state = tuple(frame.get(room) for room in rooms[residue])
                        frame.keep(rooms[residue], reduction.step(state, row, values, position, chosen))
                for residue in range(VECTORS):
                    at = frame.plus(frame.times(group, VECTORS), residue)
                    state = reduction.ended(tuple(frame.get(room) for room in rooms[residue]))
                    frame.keep([frame.at(room, at) for room in states], state)
        with frame.loop(frame.residues.bit_length() - 1) as level:
            half = builder.ashr(INTP(frame.residues // 2), level)
            with frame.loop(half) as a:
                b = builder.add(a, half)
                left, right = (tuple(frame.get(frame.at(room, at)) for room in states) for at in (a, b))
                frame.keep([frame.at(room, a) for room in states], reduction.merge(left, right))
        return reduction.settle(tuple(frame.get(frame.at(room, 0)) for room in states))

    def _write(self, first: Any, finished: Sequence[State], masks: Sequence[Any]) -> None:
        frame, write = self.frame, self.frame.function.write
        assert write is not None
        values = [self._numbers(self._row(first, INTP(vector))) for vector in range(WIDE)]

        def give(element: Any, group: Any, turn: Any, residue: Any) -> None:
            for vector in range(WIDE):
                kept = frame.get(self._place(INTP(vector), group, turn, residue))
                # of an element whose term is kept there is nothing else left
                row = (None, kept) if self.keeps else (kept,)
                result = write(row, values[vector], frame.integer(element), finished[vector])[0]
                to = self._address(self.output, element, self._row(first, INTP(vector)))
                frame.save(to, narrow(result, self.output.dtype), masks[vector])

        self._walk(self.output, first, give, give, self.length)

    def _walk(self, operand: Operand, first: Any, four: Any, rest: Any, end: Any) -> None:
        """`four` for each element of the fours there are, which are asked for ahead; from there to `end` `rest`.

        Both get an element, its group, its turn and its residue. There is rarely a rest.
        """
        frame, builder = self.frame, self.frame.builder
        fours = builder.sdiv(self.length, INTP(VECTORS))
        with frame.loop(fours) as index:
            turn, group = builder.sdiv(index, INTP(self.groups)), builder.srem(index, INTP(self.groups))
            for residue in range(VECTORS):
                element = frame.plus(frame.times(index, VECTORS), residue)
                self._ask(operand, element, first, operand is self.output)
                four(element, group, turn, INTP(residue))
        done = frame.times(fours, VECTORS)
        with frame.loop(builder.sub(end, done)) as index:
            element = builder.add(done, index)
            rest(element, *self._where(element))
