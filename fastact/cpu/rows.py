"""From a `RowFunction` to the LLVM code of a gufunc's loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from ..kernels.rows import Reduction, RowFunction, State
from .emit import INTP, ITEMSIZE, POINTER, element, narrow, widen
from .lanes import Builder, Lanes, Target, splat, split

# Bytes of a row that are computed at once. The order of summation follows from it, so it is the same on every machine.
WIDTH = 128
_WORD = INTP(8)


@dataclass
class _Row:
    """One array operand of the row at hand."""

    pointer: Any
    stride: Any
    dtype: str
    padding: float


def emit_rows(
    builder: Builder, args: Any, dims: Any, steps: Any, function: RowFunction, dtype: str, target: Target
) -> None:
    """Append the loop over rows: ``void (*)(char **args, intp *dims, intp *steps)`` as NumPy calls a gufunc's."""
    width = 64 if dtype == "float64" else 32
    count = WIDTH * 8 // width
    emitter = _Emitter(builder, function, dtype, width, count, target)
    slots = builder.bitcast(args, POINTER.as_pointer())
    sizes, strides = (builder.bitcast(p, INTP.as_pointer()) for p in (dims, steps))
    rows, length = (builder.load(builder.gep(sizes, [INTP(k)])) for k in range(2))
    operands = len(function.rows) + len(function.values) + function.results + (function.write is not None)
    outer = [builder.load(builder.gep(strides, [INTP(k)])) for k in range(operands)]
    core = [builder.load(builder.gep(strides, [INTP(operands + k)])) for k in range(len(function.rows))]
    if function.write is not None:
        core.append(builder.load(builder.gep(strides, [INTP(operands + len(function.rows))])))
    bases = [builder.load(builder.gep(slots, [INTP(k)])) for k in range(operands)]
    with cgutils.for_range(builder, rows, intp=INTP) as loop:
        pointers = [builder.gep(p, [builder.mul(loop.index, s)]) for p, s in zip(bases, outer, strict=True)]
        emitter.row(pointers, core, length)


