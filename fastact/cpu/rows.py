"""From a `RowFunction` to the LLVM code of a gufunc's loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..kernels.rows import BLOCK, RowFunction
from .emit import INTP, POINTER
from .lanes import Builder, Target
from .row_across import Across
from .row_along import Along
from .row_columns import Columns, has_columns
from .row_frame import Frame, Operand

SHORT = 48  # rows of so few elements are transposed: a vector along them would be mostly empty
ACROSS = 2  # vectors of rows at once: the steps from a tile of short rows to its results hang on each other
FEW = 4  # so few rows are gathered one by one


def emit_rows(
    builder: Builder, args: Any, dims: Any, steps: Any, piece: Any, function: RowFunction, dtype: str, target: Target
) -> None:
    """Append the loop over rows: ``void (*)(char **args, intp *dims, intp *steps)`` as NumPy calls a gufunc's."""
    slots = builder.bitcast(args, POINTER.as_pointer())
    sizes, strides = (builder.bitcast(p, INTP.as_pointer()) for p in (dims, steps))

    def read(room: Any, k: int) -> Any:
        return builder.load(builder.gep(room, [INTP(k)]))

    count, length = read(sizes, 0), read(sizes, 1)
    frame = Frame(builder, function, dtype, length, target)
    rows, values = len(function.rows), len(function.values)
    written = function.write is not None
    total = rows + values + function.results + written
    paddings = [*function.rows, *[0.0] * (total - rows)]
    dtypes = ["bool" if function.mask and k == rows - 1 else dtype for k in range(total)]
    operands = [Operand(read(slots, k), read(strides, k), None, dtypes[k], paddings[k]) for k in range(total)]
    inputs, output = operands[:rows], operands[-1] if written else None
    arrays = [*inputs, output] if output is not None else inputs
    for k, operand in enumerate(arrays):
        operand.core = read(strides, total + k)
    results = operands[rows + values : rows + values + function.results]

    def every(conditions: list[Any]) -> Any:
        result = conditions[0]
        for condition in conditions[1:]:
            result = builder.and_(result, condition)
        return result

    alone = builder.icmp_signed("<=", length, INTP(1))
    along = every([builder.or_(alone, builder.icmp_signed("==", o.core, INTP(o.size))) for o in arrays])
    simple = every(
        [
            builder.or_(
                builder.or_(alone, builder.icmp_signed("==", o.core, INTP(o.size))),
                builder.icmp_signed("==", o.outer, INTP(o.size)),
            )
            for o in arrays
        ]
    )
    short = builder.and_(along, builder.icmp_signed("<=", length, INTP(SHORT)))
    beside = builder.and_(builder.and_(simple, builder.not_(along)), builder.icmp_signed(">=", count, INTP(FEW)))
    with builder.if_else(builder.or_(short, beside)) as (then, otherwise):
        with then:
            across = Frame(builder, function, dtype, length, target, ACROSS)
            left, ahead = count, operands
            if has_columns(function):
                columns = Columns(frame, inputs[0], operands[rows : rows + values], results, output)
                done = columns.emit(count, length, beside)
                left = builder.sub(count, done)
                ahead = [replace(o, base=frame.offset(o.base, builder.mul(done, o.outer))) for o in operands]
            last = ahead[-1] if written else None
            numbers = ahead[rows + values : rows + values + function.results]
            Across(across, ahead[:rows], ahead[rows : rows + values], numbers, last).emit(left, length)
        with otherwise:
            others = inputs, operands[rows : rows + values], results, output, builder.not_(along)
            block = builder.and_(along, builder.icmp_signed("<=", length, INTP(BLOCK)))
            with builder.if_else(block) as (plain, general):
                with plain:
                    Along(frame, *others).emit(count, length)
                with general:
                    Along(frame, *others, piece).emit(count, length)
