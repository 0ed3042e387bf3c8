"""What the loops over rows share: the shape of a block, loads and stores of lanes, and lanes turned into rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from ..kernels.language import select
from ..kernels.rows import FEW_ELEMENTS, VECTOR, Reduction, RowFunction, State
from .emit import INTP, ITEMSIZE, POINTER, element, loop, narrow, widen
from .lanes import Builder, Lanes, Target, call_intrinsic, splat, suffix
from .layout import LINE, ROW_FIELDS
from .row_arena import residues, width

I32 = ir.IntType(32)


@dataclass
class Operand:
    """One array operand: where it starts, its strides from row to row and along a row, in bytes."""

    base: Any
    outer: Any
    core: Any
    dtype: str
    padding: float = 0.0

    @property
    def size(self) -> int:
        return ITEMSIZE[self.dtype]


def arena_in(builder: Builder, piece: Any) -> Any:
    """The arena that the fields at this address (`fastact.cpu.layout.ROW_FIELDS`) name; it and they may be 0."""
    place = builder.gep(piece, [INTP(8 * [name for name, _ in ROW_FIELDS].index("arena"))])
    given = builder.icmp_signed("!=", builder.ptrtoint(piece, INTP), INTP(0))
    none = cgutils.alloca_once_value(builder, INTP(0))
    field = builder.select(given, builder.bitcast(place, none.type), none)
    return builder.inttoptr(builder.load(field), POINTER)


class Frame:
    """The function being built, and what it is made for; lanes are those of `vectors` vectors."""

    def __init__(
        self, builder: Builder, function: RowFunction, dtype: str, length: Any, target: Target, vectors: int = 1
    ) -> None:
        self.builder, self.function, self.dtype, self.target = builder, function, dtype, target
        self.width = width(dtype)
        self.blocks = VECTOR // self.width  # whose totals are joined before they are added to those before
        self.lanes = self.blocks * vectors
        self.residues = residues(dtype)
        self.float = ir.DoubleType() if self.width == 64 else ir.FloatType()
        self.vector = ir.VectorType(self.float, self.lanes)
        self.length = length

    # --- integers

    def min(self, a: Any, b: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def times(self, a: Any, b: Any) -> Any:
        return self.builder.mul(a, INTP(b) if isinstance(b, int) else b)

    def plus(self, a: Any, b: Any) -> Any:
        return self.builder.add(a, INTP(b) if isinstance(b, int) else b)

    def parts(self, n: Any, size: int) -> Any:
        """n / size, rounded up."""
        return self.builder.sdiv(self.builder.add(n, INTP(size - 1)), INTP(size))

    def is_positive(self, n: Any) -> Any:
        return self.builder.icmp_signed(">", n, INTP(0))

    @contextmanager
    def loop(self, count: Any, unroll: bool = False) -> Iterator[Any]:
        """`count` times; the index."""
        with loop(self.builder, INTP(count) if isinstance(count, int) else count, unroll) as index:
            yield index

    # --- memory

    def room(self, kind: ir.Type, count: int | None = None) -> Any:
        """Memory of the stack, aligned to a cache line."""
        with self.builder.goto_entry_block():
            made = self.builder.alloca(kind if count is None else ir.ArrayType(kind, count))
            made.align = 64
        return made

    def laid_out(self, memory: Any, counts: Sequence[int]) -> list[Any]:
        """Rooms for so many vectors each, which follow on each other in memory."""
        rooms, start = [], 0
        for count in counts:
            kind = ir.ArrayType(self.vector, count).as_pointer()
            rooms.append(self.builder.bitcast(self.offset(memory, INTP(start)), kind))
            start += count * self.lanes * self.width // 8
        return rooms

    def at(self, room: Any, *index: Any) -> Any:
        """The address of an element of a room."""
        return self.builder.gep(room, [INTP(0), *(INTP(i) if isinstance(i, int) else i for i in index)])

    def offset(self, pointer: Any, size: Any) -> Any:
        """`size` bytes on from `pointer`."""
        return self.builder.gep(self.builder.bitcast(pointer, POINTER), [size])

    def to_line(self, pointer: Any, operand: Operand) -> Any:
        """How many elements there are from `pointer` to where a vector of them would cross no line."""
        past = self.builder.and_(
            self.builder.neg(self.builder.ptrtoint(pointer, INTP)), INTP(self.lanes * operand.size - 1)
        )
        return self.builder.sdiv(past, INTP(operand.size))

    def get(self, pointer: Any) -> Lanes:
        """The vector at an aligned place in a room."""
        return self.floats(self.builder.load(self.builder.bitcast(pointer, self.vector.as_pointer()), align=64))

    def put(self, pointer: Any, value: Lanes) -> None:
        out = self.builder.bitcast(value.value, self.vector) if value.kind == "int" else value.value
        self.builder.store(out, self.builder.bitcast(pointer, self.vector.as_pointer()), align=64)

    def keep(self, places: Sequence[Any], state: State) -> None:
        """Write each number of a state to a place of its own."""
        for place, part in zip(places, state, strict=True):
            self.put(place, part)

    # --- lanes

    def floats(self, value: Any, count: int | None = None) -> Lanes:
        return Lanes(self.builder, value, "float", self.width, count or self.lanes, self.target)

    def constant(self, value: float, count: int | None = None) -> Lanes:
        count = count or self.lanes
        kind = self.float if count == 1 else ir.VectorType(self.float, count)
        return self.floats(ir.Constant(kind, None), count).const(value)

    def state(self, values: Sequence[float]) -> State:
        return tuple(self.constant(value) for value in values)

    def integer(self, value: Any) -> Lanes:
        """An index in every lane."""
        kind = ir.IntType(self.width)
        one = self.builder.trunc(value, kind) if self.width < 64 else value
        return splat(Lanes(self.builder, one, "int", self.width, 1, self.target), self.lanes)

    def places(self, start: Any) -> Lanes:
        """start, start + 1, ..., as integer lanes."""
        first = self.integer(start)
        return first + first.like(ir.Constant(first.value.type, list(range(self.lanes))))

    def first(self, count: Any, lanes: int | None = None) -> Any:
        """The mask of the first `count` lanes."""
        builder, lanes = self.builder, lanes or self.lanes
        kind = ir.VectorType(I32, lanes)
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), builder.trunc(count, I32), I32(0))
        every = builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(kind, [0] * lanes))
        return builder.icmp_signed("<", ir.Constant(kind, list(range(lanes))), every)

    # --- elements in memory

    def memory(self, dtype: str, count: int) -> ir.Type:
        return ir.VectorType(element(dtype), count)

    def raw(self, pointer: Any, dtype: str, count: int, mask: Any = None, padding: float = 0.0) -> Any:
        """`count` elements as they are stored, or `padding` where the mask is not set."""
        builder, kind = self.builder, self.memory(dtype, count)
        pointer = builder.bitcast(pointer, kind.as_pointer())
        if mask is None:
            return builder.load(pointer, align=1)
        other = narrow(self.constant(padding, count), dtype) if dtype != "bool" else ir.Constant(kind, None)
        name = f"llvm.masked.load.{suffix(kind)}.p0"
        return call_intrinsic(builder, name, kind, [pointer, I32(1), mask, other])

    def load(self, pointer: Any, dtype: str, mask: Any = None, padding: float = 0.0) -> Lanes:
        """A vector of elements in the dtype of computation."""
        return self.widen(self.raw(pointer, dtype, self.lanes, mask, padding), dtype)

    def widen(self, value: Any, dtype: str) -> Lanes:
        """What `raw` found, in the dtype of computation; True is 1."""
        if dtype == "bool":
            return self.floats(self.builder.uitofp(value, self.vector))
        return widen(self.builder, value, dtype, self.lanes, self.target)

    def save(self, pointer: Any, value: Any, mask: Any = None, past_caches: bool = False) -> None:
        """Write what `narrow` made; past the caches if `pointer` is a line's."""
        builder = self.builder
        pointer = builder.bitcast(pointer, value.type.as_pointer())
        if past_caches:
            written = builder.store(value, pointer, align=LINE)
            written.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))
        elif mask is None:
            builder.store(value, pointer, align=1)
        else:
            name = f"llvm.masked.store.{suffix(value.type)}.p0"
            call_intrinsic(builder, name, ir.VoidType(), [value, pointer, I32(1), mask])

    def copy(self, to: Any, to_stride: Any, source: Any, stride: Any, n: Any, dtype: str) -> None:
        """`n` elements, one by one."""
        builder, kind = self.builder, element(dtype).as_pointer()
        with self.loop(n) as i:
            here = builder.bitcast(self.offset(source, builder.mul(i, stride)), kind)
            there = builder.bitcast(self.offset(to, builder.mul(i, to_stride)), kind)
            builder.store(builder.load(here, align=1), there, align=1)

    def prefetch(self, pointer: Any, write: bool, near: bool = False) -> None:
        """Ask for a cache line that will be needed soon, in the first cache if `near`; it may lie outside any array."""
        args = [pointer, I32(int(write)), I32(3 if write or near else 2), I32(1)]
        call_intrinsic(self.builder, "llvm.prefetch.p0", ir.VoidType(), args)

    # --- numbers of rows: one lane a row

    @property
    def kinds(self) -> list[str]:
        """Of what `values` finds."""
        function = self.function
        given = ["int" if kind == "index" else "float" for kind in function.values]
        return given + ["float"] * function.pick + ["int"] * function.length

    def values(
        self, operands: Sequence[Operand], rows: Operand, first: Any, present: Any, pick: bool = True
    ) -> list[Lanes]:
        """The operands of one number a row, for rows first..first+present; the lanes beyond repeat the last row.

        With the function's `pick`, also the element of `rows` at the last of them, which is an index, unless that is
        not to be read yet; with `length`, also that.
        """
        builder, found = self.builder, []
        index_room = None
        for operand, kind in zip(operands, self.function.values, strict=True):
            stored = INTP if kind == "index" else element(self.dtype)
            room = self.room(stored, self.lanes)
            with self.loop(self.lanes, unroll=True) as lane:
                row = self.plus(first, self.min(lane, self.plus(present, -1)))
                source = self.offset(operand.base, builder.mul(row, operand.outer))
                value = builder.load(builder.bitcast(source, stored.as_pointer()), align=1)
                builder.store(value, self.at(room, lane))
            if kind == "index":
                index_room = room
                wide = builder.load(builder.bitcast(room, ir.VectorType(INTP, self.lanes).as_pointer()), align=64)
                kept = wide if self.width == 64 else builder.trunc(wide, ir.VectorType(I32, self.lanes))
                found.append(Lanes(builder, kept, "int", self.width, self.lanes, self.target))
            else:
                found.append(self.load(room, self.dtype))
        if self.function.pick and pick:
            room = self.room(element(rows.dtype), self.lanes)
            with self.loop(self.lanes, unroll=True) as lane:
                row = self.plus(first, self.min(lane, self.plus(present, -1)))
                source = self.offset(rows.base, builder.mul(row, rows.outer))
                index = builder.load(self.at(index_room, lane))
                # It has been looked at, but the caller may have written over it since: nothing else is to be read.
                index = builder.select(builder.icmp_unsigned("<", index, self.length), index, INTP(0))
                source = self.offset(source, builder.mul(index, rows.core))
                value = builder.load(builder.bitcast(source, element(rows.dtype).as_pointer()), align=1)
                builder.store(value, self.at(room, lane))
            found.append(self.load(room, rows.dtype))
        if self.function.length:
            found.append(self.integer(self.length))
        return found

    def save_numbers(self, operand: Operand, value: Lanes, first: Any, present: Any) -> None:
        """One number of each row to an output."""
        builder, out = self.builder, narrow(value, operand.dtype)
        room = self.room(out.type)
        builder.store(out, room)
        source = builder.bitcast(room, POINTER)
        to = self.offset(operand.base, builder.mul(first, operand.outer))
        self.copy(to, operand.outer, source, INTP(operand.size), present, operand.dtype)

    # --- reductions

    def branches(self, known: tuple[State, ...], pays: bool = True) -> Iterator[tuple[State, ...]]:
        """For two branches of the code, one where the number that is nearly always 0 is left out: what is known.

        Where that does not pay, as in what is seldom done, there is one branch.
        """
        place = self.function.zero
        if not pays or place is None or place[0] >= len(known):
            yield known
            return
        builder, (k, j) = self.builder, place
        nonzero = builder.fcmp_unordered("!=", known[k][j].value, self.constant(0.0).value)
        mask = ir.IntType(self.lanes)
        usual = builder.icmp_signed("==", builder.bitcast(nonzero, mask), mask(0))
        with builder.if_else(usual) as (then, otherwise):
            with then:
                yield (*known[:k], (*known[k][:j], None, *known[k][j + 1 :]), *known[k + 1 :])
            with otherwise:
                yield known

    def merges(self, reduction: Reduction, elements: Any) -> Iterator[Callable[[State, State], State]]:
        """How to merge the states of a vector each of `elements` elements; for two branches if there are two ways."""
        if reduction.few is None:
            yield reduction.merge
            return
        few = self.builder.icmp_signed("<=", elements, INTP(FEW_ELEMENTS * self.lanes))
        with self.builder.if_else(few) as (then, otherwise):
            with then:
                yield reduction.few[1]
            with otherwise:
                yield reduction.merge

    def attempted(
        self, reduction: Reduction, values: State, known: tuple[State, ...], total: Callable[[], State]
    ) -> State:
        """What a pass leaves behind whose loops `total()` emits: with `when`, only where a row wants it."""
        if reduction.when is None:
            return reduction.result(total(), values, known)
        wanted, before = reduction.when(values, known), known[-1]
        rooms = [self.room(self.vector) for _ in before]
        self.keep(rooms, before)
        with self.builder.if_then(wanted.any(), likely=False):
            again = reduction.result(total(), values, known)
            for room, new, old in zip(rooms, again, before, strict=True):
                self.put(room, select(wanted, new, old))
        return tuple(self.get(room) for room in rooms)

    def join(self, reduction: Reduction, a: State, b: State) -> State:
        return (reduction.join or reduction.merge)(a, b)

    def join_parts(self, a: State, b: State, values: State) -> State:
        """The totals of the first two passes over two parts of a row, the second one's relative to the first one's."""
        largest, sums = self.function.passes[:2]
        size = len(largest.initial)
        tops = a[:size], b[:size], self.join(largest, a[:size], b[:size])
        *parts, row = (largest.result(top, values, ()) for top in tops)
        assert sums.rebase is not None
        totals = [sums.rebase(x[size:], part, row, values) for x, part in zip((a, b), parts, strict=True)]
        return *tops[2], *self.join(sums, *totals)

    def shuffle(self, a: Lanes, b: Lanes, positions: Sequence[int]) -> Lanes:
        """Lanes of a, then of b, at `positions`."""
        mask = ir.Constant(ir.VectorType(I32, len(positions)), list(positions))
        return a.like(self.builder.shuffle_vector(a.value, b.value, mask), count=len(positions))


