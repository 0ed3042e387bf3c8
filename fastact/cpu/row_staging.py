"""Tiles of rows between memory and scratch arrays, where each element is a vector: as many rows as there are lanes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from .emit import INTP, POINTER, narrow
from .lanes import Lanes, concatenate, shuffle
from .layout import LINE
from .row_frame import Frame, Operand, transposed

ELEMENTS_AHEAD = 12  # elements ahead that lines of a column are asked for: no CPU foresees strides of a page and more
Body = Callable[..., None]
APART = (2, 3)  # rows of so few elements, one after another, are taken apart in registers


class Staging:
    """Emits the loads and stores of one operand; `room` holds element i of the tile i * step bytes on."""

    def __init__(self, frame: Frame, operand: Operand) -> None:
        self.frame, self.operand = frame, operand
        self.piece = 128 // frame.width
        self.corner = frame.room(frame.memory(operand.dtype, frame.lanes), self.piece)

    def load(self, room: Any, step: Any, first: Any, present: Any, start: Any, size: Any) -> None:
        """Bring elements start..start+size of rows first..first+present into the room."""
        frame, builder, operand = self.frame, self.frame.builder, self.operand
        base = self._base(first, start)

        def straight(mask: Any) -> None:
            with frame.loop(size) as i:
                source = frame.offset(base, builder.mul(i, operand.core))
                for line in range(0, frame.lanes * operand.size, LINE):
                    frame.prefetch(
                        frame.offset(source, frame.plus(frame.times(operand.core, ELEMENTS_AHEAD), line)), False
                    )
                value = frame.load(source, operand.dtype, mask, operand.padding)
                frame.put(frame.offset(room, builder.mul(i, step)), value)

        def apart(count: int) -> None:
            raw = frame.raw(base, operand.dtype, frame.lanes * count)
            for k in range(count):
                lanes = list(range(k, frame.lanes * count, count))
                frame.put(
                    frame.offset(room, frame.times(step, k)), frame.widen(shuffle(builder, raw, lanes), operand.dtype)
                )

        def pieces() -> None:
            with self._pieces(size) as at:
                places = self._evenly(frame.offset(base, frame.times(at, operand.size)))
                vectors = [self._joined(places[k :: self.piece]) for k in range(self.piece)]
                self._columns(room, step, at, size, vectors)

        def one_by_one() -> None:
            """Rows that are not there are read from the last one."""
            with self._pieces(size) as at:
                count = frame.min(size, INTP(self.piece))
                with frame.loop(frame.lanes) as lane:
                    row = frame.min(lane, frame.plus(present, -1))
                    source = frame.offset(base, builder.mul(row, operand.outer))
                    source = frame.offset(source, frame.times(at, operand.size))
                    self._copy(self._in_corner(lane), source, count)
                vectors = [frame.raw(frame.at(self.corner, k), operand.dtype, frame.lanes) for k in range(self.piece)]
                self._columns(room, step, at, size, [frame.widen(v, operand.dtype) for v in vectors])

        def otherwise() -> None:
            with builder.if_else(self.in_pieces(present, size)) as (several, few):
                with several:
                    pieces()
                with few:
                    one_by_one()

        self._choose(size, present, straight, apart, otherwise)

    def store(self, room: Any, step: Any, first: Any, present: Any, start: Any, size: Any) -> None:
        """The other way round."""
        frame, builder, operand = self.frame, self.frame.builder, self.operand
        base = self._base(first, start)

        def column(i: Any) -> Lanes:
            return frame.get(frame.offset(room, builder.mul(i, step)))

        def straight(mask: Any) -> None:
            with frame.loop(size) as i:
                to = frame.offset(base, builder.mul(i, operand.core))
                for line in range(0, frame.lanes * operand.size, LINE):
                    frame.prefetch(frame.offset(to, frame.plus(frame.times(operand.core, ELEMENTS_AHEAD), line)), True)
                frame.save(to, narrow(column(i), operand.dtype), mask)

        def apart(count: int) -> None:
            columns = [narrow(column(INTP(k)), operand.dtype) for k in range(count)]
            if count == 3:
                columns.append(ir.Constant(columns[0].type, ir.Undefined))
            lanes = [frame.lanes * k + row for row in range(frame.lanes) for k in range(count)]
            frame.save(base, shuffle(builder, concatenate(builder, columns), lanes))

        def one_by_one() -> None:
            with self._pieces(size) as at:
                places = [frame.min(frame.plus(at, k), frame.plus(size, -1)) for k in range(self.piece)]
                self._fill_corner([column(i) for i in places])
                count = frame.min(size, INTP(self.piece))
                with frame.loop(present) as lane:
                    to = frame.offset(base, builder.mul(lane, operand.outer))
                    self._copy(frame.offset(to, frame.times(at, operand.size)), self._in_corner(lane), count)

        self._choose(size, present, straight, apart, one_by_one)

    def in_pieces(self, present: Any, size: Any) -> Any:
        """Whether this is a whole tile of rows that can be moved 128 bits of each at a time."""
        frame, builder, operand = self.frame, self.frame.builder, self.operand
        along = builder.icmp_signed("!=", operand.outer, INTP(operand.size))
        whole = builder.icmp_signed("==", present, INTP(frame.lanes))
        return builder.and_(along, builder.and_(whole, builder.icmp_signed(">=", size, INTP(self.piece))))

    def store_pieces(self, column: Callable[[Any], Lanes], first: Any, present: Any, start: Any, size: Any) -> None:
        """Write elements start..start+size of such rows, which `column` makes."""
        frame, builder, operand = self.frame, self.frame.builder, self.operand
        kind = frame.memory(operand.dtype, self.piece)
        base, jump = self._base(first, start), frame.times(operand.outer, self.piece)
        with self._pieces(size) as at:
            # through memory: loads pick parts of vectors for nothing, which takes shuffles in registers
            self._fill_corner([column(frame.plus(at, k)) for k in range(self.piece)])
            to = frame.offset(base, frame.times(at, operand.size))
            # a number of rows that is unknown to LLVM, which would make shuffles of it again
            with frame.loop(builder.sdiv(present, INTP(self.piece))) as group:
                place = frame.offset(to, builder.mul(group, jump))
                for k in range(self.piece):
                    source = self._in_corner(frame.plus(frame.times(group, self.piece), k), k)
                    value = builder.load(builder.bitcast(source, kind.as_pointer()), align=operand.size)
                    frame.save(frame.offset(place, frame.times(operand.outer, k)), value)

    def _choose(self, size: Any, present: Any, straight: Body, apart: Body, otherwise: Body) -> None:
        frame, builder, operand = self.frame, self.frame.builder, self.operand
        whole = builder.icmp_signed("==", present, INTP(frame.lanes))
        done = builder.append_basic_block("moved")

        def case(condition: Any, body: Body, *args: Any) -> None:
            chosen, other = builder.append_basic_block("chosen"), builder.append_basic_block("other")
            builder.cbranch(condition, chosen, other)
            builder.position_at_end(chosen)
            body(*args)
            builder.branch(done)
            builder.position_at_end(other)

        neighbours = builder.icmp_signed("==", operand.outer, INTP(operand.size))
        case(builder.and_(neighbours, whole), straight, None)
        case(neighbours, straight, frame.first(present))
        for count in APART:
            row = builder.icmp_signed("==", operand.outer, INTP(operand.size * count))
            entire = builder.and_(whole, builder.icmp_signed("==", size, INTP(count)))
            case(builder.and_(row, entire), apart, count)
        otherwise()
        builder.branch(done)
        builder.position_at_end(done)

    # --- parts of both

    def _base(self, first: Any, start: Any) -> Any:
        frame, operand = self.frame, self.operand
        base = frame.offset(operand.base, frame.builder.mul(first, operand.outer))
        return frame.offset(base, frame.builder.mul(start, operand.core))

    @contextmanager
    def _pieces(self, size: Any) -> Iterator[Any]:
        """A loop over where 128 bits of rows begin: the last ones overlap those before them."""
        frame = self.frame
        last = frame.builder.sub(size, frame.min(size, INTP(self.piece)))
        with frame.loop(frame.parts(size, self.piece)) as k:
            yield frame.min(frame.times(k, self.piece), last)

    def _evenly(self, place: Any) -> list[Any]:
        """Where all rows begin whose first begins at `place`."""
        frame, places = self.frame, []
        jump = frame.times(self.operand.outer, 4)
        for _ in range(frame.lanes // 4):
            places += [frame.offset(place, frame.times(self.operand.outer, k)) for k in range(4)]
            place = frame.offset(place, jump)
        return places

    def _joined(self, places: list[Any]) -> Lanes:
        frame = self.frame
        pieces = [frame.raw(place, self.operand.dtype, self.piece) for place in places]
        return frame.widen(concatenate(frame.builder, pieces), self.operand.dtype)

    def _columns(self, room: Any, step: Any, at: Any, size: Any, vectors: list[Lanes]) -> None:
        """Elements `at` and following of rows; those beyond the last go to its place, and are overwritten there."""
        frame = self.frame
        for k, value in reversed(list(enumerate(transposed(frame, vectors)))):
            i = frame.min(frame.plus(at, k), frame.plus(size, -1))
            frame.put(frame.offset(room, frame.builder.mul(i, step)), value)

    def _fill_corner(self, columns: list[Lanes]) -> None:
        for k, value in enumerate(transposed(self.frame, columns)):
            self.frame.builder.store(narrow(value, self.operand.dtype), self.frame.at(self.corner, k))

    def _in_corner(self, lane: Any, vector: int | None = None) -> Any:
        """Where the corner has the row of a lane: row k of four is in vector k."""
        frame, builder = self.frame, self.frame.builder
        k = builder.and_(lane, INTP(self.piece - 1)) if vector is None else INTP(vector)
        place = frame.offset(frame.at(self.corner, k), frame.times(builder.sub(lane, k), self.operand.size))
        return builder.bitcast(place, POINTER)

    def _copy(self, to: Any, source: Any, count: Any) -> None:
        frame, builder = self.frame, self.frame.builder
        kind = frame.memory(self.operand.dtype, self.piece).as_pointer()
        with builder.if_else(builder.icmp_signed("==", count, INTP(self.piece))) as (then, otherwise):
            with then:
                value = builder.load(builder.bitcast(source, kind), align=1)
                builder.store(value, builder.bitcast(to, kind), align=1)
            with otherwise:
                size = INTP(self.operand.size)
                frame.copy(to, size, source, size, count, self.operand.dtype)
