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
from ..kernels.rows import BLOCK, LONG, PART, VECTORS, Reduction, State
from .emit import INTP, ITEMSIZE, POINTER
from .lanes import splat, split
from .layout import NUMBERS, PIECE, SLOT, STREAM
from .row_arena import STACK, parts
from .row_frame import LINE, Frame, Operand, folded
from .row_items import Items
from .row_numbers import Numbers, Places
from .row_writing import LINES, SOON, write_items

# Elements of rows that are taken together, so that they are still in the first cache for the next pass, with what is
# kept of them if terms are; and how many rows at least, for the numbers of rows are computed once for all of them.
TOGETHER, TOGETHER_KEPT = 4096, 2304
AT_LEAST, AT_LEAST_KEPT = 4, 2
FEW = 4
ENDS_MATTER = 16 << 10  # bytes of a row below which its first and last line do, if they are not its own
YES, NO = ir.IntType(1)(1), ir.IntType(1)(0)


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
        own, *self.states = rooms
        self.by_parts = function.by_parts and not self.plain
        self.slot = frame.room(frame.float, SLOT * 8 // frame.width)
        # what a term is kept in between the last pass and the output: the output itself
        self.keeps = function.term is not None and output is not None and ITEMSIZE[output.dtype] * 8 == frame.width
        self.piece = (
            SimpleNamespace(**{name: INTP(usual) for name, usual in PIECE}) if self.plain else self._read(piece)
        )
        self.everything = YES if self.plain else frame.builder.icmp_signed("<", self.piece.phase, INTP(0))
        self.numbers = Numbers(frame, own, self._shared(own))

    def _shared(self, own: Any) -> Any:
        builder = self.frame.builder
        return builder.select(self.everything, own, builder.inttoptr(self.piece.numbers, own.type))

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
        self.long, self.supers, self.streaming, self.parted = NO, INTP(1), NO, NO
        self.cached = self.kept = YES  # whether a row stays in the second cache, whether terms are kept in its output
        if not self.plain:
            self.long = builder.icmp_signed(">", length, INTP(BLOCK))
            supers = builder.select(self.long, frame.parts(length, PART[frame.width]), INTP(1))
            self.supers = builder.select(self.everything, supers, builder.sub(piece.last, piece.first))
            few = builder.icmp_signed("<=", length, INTP(LONG[frame.width]))
            self.parted = builder.not_(few) if self.by_parts else NO
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
        if self.output is not None:
            large = builder.and_(large, self._in_lines(self.output))
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

    def _in_lines(self, output: Operand) -> Any:
        """Whether rows are whole cache lines, or so long that the ends matter little.

        A line that is written partly past the caches and partly not takes hundreds of cycles.
        """
        frame, builder = self.frame, self.frame.builder
        begins = builder.icmp_signed("==", frame.to_line(output.base, output), INTP(0))
        apart = builder.icmp_signed("==", builder.and_(output.outer, INTP(LINE - 1)), INTP(0))
        ends = builder.and_(frame.times(self.length, output.size), INTP(LINE - 1))
        whole = builder.and_(apart, builder.icmp_signed("==", ends, INTP(0)))
        long = builder.icmp_signed(">=", frame.times(self.length, output.size), INTP(ENDS_MATTER))
        return builder.or_(builder.and_(begins, whole), long)

    def _group(self, first: Any, present: Any) -> None:
        frame, builder, function, numbers = self.frame, self.frame.builder, self.frame.function, self.numbers
        self.first, self.present = first, present
        values = self.given = tuple(frame.values(self.values, self.inputs[0], first, present))
        self.wide = numbers.places([number.kind for number in values], numbers.own)
        numbers.keep(self.wide, values)
        remembered: list[Places] = self._two_passes() if self.by_parts else []
        known = [numbers.all(places) for places in remembered]
        for k, reduction in enumerate(function.passes[len(known) :], len(known)):
            kinds = [place.kind for place in remembered[-1]] if reduction.when is not None else None
            places = [] if kinds is None else numbers.places(kinds)

            def attempt(k: int = k, reduction: Reduction = reduction, places: Places = places) -> Places:
                running = numbers.places(["float"] * len(reduction.initial))
                with frame.loop(self.supers) as turn:
                    index = builder.add(turn, self.piece.first)
                    with builder.if_then(self._now(2 * k)):
                        self._pass(reduction, index, remembered, running)
                    with builder.if_then(builder.and_(self.long, self._now(2 * k + 1))):
                        self._join(reduction, running, index, index)
                with builder.if_then(self._now(2 * k + 1)):
                    result = reduction.result(numbers.all(running), values, tuple(known))
                    if reduction.when is not None:
                        wanted = reduction.when(values, tuple(known))
                        result = tuple(select(wanted, x, y) for x, y in zip(result, known[-1], strict=True))
                    else:
                        places = numbers.places([number.kind for number in result])
                    numbers.keep(places, result)
                return places

            if reduction.when is None:
                places = attempt()
            else:
                with builder.if_then(self._now(2 * k + 1)):
                    numbers.keep(places, known[-1])
                with builder.if_then(reduction.when(values, tuple(known)).any(), likely=False):
                    attempt()
            remembered.append(places)
            known.append(numbers.all(places))
        last_join = 2 * len(function.passes) - 1
        with builder.if_then(self._now(last_join)):
            finished = function.finish(values, tuple(known))
            for operand, value in zip(self.results, finished[: function.results], strict=True):
                frame.save_numbers(operand, value, first, present)
            done = numbers.places([number.kind for number in finished])
            numbers.keep(done, finished)
        if self.output is None:
            return
        with builder.if_then(self._now(last_join + 1)), frame.loop(self.supers) as turn:
            part = self._items(builder.add(turn, self.piece.first), True)
            if self.keeps:
                with builder.if_else(self.kept) as (then, otherwise):
                    with then:
                        write_items(self, part, remembered, done, True)
                    with otherwise:
                        write_items(self, part, remembered, done, False)
            else:
                write_items(self, part, remembered, done, False)

    def _two_passes(self) -> list[Places]:
        """The first two, of a long row that is in no cache part by part: each part is read from memory once for both.

        Threads that share such a row do the first with the second. What is known of a part is no one else's.
        """
        frame, builder, numbers = self.frame, self.frame.builder, self.numbers
        largest, sums = self.frame.function.passes[:2]
        size = len(largest.initial)
        rounds = builder.select(self.parted, self.supers, INTP(1))
        turns = builder.select(self.parted, INTP(1), self.supers)
        passes, joins = (builder.select(self.parted, INTP(2), INTP(step)) for step in (0, 1))
        own = builder.select(self.parted, numbers.own, numbers.shared)
        so_far = numbers.places(["float"] * size)
        running = numbers.places(["float"] * size, own)
        totals = numbers.places(["float"] * len(sums.initial))
        with frame.loop(rounds) as part:
            before = builder.add(self.piece.first, part)
            with frame.loop(turns) as turn:
                index = builder.add(before, turn)
                with builder.if_then(self._now(passes)):
                    self._pass(largest, index, [], running)
                with builder.if_then(builder.and_(self.long, self._now(joins))):
                    self._join(largest, running, index, builder.select(self.parted, INTP(0), index))
            with builder.if_then(self._now(joins)):
                found = largest.result(numbers.all(running), self.given, ())
                kinds, place = [number.kind for number in found], numbers.used
                of_part = numbers.places(kinds, own)
                numbers.keep(of_part, found)
            with frame.loop(turns) as turn:
                index = builder.add(before, turn)
                with builder.if_then(self._now(2)):
                    self._pass(sums, index, [of_part], totals, size)
                now = builder.and_(self.long, self._now(3))
                with builder.if_then(now), builder.if_else(self.parted) as (then, otherwise):
                    with then:
                        self._join(None, [*so_far, *totals], index, index)
                    with otherwise:
                        self._join(sums, totals, index, index, size)
        of_row = numbers.in_room(numbers.shared, kinds, place)
        with builder.if_then(self._now(3)):
            with builder.if_then(self.parted):
                numbers.keep(of_row, largest.result(numbers.all(so_far), self.given, ()))
            result = sums.result(numbers.all(totals), self.given, (numbers.all(of_row),))
            places = numbers.places([number.kind for number in result])
            numbers.keep(places, result)
        return [of_row, places]

    def _now(self, step: Any) -> Any:
        """Whether this step is to be done: 2 k and 2 k + 1 are pass k and the joining of its totals, then all else."""
        step = INTP(step) if isinstance(step, int) else step
        return self.frame.builder.or_(self.everything, self.frame.builder.icmp_signed("==", self.piece.phase, step))

    def _items(self, index: Any, at_once: bool) -> Items:
        """The rows of the group, or the blocks of a part of a long one: `at_once` if their order does not matter."""
        frame, builder, whole = self.frame, self.frame.builder, PART[self.frame.width]
        start = frame.times(index, whole)
        count = frame.min(INTP(frame.lanes), frame.parts(builder.sub(self.length, start), BLOCK))
        count = builder.select(self.long, count, self.present)
        items = Items(frame, self.length, count, self.first, start, INTP(BLOCK), self.long)
        if at_once:  # unless they are staged
            one = builder.and_(self.long, builder.not_(self.staged))
            items.count = builder.select(one, INTP(1), items.count)
            items.size = builder.select(one, INTP(whole), items.size)
        return items

    def _pass(
        self, reduction: Reduction, index: Any, remembered: Sequence[Places], running: Places, place: int = 0
    ) -> None:
        """A pass over rows, or over a part of a long one, whose total is left in its slot from `place` on."""
        items, last = self._items(index, reduction.repeats), reduction is self.frame.function.last
        if last and self.keeps:
            with self.frame.builder.if_else(self.kept) as (then, otherwise):
                with then:
                    self._reduce(reduction, items, remembered, True, True)
                with otherwise:
                    self._reduce(reduction, items, remembered, True, False)
        else:
            self._reduce(reduction, items, remembered, last, False)
        self._total(reduction, running, items, index, place)

    def _few(self, items: Items) -> Any:
        """Whether there are so few items that it pays not to merge as many states as there are lanes."""
        return self.frame.builder.icmp_signed("<=", items.count, INTP(FEW))

    def _total(self, reduction: Reduction, running: Places, items: Items, index: Any, first: int) -> None:
        """From the states of the items to totals of rows, a lane each, or to that of a part of one long row."""
        frame, size = self.frame, len(reduction.initial)

        def settled(count: int) -> State:
            at = [[frame.at(room, item) for room in self.states[:size]] for item in range(count)]
            states = [tuple(frame.get(place) for place in places) for places in at]
            return reduction.settle(folded(frame, states, reduction.merge))

        if self.plain:
            with frame.builder.if_else(self._few(items)) as (then, otherwise):
                for branch, count in ((then, FEW), (otherwise, frame.lanes)):
                    with branch:
                        self.numbers.keep(running, settled(count))
            return
        total = settled(frame.lanes)
        with frame.builder.if_else(self.long) as (then, otherwise):
            with then:
                row = total
                while row[0].count > 1:
                    halves = [split(part) for part in row]
                    row = frame.join(reduction, tuple(h[0] for h in halves), tuple(h[1] for h in halves))
                for slot, part in zip(self._slots(index, size, first), row, strict=True):
                    frame.builder.store(part.value, slot)
            with otherwise:
                self.numbers.keep(running, total)

    def _slots(self, index: Any, count: int, first: int = 0) -> list[Any]:
        """Where the total of a part of a long row is left: `count` numbers."""
        builder = self.frame.builder
        shared = builder.add(self.piece.totals, self.frame.times(index, SLOT))
        place = builder.select(self.everything, builder.ptrtoint(self.slot, INTP), shared)
        begin = builder.inttoptr(place, self.frame.float.as_pointer())
        return [builder.gep(begin, [INTP(first + k)]) for k in range(count)]

    def _totals(self, index: Any, count: int, first: int = 0) -> State:
        """What is there, in every lane."""
        frame = self.frame
        loaded = [frame.floats(frame.builder.load(slot), 1) for slot in self._slots(index, count, first)]
        return tuple(splat(part, frame.lanes) for part in loaded)

    def _join(self, reduction: Reduction | None, running: Places, index: Any, before: Any, first: int = 0) -> None:
        """One more total of a part of a long row to those before, if there are any: of a pass, or of the first two."""
        frame, builder, numbers = self.frame, self.frame.builder, self.numbers
        part = self._totals(index, len(running), first)
        with builder.if_else(frame.is_positive(before)) as (then, otherwise):
            with then:
                a = numbers.all(running)
                joined = frame.join_parts(a, part, self.given) if reduction is None else frame.join(reduction, a, part)
                numbers.keep(running, joined)
            with otherwise:
                numbers.keep(running, part)

    # --- the items: for each, where its operands are

    def _ahead(self, items: Items, item: Any) -> list[tuple[Any, Operand, bool]]:
        """Where the same item of the rows or blocks that are taken next lies, in every array that is wanted by then.

        An output that nothing is kept in is written when this pass is over: of that, it is the item itself.
        """
        frame, builder = self.frame, self.frame.builder
        found: list[tuple[Any, Operand, bool]] = []
        for operand in [*self.inputs, *([] if self.output is None else [self.output])]:
            rows = builder.mul(builder.select(items.long, INTP(1), items.count), operand.outer)
            parts = frame.times(operand.core, PART[frame.width])
            # A row that stays in the second cache has come there with the first pass.
            step = builder.select(items.long, parts, rows)
            if operand is not self.output:
                step = builder.select(self.cached, rows, step)
            elif not self.keeps:
                step = INTP(0)
            place = frame.offset(items.address(item, operand), step)
            if operand is self.output:  # what is written past the caches, or much later, must not be brought there
                place = builder.select(builder.or_(self.streaming, self.parted), found[0][0], place)
            found.append((place, operand, operand is self.output))
        return found

    def sources(self, items: Items, item: Any, size: Any) -> list[Any]:
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

    def load(self, sources: Sequence[Any], start: Any, mask: Any) -> State:
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
        remembered: Sequence[Places],
        last: bool,
        keep: bool,
    ) -> None:
        frame, builder, function = self.frame, self.frame.builder, self.frame.function
        size = len(reduction.initial)
        room_for = builder.select(self._few(items), INTP(FEW), INTP(frame.lanes)) if self.plain else INTP(frame.lanes)
        with builder.if_then(builder.icmp_signed("<", items.count, room_for)), frame.loop(room_for) as item:
            for room, part in zip(self.states, frame.state(reduction.initial), strict=False):
                frame.put(frame.at(room, item), part)
        with frame.loop(items.count) as item:
            offset, elements = items.extent(item)
            sources = self.sources(items, item, elements)
            values = self.numbers.spread(self.wide, item)
            known = tuple(self.numbers.spread(places, item) for places in remembered)
            rooms = [[frame.room(frame.vector) for _ in range(size)] for _ in range(VECTORS)]
            for four in rooms:
                frame.keep(four, frame.state(reduction.initial))
            to = items.address(item, self.output) if keep and self.output is not None else None

            def one(vector: int, start: Any, mask: Any, known: tuple[State, ...] = known, begins: bool = False) -> None:
                row = self.load(sources, start, mask)
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
            ahead = self._ahead(items, item) if last and reduction is not function.passes[0] else []
            # Whether what is asked for, and what is at work, fit the first cache; of long rows neither does.
            by_parts = self.by_parts and reduction is function.passes[1]
            near = (self.keeps or not self.plain) and (keep or not by_parts)

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
                # a part was asked for while the one before was summed up
                away = builder.and_(self.long, builder.not_(self.parted))
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
                for room, part in zip(self.states, states[0], strict=False):
                    frame.put(frame.at(room, item), part)
