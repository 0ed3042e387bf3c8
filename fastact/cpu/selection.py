"""From a `Projection` to the LLVM code of a gufunc's loop.

Short rows lie side by side, one in each lane, so that nothing is ever added across lanes. A longer row is walked
through in blocks, and as soon as the entries that can still be in its support are few, they are gathered in a list that
takes its place. Which of the two it is depends on the length alone; blocks, lanes and lists have the same size on every
machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from ..kernels.language import select
from ..kernels.sparse import ROUNDING, Projection, State, larger
from .emit import INTP, ITEMSIZE, POINTER, element, loop, narrow, widen
from .lanes import Builder, Lanes, Target, call_intrinsic, splat, split
from .layout import LINE
from .row_arena import LONGEST_IN_A_LANE, STRIDED
from .row_frame import arena_in
from .support import Variable, find_support, result
from .transpose import emit_transpose

BLOCK = 128  # bytes of a block, and of the lanes for short rows
LIST = 1 << 14  # bytes of the list of entries


@dataclass(frozen=True)
class _Shape:
    """What is known of a call: how many rows of which length, and where input and output lie."""

    rows: Any
    length: Any
    source: Any
    to: Any
    source_step: Any
    to_step: Any
    source_stride: Any
    to_stride: Any


def emit_projection(
    builder: Builder, args: Any, dims: Any, steps: Any, piece: Any, projection: Projection, dtype: str, target: Target
) -> None:
    """Append the loop over rows, as NumPy calls a gufunc's but for its last argument: `layout.ROW_FIELDS`, or 0.

    Without an arena, long rows that are not contiguous are read where they are.
    """

    def words(pointer: Any, count: int) -> list[Any]:
        table = builder.bitcast(pointer, INTP.as_pointer())
        return [builder.load(builder.gep(table, [INTP(k)])) for k in range(count)]

    slots = builder.bitcast(args, POINTER.as_pointer())
    pointers = [builder.load(builder.gep(slots, [INTP(k)])) for k in range(2)]
    shape = _Shape(*words(dims, 2), *pointers, *words(steps, 4))
    with builder.if_else(builder.icmp_signed("<=", shape.length, INTP(LONGEST_IN_A_LANE))) as (short, long):
        with short:
            _Tiles(builder, projection, dtype, target).emit(shape)
        with long:
            _Rows(builder, projection, dtype, target, arena_in(builder, piece)).emit(shape)


def _larger_of(state: State, x: Lanes) -> tuple[State, None]:
    return larger(state, (x,)), None


Matrix = tuple[Any, Any, Any]


class _Emitter:
    """What both arrangements have in common; numbers are lanes too, as many as rows are worked on at once."""

    def __init__(self, builder: Builder, projection: Projection, dtype: str, target: Target, lanes: int) -> None:
        self.builder, self.projection, self.dtype, self.target = builder, projection, dtype, target
        self.width = 64 if dtype == "float64" else 32
        self.size = INTP(ITEMSIZE[dtype])
        self.count = BLOCK * 8 // self.width
        self.numbers = lanes or self.count
        self.wide = ir.VectorType(ir.DoubleType() if self.width == 64 else ir.FloatType(), self.count)
        self.stored = ir.VectorType(element(dtype), self.count)

    def constant(self, value: float, count: int) -> Lanes:
        kind = self.wide.element
        zero = ir.Constant(ir.VectorType(kind, count), [0.0] * count) if count > 1 else ir.Constant(kind, 0.0)
        return Lanes(self.builder, zero, "float", self.width, count, self.target).const(value)

    def number(self, value: float) -> Lanes:
        return self.constant(value, self.numbers)

    def at(self, pointer: Any, *offsets: Any) -> Any:
        """`pointer` plus the sum of products of pairs of integers, in bytes."""
        builder = self.builder
        for a, b in zip(offsets[::2], offsets[1::2], strict=True):
            pointer = builder.gep(pointer, [builder.mul(a, b)])
        return pointer

    def copy_element(self, to: Any, source: Any) -> None:
        builder, kind = self.builder, self.stored.element.as_pointer()
        builder.store(builder.load(builder.bitcast(source, kind), align=1), builder.bitcast(to, kind), align=1)

    def transpose(self, m: Any, n: Any, by_row: Matrix, by_column: Matrix, to_columns: bool) -> None:
        """Copy an m x n matrix; both sides are (pointer, strides). Fast if one's rows and the other's columns are
        contiguous, as the names say.
        """
        builder = self.builder
        (rows, row_step, unit), (columns, unit_too, column_step) = by_row, by_column
        contiguous = builder.and_(*(builder.icmp_signed("==", s, self.size) for s in (unit, unit_too)))
        done = cgutils.alloca_once_value(builder, ir.IntType(1)(0))
        with builder.if_then(contiguous):
            kind, sides = self.stored.element, ((rows, row_step), (columns, column_step))
            builder.store(emit_transpose(builder, kind, m, n, *sides, to_columns), done)
        to, source = (by_column, by_row) if to_columns else (by_row, by_column)
        with builder.if_then(builder.not_(builder.load(done))), loop(builder, n) as outer:
            starts = [self.at(p, outer, stride) for p, _, stride in (to, source)]
            with loop(builder, m) as inner:
                places = [self.at(p, inner, step) for p, (_, step, _) in zip(starts, (to, source), strict=True)]
                self.copy_element(*places)

    def load(self, pointer: Any) -> Lanes:
        builder = self.builder
        value = builder.load(builder.bitcast(pointer, self.stored.as_pointer()), align=1)
        return widen(builder, value, self.dtype, self.count, self.target)

    def store(self, pointer: Any, value: Lanes) -> None:
        out = narrow(value, self.dtype)
        self.builder.store(out, self.builder.bitcast(pointer, out.type.as_pointer()), align=1)

    def room(self, size: int) -> Any:
        """The address of `size` bytes of the stack."""
        with self.builder.goto_entry_block():
            room = self.builder.alloca(ir.ArrayType(ir.IntType(8), size))
            room.align = 64
        return self.builder.bitcast(room, POINTER)


class _Tiles(_Emitter):
    """Rows side by side: lane k of vector j is entry j of row k."""

    def __init__(self, builder: Builder, projection: Projection, dtype: str, target: Target) -> None:
        super().__init__(builder, projection, dtype, target, 0)
        lanes = self.count
        self.tile_stride = INTP(lanes * ITEMSIZE[dtype])
        self.tile = self.room(LONGEST_IN_A_LANE * lanes * ITEMSIZE[dtype])
        # 16-bit entries are widened once
        same = ITEMSIZE[dtype] * 8 == self.width
        self.entries = self.tile if same else self.room(LONGEST_IN_A_LANE * BLOCK)

    def emit(self, shape: _Shape) -> None:
        builder, lanes = self.builder, INTP(self.count)
        tiles = builder.sdiv(builder.add(shape.rows, INTP(self.count - 1)), lanes)
        with loop(builder, tiles) as turn:
            first = builder.mul(turn, lanes)
            left = builder.sub(shape.rows, first)
            whole = builder.icmp_signed(">=", left, lanes)
            self._tile(shape, first, builder.select(whole, lanes, left), whole)

    def _tile(self, shape: _Shape, first: Any, present: Any, whole: Any) -> None:
        builder, n = self.builder, shape.length
        source = self.at(shape.source, first, shape.source_step)
        to = self.at(shape.to, first, shape.to_step)
        self._fill(shape, source, present, whole)

        (top,) = self._fold(n, (-inf,), _larger_of, self.load_entry if self.tile is self.entries else self._widen)
        relative = self.number((LONGEST_IN_A_LANE + 32) * 4 * ROUNDING[self.width])

        def fold(initial: tuple[float, ...], step: Any, merge: Any, keep: bool = False) -> State:
            return self._fold(n, initial, step, self.load_entry)

        found = find_support(self.projection, top, relative, fold, lambda number: number)
        # a row with NaN or an infinity, or of -inf alone: NaN
        special = (top - top) != 0.0
        side_by_side = builder.and_(whole, builder.icmp_signed("==", shape.to_step, self.size))
        direct_stride = builder.select(side_by_side, shape.to_stride, self.tile_stride)
        place = builder.select(side_by_side, to, self.tile)
        with loop(builder, n) as turn:
            x = self.load_entry(turn)
            p = result(self.projection, x, *found)
            self.store(self.at(place, turn, direct_stride), select(special, nan, p))
        with builder.if_then(builder.not_(side_by_side)):
            rows, columns = (to, shape.to_step, shape.to_stride), (self.tile, self.size, self.tile_stride)
            self.transpose(present, n, rows, columns, False)

    def _fill(self, shape: _Shape, source: Any, present: Any, whole: Any) -> None:
        builder, n = self.builder, shape.length
        side_by_side = builder.and_(whole, builder.icmp_signed("==", shape.source_step, self.size))
        with builder.if_else(side_by_side) as (then, otherwise):
            with then, loop(builder, n) as turn:
                value = builder.load(
                    builder.bitcast(self.at(source, turn, shape.source_stride), self.stored.as_pointer()), align=1
                )
                place = self.at(self.tile, turn, self.tile_stride)
                builder.store(value, builder.bitcast(place, self.stored.as_pointer()), align=1)
            with otherwise:
                with builder.if_then(builder.not_(whole)), loop(builder, n) as turn:
                    place = self.at(self.tile, turn, self.tile_stride)
                    self.store(place, self.constant(0.0, self.count))  # lanes without a row: solved at once
                rows = (source, shape.source_step, shape.source_stride)
                self.transpose(present, n, rows, (self.tile, self.size, self.tile_stride), True)

    def _entry(self, j: Any) -> Any:
        return self.builder.bitcast(self.at(self.entries, j, INTP(BLOCK)), self.wide.as_pointer())

    def load_entry(self, j: Any) -> Lanes:
        return self.number(0.0).like(self.builder.load(self._entry(j), align=64))

    def _widen(self, j: Any) -> Lanes:
        x = self.load(self.at(self.tile, j, self.tile_stride))
        self.builder.store(x.value, self._entry(j), align=64)
        return x

    def _fold(self, n: Any, initial: tuple[float, ...], step: Any, load: Callable[[Any], Lanes]) -> State:
        variables = [Variable(self.number(value)) for value in initial]
        with loop(self.builder, n) as turn:
            state, _ = step(tuple(v.get() for v in variables), load(turn))
            for variable, value in zip(variables, state, strict=True):
                variable.set(value)
        return tuple(v.get() for v in variables)


class _Rows(_Emitter):
    """One row at a time, in blocks, or a list of what can still be in its support."""

    def __init__(self, builder: Builder, projection: Projection, dtype: str, target: Target, arena: Any) -> None:
        super().__init__(builder, projection, dtype, target, 1)
        self.capacity = LIST * 8 // self.width
        self.list = self.room(LIST + 2 * BLOCK)
        self.scratch = arena
        self.block = self.room(BLOCK)
        with builder.goto_entry_block():
            self.kept = builder.alloca(INTP)  # how many entries are in the list; -1 if there is none
            self.place = builder.alloca(POINTER)

    def emit(self, shape: _Shape) -> None:
        builder, n = self.builder, shape.length
        strided = builder.or_(
            *(builder.icmp_signed("!=", s, self.size) for s in (shape.source_stride, shape.to_stride))
        )
        # one line more than a row needs, so that rows of a power of two do not all meet in one set of the cache
        pitch = builder.and_(builder.add(builder.mul(n, self.size), INTP(2 * LINE - 1)), INTP(-LINE))
        given = builder.icmp_signed("!=", builder.ptrtoint(self.scratch, INTP), INTP(0))
        fit = builder.select(given, builder.sdiv(INTP(STRIDED), pitch), INTP(0))
        copied = builder.and_(strided, builder.icmp_signed(">", fit, INTP(0)))
        most = builder.sdiv(INTP(LINE), self.size)
        most = builder.select(builder.icmp_signed("<", fit, most), fit, most)
        group = builder.select(copied, most, INTP(1))
        groups = builder.sdiv(builder.sub(builder.add(shape.rows, group), INTP(1)), group)
        stride, to_stride = (builder.select(copied, self.size, s) for s in (shape.source_stride, shape.to_stride))
        with loop(builder, groups) as turn:
            first = builder.mul(turn, group)
            left = builder.sub(shape.rows, first)
            present = builder.select(builder.icmp_signed("<", left, group), left, group)
            source, to = self.at(shape.source, first, shape.source_step), self.at(shape.to, first, shape.to_step)
            copies = (self.scratch, self.size, pitch)
            with builder.if_then(copied):
                self.transpose(n, present, (source, shape.source_stride, shape.source_step), copies, True)
            with loop(builder, present) as inner:
                own = self.at(self.scratch, inner, pitch)
                row = builder.select(copied, own, self.at(source, inner, shape.source_step))
                result = builder.select(copied, own, self.at(to, inner, shape.to_step))
                self._row(n, row, stride, result, to_stride)
            with builder.if_then(copied):
                self.transpose(n, present, (to, shape.to_stride, shape.to_step), copies, False)

    def _row(self, n: Any, source: Any, stride: Any, to: Any, to_stride: Any) -> None:
        builder = self.builder
        builder.store(INTP(-1), self.kept)

        def fold(initial: tuple[float, ...], step: Any, merge: Any, keep: bool = False) -> State:
            return self._fold(source, stride, n, initial, step, merge, keep)

        (top,) = fold((-inf,), _larger_of, larger)
        special = ((top - top) != 0.0).any()
        with builder.if_else(special, likely=False) as (then, otherwise):
            with then:
                none = self.constant(nan, self.count)
                self._write(n, to, to_stride, lambda start, present, whole: none)
            with otherwise:
                steps = builder.sitofp(builder.sdiv(n, INTP(self.count)), self.wide.element)
                relative = (self.number(0.0).like(steps) + 32.0) * (4 * ROUNDING[self.width])
                found = find_support(self.projection, top, relative, fold, self._spread)
                wide = tuple(self._spread(v) for v in found)

                def results(start: Any, present: Any, whole: Any) -> Any:
                    x = self._load_row(source, stride, start, present, whole)
                    return result(self.projection, x, *wide)

                self._write(n, to, to_stride, results)

    def _spread(self, number: Lanes) -> Lanes:
        return splat(number, self.count)

    def _blocks(self, length: Any, body: Callable[[Any, Any, Any], None]) -> None:
        """For every block of a row: `body(start, number of elements, whether that is a whole block)`."""
        builder, count = self.builder, INTP(self.count)
        blocks = builder.sdiv(builder.add(length, INTP(self.count - 1)), count)
        with loop(builder, blocks) as turn:
            start = builder.mul(turn, count)
            left = builder.sub(length, start)
            whole = builder.icmp_signed(">=", left, count)
            body(start, builder.select(whole, count, left), whole)

    def _write(self, n: Any, to: Any, stride: Any, results: Callable[[Any, Any, Any], Any]) -> None:
        builder = self.builder

        def body(start: Any, present: Any, whole: Any) -> None:
            value = results(start, present, whole)
            first = self.at(to, start, stride)
            direct = builder.and_(whole, builder.icmp_signed("==", stride, self.size))
            with builder.if_else(direct, likely=True) as (then, otherwise):
                with then:
                    self.store(first, value)
                with otherwise:
                    self.store(self.block, value)
                    self._copy(present, first, stride, self.block, self.size)

        self._blocks(n, body)

    def _copy(self, n: Any, to: Any, to_stride: Any, source: Any, stride: Any) -> None:
        with loop(self.builder, n) as turn:
            self.copy_element(self.at(to, turn, to_stride), self.at(source, turn, stride))

    def _load_row(self, source: Any, stride: Any, start: Any, present: Any, whole: Any) -> Lanes:
        """A block of the row, padded with -inf; strided rows and ends go through a buffer."""
        builder = self.builder
        first = self.at(source, start, stride)
        direct = builder.and_(whole, builder.icmp_signed("==", stride, self.size))
        with builder.if_else(direct, likely=True) as (then, otherwise):
            with then:
                builder.store(first, self.place)
            with otherwise:
                self.store(self.block, self.constant(-inf, self.count))
                self._copy(present, self.block, self.size, first, stride)
                builder.store(self.block, self.place)
        return self.load(builder.load(self.place))

    def _fold(
        self,
        source: Any,
        stride: Any,
        length: Any,
        initial: tuple[float, ...],
        step: Any,
        merge: Callable[[State, State], State],
        keep: bool,
    ) -> State:
        builder = self.builder
        variables = [Variable(self.constant(value, self.count)) for value in initial]
        kept = builder.load(self.kept)
        listed = builder.icmp_signed(">=", kept, INTP(0))
        if keep:
            position = cgutils.alloca_once_value(builder, INTP(0))

        def store(state: State) -> None:
            for variable, value in zip(variables, state, strict=True):
                variable.set(value)

        def body(start: Any, present: Any, whole: Any) -> None:
            x = self._load(listed, source, stride, start, present, whole)
            state, inside = step(tuple(v.get() for v in variables), x)
            if inside is None:
                store(state)
            else:
                with builder.if_then(inside.any()):
                    store(state)
                    if keep:
                        self._append(position, x, inside)

        self._blocks(builder.select(listed, kept, length), body)
        if keep:
            found = builder.load(position)
            with builder.if_then(builder.icmp_signed("<=", found, INTP(self.capacity))):
                builder.store(found, self.kept)
                end = self.at(self.list, found, INTP(self.width // 8))
                padding = self.constant(-inf, self.count).value
                builder.store(padding, builder.bitcast(end, self.wide.as_pointer()), align=1)
        state = tuple(v.get() for v in variables)
        while state[0].count > 1:
            halves = [split(part) for part in state]
            state = merge(tuple(h[0] for h in halves), tuple(h[1] for h in halves))
        return state

    def _load(self, listed: Any, source: Any, stride: Any, start: Any, present: Any, whole: Any) -> Lanes:
        """A block of the list, if there is one, else of the row."""
        builder = self.builder
        with builder.if_else(listed) as (then, otherwise):
            with then:
                entry = self.at(self.list, start, INTP(self.width // 8))
                from_list = builder.load(builder.bitcast(entry, self.wide.as_pointer()), align=1)
                after_list = builder.block
            with otherwise:
                from_row = self._load_row(source, stride, start, present, whole).value
                after_row = builder.block
        x = builder.phi(self.wide)
        x.add_incoming(from_list, after_list)
        x.add_incoming(from_row, after_row)
        return self.constant(0.0, self.count).like(x)

    def _append(self, position: Any, x: Lanes, inside: Lanes) -> None:
        """Put the entries that are `inside` at the end of the list, if it has room."""
        builder = self.builder
        kind, item = self.wide.element, INTP(self.width // 8)
        native = 512 // self.width
        for start in range(0, self.count, native):
            before = builder.load(position)
            room = builder.icmp_signed("<=", before, INTP(self.capacity))
            end = self.at(self.list, builder.select(room, before, INTP(self.capacity)), item)
            positions = ir.Constant(ir.VectorType(ir.IntType(32), native), list(range(start, start + native)))
            part, mask = (
                builder.shuffle_vector(v.value, ir.Constant(v.value.type, ir.Undefined), positions) for v in (x, inside)
            )
            number = ir.IntType(native)
            packed = builder.bitcast(mask, number)
            if self.target.has("avx512f"):
                name = f"llvm.x86.avx512.mask.compress.v{native}f{self.width}"
                zero = ir.Constant(part.type, [0.0] * native)
                squeezed = call_intrinsic(builder, name, part.type, [part, zero, mask])
                builder.store(squeezed, builder.bitcast(end, squeezed.type.as_pointer()), align=1)
            else:
                for lane in range(native):
                    place = ir.IntType(32)(lane)
                    builder.store(builder.extract_element(part, place), builder.bitcast(end, kind.as_pointer()))
                    step = builder.zext(builder.extract_element(mask, place), INTP)
                    end = self.at(end, step, item)
            found = call_intrinsic(builder, f"llvm.ctpop.i{native}", number, [packed])
            builder.store(builder.add(before, builder.zext(found, INTP)), position)