class _Emitter:
    """What is the same for every row of one loop."""

    def __init__(
        self, builder: Builder, function: RowFunction, dtype: str, width: int, count: int, target: Target
    ) -> None:
        self.builder, self.function, self.dtype = builder, function, dtype
        self.width, self.count, self.target = width, count, target
        kind = ir.VectorType(element(dtype), count)
        with builder.goto_entry_block():
            self.buffer = builder.alloca(kind)
            self.buffer.align = 64

    def row(self, pointers: Sequence[Any], core: Sequence[Any], length: Any) -> None:
        function = self.function
        inputs = len(function.rows)
        rows = [_Row(p, s, self.dtype, pad) for p, s, pad in zip(pointers, core, function.rows, strict=False)]
        numbers = [self._number(p, kind) for p, kind in zip(pointers[inputs:], function.values, strict=False)]
        known: list[State] = []
        for reduction in function.passes:
            known.append(self._reduce(reduction, rows, numbers, known, length))
        finished = function.finish(tuple(numbers), tuple(known))
        first = inputs + len(function.values)
        for pointer, value in zip(pointers[first:], finished[: function.results], strict=False):
            self._store_number(pointer, value)
        if function.write is not None:
            output = _Row(pointers[first + function.results], core[inputs], self.dtype, 0.0)
            wide, values = self._wide(finished), self._wide(numbers)
            write = function.write

            def body(start: Any, present: Any, whole: Any) -> None:
                lanes = tuple(self._load(row, start, present, whole) for row in rows)
                (result,) = write(lanes, values, self._position(start), wide)
                self._store(output, start, present, result)

            self._blocks(length, body)

    def _blocks(self, length: Any, body: Callable[[Any, Any, Any], None]) -> None:
        """For every block of a row: `body(start, number of elements, whether that is a whole block)`."""
        builder, count = self.builder, INTP(self.count)
        blocks = builder.sdiv(builder.add(length, INTP(self.count - 1)), count)
        with cgutils.for_range(builder, blocks, intp=INTP) as loop:
            start = builder.mul(loop.index, count)
            left = builder.sub(length, start)
            whole = builder.icmp_signed(">=", left, count)
            body(start, builder.select(whole, count, left), whole)

    def _reduce(
        self, reduction: Reduction, rows: Sequence[_Row], numbers: Sequence[Lanes], known: Sequence[State], length: Any
    ) -> State:
        builder = self.builder
        template = self._constant(0.0)
        rooms = []
        for value in reduction.initial:
            room = cgutils.alloca_once(builder, template.value.type)
            builder.store(self._constant(value).value, room)
            rooms.append(room)
        wide, values = tuple(self._wide(state) for state in known), self._wide(numbers)

        def body(start: Any, present: Any, whole: Any) -> None:
            lanes = tuple(self._load(row, start, present, whole) for row in rows)
            state = tuple(template.like(builder.load(room)) for room in rooms)
            state = reduction.step(state, lanes, values, self._position(start), wide)
            for room, part in zip(rooms, state, strict=True):
                builder.store(part.value, room)

        self._blocks(length, body)
        state = tuple(template.like(builder.load(room)) for room in rooms)
        while state[0].count > 1:
            halves = [split(part) for part in state]
            state = reduction.merge(tuple(h[0] for h in halves), tuple(h[1] for h in halves))
        return state

    def _constant(self, value: float) -> Lanes:
        kind = ir.FloatType() if self.width == 32 else ir.DoubleType()
        zero = ir.Constant(ir.VectorType(kind, self.count), [0.0] * self.count)
        return Lanes(self.builder, zero, "float", self.width, self.count, self.target).const(value)

    def _wide(self, numbers: Sequence[Lanes]) -> State:
        return tuple(splat(number, self.count) for number in numbers)

    def _position(self, start: Any) -> Lanes:
        """The index of each element of a block, as integer lanes."""
        builder, kind = self.builder, ir.IntType(self.width)
        first = Lanes(
            builder, builder.trunc(start, kind) if self.width < 64 else start, "int", self.width, 1, self.target
        )
        steps = ir.Constant(ir.VectorType(kind, self.count), list(range(self.count)))
        return splat(first, self.count) + first.like(steps, count=self.count)

    def _number(self, pointer: Any, kind: str) -> Lanes:
        builder = self.builder
        if kind == "float":
            value = builder.load(builder.bitcast(pointer, element(self.dtype).as_pointer()), align=1)
            return widen(builder, value, self.dtype, 1, self.target)
        index = builder.load(builder.bitcast(pointer, INTP.as_pointer()), align=1)
        return Lanes(
            builder,
            builder.trunc(index, ir.IntType(32)) if self.width == 32 else index,
            "int",
            self.width,
            1,
            self.target,
        )

    def _store_number(self, pointer: Any, value: Lanes) -> None:
        out = narrow(value, self.dtype)
        self.builder.store(out, self.builder.bitcast(pointer, out.type.as_pointer()), align=1)

    def _load(self, row: _Row, start: Any, present: Any, whole: Any) -> Lanes:
        """A block of a row, padded; strided rows and ends go through a buffer."""
        builder, kind = self.builder, self.buffer.type.pointee
        size = INTP(ITEMSIZE[self.dtype])
        first = builder.gep(row.pointer, [builder.mul(start, row.stride)])
        direct = builder.and_(whole, builder.icmp_signed("==", row.stride, size))
        padding = narrow(self._constant(row.padding), self.dtype)
        place = cgutils.alloca_once(builder, POINTER)
        with builder.if_else(direct, likely=True) as (then, otherwise):
            with then:
                builder.store(first, place)
            with otherwise:
                builder.store(padding, self.buffer)
                self._copy(builder.bitcast(self.buffer, POINTER), size, first, row.stride, present)
                builder.store(builder.bitcast(self.buffer, POINTER), place)
        value = builder.load(builder.bitcast(builder.load(place), kind.as_pointer()), align=1)
        return widen(builder, value, self.dtype, self.count, self.target)

    def _store(self, row: _Row, start: Any, present: Any, value: Lanes) -> None:
        builder, size = self.builder, INTP(ITEMSIZE[self.dtype])
        first = builder.gep(row.pointer, [builder.mul(start, row.stride)])
        out = narrow(value, self.dtype)
        whole = builder.icmp_signed("==", present, INTP(self.count))
        direct = builder.and_(whole, builder.icmp_signed("==", row.stride, size))
        with builder.if_else(direct, likely=True) as (then, otherwise):
            with then:
                builder.store(out, builder.bitcast(first, out.type.as_pointer()), align=1)
            with otherwise:
                builder.store(out, self.buffer)
                self._copy(first, row.stride, builder.bitcast(self.buffer, POINTER), size, present)

    def _copy(self, to: Any, to_stride: Any, source: Any, stride: Any, n: Any) -> None:
        builder, kind = self.builder, element(self.dtype).as_pointer()
        with cgutils.for_range(builder, n, intp=INTP) as loop:
            here = builder.bitcast(builder.gep(source, [builder.mul(loop.index, stride)]), kind)
            there = builder.bitcast(builder.gep(to, [builder.mul(loop.index, to_stride)]), kind)
            builder.store(builder.load(here, align=1), there, align=1)
