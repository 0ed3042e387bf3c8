"""Loops over rows whose elements lie side by side: lanes run along the row.

Up to a vector's worth of rows, or of blocks of one long row, are taken together. Each leaves one vector of states;
these are then merged across, so that what comes of a row is one lane, and numbers of rows are computed for all of them
at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from llvmlite import ir

from ..kernels.language import select
from ..kernels.rows import BLOCK, PART, VECTORS, Reduction, State
from .emit import INTP, ITEMSIZE, POINTER, narrow
from .lanes import Lanes, splat, split
from .layout import NUMBERS, PIECE, SLOT, STREAM
from .row_arena import STACK, parts
from .row_frame import LINE, Frame, Operand, folded
from .row_items import Items

# Elements of rows that are taken together, so that they are still in the first cache for the next pass, with what is
# kept of them if terms are; and how many rows at least, for the numbers of rows are computed once for all of them.
TOGETHER, TOGETHER_KEPT = 4096, 2304
AT_LEAST, AT_LEAST_KEPT = 4, 2
FEW = 4
YES, NO = ir.IntType(1)(1), ir.IntType(1)(0)
KEPT = 256 << 10  # bytes of a row up to which it and its output are in the second cache, and terms are kept
LINES = 128  # elements from which on it pays to read and write whole lines
SOON = 16 << 10  # bytes by which a pass over what is in no cache asks for it ahead


class Along:
    """Emits the loop; `staged` says that rows are strided, and go through a buffer in `stack` block by block.

    `piece` is the address of fields (`fastact.cpu.layout.PIECE`), or 0: it may say that only a part of one long row is
    to be done, so that threads can share a row. Without it, rows are of one block at most, and not strided.
    """

    def __init__(
        self,
        frame: Frame,
        inputs: Sequence[Operand],
        values: Sequence[Operand],
        results: Sequence[Operand],
        output: Operand | None,
        staged: Any,
        stack: Any,
        piece: Any = None,
    ) -> None:
        self.frame, self.inputs, self.values, self.results, self.output = frame, inputs, values, results, output
        self.staged, self.plain = staged if piece is not None else NO, piece is None
        lanes, function = frame.lanes, frame.function
        self.stages, self.out_stage, used = [], None, 0
        for operand in [*inputs, *([] if output is None else [output])]:
            self.stages.append(frame.offset(stack, INTP(used)))
            used += BLOCK * operand.size
        if used > STACK:
            raise ValueError(f"{function.name} needs more than {STACK} bytes for strided rows")
        if output is not None:
            self.out_stage = self.stages.pop()
        counts = [NUMBERS, *[lanes] * parts(function)]
        # rows that are not strided leave the stages free
        rooms = frame.laid_out(stack, counts) if self.plain else [frame.room(frame.vector, k) for k in counts]
        self.own, *self.states = rooms
        self.slot = frame.room(frame.float, parts(function))
        # what a term is kept in between the last pass and the output: the output itself
        self.keeps = function.term is not None and output is not None and ITEMSIZE[output.dtype] * 8 == frame.width
        self.piece = (
            SimpleNamespace(**{name: INTP(usual) for name, usual in PIECE}) if self.plain else self._read(piece)
        )
        self.everything = YES if self.plain else frame.builder.icmp_signed("<", self.piece.phase, INTP(0))
        shared = frame.builder.inttoptr(self.piece.numbers, self.own.type)
        self.shared = frame.builder.select(self.everything, self.own, shared)
        self.numbers: list[tuple[Any, str]] = []  # of rows: where a vector of them is, what kind

    def _read(self, piece: Any) -> Any:
        """The fields at that address, or the usual ones."""
        frame, builder = self.frame, self.frame.builder
        every = frame.room(INTP, len(PIECE))
        for k, (_, usual) in enumerate(PIECE):
            builder.store(INTP(usual), frame.at(every, k))
        given = builder.icmp_signed("!=", builder.ptrtoint(piece, INTP), INTP(0))
        place = builder.select(given, builder.bitcast(piece, every.type), every)
        return SimpleNamespace(**{name: builder.load(frame.at(place, k)) for k, (name, _) in enumerate(PIECE)})

    def emit(self, count: Any, length: Any) -> None:
        frame, builder, piece = self.frame, self.frame.builder, self.piece
        self.length = length
        self.long, self.supers, self.streaming = NO, INTP(1), NO
        self.cached = self.kept = YES  # whether a row stays in the second cache, whether terms are kept in its output
        if not self.plain:
            self.long = builder.icmp_signed(">", length, INTP(BLOCK))
            supers = builder.select(self.long, frame.parts(length, PART[frame.width]), INTP(1))
            self.supers = builder.select(self.everything, supers, builder.sub(piece.last, piece.first))
            few = builder.icmp_signed("<=", length, INTP(KEPT * 8 // frame.width))
            self.cached = self.kept = builder.and_(few, builder.not_(self.staged))
        elements, least = (TOGETHER_KEPT, AT_LEAST_KEPT) if self.keeps else (TOGETHER, AT_LEAST)
        together = builder.sdiv(INTP(elements), frame.plus(length, 1))
        together = builder.select(builder.icmp_signed("<", together, INTP(least)), INTP(least), together)
        together = builder.select(self.long, INTP(1), frame.min(together, INTP(frame.lanes)))
        groups = builder.sdiv(builder.add(count, builder.sub(together, INTP(1))), together)
        # Only where the vectors that are stored are lines, and not if the output has been written to already.
        self.streams = self.output is not None and self.output.size * frame.lanes == LINE
        rows = builder.add(count, piece.others)
        size = builder.mul(rows, frame.times(length, self.output.size if self.output is not None else 0))
        large = builder.and_(builder.icmp_signed(">=", size, INTP(STREAM // 2)), builder.not_(self.staged))
        if not self.keeps:
            self.streaming = large
        elif self.streams and not self.plain:
            # then terms are not kept: computing them again takes no longer than writing does
            self.streaming, self.kept = large, builder.and_(self.kept, builder.not_(large))
        with frame.loop(groups) as group:
            first = builder.mul(group, together)
            present = frame.min(together, builder.sub(count, first))
            self._group(first, present)
        with builder.if_then(self.streaming, likely=False):
            builder.fence("seq_cst")

    def _group(self, first: Any, present: Any) -> None:
        frame, builder, function = self.frame, self.frame.builder, self.frame.function
        whole = PART[frame.width]

        def blocks(index: Any) -> Items:
            start = frame.times(index, whole)
            count = frame.min(INTP(frame.lanes), frame.parts(builder.sub(self.length, start), BLOCK))
            count = builder.select(self.long, count, present)
            return Items(frame, self.length, count, first, start, INTP(BLOCK), self.long)

        def anyhow(index: Any) -> Items:
            """The same elements where their order does not matter: as one item, unless they are staged."""
            items = blocks(index)
            one = builder.and_(self.long, builder.not_(self.staged))
            items.count = builder.select(one, INTP(1), items.count)
            items.size = builder.select(one, INTP(whole), items.size)
            return items

        def each() -> Any:
            return frame.loop(self.supers)

        values = frame.values(self.values, self.inputs[0], first, present)
        wide = self._places([number.kind for number in values], own=True)
        self._keep(wide, values)
        known: list[State] = []
        remembered: list[list[int]] = []
        for k, reduction in enumerate(function.passes):
            kinds = [self.numbers[place][1] for place in remembered[-1]] if reduction.when is not None else None
            places = [] if kinds is None else self._places(kinds)

            def attempt(k: int = k, reduction: Reduction = reduction, places: list[int] = places) -> list[int]:
                last = reduction is function.last
                items = anyhow if reduction.repeats else blocks
                running = self._places(["float"] * self._size(reduction))
                with each() as turn:
                    index = builder.add(turn, self.piece.first)
                    with builder.if_then(self._now(2 * k)):
                        if last and self.keeps:
                            with builder.if_else(self.kept) as (then, otherwise):
                                with then:
                                    self._reduce(reduction, items(index), wide, remembered, True, True)
                                with otherwise:
                                    self._reduce(reduction, items(index), wide, remembered, True, False)
                        else:
                            self._reduce(reduction, items(index), wide, remembered, last, False)
                        self._total(reduction, running, items(index), index)
                    with builder.if_then(builder.and_(self.long, self._now(2 * k + 1))):
                        self._join(reduction, running, index)
                with builder.if_then(self._now(2 * k + 1)):
                    result = reduction.result(self._all(running), tuple(values), tuple(known))
                    if reduction.when is not None:
                        wanted = reduction.when(tuple(values), tuple(known))
                        result = tuple(select(wanted, x, y) for x, y in zip(result, known[-1], strict=True))
                    else:
                        places = self._places([number.kind for number in result])
                    self._keep(places, result)
                return places

            if reduction.when is None:
                places = attempt()
            else:
                with builder.if_then(self._now(2 * k + 1)):
                    self._keep(places, known[-1])
                with builder.if_then(reduction.when(tuple(values), tuple(known)).any(), likely=False):
                    attempt()
            remembered.append(places)
            known.append(self._all(places))
        last_join = 2 * len(function.passes) - 1
        with builder.if_then(self._now(last_join)):
            finished = function.finish(tuple(values), tuple(known))
            for operand, value in zip(self.results, finished[: function.results], strict=True):
                frame.save_numbers(operand, value, first, present)
            done = self._places([number.kind for number in finished])
            self._keep(done, finished)
        if self.output is None:
            return
        with builder.if_then(self._now(last_join + 1)), each() as turn:
            part = anyhow(builder.add(turn, self.piece.first))
            if self.keeps:
                with builder.if_else(self.kept) as (then, otherwise):
                    with then:
                        self._write(part, wide, remembered, done, True)
                    with otherwise:
                        self._write(part, wide, remembered, done, False)
            else:
                self._write(part, wide, remembered, done, False)

    def _now(self, step: int) -> Any:
        """Whether this step is to be done: 2 k and 2 k + 1 are pass k and the joining of its totals, then all else."""
        this = self.frame.builder.icmp_signed("==", self.piece.phase, INTP(step))
        return self.frame.builder.or_(self.everything, this)

    # --- numbers of rows, kept in memory so that each row can spread its own over all lanes

    def _places(self, kinds: Sequence[str], own: bool = False) -> list[int]:
        """A vector more for each; common to all who share a row, unless it is one's own."""
        for kind in kinds:
            self.numbers.append((self.own if own else self.shared, kind))
        if len(self.numbers) > NUMBERS:
            raise ValueError(f"{self.frame.function.name} needs more than {NUMBERS} numbers of a row")
        return list(range(len(self.numbers) - len(kinds), len(self.numbers)))

    def _room(self, place: int) -> Any:
        return self.frame.at(self.numbers[place][0], place)

    def _keep(self, places: Sequence[int], numbers: Sequence[Lanes]) -> None:
        for place, number in zip(places, numbers, strict=True):
            self.frame.put(self._room(place), number)

    def _all(self, places: Sequence[int]) -> State:
        found = [(self.frame.get(self._room(place)), self.numbers[place][1]) for place in places]
        return tuple(number.bits() if kind == "int" else number for number, kind in found)

    def _spread(self, places: Sequence[int], item: Any) -> State:
        frame, builder = self.frame, self.frame.builder
        found = []
        for place in places:
            numbers = builder.bitcast(self._room(place), frame.float.as_pointer())
            one = frame.floats(builder.load(builder.gep(numbers, [item])), 1)
            wide = splat(one, frame.lanes)
            found.append(wide.bits() if self.numbers[place][1] == "int" else wide)
        return tuple(found)

    def _few(self, items: Items) -> Any:
        """Whether there are so few items that it pays not to merge as many states as there are lanes."""
        return self.frame.builder.icmp_signed("<=", items.count, INTP(FEW))

    @staticmethod
    def _size(reduction: Reduction) -> int:
        return len(reduction.initial)

    def _total(self, reduction: Reduction, running: Sequence[int], items: Items, index: Any) -> None:
        """From the states of the items to totals of rows, a lane each, or to that of a part of one long row."""
        frame, size = self.frame, self._size(reduction)

        def settled(count: int) -> State:
            at = [[frame.at(room, item) for room in self.states[:size]] for item in range(count)]
            states = [tuple(frame.get(place) for place in places) for places in at]
            return reduction.settle(folded(frame, states, reduction.merge))

        if self.plain:
            with frame.builder.if_else(self._few(items)) as (then, otherwise):
                for branch, count in ((then, FEW), (otherwise, frame.lanes)):
                    with branch:
                        self._keep(running, settled(count))
            return
        total = settled(frame.lanes)
        with frame.builder.if_else(self.long) as (then, otherwise):
            with then:
                row = total
                while row[0].count > 1:
                    halves = [split(part) for part in row]
                    row = frame.join(reduction, tuple(h[0] for h in halves), tuple(h[1] for h in halves))
                for slot, part in zip(self._slots(reduction, index), row, strict=True):
                    frame.builder.store(part.value, slot)
            with otherwise:
                self._keep(running, total)

    def _slots(self, reduction: Reduction, index: Any) -> list[Any]:
        """Where the total of a part of a long row is left."""
        builder = self.frame.builder
        shared = builder.add(self.piece.totals, self.frame.times(index, SLOT))
        place = builder.select(self.everything, builder.ptrtoint(self.slot, INTP), shared)
        first = builder.inttoptr(place, self.frame.float.as_pointer())
        return [builder.gep(first, [INTP(k)]) for k in range(self._size(reduction))]

    def _join(self, reduction: Reduction, running: Sequence[int], index: Any) -> None:
        """One more total of a part of a long row, in every lane, to those before."""
        frame, builder = self.frame, self.frame.builder
        parts = [frame.floats(builder.load(slot), 1) for slot in self._slots(reduction, index)]
        wide = tuple(splat(part, frame.lanes) for part in parts)
        with builder.if_else(frame.is_positive(index)) as (then, otherwise):
            with then:
                self._keep(running, frame.join(reduction, self._all(running), wide))
            with otherwise:
                self._keep(running, wide)

    # --- the items: for each, where its operands are

    def _ahead(self, items: Items, item: Any) -> list[tuple[Any, Operand, bool]]:
        """Where the same item of the rows or blocks that are taken next lies, in every array."""
        frame, builder = self.frame, self.frame.builder
        found: list[tuple[Any, Operand, bool]] = []
        for operand in [*self.inputs, *([] if self.output is None else [self.output])]:
            rows = builder.mul(builder.select(items.long, INTP(1), items.count), operand.outer)
            parts = frame.times(operand.core, PART[frame.width])
            # A row that stays in the second cache has come there with the first pass.
            step = builder.select(items.long, parts, rows)
            if operand is not self.output:
                step = builder.select(self.cached, rows, step)
            place = frame.offset(items.address(item, operand), step)
            if operand is self.output:  # what is written past the caches must not be brought there
                place = builder.select(self.streaming, found[0][0], place)
            found.append((place, operand, operand is self.output))
        return found

    def _sources(self, items: Items, item: Any, size: Any) -> list[Any]:
        """Pointers to contiguous elements of the inputs."""
        frame, builder = self.frame, self.frame.builder
        places = []
        for operand, stage in zip(self.inputs, self.stages, strict=True):
            pointer = items.address(item, operand)
            place = frame.room(POINTER)
            builder.store(pointer, place)
            with builder.if_then(self.staged, likely=False):
                frame.copy(stage, INTP(operand.size), pointer, operand.core, size, operand.dtype)
                builder.store(stage, place)
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
        items: Items,
        wide: Sequence[int],
        remembered: Sequence[Sequence[int]],
        last: bool,
        keep: bool,
    ) -> None:
        frame, builder, function = self.frame, self.frame.builder, self.frame.function
        size = self._size(reduction)
        room_for = builder.select(self._few(items), INTP(FEW), INTP(frame.lanes)) if self.plain else INTP(frame.lanes)
        with builder.if_then(builder.icmp_signed("<", items.count, room_for)), frame.loop(room_for) as item:
            for room, part in zip(self.states, frame.state(reduction.initial), strict=False):
                frame.put(frame.at(room, item), part)
        with frame.loop(items.count) as item:
            offset, elements = items.extent(item)
            sources = self._sources(items, item, elements)
            values = self._spread(wide, item)
            known = tuple(self._spread(places, item) for places in remembered)
            rooms = [[frame.room(frame.vector) for _ in range(size)] for _ in range(VECTORS)]
            for four in rooms:
                for room, part in zip(four, frame.state(reduction.initial), strict=True):
                    frame.put(room, part)
            to = items.address(item, self.output) if keep and self.output is not None else None

            def one(vector: int, start: Any, mask: Any, known: tuple[State, ...] = known, begins: bool = False) -> None:
                row = self._lanes(sources, start, mask)
                position = frame.places(builder.add(offset, start))
                if last and function.term is not None:
                    term = function.term(row, values, position, known)
                    row = (*row, *term)
                    if to is not None:
                        frame.save(frame.offset(to, frame.times(start, frame.width // 8)), term[0].value, mask)
                state = tuple(frame.get(room) for room in rooms[vector])
                state = (reduction.begun if begins else reduction.step)(state, row, values, position, known)
                for room, part in zip(rooms[vector], state, strict=True):
                    frame.put(room, part)

            # Before a first pass, the CPU finds by itself what is read next.
            ahead = self._ahead(items, item) if last and reduction is not function.passes[0] else []
            near = self.keeps or not self.plain  # then what is asked for, and what is at work, fit the first cache

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
                for chosen in frame.branches(known):
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
                before = frame.to_line(sources[0], self.inputs[0])
                with builder.if_then(frame.is_positive(before)):
                    one(0, INTP(0), None)
                rest = builder.sub(elements, before)
                whole = builder.sdiv(rest, INTP(frame.residues))
                soon = [(frame.offset(p, INTP(SOON)), o, False) for p, o in zip(sources, self.inputs, strict=True)]
                with builder.if_else(self.long) as (then, otherwise):
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
                states = [tuple(frame.get(room) for room in four) for four in rooms]
                while len(states) > 1:
                    half = len(states) // 2
                    states = [merge(a, b) for a, b in zip(states[:half], states[half:], strict=True)]
                for room, part in zip(self.states, states[0], strict=False):
                    frame.put(frame.at(room, item), part)

    def _write(
        self,
        items: Items,
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
            offset, elements = items.extent(item)
            sources = self._sources(items, item, elements)
            values, numbers = self._spread(wide, item), self._spread(done, item)
            known = tuple(self._spread(places, item) for places in remembered)
            real = items.address(item, output)
            to = builder.select(self.staged, self.out_stage, real)

            def place(start: Any) -> Any:
                return frame.offset(to, frame.times(start, output.size))

            def result(start: Any, mask: Any = None, known: tuple[State, ...] = known) -> Any:
                row = self._lanes(sources, start, mask)
                position = frame.places(builder.add(offset, start))
                if kept:
                    row = (*row, frame.load(place(start), output.dtype, mask))
                elif function.term is not None:
                    row = (*row, function.term(row, values, position, known)[0])
                return narrow(write(row, values, position, numbers)[0], output.dtype)

            def lines(first: Any, past_caches: bool) -> None:
                whole = builder.sdiv(builder.sub(elements, first), INTP(frame.lanes))
                for chosen in [known] if kept or function.term is None else frame.branches(known):
                    with frame.loop(whole) as index:
                        start = builder.add(frame.times(index, frame.lanes), first)
                        if past_caches:
                            for source, operand in zip(sources, self.inputs, strict=True):
                                soon = frame.plus(frame.times(start, operand.size), SOON)
                                frame.prefetch(frame.offset(source, soon), False)
                        frame.save(place(start), result(start, None, chosen), None, past_caches)

            def by_lines() -> None:
                """Whole lines, for a store that crosses two takes as long as two; the ends overlap with them."""
                before = builder.select(
                    builder.icmp_signed("<", elements, INTP(LINES)), INTP(0), frame.to_line(to, output)
                )
                rest = builder.srem(builder.sub(elements, before), INTP(frame.lanes))
                ends = [
                    (INTP(0), frame.is_positive(before)),
                    (frame.plus(elements, -frame.lanes), frame.is_positive(rest)),
                ]
                rooms = [frame.room(frame.memory(output.dtype, frame.lanes)) for _ in ends]
                for (start, needed), room in zip(ends, rooms, strict=True):
                    with builder.if_then(needed):  # before anything is written: it may be to where they lie
                        builder.store(result(start), room)
                if kept or not self.streams:
                    lines(before, False)
                else:
                    with builder.if_else(self.streaming, likely=False) as (then, otherwise):
                        with then:
                            lines(before, True)
                        with otherwise:
                            lines(before, False)
                for (start, needed), room in zip(ends, rooms, strict=True):
                    with builder.if_then(needed):
                        frame.save(place(start), builder.load(room))

            few = builder.icmp_signed("<", elements, INTP(frame.lanes))
            with builder.if_else(few, likely=False) as (then, otherwise):
                with then:
                    mask = frame.first(elements)
                    frame.save(place(INTP(0)), result(INTP(0), mask), mask)
                with otherwise:
                    by_lines()
            with builder.if_then(self.staged, likely=False):
                size = INTP(output.size)
                frame.copy(real, output.core, self.out_stage, size, elements, output.dtype)