def folded(frame: Frame, states: list[State], merge: Callable[[State, State], State]) -> State:
    """Make one state a lane of one state a vector: lane k is vector k, its lanes merged with those 8, 4, 2, 1 on.

    There may be fewer vectors than lanes; the lanes beyond repeat the others.
    """
    segment = frame.lanes
    while segment > 1:
        half, count = len(states) // 2, segment // 2
        places = [(start, vector) for start in range(0, frame.lanes, segment) for vector in range(2 if half else 1)]
        low = [start + lane + vector * frame.lanes for start, vector in places for lane in range(count)]
        low *= frame.lanes // len(low)
        high = [lane + count for lane in low]
        pairs = zip(states[:half], states[half:], strict=True) if half else [(states[0], states[0])]
        states = [
            merge(
                tuple(frame.shuffle(x, y, low) for x, y in zip(a, b, strict=True)),
                tuple(frame.shuffle(x, y, high) for x, y in zip(a, b, strict=True)),
            )
            for a, b in pairs
        ]
        segment = count
    return states[0]


def transposed(frame: Frame, vectors: Sequence[Lanes]) -> list[Lanes]:
    """Within each 128 bits of two or four vectors, the matrix of vectors and elements is transposed."""
    size = len(vectors)
    groups = range(0, frame.lanes, size)

    def unpacked(a: Lanes, b: Lanes, width: int, start: int) -> Lanes:
        """Pieces of `width` elements from a and b in turn, from `start` on, as the unpack instructions do it."""
        half = size // 2
        pieces = [
            group + start + piece + lane + vector * frame.lanes
            for group in groups
            for piece in range(0, half, width)
            for vector in (0, 1)
            for lane in range(width)
        ]
        return frame.shuffle(a, b, pieces)

    half, current = size // 2, list(vectors)
    if size == 4:
        a, b, c, d = current
        low = unpacked(a, b, 1, 0), unpacked(c, d, 1, 0)
        high = unpacked(a, b, 1, half), unpacked(c, d, 1, half)
        return [unpacked(*pair, 2, start) for pair in (low, high) for start in (0, half)]
    a, b = current
    return [unpacked(a, b, 1, start) for start in (0, half)]
