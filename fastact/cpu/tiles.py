"""Arrays of several axes in tiles: what is brought together in buffers, computed there and taken apart again.

A tile is some elements along the first axis, along which the result is contiguous if it is anywhere, by some along a
second one: the next, so that short rows share a call of the block, or one along which an input is contiguous, so that
whole cache lines are used on both sides. Compiled by Numba, like `fastact.cpu.driver`.
"""

from __future__ import annotations

import numba

from .driver import ALIGN, L_INPUTS, L_ITEMSIZE, L_POOL, P_COLLECT, P_PIECE, P_SPREAD, WORD, jit, operands
from .layout import LINE, Pool, offset
from .memory import call, call_void, copy_rows, fence, fill_rows, pack_rows, peek, poke, stack, transpose

AXES = 32
ROOM = 40960  # bytes of all operands of a tile
MOST = 16384  # and of one: what is in buffers at once shall stay in the first cache
ALONE = 1024  # bytes of a row from which on it costs less to call the block for it than to copy it
LEAST_TURNED = 16  # bytes of a row and of a column from which on they can be transposed in registers
NEAR = 4  # elements apart that shuffles bring together
P_COLLECT_ROWS, P_SPREAD_ROWS = offset(Pool, "collect_rows"), offset(Pool, "spread_rows")

# The numbers that say how operands are walked through.
W_LOOP, W_BLOCK, W_VECTORS, W_WAY, W_AXES, W_SECOND, W_COLUMNS, W_ROWS = (WORD * k for k in range(8))
W_ACROSS, W_DOWN, W_TILES, W_AT_ONCE, W_PAST, W_SHAPE, W_STRIDES, W_PLACES = (WORD * k for k in range(8, 16))
# The ways: through buffers, without, one result for all of a row, or through buffers one row of results for all rows.
BUFFERED, ROW_BY_ROW, CONSTANT, REPEATED = 0, 1, 2, 3

walk_room = stack(WORD * 16)
rooms = stack(ROOM)
column_room = stack(MOST)


@jit
def stride(strides: int, operand: int, axis: int) -> int:
    return peek(strides + WORD * (AXES * operand + axis))


def collect_rows(to: int, source: int, step: int, n: int, jump: int, rows: int, itemsize: int, pool: int) -> None:
    """Bring rows of `n` elements that are `step` bytes apart side by side, and the rows, `jump` bytes apart, too."""
    one, other, size, high = peek(pool + P_COLLECT), peek(pool + P_SPREAD), n * itemsize, rows * itemsize
    if step == itemsize:
        done = numba.intp(0)
        if size >= 2 * LINE and jump >= size:
            pack_rows(to, source, jump, size, rows)
            done = rows - 1
        copy_rows(to + done * size, size, source + done * jump, jump, size, rows - done)
    elif step == 0:
        fill_rows(to, size, source, jump, n, rows, itemsize)
    elif jump == 0:
        call_void(one, to, source, step, n, itemsize)
        if rows > 1:
            copy_rows(to + size, size, to, 0, size, rows - 1)
    elif abs(jump) > NEAR * itemsize or abs(jump) >= abs(step) or rows == 1:
        for k in range(rows):
            call_void(one, to + k * size, source + k * jump, step, n, itemsize)
    elif min(size, high) >= LEAST_TURNED:
        columns, apart = source, step
        if jump != itemsize:
            columns, apart = column_room(), high
            for k in range(n):
                call_void(one, columns + k * high, source + k * step, jump, rows, itemsize)
        transpose(to, columns, apart, n, rows, itemsize)
    elif jump == itemsize and n < rows:
        for k in range(n):
            call_void(other, to + k * itemsize, size, source + k * step, rows, itemsize)
    else:
        for k in range(rows):
            call_void(one, to + k * size, source + k * jump, step, n, itemsize)


def spread_rows(to: int, step: int, jump: int, source: int, n: int, rows: int, itemsize: int, pool: int) -> None:
    """Put rows of `n` elements that lie side by side `step` bytes apart, and the rows `jump` bytes apart."""
    size = n * itemsize
    if step == itemsize:
        copy_rows(to, jump, source, size, size, rows)
    else:
        for k in range(rows):
            call_void(peek(pool + P_SPREAD), to + k * jump, step, source + k * size, n, itemsize)


