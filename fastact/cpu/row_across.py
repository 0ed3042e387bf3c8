"""Loops over rows that lie side by side, and over short rows: each lane is a row.

Up to `TILES` tiles of rows, each as many as there are lanes, go through every pass together: their computations do not
hang on each other, and what is read of an array at once is long enough for the memory. Columns of an array are read
where they are; short rows, and what does not fill a tile, come into scratch arrays (`row_staging`).

The states that `row_along` keeps in the lanes of four vectors are made one after another here, and merge in the same
order: depth first, so that few of them are there at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from ..kernels.language import select
from ..kernels.rows import BLOCK, FEW_ELEMENTS, LONG_ROW, Reduction, State
from .emit import INTP, ITEMSIZE, POINTER
from .lanes import Lanes
from .layout import LINE
from .row_arena import OF_A_TILE, SMALL, STACK, TILES, keeps_terms, parts, scratches, tile
from .row_frame import Frame, Operand
from .row_numbers import OfTiles
from .row_staging import Staging
from .row_tree import Step, state_of_few, walk

ROOM = 96  # vectors of elements of short rows that are in flight: they and what comes of them are in the first cache
# bytes of an operand up to which those of the next group are asked for: they fit in the second cache
BYTES_AHEAD = 256 << 10

AT_ONCE = 4  # elements of a row, in a pass that may take them in any order
ELEMENTS_SOON = 8  # how far on they are asked for

Place = tuple[Any, Any]  # where the first element is, and how many bytes on the next one
Merge = Callable[[State, State], State]
Leaf = Callable[[Any, Any], None]


class Across:
    """Emits the loop; it works in the memory at `arena`, or in `stack` if that is 0: then with fewer tiles at once.

    For each tile there are numbers of its rows, then states that wait to be merged. Scratch arrays follow.
    """

    def __init__(
        self,
        frame: Frame,
        inputs: Sequence[Operand],
        values: Sequence[Operand],
        results: Sequence[Operand],
        output: Operand | None,
        arena: Any,
        stack: Any,
    ) -> None:
        self.frame, self.inputs, self.values, self.results, self.output = frame, inputs, values, results, output
        function, builder = frame.function, frame.builder
        self.keeps = keeps_terms(function)
        self.given = builder.icmp_signed("!=", builder.ptrtoint(arena, INTP), INTP(0))
        self.base = builder.select(self.given, arena, stack)
        self.arrays = [*inputs, *([] if output is None else [output])]
        self.direct = all(ITEMSIZE[o.dtype] * 8 == frame.width for o in self.arrays)
        self.staging = [Staging(frame, operand) for operand in self.arrays]
        self.bytes = frame.lanes * frame.width // 8  # of a tile's element
        self.vectors = STACK // self.bytes
        self.tile = tile(function, frame.dtype)
        if self.tile + SMALL * scratches(function) > self.vectors:
            raise ValueError(f"{function.name} needs more than {STACK} bytes for rows of {SMALL} elements")

    def emit(self, count: Any, length: Any) -> None:
        frame, builder = self.frame, self.frame.builder
        self.length, self.blocks = length, frame.parts(length, BLOCK)
        long = builder.icmp_signed(">", length, INTP(LONG_ROW[frame.width]))
        self.long = long if frame.function.by_parts else ir.IntType(1)(0)  # terms are relative to parts at first
        self.zero = builder.lshr(length, INTP(63))
        self.several = builder.icmp_signed(">", self.blocks, INTP(1))
        self.few = builder.and_(frame.is_positive(length), builder.icmp_signed("<=", length, INTP(FEW_ELEMENTS)))
        self.count, size = count, frame.min(length, INTP(BLOCK))
        beside = builder.icmp_signed("==", self.arrays[0].outer, INTP(self.arrays[0].size))
        for operand in self.arrays[1:]:
            beside = builder.and_(beside, builder.icmp_signed("==", operand.outer, INTP(operand.size)))
        direct = beside if self.direct else ir.IntType(1)(0)
        fit = builder.sdiv(builder.select(beside, INTP(BLOCK), INTP(ROOM)), self._max(size, INTP(1)))
        most = builder.select(direct, INTP(TILES), self._max(frame.min(fit, INTP(TILES)), INTP(1)))
        each = frame.plus(frame.times(size, scratches(frame.function)), self.tile)
        fewer = frame.min(most, builder.sdiv(INTP(self.vectors), each))
        most = builder.select(self.given, most, self._max(fewer, INTP(1)))
        # what is read in place needs scratch arrays only for the last rows, which do not fill a tile
        each = builder.mul(size, builder.select(direct, INTP(1), most))
        rooms = [frame.offset(self.base, frame.times(most, self.tile * self.bytes))]
        for _ in self.inputs:
            rooms.append(frame.offset(rooms[-1], frame.times(each, self.bytes)))
        *self.scratch, self.terms = rooms
        whole = builder.sdiv(count, INTP(frame.lanes))
        rest = builder.icmp_signed(">", count, frame.times(whole, frame.lanes))
        groups = builder.sdiv(builder.add(whole, frame.plus(most, -1)), most)
        with frame.loop(builder.add(groups, builder.zext(rest, INTP))) as group:
            before = frame.min(builder.mul(group, most), whole)
            left = builder.sub(whole, before)
            last = builder.icmp_signed("==", left, INTP(0))  # what does not fill a tile
            self.staged = builder.or_(last, builder.not_(direct))
            self.tiles = builder.select(last, INTP(1), frame.min(left, most))
            self.first = frame.times(before, frame.lanes)
            self.present = frame.min(frame.times(self.tiles, frame.lanes), builder.sub(count, self.first))
            self.fits = builder.icmp_signed("<=", builder.mul(length, self.tiles), INTP(BYTES_AHEAD // self.bytes))
            self._group()

    def _max(self, a: Any, b: Any) -> Any:
        return self.frame.builder.select(self.frame.builder.icmp_signed(">", a, b), a, b)

    def _group(self) -> None:
        frame, builder, function = self.frame, self.frame.builder, self.frame.function
        self.numbers = OfTiles(frame, self._number)
        self.numbers.add(["float"] * parts(function))  # the first are the totals of a pass
        with frame.loop(self.tiles) as tile:
            first, present = self._rows(tile)
            values = self.numbers.remember(frame.values(self.values, self.inputs[0], first, present), tile)
        with builder.if_then(builder.and_(self.staged, builder.not_(self.several))):
            self._stage(INTP(0), self.length)
        known = self._two_passes(values) if function.by_parts else []
        for reduction in function.passes[len(known) :]:
            if reduction.when is not None:
                known.append(self._again(reduction, values, known))
                continue
            self._pass(reduction, values, known)
            with frame.loop(self.tiles) as tile:
                total = self._get(self._numbers(tile), reduction)
                found = reduction.result(total, self.numbers.recall(values, tile), self.numbers.all(known, tile))
                left = self.numbers.remember(found, tile)
            known.append(left)
        with frame.loop(self.tiles) as tile:
            finished = function.finish(self.numbers.recall(values, tile), self.numbers.all(known, tile))
            first, present = self._rows(tile)
            for operand, value in zip(self.results, finished[: function.results], strict=True):
                frame.save_numbers(operand, value, first, present)
            done = self.numbers.remember(finished, tile)
        if self.output is None:
            return
        with frame.loop(self.blocks) as block:
            start, size = self._extent(block)
            with builder.if_then(builder.and_(self.staged, self.several)):
                self._stage(start, size)
            if self.keeps and function.term is not None:
                with builder.if_then(builder.or_(builder.and_(self.staged, self.several), self.long)):
                    places, to = self._inputs(start), self._kept(start)
                    with frame.loop(size) as i, frame.loop(self.tiles) as tile:
                        row, position = self._row(places, i, tile), frame.integer(builder.add(start, i))
                        term = function.term(
                            row, self.numbers.recall(values, tile), position, self.numbers.all(known, tile)
                        )
                        self._save(to, i, tile, term[0])
            self._write(start, size, values, done)

    def _two_passes(self, values: Sequence[int]) -> list[list[int]]:
        """What the first two leave behind: both over one part of long rows, then over the next."""
        frame, builder = self.frame, self.frame.builder
        largest, sums = frame.function.passes[:2]
        every = frame.parts(self.blocks, frame.blocks)
        rounds, parts = builder.select(self.long, every, INTP(1)), builder.select(self.long, INTP(1), every)
        size = len(largest.initial)
        count = size + len(sums.initial)
        so_far = self.numbers.add(["float"] * count)
        with frame.loop(rounds) as part:
            self._pass(largest, values, [], (part, parts))
            with frame.loop(self.tiles) as tile:
                total = self._get(self._numbers(tile), largest)
                top = self.numbers.remember(total, tile)
                known = self.numbers.remember(largest.result(total, self.numbers.recall(values, tile), ()), tile)
            self._pass(sums, values, [known], (part, parts))
            with frame.loop(self.tiles) as tile:
                both = *self.numbers.recall(top, tile), *self._get(self._numbers(tile), sums)
                with builder.if_else(frame.is_positive(part), likely=False) as (then, otherwise):
                    with then:
                        before = self.numbers.recall(so_far, tile)
                        self.numbers.replace(
                            so_far, frame.join_parts(before, both, self.numbers.recall(values, tile)), tile
                        )
                    with otherwise:
                        self.numbers.replace(so_far, both, tile)
        with frame.loop(self.tiles) as tile:
            numbers, both = self.numbers.recall(values, tile), self.numbers.recall(so_far, tile)
            with builder.if_then(self.long, likely=False):
                self.numbers.replace(known, largest.result(both[:size], numbers, ()), tile)
            left = self.numbers.remember(sums.result(both[size:], numbers, self.numbers.all([known], tile)), tile)
        return [known, left]

    def _again(self, reduction: Reduction, values: Sequence[int], known: Sequence[Sequence[int]]) -> list[int]:
        """A second attempt at the pass before, if there is a row that wants it."""
        frame, builder, when = self.frame, self.frame.builder, reduction.when
        assert when is not None
        found = frame.room(INTP)
        builder.store(INTP(0), found)
        with frame.loop(self.tiles) as tile:
            wanted = when(self.numbers.recall(values, tile), self.numbers.all(known, tile))
            builder.store(builder.or_(builder.load(found), builder.zext(wanted.any(), INTP)), found)
            places = self.numbers.remember(self.numbers.recall(known[-1], tile), tile)
        with builder.if_then(frame.is_positive(builder.load(found)), likely=False):
            self._many(reduction, values, known, False)
            with frame.loop(self.tiles) as tile:
                numbers, results = self.numbers.recall(values, tile), self.numbers.all(known, tile)
                total = self._get(self._numbers(tile), reduction)
                wanted, again = when(numbers, results), reduction.result(total, numbers, results)
                for place, new, old in zip(places, again, results[-1], strict=True):
                    frame.put(self._numbers(tile, place), select(wanted, new, old))
        return places

    # --- numbers of rows, a vector a tile

    def _rows(self, tile: Any) -> tuple[Any, Any]:
        """The first row of a tile, and how many there are."""
        frame, before = self.frame, self.frame.times(tile, self.frame.lanes)
        left = frame.builder.sub(self.present, before)
        return frame.builder.add(self.first, before), frame.min(INTP(frame.lanes), left)

    def _number(self, place: int, tile: Any) -> Any:
        """Where one lies that is kept until the last pass."""
        if place >= OF_A_TILE:
            raise ValueError(f"{self.frame.function.name} needs more than {OF_A_TILE} numbers of a row")
        return self._numbers(tile, place)

    def _numbers(self, tile: Any, place: int = 0) -> Any:
        """Where a tile keeps its numbers from one on."""
        start = self.frame.times(tile, self.tile * self.bytes)
        return self.frame.offset(self.base, self.frame.plus(start, place * self.bytes))

    def _waiting(self, tile: Any, depth: Any) -> Any:
        """Where it keeps the state that so many bytes of others wait before."""
        return self.frame.offset(self._numbers(tile, OF_A_TILE), depth)

    # --- elements of rows

    def _extent(self, block: Any) -> tuple[Any, Any]:
        start = self.frame.times(block, BLOCK)
        return start, self.frame.min(INTP(BLOCK), self.frame.builder.sub(self.length, start))

    def _place(self, room: Any, operand: Operand, start: Any) -> Place:
        """Where the block at `start` is: in the room if it is staged, else where the operand is."""
        frame, builder = self.frame, self.frame.builder
        base = frame.offset(operand.base, builder.mul(self.first, operand.outer))
        base = frame.offset(base, builder.mul(start, operand.core))
        step = frame.times(self.tiles, self.bytes)
        base = builder.select(self.staged, builder.bitcast(room, POINTER), base)
        return base, builder.select(self.staged, step, operand.core)

    def _inputs(self, start: Any) -> list[Place]:
        return [self._place(room, operand, start) for room, operand in zip(self.scratch, self.inputs, strict=True)]

    def _kept(self, start: Any) -> Place:
        assert self.output is not None
        return self._place(self.terms, self.output, start)

    def _kept_by_pass(self, start: Any) -> Place:
        """The same while the last pass is made: of a long row, nothing is kept."""
        builder, (base, step) = self.frame.builder, self._kept(start)
        base = builder.select(self.long, self.terms, base)
        return base, builder.select(self.long, INTP(0), step)

    def _at(self, place: Place, i: Any, tile: Any) -> Any:
        frame, (base, step) = self.frame, place
        return frame.offset(frame.offset(base, frame.builder.mul(i, step)), frame.times(tile, self.bytes))

    def _load(self, place: Place, i: Any, tile: Any) -> Lanes:
        return self.frame.load(self._at(place, i, tile), "float64" if self.frame.width == 64 else "float32")

    def _save(self, place: Place, i: Any, tile: Any, value: Lanes) -> None:
        self.frame.save(self._at(place, i, tile), value.value)

    def _row(self, places: Sequence[Place], i: Any, tile: Any) -> State:
        return tuple(self._load(place, i, tile) for place in places)

    def _ahead(self, start: Any, results: bool, operands: bool) -> list[Place]:
        """What will be needed soon: what these rows' results are written to, and the operands of the rows after them.

        After the last columns come those of what is probably the next of several matrices.
        """
        frame, builder = self.frame, self.frame.builder
        after = builder.add(self.first, self.present)
        found = []
        for operand in self.arrays:
            if not (results if operand is self.output else operands):
                continue
            here = frame.offset(operand.base, builder.mul(self.first, operand.outer))
            if operand is self.output:
                # for nothing it would better be something that is there anyway
                known = frame.offset(self.inputs[0].base, builder.mul(self.first, self.inputs[0].outer))
                rows, beside = here, builder.select(self.fits, here, known)
            else:
                rows = frame.offset(operand.base, builder.mul(after, operand.outer))
                other = frame.offset(operand.base, builder.mul(self.length, operand.core))
                beside = builder.select(builder.icmp_signed("<", after, self.count), rows, other)
                beside = builder.select(self.fits, beside, here)
            base = builder.select(self.staged, rows, beside)
            step = builder.select(self.staged, frame.times(self.tiles, self.bytes), operand.core)
            found.append((frame.offset(base, builder.mul(start, operand.core)), step))
        return found

    # --- passes

    def _pass(
        self,
        reduction: Reduction,
        values: Sequence[int],
        known: Sequence[Sequence[int]],
        parts: tuple[Any, Any] | None = None,
    ) -> None:
        """Leaves the totals of the rows in the first of their numbers.

        `parts` are the first of the parts of long rows to do, and their number.
        """
        frame, builder, last = self.frame, self.frame.builder, reduction is self.frame.function.last
        with builder.if_else(self.few) as (then, otherwise):
            with then, frame.loop(self.tiles) as tile:
                ahead = self._ahead(INTP(0), last, last)
                step = self._step(reduction, INTP(0), values, known, last, ahead)
                state = state_of_few(frame, self.length, step, reduction, tile)
                self._put(self._numbers(tile), reduction.settle(state))
            with otherwise:
                self._many(reduction, values, known, last, parts)

    def _many(
        self,
        reduction: Reduction,
        values: Sequence[int],
        known: Sequence[Sequence[int]],
        last: bool,
        parts: tuple[Any, Any] | None = None,
    ) -> None:
        frame, builder = self.frame, self.frame.builder
        begin, turns = parts or (INTP(0), frame.parts(self.blocks, frame.blocks))
        with frame.loop(self.tiles) as tile:
            self._put(self._numbers(tile), reduction.settle(frame.state(reduction.initial)))
        with frame.loop(turns) as turn:
            before = frame.times(builder.add(begin, turn), frame.blocks)
            count = frame.min(INTP(frame.blocks), builder.sub(self.blocks, before))

            def block(number: Any, depth: Any, before: Any = before) -> None:
                start, elements = self._extent(builder.add(before, number))
                with builder.if_then(builder.and_(self.staged, self.several)):
                    self._stage(start, elements)
                # each when most of what is computed waits for memory
                ahead = self._ahead(start, not known, reduction is frame.function.slowest)
                step = self._step(reduction, start, values, known, last, ahead)
                self._block(step, reduction, elements, depth, self._inputs(start)[0])
                with frame.loop(self.tiles) as tile:
                    place = self._waiting(tile, depth)
                    self._put(place, reduction.settle(self._get(place, reduction)))

            self._fold(reduction, INTP(0), count, block, lambda a, b: frame.join(reduction, a, b))
            first = builder.icmp_signed("==", turn, INTP(0))
            with frame.loop(self.tiles) as tile:
                total = self._get(self._waiting(tile, INTP(0)), reduction)
                joined = frame.join(reduction, self._get(self._numbers(tile), reduction), total)
                for k, (a, b) in enumerate(zip(total, joined, strict=True)):
                    frame.put(self._numbers(tile, k), a.like(builder.select(first, a.value, b.value)))

    def _step(
        self,
        reduction: Reduction,
        start: Any,
        values: Sequence[int],
        known: Sequence[Sequence[int]],
        last: bool,
        ahead: Sequence[Place],
    ) -> Step:
        """What takes in an element of a tile; `start` is where the block begins."""
        frame, builder, function = self.frame, self.frame.builder, self.frame.function
        places = self._inputs(start)
        terms = self._kept_by_pass(start) if last and self.keeps else None

        def step(i: Any, tile: Any, state: State, begins: bool = False) -> State:
            for place in ahead:
                for line in range(0, self.bytes, LINE):
                    frame.prefetch(frame.offset(self._at(place, i, tile), INTP(line)), False)
            row, position = self._row(places, i, tile), frame.integer(builder.add(start, i))
            numbers, results = self.numbers.recall(values, tile), self.numbers.all(known, tile)
            if last and function.term is not None:
                term = function.term(row, numbers, position, results)
                if terms is not None:
                    self._save(terms, i, tile, term[0])
                row = (*row, *term)
            return (reduction.begun if begins else reduction.step)(state, row, numbers, position, results)

        return step

    def _block(self, step: Step, reduction: Reduction, elements: Any, depth: Any, source: Place) -> None:
        """Leaves the state of a block at a depth."""
        frame, builder = self.frame, self.frame.builder
        fresh = frame.state(reduction.initial)
        if reduction.repeats:
            self._in_order(step, reduction, elements, depth, source)
            return

        def residue(number: Any, depth: Any) -> None:
            with frame.loop(self.tiles) as tile:
                self._put(self._waiting(tile, depth), step(number, tile, fresh, begins=True))
            others = builder.sdiv(builder.sub(frame.plus(elements, -1), number), INTP(frame.residues))
            with frame.loop(others) as k, frame.loop(self.tiles) as tile:
                i = builder.add(number, frame.plus(frame.times(k, frame.residues), frame.residues))
                place = self._waiting(tile, depth)
                self._put(place, step(i, tile, self._get(place, reduction)))
            if reduction.end is not None:
                with frame.loop(self.tiles) as tile:
                    place = self._waiting(tile, depth)
                    self._put(place, reduction.end(self._get(place, reduction)))

        self._fold(reduction, depth, frame.min(elements, INTP(frame.residues)), residue, reduction.merge)

    def _in_order(self, step: Step, reduction: Reduction, elements: Any, depth: Any, source: Place) -> None:
        """The same where any order will do: several elements at a time, as they lie in memory.

        Each is so few lines of a page that the CPU would not find by itself what comes next.
        """
        frame, builder = self.frame, self.frame.builder
        with frame.loop(self.tiles) as tile:
            self._put(self._waiting(tile, depth), frame.state(reduction.initial))

        def steps(first: Any, count: Any, size: int) -> None:
            with frame.loop(count) as turn, frame.loop(self.tiles) as tile:
                place = self._waiting(tile, depth)
                state = self._get(place, reduction)
                for k in range(size):
                    element = builder.add(first, frame.plus(frame.times(turn, size), k))
                    soon = self._at(source, frame.plus(element, ELEMENTS_SOON), tile)
                    for line in range(0, self.bytes, LINE):
                        frame.prefetch(frame.offset(soon, INTP(line)), False, True)
                    state = step(element, tile, state)
                self._put(place, state)

        several = builder.sdiv(elements, INTP(AT_ONCE))
        steps(INTP(0), several, AT_ONCE)
        done = frame.times(several, AT_ONCE)
        steps(done, builder.sub(elements, done), 1)

    def _get(self, place: Any, reduction: Reduction) -> State:
        """The state that lies at a place."""
        frame = self.frame
        return tuple(frame.get(frame.offset(place, INTP(k * self.bytes))) for k in range(len(reduction.initial)))

    def _put(self, place: Any, state: State) -> None:
        """Where LLVM does not know that it is: it would write what is selected with masks, and the next load waits."""
        place = self.frame.offset(place, self.zero)
        for k, part in enumerate(state):
            self.frame.put(self.frame.offset(place, INTP(k * self.bytes)), part)

    def _fold(self, reduction: Reduction, bottom: Any, count: Any, leaf: Leaf, merge: Merge) -> None:
        """Leaves that of the states 0..count at the depth `bottom`; `leaf(number, depth)` leaves one of them there."""

        def pair(a: Any, b: Any) -> None:
            with self.frame.loop(self.tiles) as tile:
                left, right = (self._get(self._waiting(tile, at), reduction) for at in (a, b))
                self._put(self._waiting(tile, a), merge(left, right))

        walk(self.frame, bottom, count, len(reduction.initial) * self.bytes, leaf, pair)

    def _write(self, start: Any, size: Any, values: Sequence[int], done: Sequence[int]) -> None:
        frame, builder, function, output = self.frame, self.frame.builder, self.frame.function, self.output
        assert output is not None
        assert function.write is not None
        write = function.write
        places, to = self._inputs(start), self._place(self.scratch[0], output, start)
        if self.keeps:
            places.append(self._kept(start))

        def result(i: Any, tile: Any) -> Lanes:
            row, position = self._row(places, i, tile), frame.integer(builder.add(start, i))
            made: Lanes = write(row, self.numbers.recall(values, tile), position, self.numbers.recall(done, tile))[0]
            return made

        with builder.if_else(self.staged) as (then, otherwise):
            with then, frame.loop(self.tiles) as tile:
                first, present = self._rows(tile)
                room, step = frame.offset(self.scratch[0], frame.times(tile, self.bytes)), to[1]
                staging = self.staging[-1]
                with builder.if_else(staging.in_pieces(present, size)) as (at_once, by_way):
                    with at_once:
                        staging.store_pieces(lambda i: result(i, tile), first, present, start, size)
                    with by_way:
                        with frame.loop(size) as i:
                            self._save(to, i, tile, result(i, tile))
                        staging.store(room, step, first, present, start, size)
            with otherwise, frame.loop(size) as i, frame.loop(self.tiles) as tile:
                self._save(to, i, tile, result(i, tile))

    def _stage(self, start: Any, size: Any) -> None:
        """Bring elements start..start+size of these rows into the scratch arrays."""
        frame = self.frame
        with frame.loop(self.tiles) as tile:
            first, present = self._rows(tile)
            for staging, scratch in zip(self.staging, self.scratch, strict=False):
                room = frame.offset(scratch, frame.times(tile, self.bytes))
                staging.load(room, frame.times(self.tiles, self.bytes), first, present, start, size)
