"""Loops over rows that lie side by side, and over short rows: each lane is a row.

Elements come into a scratch array one vector of rows an element: straight from memory where rows are neighbours, as
along the first axis of an array, or transposed in registers where elements are. The states that `row_along` keeps in
the lanes of four vectors are as many vectors in memory here, and merge in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from ..kernels.rows import BLOCK, Reduction, State
from .emit import INTP, POINTER, narrow
from .lanes import Lanes
from .row_frame import LINE, Frame, Operand, transposed

AHEAD = 12  # elements ahead that lines of a column are asked for: no CPU foresees strides of a page and more


class Across:
    """Emits the loop."""

    def __init__(
        self,
        frame: Frame,
        inputs: Sequence[Operand],
        values: Sequence[Operand],
        results: Sequence[Operand],
        output: Operand | None,
    ) -> None:
        self.frame, self.inputs, self.values, self.results, self.output = frame, inputs, values, results, output
        function = frame.function
        self.scratch = [frame.room(frame.vector, BLOCK) for _ in inputs]
        self.terms = frame.room(frame.vector, BLOCK) if function.term is not None else None
        parts = max(len(r.initial) for r in function.passes)
        self.states = [frame.room(frame.vector, frame.residues) for _ in range(parts)]
        self.totals = [frame.room(frame.vector, frame.blocks) for _ in range(parts)]
        self.pointers = frame.room(POINTER, frame.lanes)
        self.nowhere = frame.room(frame.float, BLOCK)  # where rows go that are not there

    def emit(self, count: Any, length: Any) -> None:
        frame, builder = self.frame, self.frame.builder
        self.length, self.blocks = length, frame.parts(length, BLOCK)
        self.several = builder.icmp_signed(">", self.blocks, INTP(1))
        with frame.loop(frame.parts(count, frame.lanes)) as tile:
            self.first = frame.times(tile, frame.lanes)
            self.present = frame.min(INTP(frame.lanes), builder.sub(count, self.first))
            self.whole = builder.icmp_signed("==", self.present, INTP(frame.lanes))
            self.mask = frame.first(self.present)
            self._tile()

    def _tile(self) -> None:
        frame, builder, function = self.frame, self.frame.builder, self.frame.function
        values = tuple(frame.values(self.values, self.inputs[0], self.first, self.present))
        with builder.if_then(builder.not_(self.several)):
            self._stage(INTP(0), self.length)
        known: list[State] = []
        for reduction in function.passes:
            last = reduction is function.last

            def total(reduction: Reduction = reduction, last: bool = last) -> State:
                return self._pass(reduction, values, tuple(known), last)

            known.append(frame.attempted(reduction, values, tuple(known), total))
        finished = function.finish(values, tuple(known))
        for operand, value in zip(self.results, finished[: function.results], strict=True):
            frame.save_numbers(operand, value, self.first, self.present)
        if self.output is not None:
            with frame.loop(self.blocks) as block:
                start, size = self._extent(block)
                with builder.if_then(self.several):
                    self._stage(start, size)
                    if function.term is not None:
                        with frame.loop(size) as i:
                            row, position = self._row(i), frame.integer(builder.add(start, i))
                            frame.put(frame.at(self.terms, i), function.term(row, values, position, tuple(known))[0])
                self._write(start, size, values, finished)

    def _extent(self, block: Any) -> tuple[Any, Any]:
        start = self.frame.times(block, BLOCK)
        return start, self.frame.min(INTP(BLOCK), self.frame.builder.sub(self.length, start))

    def _row(self, i: Any) -> State:
        return tuple(self.frame.get(self.frame.at(room, i)) for room in self.scratch)

    # --- passes

    def _pass(self, reduction: Reduction, values: State, known: tuple[State, ...], last: bool) -> State:
        """The totals of the rows, each in its lane."""
        frame, builder = self.frame, self.frame.builder
        size = len(reduction.initial)
        running = [frame.room(frame.vector) for _ in range(size)]
        empty = reduction.settle(frame.state(reduction.initial))
        for room, part in zip(running, empty, strict=True):
            frame.put(room, part)
        with frame.loop(frame.parts(self.blocks, frame.blocks)) as index:
            before = frame.times(index, frame.blocks)
            count = frame.min(INTP(frame.blocks), builder.sub(self.blocks, before))
            with frame.loop(count) as block:
                start, elements = self._extent(builder.add(before, block))
                with builder.if_then(self.several):
                    self._stage(start, elements)
                self._block(reduction, start, elements, values, known, last)
                state = tuple(frame.get(frame.at(room, 0)) for room in self.states[:size])
                for room, part in zip(self.totals, reduction.settle(state), strict=False):
                    frame.put(frame.at(room, block), part)
            self._tree(self.totals[:size], frame.blocks, count, lambda a, b: frame.join(reduction, a, b))
            total = tuple(frame.get(frame.at(room, 0)) for room in self.totals[:size])
            so_far = tuple(frame.get(room) for room in running)
            joined = frame.join(reduction, so_far, total)
            first = builder.icmp_signed("==", index, INTP(0))
            for room, a, b in zip(running, total, joined, strict=True):
                frame.put(room, a.like(builder.select(first, a.value, b.value)))
        return tuple(frame.get(room) for room in running)

    def _block(
        self, reduction: Reduction, start: Any, elements: Any, values: State, known: tuple[State, ...], last: bool
    ) -> None:
        """Leaves the state of a block in the first of the states."""
        frame, builder, function = self.frame, self.frame.builder, self.frame.function
        rooms = self.states[: len(reduction.initial)]
        fresh = frame.state(reduction.initial)

        def step(i: Any, state: State, residue: Any) -> None:
            row, position = self._row(i), frame.integer(builder.add(start, i))
            if last and function.term is not None:
                term = function.term(row, values, position, known)
                frame.put(frame.at(self.terms, i), term[0])
                row = (*row, *term)
            for room, part in zip(rooms, reduction.step(state, row, values, position, known), strict=True):
                frame.put(frame.at(room, residue), part)

        residues = frame.min(elements, INTP(frame.residues))
        with frame.loop(residues) as i:
            step(i, fresh, i)
        with frame.loop(builder.sub(elements, residues)) as k:
            i = frame.plus(k, frame.residues)
            residue = builder.and_(i, INTP(frame.residues - 1))
            step(i, tuple(frame.get(frame.at(room, residue)) for room in rooms), residue)
        self._tree(rooms, frame.residues, residues, reduction.merge)

    def _tree(self, rooms: Sequence[Any], capacity: int, count: Any, merge: Any) -> None:
        """Merge the first `count` of the states, each with the one h on: h = capacity/2, ..., 2, 1."""
        frame, builder = self.frame, self.frame.builder
        h = capacity // 2
        while h:
            with frame.loop(frame.min(INTP(h), builder.sub(count, INTP(h)))) as k:
                a, b = (tuple(frame.get(frame.at(room, frame.plus(k, shift))) for room in rooms) for shift in (0, h))
                for room, part in zip(rooms, merge(a, b), strict=True):
                    frame.put(frame.at(room, k), part)
            h //= 2

    def _write(self, start: Any, size: Any, values: State, finished: State) -> None:
        frame, builder, function, output = self.frame, self.frame.builder, self.frame.function, self.output
        assert output is not None
        assert function.write is not None
        write = function.write
        base = frame.offset(output.base, builder.mul(self.first, output.outer))
        base = frame.offset(base, builder.mul(start, output.core))

        def result(i: Any) -> Lanes:
            row, position = self._row(i), frame.integer(builder.add(start, i))
            if function.term is not None:
                row = (*row, frame.get(frame.at(self.terms, i)))
            made: Lanes = write(row, values, position, finished)[0]
            return made

        def straight(mask: Any) -> None:
            with frame.loop(size) as i:
                to = frame.offset(base, builder.mul(i, output.core))
                for line in range(0, frame.lanes * output.size, LINE):
                    frame.prefetch(frame.offset(to, frame.plus(frame.times(output.core, AHEAD), line)), True)
                frame.save(to, narrow(result(i), output.dtype), mask)

        with builder.if_else(self._neighbours(output)) as (then, otherwise):
            with then, builder.if_else(self.whole) as (all_rows, some_rows):
                with all_rows:
                    straight(None)
                with some_rows:
                    straight(self.mask)
            with otherwise:
                with frame.loop(size) as i:
                    frame.put(frame.at(self.scratch[0], i), result(i))
                self._transpose(output, self.scratch[0], start, size, store=True)

    # --- between memory and scratch

    def _neighbours(self, operand: Operand) -> Any:
        """Whether rows, not elements, lie side by side in memory."""
        return self.frame.builder.icmp_signed("==", operand.outer, INTP(operand.size))

    def _stage(self, start: Any, size: Any) -> None:
        """Bring elements start..start+size of the rows of this tile into the scratch arrays."""
        frame, builder = self.frame, self.frame.builder
        for operand, room in zip(self.inputs, self.scratch, strict=True):
            base = frame.offset(operand.base, builder.mul(self.first, operand.outer))
            base = frame.offset(base, builder.mul(start, operand.core))

            def straight(
                mask: Any, operand: Operand = operand, room: Any = room, base: Any = base, size: Any = size
            ) -> None:
                with frame.loop(size) as i:
                    source = frame.offset(base, builder.mul(i, operand.core))
                    for line in range(0, frame.lanes * operand.size, LINE):
                        frame.prefetch(frame.offset(source, frame.plus(frame.times(operand.core, AHEAD), line)), False)
                    frame.put(frame.at(room, i), frame.load(source, operand.dtype, mask, operand.padding))

            with builder.if_else(self._neighbours(operand)) as (then, otherwise):
                with then, builder.if_else(self.whole) as (all_rows, some_rows):
                    with all_rows:
                        straight(None)
                    with some_rows:
                        straight(self.mask)
                with otherwise:
                    self._transpose(operand, room, start, size, store=False)

    def _transpose(self, operand: Operand, room: Any, start: Any, size: Any, store: bool) -> None:
        """Rows of contiguous elements, 128 bits of each at a time."""
        frame, builder = self.frame, self.frame.builder
        piece = 128 // frame.width
        move = self._scatter if store else self._gather
        base = frame.offset(operand.base, builder.mul(self.first, operand.outer))
        base = frame.offset(base, frame.times(start, operand.size))

        def evenly(at: Any) -> list[Any]:
            """Where the rows of a whole tile have their elements from `at` on."""
            places = [frame.offset(base, frame.times(at, operand.size))]
            for _ in range(frame.lanes - 1):
                places.append(frame.offset(places[-1], operand.outer))
            return places

        def listed(at: Any) -> list[Any]:
            bytes_on = frame.times(at, operand.size)
            rows = range(frame.lanes)
            return [frame.offset(builder.load(frame.at(self.pointers, row)), bytes_on) for row in rows]

        long = builder.icmp_signed(">=", size, INTP(piece))
        with builder.if_else(builder.and_(long, self.whole)) as (then, otherwise):
            with then, frame.loop(frame.parts(size, piece)) as k:
                # the last piece overlaps the one before it, and moves the same elements to the same places
                at = frame.min(frame.times(k, piece), frame.plus(size, -piece))
                move(operand, room, at, evenly(at), None, piece)
            with otherwise:
                self._list_rows(base, operand, store)
                with builder.if_else(long) as (several, few):
                    with several, frame.loop(frame.parts(size, piece)) as k:
                        at = frame.min(frame.times(k, piece), frame.plus(size, -piece))
                        move(operand, room, at, listed(at), None, piece)
                    with few:
                        move(operand, room, INTP(0), listed(INTP(0)), size, piece)

    def _list_rows(self, base: Any, operand: Operand, store: bool) -> None:
        """Where each row of this tile begins; those that are not there are read from the last and written nowhere."""
        frame, builder = self.frame, self.frame.builder
        with frame.loop(frame.lanes) as lane:
            row = frame.min(lane, frame.plus(self.present, -1))
            place = frame.offset(base, builder.mul(row, operand.outer))
            if store:
                beyond = builder.icmp_signed(">=", lane, self.present)
                place = builder.select(beyond, builder.bitcast(self.nowhere, POINTER), place)
            builder.store(place, frame.at(self.pointers, lane))

    def _gather(self, operand: Operand, room: Any, at: Any, places: Sequence[Any], limit: Any, piece: int) -> None:
        frame, builder = self.frame, self.frame.builder
        mask = None if limit is None else frame.first(limit, piece)
        vectors = []
        for k in range(piece):
            pieces = [frame.raw(place, operand.dtype, piece, mask, operand.padding) for place in places[k::piece]]
            while len(pieces) > 1:
                both = ir.VectorType(ir.IntType(32), 2 * pieces[0].type.count)
                every = ir.Constant(both, list(range(both.count)))
                pieces = [builder.shuffle_vector(a, b, every) for a, b in zip(pieces[::2], pieces[1::2], strict=True)]
            vectors.append(frame.widen(pieces[0], operand.dtype))
        for k, value in enumerate(transposed(frame, vectors)):
            frame.put(frame.at(room, frame.plus(at, k)), value)

    def _scatter(self, operand: Operand, room: Any, at: Any, places: Sequence[Any], limit: Any, piece: int) -> None:
        frame, builder = self.frame, self.frame.builder
        mask = None if limit is None else frame.first(limit, piece)
        columns = [frame.get(frame.at(room, frame.plus(at, k))) for k in range(piece)]
        for k, value in enumerate(transposed(frame, columns)):
            out = narrow(value, operand.dtype)
            for group, place in enumerate(places[k::piece]):
                lanes = ir.Constant(
                    ir.VectorType(ir.IntType(32), piece), list(range(group * piece, (group + 1) * piece))
                )
                part = builder.shuffle_vector(out, ir.Constant(out.type, ir.Undefined), lanes)
                frame.save(place, part, mask)
