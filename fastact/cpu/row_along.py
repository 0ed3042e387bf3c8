"""Loops over rows whose elements lie side by side: lanes run along the row.

Up to a vector's worth of rows, or of blocks of one long row, are taken together. Each leaves one vector of states;
these are then merged across, so that what comes of a row is one lane, and numbers of rows are computed for all of them
at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..kernels.rows import Reduction, State
from .emit import INTP, ITEMSIZE, POINTER, element, narrow
from .lanes import Lanes, splat, split
from .row_frame import BLOCK, LINE, VECTORS, Frame, Operand, folded

TOGETHER = 4096  # elements of rows that are taken together, so that they are still in the first cache for the next pass
AT_LEAST = 4
KEPT = 256 << 10  # bytes of a row up to which terms are kept: it and its output are in the second cache
STREAM = 32 << 20  # bytes of output from which it is written past the caches: larger than any it could have stayed in


@dataclass
class _Items:
    """What is taken together: some rows, or some blocks of one row."""

    count: Any
    rows: Any  # the first row
    block: Any  # the first block
    long: Any  # whether they are blocks


class Along:
    """Emits the loop; `staged` says that rows are strided, and go through a buffer block by block."""

    def __init__(
        self,
        frame: Frame,
        inputs: Sequence[Operand],
        values: Sequence[Operand],
        results: Sequence[Operand],
        output: Operand | None,
        staged: Any,
    ) -> None:
        self.frame, self.inputs, self.values, self.results, self.output = frame, inputs, values, results, output
        self.staged = staged
        lanes, function = frame.lanes, frame.function
        self.stages = [frame.room(element(o.dtype), BLOCK) for o in inputs]
        self.out_stage = None if output is None else frame.room(element(output.dtype), BLOCK)
        parts = max(len(r.initial) for r in function.passes)
        self.states = [frame.room(frame.vector, lanes) for _ in range(parts)]
        # what a term is kept in between the last pass and the output: the output itself
        self.keeps = function.term is not None and output is not None and ITEMSIZE[output.dtype] * 8 == frame.width
        self.numbers: list[tuple[Any, str]] = []  # one vector of numbers of rows each, and what kind they are

    def emit(self, count: Any, length: Any) -> None:
        frame, builder = self.frame, self.frame.builder
        self.length = length
        long = builder.icmp_signed(">", length, INTP(BLOCK))
        blocks = frame.parts(length, BLOCK)
        supers = builder.select(long, frame.parts(blocks, frame.lanes), INTP(1))
        together = builder.sdiv(INTP(TOGETHER), frame.plus(length, 1))
        together = builder.select(builder.icmp_signed("<", together, INTP(AT_LEAST)), INTP(AT_LEAST), together)
        together = builder.select(long, INTP(1), frame.min(together, INTP(frame.lanes)))
        groups = builder.sdiv(builder.add(count, builder.sub(together, INTP(1))), together)
        kept = builder.icmp_signed("<=", length, INTP(KEPT * 8 // frame.width))
        kept = builder.and_(kept, builder.not_(self.staged))
        # Only where the vectors that are stored are lines, and not if the output has been written to already.
        self.streams = self.output is not None and self.output.size * frame.lanes == LINE
        size = builder.mul(count, frame.times(length, self.output.size if self.output is not None else 0))
        large = builder.and_(builder.icmp_signed(">=", size, INTP(STREAM)), builder.not_(self.staged))
        self.streaming = builder.and_(large, builder.not_(kept)) if self.keeps else large
        with frame.loop(groups) as group:
            first = builder.mul(group, together)
            present = frame.min(together, builder.sub(count, first))
            self._group(first, present, long, blocks, supers, kept)

    def _group(self, first: Any, present: Any, long: Any, blocks: Any, supers: Any, kept: Any) -> None:
        frame, builder, function = self.frame, self.frame.builder, self.frame.function

        def items(index: Any) -> _Items:
            block = builder.mul(index, INTP(frame.lanes))
            count = builder.select(long, frame.min(INTP(frame.lanes), builder.sub(blocks, block)), present)
            return _Items(count, first, block, long)

        values = frame.values(self.values, self.inputs[0], first, present)
        self.numbers = []
        wide = self._remember(values)
        known: list[State] = []
        remembered: list[list[int]] = []
        for reduction in function.passes:
            last = reduction is function.last

            def total(reduction: Reduction = reduction, last: bool = last) -> State:
                running = [frame.room(frame.vector) for _ in range(self._size(reduction))]
                with frame.loop(supers) as index:
                    if last and self.keeps:
                        with builder.if_else(kept) as (then, otherwise):
                            with then:
                                self._reduce(reduction, items(index), wide, remembered, True, True)
                            with otherwise:
                                self._reduce(reduction, items(index), wide, remembered, True, False)
                    else:
                        self._reduce(reduction, items(index), wide, remembered, last, False)
                    self._total(reduction, running, index, long)
                return tuple(frame.get(room) for room in running)

            result = frame.attempted(reduction, tuple(values), tuple(known), total)
            known.append(result)
            remembered.append(self._remember(result))
        finished = function.finish(tuple(values), tuple(known))
        for operand, value in zip(self.results, finished[: function.results], strict=True):
            frame.save_numbers(operand, value, first, present)
        if self.output is None:
            return
        done = self._remember(finished)
        with frame.loop(supers) as index:
            if self.keeps:
                with builder.if_else(kept) as (then, otherwise):
                    with then:
                        self._write(items(index), wide, remembered, done, True)
                    with otherwise:
                        self._write(items(index), wide, remembered, done, False)
            else:
                self._write(items(index), wide, remembered, done, False)

    # --- numbers of rows, kept in memory so that each row can spread its own over all lanes

    def _remember(self, numbers: Sequence[Lanes]) -> list[int]:
        places = []
        for number in numbers:
            room = self.frame.room(self.frame.vector)
            self.frame.put(room, number)
            places.append(len(self.numbers))
            self.numbers.append((room, number.kind))
        return places

    def _spread(self, places: Sequence[int], item: Any) -> State:
        frame, builder = self.frame, self.frame.builder
        found = []
        for place in places:
            room, kind = self.numbers[place]
            numbers = builder.bitcast(room, frame.float.as_pointer())
            one = frame.floats(builder.load(builder.gep(numbers, [item])), 1)
            wide = splat(one, frame.lanes)
            found.append(wide.bits() if kind == "int" else wide)
        return tuple(found)

    @staticmethod
    def _size(reduction: Reduction) -> int:
        return len(reduction.initial)

    def _total(self, reduction: Reduction, running: Sequence[Any], index: Any, long: Any) -> None:
        """From the states of the items to totals of rows: a lane each, or of one long row: every lane."""
        frame = self.frame
        states = [
            tuple(frame.get(frame.at(room, item)) for room in self.states[: self._size(reduction)])
            for item in range(frame.lanes)
        ]
        total = reduction.settle(folded(frame, states, reduction.merge))
        for room, part in zip(running, self._joined(reduction, total, running, index, long), strict=True):
            frame.put(room, part)

    def _joined(self, reduction: Reduction, total: State, running: Sequence[Any], index: Any, long: Any) -> State:
        frame, builder = self.frame, self.frame.builder
        rooms = [frame.room(frame.vector) for _ in total]
        for room, part in zip(rooms, total, strict=True):
            frame.put(room, part)
        with builder.if_then(long):
            row = total
            while row[0].count > 1:
                halves = [split(part) for part in row]
                row = frame.join(reduction, tuple(h[0] for h in halves), tuple(h[1] for h in halves))
            wide = tuple(splat(part, frame.lanes) for part in row)
            for room, part in zip(rooms, wide, strict=True):
                frame.put(room, part)
            with builder.if_then(frame.is_positive(index)):
                before = tuple(frame.get(room) for room in running)
                for room, part in zip(rooms, frame.join(reduction, before, wide), strict=True):
                    frame.put(room, part)
        return tuple(frame.get(room) for room in rooms)

    # --- the items: for each, where its operands are

    def _item(self, items: _Items, item: Any, operand: Operand) -> Any:
        frame, builder = self.frame, self.frame.builder
        row = builder.add(items.rows, builder.select(items.long, INTP(0), item))
        start = builder.mul(builder.mul(self._block(items, item), INTP(BLOCK)), operand.core)
        return frame.offset(operand.base, builder.add(builder.mul(row, operand.outer), start))

    def _ahead(self, items: _Items, item: Any) -> list[tuple[Any, Operand, bool]]:
        """Where the same item of the rows or blocks that are taken next lies, in every array."""
        frame, builder = self.frame, self.frame.builder
        found = []
        for operand in [*self.inputs, *([] if self.output is None else [self.output])]:
            rows = builder.mul(items.count, operand.outer)
            blocks = frame.times(operand.core, frame.lanes * BLOCK)
            step = builder.select(items.long, blocks, rows)
            found.append((frame.offset(self._item(items, item, operand), step), operand, operand is self.output))
        return found

    def _block(self, items: _Items, item: Any) -> Any:
        return self.frame.builder.select(items.long, self.frame.builder.add(items.block, item), INTP(0))

    def _extent(self, items: _Items, item: Any) -> tuple[Any, Any]:
        """The index of an item's first element in its row, and how many there are."""
        frame, builder = self.frame, self.frame.builder
        start = builder.mul(self._block(items, item), INTP(BLOCK))
        return start, frame.min(INTP(BLOCK), builder.sub(self.length, start))

    def _sources(self, items: _Items, item: Any, size: Any) -> list[Any]:
        """Pointers to contiguous elements of the inputs."""
        frame, builder = self.frame, self.frame.builder
        places = []
        for operand, stage in zip(self.inputs, self.stages, strict=True):
            pointer = self._item(items, item, operand)
            place = frame.room(POINTER)
            builder.store(pointer, place)
            with builder.if_then(self.staged, likely=False):
                to = builder.bitcast(stage, POINTER)
                frame.copy(to, INTP(operand.size), pointer, operand.core, size, operand.dtype)
                builder.store(to, place)
            places.append(place)
        return [builder.load(place) for place in places]

    def _lanes(self, sources: Sequence[Any], start: Any, mask: Any) -> State:
        frame = self.frame
        return tuple(
            frame.load(frame.offset(source, frame.times(start, o.size)), o.dtype, mask, o.padding)
            for source, o in zip(sources, self.inputs, strict=True)
        )

    # --- passes

    def _reduce(
        self,
        reduction: Reduction,
        items: _Items,
        wide: Sequence[int],
        remembered: Sequence[Sequence[int]],
        last: bool,
        keep: bool,
    ) -> None:
        frame, builder, function = self.frame, self.frame.builder, self.frame.function
        size = self._size(reduction)
        with builder.if_then(builder.icmp_signed("<", items.count, INTP(frame.lanes))), frame.loop(frame.lanes) as item:
            for room, part in zip(self.states, frame.state(reduction.initial), strict=False):
                frame.put(frame.at(room, item), part)
        with frame.loop(items.count) as item:
            offset, elements = self._extent(items, item)
            sources = self._sources(items, item, elements)
            values = self._spread(wide, item)
            known = tuple(self._spread(places, item) for places in remembered)
            rooms = [[frame.room(frame.vector) for _ in range(size)] for _ in range(VECTORS)]
            for four in rooms:
                for room, part in zip(four, frame.state(reduction.initial), strict=True):
                    frame.put(room, part)
            to = self._item(items, item, self.output) if keep and self.output is not None else None

            def one(vector: int, start: Any, mask: Any, known: tuple[State, ...] = known) -> None:
                row = self._lanes(sources, start, mask)
                position = frame.places(builder.add(offset, start))
                if last and function.term is not None:
                    term = function.term(row, values, position, known)
                    row = (*row, *term)
                    if to is not None:
                        frame.save(frame.offset(to, frame.times(start, frame.width // 8)), term[0].value, mask)
                state = tuple(frame.get(room) for room in rooms[vector])
                state = reduction.step(state, row, values, position, known)
                for room, part in zip(rooms[vector], state, strict=True):
                    frame.put(room, part)

            ahead = self._ahead(items, item) if last else []
            whole = builder.sdiv(elements, INTP(frame.residues))
            for chosen in frame.branches(known):
                with frame.loop(whole) as index:
                    for vector in range(VECTORS):
                        start = frame.plus(frame.times(index, frame.residues), vector * frame.lanes)
                        for pointer, operand, writes in ahead:
                            frame.prefetch(frame.offset(pointer, frame.times(start, operand.size)), writes)
                        one(vector, start, None, chosen)
            done = frame.times(whole, frame.residues)
            left = builder.sub(elements, done)
            for vector in range(VECTORS):
                rest = frame.plus(left, -vector * frame.lanes)
                with builder.if_then(frame.is_positive(rest)):
                    one(vector, frame.plus(done, vector * frame.lanes), frame.first(rest))
            states = [tuple(frame.get(room) for room in four) for four in rooms]
            while len(states) > 1:
                half = len(states) // 2
                states = [reduction.merge(a, b) for a, b in zip(states[:half], states[half:], strict=True)]
            for room, part in zip(self.states, states[0], strict=False):
                frame.put(frame.at(room, item), part)

    def _write(
        self,
        items: _Items,
        wide: Sequence[int],
        remembered: Sequence[Sequence[int]],
        done: Sequence[int],
        kept: bool,
    ) -> None:
        frame, builder, function, output = self.frame, self.frame.builder, self.frame.function, self.output
        assert output is not None
        assert function.write is not None
        write = function.write
        with frame.loop(items.count) as item:
            offset, elements = self._extent(items, item)
            sources = self._sources(items, item, elements)
            values, numbers = self._spread(wide, item), self._spread(done, item)
            known = tuple(self._spread(places, item) for places in remembered)
            real = self._item(items, item, output)
            to = builder.select(self.staged, builder.bitcast(self.out_stage, POINTER), real)

            def one(start: Any, mask: Any, known: tuple[State, ...] = known, past_caches: bool = False) -> None:
                row = self._lanes(sources, start, mask)
                position = frame.places(builder.add(offset, start))
                place = frame.offset(to, frame.times(start, output.size))
                if kept:
                    row = (*row, frame.load(place, output.dtype, mask))
                elif function.term is not None:
                    row = (*row, function.term(row, values, position, known)[0])
                (result,) = write(row, values, position, numbers)
                frame.save(place, narrow(result, output.dtype), mask, past_caches)

            def vectors(start: Any, past_caches: bool) -> None:
                """Everything from `start` on."""
                left = builder.sub(elements, start)
                whole = builder.sdiv(left, INTP(frame.lanes))
                for chosen in [known] if kept or function.term is None else frame.branches(known):
                    with frame.loop(whole) as index:
                        one(frame.plus(frame.times(index, frame.lanes), start), None, chosen, past_caches)
                start = builder.add(start, frame.times(whole, frame.lanes))
                left = builder.sub(elements, start)
                with builder.if_then(frame.is_positive(left)):
                    one(start, frame.first(left))

            if kept or not self.streams:
                vectors(INTP(0), False)
            else:
                with builder.if_else(self.streaming, likely=False) as (then, otherwise):
                    with then:
                        before = builder.and_(builder.neg(builder.ptrtoint(to, INTP)), INTP(LINE - 1))
                        before = frame.min(builder.sdiv(before, INTP(output.size)), elements)
                        with builder.if_then(frame.is_positive(before)):
                            one(INTP(0), frame.first(before))
                        vectors(before, True)
                        builder.fence("seq_cst")
                    with otherwise:
                        vectors(INTP(0), False)
            with builder.if_then(self.staged, likely=False):
                size = INTP(output.size)
                frame.copy(real, output.core, builder.bitcast(self.out_stage, POINTER), size, elements, output.dtype)