@jit
def room_for(inputs: int) -> int:
    """Bytes of a buffer for each operand."""
    return min(MOST, ROOM // (inputs + 1) & -LINE)


@jit
def _start(walk: int, outer: int, to: int) -> None:
    """Where every operand begins at a combination of the axes that no tile extends along."""
    strides, operand_count = peek(walk + W_STRIDES), peek(peek(walk + W_LOOP) + L_INPUTS) + 1
    for k in range(operand_count):
        poke(to + WORD * k, peek(peek(walk + W_PLACES) + WORD * k))
    left = outer
    for axis in range(1, peek(walk + W_AXES)):
        if left > 0 and axis != peek(walk + W_SECOND):
            length = peek(peek(walk + W_SHAPE) + WORD * axis)
            index, left = left % length, left // length
            for k in range(operand_count):
                poke(to + WORD * k, peek(to + WORD * k) + index * stride(strides, k, axis))


@jit
def _buffered(walk: int, starts: int, n: int, rows: int, buffers: int, held: int, local: int, jumps: int) -> None:
    """One tile. An input is left in its buffer, and where from in `held`, for a next tile that needs the same."""
    loop, strides, second = peek(walk + W_LOOP), peek(walk + W_STRIDES), peek(walk + W_SECOND)
    every = rows
    if peek(walk + W_WAY) == REPEATED:
        rows = numba.intp(1)
    inputs, itemsize, pool = peek(loop + L_INPUTS), peek(loop + L_ITEMSIZE), peek(loop + L_POOL)
    apart, size, together = room_for(inputs), n * itemsize, True
    for k in range(inputs + 1):
        place, jump = peek(starts + WORD * k), 0
        if k < peek(walk + W_VECTORS) or k == inputs:
            step, jump = stride(strides, k, 0), stride(strides, k, second)
            if step != itemsize or (rows > 1 and jump != size and size < ALONE):
                buffer = buffers + apart * k
                if k < inputs and peek(held + WORD * k) != place:
                    call_void(peek(pool + P_COLLECT_ROWS), buffer, place, step, n, jump, rows, itemsize, pool)
                    poke(held + WORD * k, place)
                place, jump = buffer, size
            together &= jump == size
        poke(local + WORD * k, place)
        poke(jumps + WORD * k, jump)
    result, function = peek(local + WORD * inputs), peek(walk + W_BLOCK)
    to = peek(starts + WORD * inputs)
    together |= rows == 1
    between = 0 if together else peek(jumps + WORD * inputs)
    if peek(walk + W_PAST) != 0 and result == to and (to | between) % LINE == 0:
        function = peek(walk + W_PAST)
    if together:
        call_void(function, local, n * rows)
    else:
        for _ in range(rows):
            call_void(function, local, n)
            for k in range(inputs + 1):
                poke(local + WORD * k, peek(local + WORD * k) + peek(jumps + WORD * k))
    if result != to:
        step, jump = stride(strides, inputs, 0), stride(strides, inputs, second)
        call_void(peek(pool + P_SPREAD_ROWS), to, step, jump, result, n, rows, itemsize, pool)
    if rows < every:
        jump = stride(strides, inputs, second)
        copy_rows(to + jump, jump, to, 0, size, every - 1)


@jit
def _constant(walk: int, starts: int, n: int, rows: int, buffers: int, local: int) -> None:
    """One tile whose rows are one value each: that is computed once."""
    loop, strides, second = peek(walk + W_LOOP), peek(walk + W_STRIDES), peek(walk + W_SECOND)
    inputs, itemsize, pool = peek(loop + L_INPUTS), peek(loop + L_ITEMSIZE), peek(loop + L_POOL)
    apart = room_for(inputs)
    for k in range(inputs + 1):
        place, jump = peek(starts + WORD * k), stride(strides, k, second)
        if k == inputs or (k < peek(walk + W_VECTORS) and jump != itemsize):
            buffer = buffers + apart * k
            if k < inputs:
                call_void(peek(pool + P_COLLECT), buffer, place, jump, rows, itemsize)
            place = buffer
        poke(local + WORD * k, place)
    call_void(peek(walk + W_BLOCK), local, rows)
    to, jump = peek(starts + WORD * inputs), stride(strides, inputs, second)
    fill_rows(to, jump, peek(local + WORD * inputs), itemsize, n, rows, itemsize)


@jit
def _row(walk: int, starts: int, n: int, steps: int) -> None:
    """One row, or a part of one, where it is."""
    loop, whole = peek(walk + W_LOOP), peek(walk + W_BLOCK)
    if whole != 0 and n < ALIGN:
        call_void(whole, starts, n)
    else:
        call(peek(peek(loop + L_POOL) + P_PIECE), starts, steps, 0, n, loop, numba.intp(peek(walk + W_PAST) != 0))


def walk_chunk(walk: int, chunk: int, me: int) -> None:
    """So many tiles one after the other."""
    columns, rows, second = peek(walk + W_COLUMNS), peek(walk + W_ROWS), peek(walk + W_SECOND)
    across, down, way = peek(walk + W_ACROSS), peek(walk + W_DOWN), peek(walk + W_WAY)
    shape, strides = peek(walk + W_SHAPE), peek(walk + W_STRIDES)
    wide, high = peek(shape), peek(shape + WORD * second)
    operand_count = peek(peek(walk + W_LOOP) + L_INPUTS) + 1
    bases, starts, steps, held = operands(), operands(), operands(), operands()
    local, jumps, buffers = operands(), operands(), rooms()
    for k in range(operand_count):
        poke(steps + WORD * k, stride(strides, k, 0))
    tile = chunk * peek(walk + W_AT_ONCE)
    stop = min(tile + peek(walk + W_AT_ONCE), peek(walk + W_TILES))
    column, band, outer = tile % across, tile // across % down, tile // across // down
    _start(walk, outer, bases)
    last_n, last_count = 0, 0
    for _ in range(tile, stop):
        left, top = column * columns, band * rows
        n, count = min(columns, wide - left), min(rows, high - top)
        for k in range(operand_count):
            step, jump = stride(strides, k, 0), stride(strides, k, second)
            poke(starts + WORD * k, peek(bases + WORD * k) + left * step + top * jump)
        if way == CONSTANT:
            _constant(walk, starts, n, count, buffers, local)
        elif way == ROW_BY_ROW:
            _row(walk, starts, n, steps)
        else:
            if n != last_n or count != last_count:
                for k in range(operand_count):
                    poke(held + WORD * k, 0)
                last_n, last_count = n, count
            _buffered(walk, starts, n, count, buffers, held, local, jumps)
        column += 1
        if column == across:
            column, band = 0, band + 1
            if band == down:
                band, outer = 0, outer + 1
                _start(walk, outer, bases)
    if peek(walk + W_PAST) != 0:
        fence()
