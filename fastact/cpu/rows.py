"""From a `RowFunction` to the LLVM code of a gufunc's loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llvmlite import ir

from ..kernels.rows import BLOCK, RowFunction
from .emit import INTP, POINTER
from .lanes import Builder, Target
from .row_across import Across
from .row_along import Along
from .row_arena import ACROSS, STACK
from .row_columns import Columns, has_columns
from .row_frame import Frame, Operand, arena_in
from .row_short import Short

Operands = tuple[list[Operand], list[Operand], list[Operand], Operand | None]


def _operands(
    builder: Builder, args: Any, dims: Any, steps: Any, function: RowFunction, dtype: str, target: Target
) -> tuple[Frame, Any, Operands]:
    """What NumPy says: the number of rows, and the rows read, numbers read, numbers written and rows written."""
    slots = builder.bitcast(args, POINTER.as_pointer())
    sizes, strides = (builder.bitcast(p, INTP.as_pointer()) for p in (dims, steps))

    def read(room: Any, k: int) -> Any:
        return builder.load(builder.gep(room, [INTP(k)]))

    frame = Frame(builder, function, dtype, read(sizes, 1), target)
    rows, values = len(function.rows), len(function.values)
    written = function.write is not None
    total = rows + values + function.results + written
    paddings = [*function.rows, *[0.0] * (total - rows)]
    dtypes = ["bool" if function.mask and k == rows - 1 else dtype for k in range(total)]
    found = [Operand(read(slots, k), read(strides, k), None, dtypes[k], paddings[k]) for k in range(total)]
    inputs, output = found[:rows], found[-1] if written else None
    for k, operand in enumerate([*inputs, output] if output is not None else inputs):
        operand.core = read(strides, total + k)
    results = found[rows + values : rows + values + function.results]
    return frame, read(sizes, 0), (inputs, found[rows : rows + values], results, output)


def _after(frame: Frame, operands: Operands, done: Any) -> Operands:
    """The operands without their first rows."""

    def moved(operand: Operand) -> Operand:
        return replace(operand, base=frame.offset(operand.base, frame.builder.mul(done, operand.outer)))

    inputs, values, results, output = operands
    others = [moved(o) for o in inputs], [moved(o) for o in values], [moved(o) for o in results]
    return *others, None if output is None else moved(output)


def emit_short_rows(
    builder: Builder, args: Any, dims: Any, steps: Any, function: RowFunction, dtype: str, target: Target, length: int
) -> None:
    """The same for rows of `length` elements."""
    frame, count, operands = _operands(builder, args, dims, steps, function, dtype, target)
    frame.length = INTP(length)
    Short(frame, length, *operands).emit(count)


def emit_beside(
    builder: Builder, args: Any, dims: Any, steps: Any, piece: Any, function: RowFunction, dtype: str, target: Target
) -> None:
    """Append the loop over rows that are short, or lie side by side.

    It is called as NumPy calls a gufunc's, but for its last argument: the fields of `layout.ROW_FIELDS`, or 0. Without
    an arena it does for rows of at most `row_arena.SMALL` elements.
    """
    frame, count, operands = _operands(builder, args, dims, steps, function, dtype, target)
    arena, stack = arena_in(builder, piece), builder.bitcast(frame.room(ir.IntType(8), STACK), POINTER)
    across, length = Frame(builder, function, dtype, frame.length, target, ACROSS), frame.length
    if has_columns(function):
        given = builder.icmp_signed("!=", builder.ptrtoint(arena, INTP), INTP(0))
        columns = Columns(frame, operands[0][0], *operands[1:], arena)
        done = columns.emit(count, length, given)  # short rows are shorter than those of a panel
        Across(across, *_after(frame, operands, done), arena, stack).emit(builder.sub(count, done), length)
    else:
        Across(across, *operands, arena, stack).emit(count, length)


def emit_rows(
    builder: Builder, args: Any, dims: Any, steps: Any, piece: Any, function: RowFunction, dtype: str, target: Target
) -> None:
    """The same for all other rows; it gives the same bits for those too, one by one."""
    frame, count, operands = _operands(builder, args, dims, steps, function, dtype, target)
    inputs, _, _, output = operands
    length, arrays = frame.length, [*inputs, output] if output is not None else inputs
    stack = builder.bitcast(frame.room(ir.IntType(8), STACK), POINTER)
    alone, along = builder.icmp_signed("<=", length, INTP(1)), ir.IntType(1)(1)
    for operand in arrays:
        one = builder.icmp_signed("==", operand.core, INTP(operand.size))
        along = builder.and_(along, builder.or_(alone, one))
    others = *operands, builder.not_(along)
    block = builder.and_(along, builder.icmp_signed("<=", length, INTP(BLOCK)))
    with builder.if_else(block) as (plain, general):
        with plain:
            Along(frame, *others, stack).emit(count, length)
        with general:
            Along(frame, *others, stack, piece).emit(count, length)
