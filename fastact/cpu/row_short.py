"""The loop over many rows of one small length that follow on each other: each lane is a row.

The length is known when this is compiled, so that all of a row is straight code: a vector's worth of rows is taken
apart into columns in registers, and put together again. Some tiles of so many rows go through every pass together, for
what comes of one waits for its own numbers only. It adds up in the same order as `row_across`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from ..kernels.rows import FEW_ELEMENTS, Reduction, State
from .emit import INTP, POINTER, narrow
from .lanes import Lanes, call_intrinsic
from .layout import LINE
from .row_arena import keeps_terms, scratches
from .row_frame import Frame, Operand
from .row_network import routed, stages
from .row_numbers import OfTiles, of_kind

ROOM = 96  # vectors of elements that are in flight: they and what comes of them are in the first cache
TILES = 24  # and at most so many tiles: the numbers of each lie on the stack
AGAIN = 14 << 10  # bytes of the stack for the rows that want a second attempt: those of some tiles are brought together
CHAINS = 2  # in which a maximum is found


@dataclass(frozen=True)
class Together:
    """Memory for rows that want a second attempt: their elements, then their numbers, and what it finds."""

    most: int  # tiles whose rows it has room for, if all of them do
    places: list[int]  # of the numbers
    rooms: list[Any]
    results: list[Any]


class Short:
    """Emits the loop."""

    def __init__(
        self,
        frame: Frame,
        n: int,
        inputs: Sequence[Operand],
        values: Sequence[Operand],
        results: Sequence[Operand],
        output: Operand | None,
    ) -> None:
        self.frame, self.n, self.inputs, self.values = frame, n, inputs, values
        self.results, self.output = results, output
        function = frame.function
        self.keeps = keeps_terms(function)
        self.most = max(min(2 * ROOM // max(scratches(function), 2) // n, TILES), 1)
        self.stages = stages(n, frame.lanes)
        self.columns = [self._room(n * self.most) for _ in inputs]
        self.terms = self._room(n * self.most) if self.keeps else None
        arrays = [*inputs, *([] if output is None else [output])]
        self.arrays = arrays
        self.flat = [frame.room(frame.memory(operand.dtype, frame.lanes), n) for operand in arrays]
        self.rooms: list[Any] = []  # for numbers of rows
        self.numbers = OfTiles(frame, self._number)
        *before, last = function.passes
        # whether second attempts come last and may wait for each other, and how many rows do
        self.later = output is None and last.when is not None and all(k.when is None for k in before)
        self.waiting = frame.room(INTP)

    def _room(self, count: int) -> Any:
        return self.frame.room(self.frame.vector, count)

    def emit(self, count: Any) -> None:
        """The loop over groups of tiles, and what does not fill a tile."""
        frame, builder, lanes = self.frame, self.frame.builder, self.frame.lanes
        dense = ir.IntType(1)(1)
        for operand in self.arrays:
            side_by_side = builder.icmp_signed("==", operand.core, INTP(operand.size))
            follow = builder.icmp_signed("==", operand.outer, INTP(self.n * operand.size))
            dense = builder.and_(dense, builder.and_(side_by_side, follow))
        most = builder.select(dense, INTP(self.most * lanes), INTP(lanes))
        lead = builder.select(dense, frame.min(self._lead(), count), INTP(0))
        whole = builder.and_(builder.sub(count, lead), INTP(-lanes))
        rest = builder.sub(builder.sub(count, lead), whole)
        groups = builder.sdiv(builder.add(whole, frame.plus(most, -1)), most)
        for some in (lead, rest):
            groups = builder.add(groups, builder.zext(frame.is_positive(some), INTP))
        done = frame.room(INTP)
        builder.store(INTP(0), done)
        builder.store(INTP(0), self.waiting)
        with frame.loop(groups):
            self.first = builder.load(done)
            left = builder.sub(count, self.first)
            some = builder.select(builder.icmp_signed("<", self.first, lead), lead, frame.min(left, most))
            tiles = builder.sdiv(some, INTP(lanes))
            fewer = builder.or_(builder.icmp_signed("==", tiles, INTP(0)), builder.icmp_signed("<", self.first, lead))
            self.staged = builder.or_(fewer, builder.not_(dense))
            self.tiles = builder.select(fewer, INTP(1), tiles)
            self.present = builder.select(fewer, some, frame.times(tiles, lanes))
            until = builder.add(self.first, self.present)
            self.ends = builder.icmp_signed("==", until, count)
            builder.store(until, done)
            self._group()

    def _lead(self) -> Any:
        """How many rows there are before one where vectors are aligned: a store across two lines takes long."""
        builder, operand, lanes = self.frame.builder, self.arrays[-1], self.frame.lanes
        unit = math.gcd(self.n, lanes)
        place = builder.and_(builder.ptrtoint(operand.base, INTP), INTP(lanes * operand.size - 1))
        never = builder.icmp_signed("!=", builder.and_(place, INTP(unit * operand.size - 1)), INTP(0))
        back = builder.sdiv(place, INTP(-unit * operand.size))
        inverse = pow(self.n // unit, -1, lanes // unit)
        rows = builder.and_(builder.mul(back, INTP(inverse)), INTP(lanes // unit - 1))
        return builder.select(never, INTP(0), rows)

    def _group(self) -> None:
        frame, builder, function = self.frame, self.frame.builder, self.frame.function
        with builder.if_then(self.staged, likely=False):
            for operand, flat in zip(self.inputs, self.flat, strict=False):
                with frame.loop(frame.lanes) as lane:  # rows that are not there are read from the last one
                    row = builder.add(self.first, frame.min(lane, frame.plus(self.present, -1)))
                    self._copy_row(operand, flat, lane, row, False)
        values: list[int] = []
        known: list[list[int]] = []
        for k, reduction in enumerate(function.passes):
            if reduction.when is not None:
                if not self.later:
                    self._again(reduction, values, known)
                known.append(known[-1])
                continue
            last = reduction is function.last
            with frame.loop(self.tiles) as tile:
                if k == 0:
                    self._load(tile)
                    given = frame.values(self.values, self.inputs[0], self._row(tile), self._present())
                    values = self.numbers.remember(given, tile)
                    self._ask(self.output, tile)
                if last:
                    for operand in self.inputs:
                        self._ask(operand, tile)
                numbers, results = self.numbers.recall(values, tile), self.numbers.all(known, tile)
                state = self._state(reduction, self._read(tile), numbers, results, tile if last else None)
                left = self.numbers.remember(reduction.result(reduction.settle(state), numbers, results), tile)
            known.append(left)
        with frame.loop(self.tiles) as tile:
            finished = function.finish(self.numbers.recall(values, tile), self.numbers.all(known, tile))
            for operand, value in zip(self.results, finished[: function.results], strict=True):
                self._save_numbers(operand, value, tile)
            done = self.numbers.remember(finished, tile)
        if self.later:
            self._again_later(function.passes[-1], values, known[:-1])
        if self.output is not None:
            with frame.loop(self.tiles) as tile:
                self._write(tile, self.numbers.recall(values, tile), self.numbers.recall(done, tile))
            with builder.if_then(self.staged, likely=False), frame.loop(self.present) as lane:
                self._copy_row(self.output, self.flat[-1], lane, builder.add(self.first, lane), True)

    # --- elements of rows

    def _row(self, tile: Any) -> Any:
        return self.frame.builder.add(self.first, self.frame.times(tile, self.frame.lanes))

    def _present(self) -> Any:
        return self.frame.min(INTP(self.frame.lanes), self.present)

    def _copy_row(self, operand: Operand, flat: Any, lane: Any, row: Any, back: bool) -> None:
        frame, builder = self.frame, self.frame.builder
        place = frame.offset(operand.base, builder.mul(row, operand.outer))
        ours = frame.offset(flat, frame.times(lane, self.n * operand.size))
        size = INTP(operand.size)
        if back:
            frame.copy(place, operand.core, ours, size, INTP(self.n), operand.dtype)
        else:
            frame.copy(ours, size, place, operand.core, INTP(self.n), operand.dtype)

    def _tile(self, operand: Operand, flat: Any, tile: Any) -> Any:
        """Where the elements of a tile of an array follow on each other."""
        frame, builder = self.frame, self.frame.builder
        place = frame.offset(operand.base, frame.times(self._row(tile), self.n * operand.size))
        return builder.select(self.staged, builder.bitcast(flat, POINTER), place)

    def _load(self, tile: Any) -> None:
        """Bring the rows of a tile into the columns."""
        frame = self.frame
        for operand, flat, columns in zip(self.inputs, self.flat, self.columns, strict=False):
            place, step = self._tile(operand, flat, tile), frame.lanes * operand.size
            found = [frame.load(frame.offset(place, INTP(step * k)), operand.dtype) for k in range(self.n)]
            for have, want in itertools.pairwise(self.stages):
                found = routed(frame.builder, found, have, want)
            for k, value in enumerate(found):
                frame.put(self._at(columns, tile, k), value)

    def _write(self, tile: Any, numbers: State, finished: State) -> None:
        frame, output, write = self.frame, self.output, self.frame.function.write
        assert output is not None
        assert write is not None
        rows, made = self._read(tile), []
        for k, row in enumerate(rows):
            kept = (frame.get(self._at(self.terms, tile, k)),) if self.keeps else ()
            made.append(write((*row, *kept), numbers, frame.integer(INTP(k)), finished)[0])
        for have, want in itertools.pairwise(self.stages[::-1]):
            made = routed(frame.builder, made, have, want)
        place, step = self._tile(output, self.flat[-1], tile), frame.lanes * output.size
        for k, value in enumerate(made):
            frame.save(frame.offset(place, INTP(step * k)), narrow(value, output.dtype))

    def _at(self, room: Any, tile: Any, k: int) -> Any:
        return self.frame.at(room, self.frame.plus(self.frame.times(tile, self.n), k))

    def _read(self, tile: Any) -> list[State]:
        """The rows' elements, column by column."""
        return [tuple(self.frame.get(self._at(room, tile, k)) for room in self.columns) for k in range(self.n)]

    # --- passes

    def _state(
        self, reduction: Reduction, rows: Sequence[State], numbers: State, known: tuple[State, ...], tile: Any
    ) -> State:
        """That of whole rows, in the order of `row_across`; `tile` is where terms are kept, if there are."""
        frame, term = self.frame, self.frame.function.term if tile is not None else None
        initial, merge_few = reduction.few or (reduction.initial, reduction.merge)
        fresh = frame.state(initial)

        def step(k: int, state: State | None = None) -> State:
            row, position = rows[k], frame.integer(INTP(k))
            if term is not None:
                made = term(row, numbers, position, known)
                if self.terms is not None:
                    frame.put(self._at(self.terms, tile, k), made[0])
                row = (*row, *made)
            if state is None:
                return reduction.begun(fresh, row, numbers, position, known)
            return reduction.step(state, row, numbers, position, known)

        def in_turn(k: int) -> State:
            """Every `CHAINS`th element."""
            return step(k, in_turn(k - CHAINS) if k >= CHAINS else None)

        def merged(first: int, stride: int) -> State:
            """Elements first, first + stride, ..."""
            if first + stride >= self.n:
                return reduction.ended(step(first))
            merge = merge_few if (self.n - first - 1) // stride < FEW_ELEMENTS else reduction.merge
            return merge(merged(first, 2 * stride), merged(first + stride, 2 * stride))

        if reduction.repeats:
            ends = [in_turn(k) for k in range(max(self.n - CHAINS, 0), self.n)]
            return functools.reduce(reduction.merge, ends)
        return merged(0, 1)

    def _ask(self, operand: Operand | None, tile: Any) -> None:
        """For the rows of a tile of the next group, or for where this one will be written to."""
        frame, builder = self.frame, self.frame.builder
        if operand is not None:
            further = INTP(0) if operand is self.output else frame.times(self.tiles, frame.lanes)
            row = builder.add(self._row(tile), further)
            place = frame.offset(operand.base, builder.mul(row, operand.outer))
            for line in range(0, frame.lanes * self.n * operand.size, LINE):
                frame.prefetch(frame.offset(place, INTP(line)), operand is self.output, True)

    def _together(self, values: Sequence[int], known: Sequence[Sequence[int]], more: int) -> Together:
        """Room for the rows that want a second attempt, of as many tiles as there is memory for, and for `more`."""
        frame, lanes = self.frame, self.frame.lanes
        places = [*values, *(place for of_pass in known for place in of_pass)]
        vectors = len(self.inputs) * self.n + len(places) + len(known[-1])
        most = max(min(AGAIN // (vectors * lanes * frame.width // 8) - 1 - more, self.most), 1)
        kind = ir.ArrayType(frame.float, lanes * (most + 1 + more))
        rooms = [frame.room(kind) for _ in range(len(self.inputs) * self.n + len(places))]
        return Together(most, places, rooms, [frame.room(kind) for _ in known[-1]])

    def _start(self, room: Any, first: Any) -> Any:
        return self.frame.builder.bitcast(self.frame.at(room, first), self.frame.vector.as_pointer())

    def _add(self, tile: Any, wanted: Lanes, mask: Any, found: Any, together: Together) -> None:
        """Bring the wanted rows of a tile to the others, of which there are `found`."""
        frame, builder = self.frame, self.frame.builder
        elements = [part for row in zip(*self._read(tile), strict=True) for part in row]
        elements += [frame.get(self._number(place, tile)) for place in together.places]
        for room, value in zip(together.rooms, elements, strict=True):
            self._packed(self._start(room, builder.load(found)), value, wanted)
        self._further(mask, found)

    def _further(self, mask: Any, found: Any) -> None:
        builder = self.frame.builder
        count = call_intrinsic(builder, f"llvm.ctpop.i{self.frame.lanes}", mask.type, [mask])
        builder.store(builder.add(builder.load(found), builder.zext(count, INTP)), found)

    def _attempt(
        self,
        reduction: Reduction,
        first: Any,
        together: Together,
        values: Sequence[int],
        known: Sequence[Sequence[int]],
    ) -> tuple[State, tuple[State, ...], State]:
        """A vector of those rows: their values, what is known of them, and what the second attempt finds."""
        frame, n = self.frame, self.n
        vectors = [frame.floats(frame.builder.load(self._start(room, first), align=64)) for room in together.rooms]
        rows = list(zip(*(vectors[n * k : n * (k + 1)] for k in range(len(self.inputs))), strict=True))
        left = [
            of_kind(value, self.numbers.kinds[place])
            for place, value in zip(together.places, vectors[len(self.inputs) * n :], strict=True)
        ]
        parts = iter(left)
        own, *others = (tuple(itertools.islice(parts, len(those))) for those in (values, *known))
        total = reduction.settle(self._state(reduction, rows, own, tuple(others), None))
        return own, tuple(others), reduction.result(total, own, tuple(others))

    def _again(self, reduction: Reduction, values: Sequence[int], known: Sequence[Sequence[int]]) -> None:
        """A second attempt at the pass before, for the rows that want it: they are brought together first."""
        frame, builder, when, lanes = self.frame, self.frame.builder, reduction.when, self.frame.lanes
        assert when is not None
        together, mask_type = self._together(values, known, 0), ir.IntType(lanes)
        most, found, masks = together.most, frame.room(INTP), frame.room(mask_type, together.most)

        def some(first: Any) -> None:
            """Those of a few tiles from one on."""
            tiles = frame.min(INTP(most), builder.sub(self.tiles, first))
            builder.store(INTP(0), found)
            with frame.loop(tiles) as k:
                tile = builder.add(first, k)
                wanted = when(self.numbers.recall(values, tile), self.numbers.all(known, tile))
                mask = builder.bitcast(wanted.value, mask_type)
                builder.store(mask, frame.at(masks, k))
                with builder.if_then(wanted.any(), likely=False):
                    self._add(tile, wanted, mask, found, together)
            count = builder.load(found)
            with builder.if_then(frame.is_positive(count), likely=False):
                with frame.loop(frame.parts(count, lanes)) as turn:
                    at = frame.times(turn, lanes)
                    again = self._attempt(reduction, at, together, values, known)[-1]
                    for room, value in zip(together.results, again, strict=True):
                        builder.store(value.value, self._start(room, at), align=64)
                builder.store(INTP(0), found)
                with frame.loop(tiles) as k:
                    mask = builder.load(frame.at(masks, k))
                    with builder.if_then(builder.icmp_unsigned("!=", mask, mask_type(0)), likely=False):
                        wanted = builder.bitcast(mask, ir.VectorType(ir.IntType(1), lanes))
                        for place, room in zip(known[-1], together.results, strict=True):
                            at = self._number(place, builder.add(first, k))
                            new = builder.load(self._start(room, builder.load(found)), align=frame.width // 8)
                            frame.put(at, self._spread(frame.get(at), new, wanted))
                        self._further(mask, found)

        with frame.loop(frame.parts(self.tiles, most)) as turn:
            some(frame.times(turn, most))

    def _again_later(self, reduction: Reduction, values: Sequence[int], known: Sequence[Sequence[int]]) -> None:
        """The same where rows become numbers: the rows wait until they fill a vector, or there are no more.

        A second attempt is one long chain, which takes as long for a row as for all that fit into a vector. The first
        attempt's results have been written by now; those of the second one are put in their places.
        """
        frame, builder, when, lanes = self.frame, self.frame.builder, reduction.when, self.frame.lanes
        assert when is not None
        together, mask_type = self._together(values, known, 1), ir.IntType(lanes)
        most, indices = together.most, frame.room(INTP, lanes * (together.most + 2))

        def note(tile: Any, mask: Any) -> None:
            """Which rows they are."""
            left, end = frame.room(mask_type), frame.room(INTP)
            builder.store(mask, left)
            builder.store(builder.load(self.waiting), end)
            count = call_intrinsic(builder, f"llvm.ctpop.i{lanes}", mask_type, [mask])
            with frame.loop(builder.zext(count, INTP)):
                now, place = builder.load(left), builder.load(end)
                lane = call_intrinsic(builder, f"llvm.cttz.i{lanes}", mask_type, [now, ir.IntType(1)(1)])
                row = builder.add(self._row(tile), builder.zext(lane, INTP))
                builder.store(row, frame.at(indices, place))
                builder.store(builder.and_(now, builder.sub(now, mask_type(1))), left)
                builder.store(frame.plus(place, 1), end)

        def finish(turn: Any) -> None:
            at = frame.times(turn, lanes)
            own, others, again = self._attempt(reduction, at, together, values, known)
            finished = frame.function.finish(own, (*others, again))
            present = frame.min(INTP(lanes), builder.sub(builder.load(self.waiting), at))
            for operand, value in zip(self.results, finished, strict=False):
                out = narrow(value, operand.dtype)
                room = frame.room(out.type)
                builder.store(out, room)
                source = builder.bitcast(room, POINTER)
                with frame.loop(present) as k:
                    row = builder.load(frame.at(indices, builder.add(at, k)))
                    to = frame.offset(operand.base, builder.mul(row, operand.outer))
                    one = frame.offset(source, frame.times(k, operand.size))
                    frame.copy(to, INTP(0), one, INTP(0), INTP(1), operand.dtype)

        with frame.loop(frame.parts(self.tiles, most)) as part:
            first = frame.times(part, most)
            tiles = frame.min(INTP(most), builder.sub(self.tiles, first))
            with frame.loop(tiles) as k:
                tile = builder.add(first, k)
                wanted = when(self.numbers.recall(values, tile), self.numbers.all(known, tile))
                there = builder.bitcast(frame.first(self._present()), mask_type)
                mask = builder.and_(builder.bitcast(wanted.value, mask_type), there)
                with builder.if_then(builder.icmp_unsigned("!=", mask, mask_type(0)), likely=False):
                    note(tile, mask)
                    chosen = wanted.like(builder.bitcast(mask, ir.VectorType(ir.IntType(1), lanes)), "mask")
                    self._add(tile, chosen, mask, self.waiting, together)
            count = builder.load(self.waiting)
            last = builder.and_(self.ends, builder.icmp_signed("==", builder.add(first, tiles), self.tiles))
            turns = builder.select(last, frame.parts(count, lanes), builder.sdiv(count, INTP(lanes)))
            with builder.if_then(frame.is_positive(turns), likely=False):
                with frame.loop(turns) as turn:
                    finish(turn)
                rest = frame.times(turns, lanes)  # those that wait on, fewer than a vector
                for room in together.rooms:
                    builder.store(builder.load(self._start(room, rest), align=64), self._start(room, INTP(0)), align=64)
                left = builder.sub(count, rest)
                with frame.loop(builder.select(last, INTP(0), left)) as k:
                    moved = builder.load(frame.at(indices, builder.add(rest, k)))
                    builder.store(moved, frame.at(indices, k))
                builder.store(left, self.waiting)

    def _packed(self, pointer: Any, value: Lanes, wanted: Lanes) -> None:
        """Store the wanted lanes side by side; what comes after them is overwritten or not looked at."""
        kind = self.frame.vector
        name = f"llvm.x86.avx512.mask.compress.v{kind.count}f{self.frame.width}"
        args = [self._bits(value), ir.Constant(kind, ir.Undefined), wanted.value]
        packed = call_intrinsic(self.frame.builder, name, kind, args)
        self.frame.builder.store(packed, pointer, align=self.frame.width // 8)

    def _bits(self, value: Lanes) -> Any:
        return self.frame.builder.bitcast(value.value, self.frame.vector)

    def _spread(self, old: Lanes, new: Any, wanted: Any) -> Lanes:
        """The first lanes of `new` in the wanted lanes of `old`."""
        kind = self.frame.vector
        name = f"llvm.x86.avx512.mask.expand.v{kind.count}f{self.frame.width}"
        return old.like(call_intrinsic(self.frame.builder, name, kind, [new, old.value, wanted]))

    # --- numbers of rows, a vector a tile

    def _number(self, place: int, tile: Any) -> Any:
        """Where one lies; its room is made when it is first kept."""
        if place == len(self.rooms):
            self.rooms.append(self._room(self.most))
        return self.frame.at(self.rooms[place], tile)

    def _save_numbers(self, operand: Operand, value: Lanes, tile: Any) -> None:
        frame, builder = self.frame, self.frame.builder
        row, present = self._row(tile), self._present()
        beside = builder.icmp_signed("==", operand.outer, INTP(operand.size))
        whole = builder.icmp_signed("==", present, INTP(frame.lanes))
        with builder.if_else(builder.and_(beside, whole), likely=True) as (then, otherwise):
            with then:
                to = frame.offset(operand.base, frame.times(row, operand.size))
                frame.save(to, narrow(value, operand.dtype))
            with otherwise:
                frame.save_numbers(operand, value, row, present)
