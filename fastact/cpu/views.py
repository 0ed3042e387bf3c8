"""Calls of a ufunc on plain arrays that differ in layout or shape, past NumPy's iterator.

NumPy hands a loop one row at a time. Here all axes are seen at once, so that short rows, transposed and broadcast
arrays can be taken in tiles (`fastact.cpu.tiles`). The result is laid out as NumPy would. Compiled by Numba, like
`fastact.cpu.quick`, from where these calls come.
"""

from __future__ import annotations

import numba

from .driver import (
    CHUNK,
    L_INPUTS,
    L_ITEMSIZE,
    L_SCALARS,
    P_SHARE,
    P_STREAM,
    P_WHOLE,
    WORD,
    begin,
    block,
    end,
    jit,
    operands,
    record,
)
from .layout import LINE, MAX_OPERANDS, PAST_CACHES, Pool, offset
from .memory import call, call_void, enter, leave, peek, poke, stack, store_rounded
from .quick import (
    A_DATA,
    A_DTYPE,
    A_NDIM,
    A_SHAPE,
    A_STRIDES,
    ALONE,
    INT,
    NOT_MINE,
    P_ARRAY,
    P_INCREF,
    P_SAVE,
    TYPE,
    handed_over,
    loop_for,
    product,
    resumed,
    writable,
)
from .tiles import (
    AXES,
    BUFFERED,
    CONSTANT,
    REPEATED,
    ROW_BY_ROW,
    W_ACROSS,
    W_AT_ONCE,
    W_AXES,
    W_BLOCK,
    W_COLUMNS,
    W_DOWN,
    W_LOOP,
    W_PAST,
    W_PLACES,
    W_ROWS,
    W_SECOND,
    W_SHAPE,
    W_STRIDES,
    W_TILES,
    W_VECTORS,
    W_WAY,
    room_for,
    stride,
    walk_room,
)

P_NEW_ARRAY, P_WALK_CHUNK = offset(Pool, "new_array"), offset(Pool, "walk_chunk")
LONG_ROW = 2048  # bytes of a row from which on it is taken by itself
TURNED = 64  # bytes of a tile along the axis along which an input is contiguous: a cache line
APART = 256  # and if the elements of that input are only near each other

axis_numbers = stack(WORD * AXES)
axis_strides = stack(WORD * AXES * MAX_OPERANDS)


@jit
def _broadcast(args: int, arrays: int, shape: int, strides: int) -> int:
    """Write the shape of the result and the strides of the arrays, last axis first; how many axes, or NOT_MINE."""
    axes = 0
    for k in range(arrays):
        axes = max(axes, peek(peek(args + WORD * k) + A_NDIM) & INT)
    if axes > AXES:
        return NOT_MINE
    for axis in range(axes):
        common = 1
        for k in range(arrays):
            array, step = peek(args + WORD * k), 0
            ndim = peek(array + A_NDIM) & INT
            if axis < ndim:
                at = WORD * (ndim - 1 - axis)
                length = peek(peek(array + A_SHAPE) + at)
                if length != 1:
                    if common not in (1, length):
                        return NOT_MINE
                    common, step = length, peek(peek(array + A_STRIDES) + at)
            poke(strides + WORD * (AXES * k + axis), step)
        poke(shape + WORD * axis, common)
    return axes


@jit
def _sort(order: int, axes: int, strides: int, first: int, last: int) -> None:
    """The axes from small to large strides of the operands first..last, exactly as NumPy's iterator has them."""
    for i in range(axes):
        at = i
        for j in range(i - 1, -1, -1):
            other, unknown, swap = peek(order + WORD * j), True, False
            for k in range(first, last + 1):
                own, its = abs(stride(strides, k, i)), abs(stride(strides, k, other))
                if own != 0 and its != 0:
                    # where operands disagree, the order in C decides
                    swap = its > own and (swap or unknown)
                    unknown = False
            if swap:
                at = j
            elif not unknown:
                break
        for j in range(i, at, -1):
            poke(order + WORD * j, peek(order + WORD * (j - 1)))
        poke(order + WORD * at, i)


@jit
def _new(dtype: int, order: int, axes: int, shape: int, strides: int, k: int, pool: int, itemsize: int) -> int:
    """A new array, whose strides become those of operand `k`; 0 if there is no memory."""
    lengths, steps, step = axis_numbers(), axis_numbers(), itemsize
    for i in range(axes):
        axis = peek(order + WORD * i)
        length = peek(shape + WORD * axis)
        poke(strides + WORD * (AXES * k + axis), step)
        poke(lengths + WORD * (axes - 1 - axis), length)
        poke(steps + WORD * (axes - 1 - axis), step)
        step *= length
    call_void(peek(pool + P_INCREF), dtype)  # which the next call takes over
    return call(peek(pool + P_NEW_ARRAY), peek(pool + P_ARRAY), dtype, axes, lengths, steps, 0, 0, 0)


@jit
def _join(order: int, axes: int, given: int, before: int, inputs: int, places: int, shape: int, strides: int) -> int:
    """Write the axes in their order, without those of length 1, upwards in the result, as few as will do."""
    kept = 0
    for i in range(axes):
        axis = peek(order + WORD * i)
        length, joins = peek(given + WORD * axis), kept > 0
        if length == 1:
            continue
        down = stride(before, inputs, axis) < 0
        for k in range(inputs + 1):
            step = stride(before, k, axis)
            if down:
                poke(places + WORD * k, peek(places + WORD * k) + (length - 1) * step)
                step = -step
            if kept > 0:
                joins &= step == stride(strides, k, kept - 1) * peek(shape + WORD * (kept - 1))
            poke(strides + WORD * (AXES * k + kept), step)
        if joins:
            poke(shape + WORD * (kept - 1), peek(shape + WORD * (kept - 1)) * length)
        else:
            poke(shape + WORD * kept, length)
            kept += 1
    return kept


@jit
def _sound(arrays: int, inputs: int, axes: int, places: int, shape: int, strides: int, itemsize: int) -> bool:
    """Whether each element of the result has a place of its own, and an input none of them, or exactly the same."""
    start = peek(places + WORD * inputs)
    stop = start + itemsize
    for axis in range(axes):
        step = stride(strides, inputs, axis)
        if step < stop - start:
            return False
        stop += step * (peek(shape + WORD * axis) - 1)
    for k in range(arrays):
        low = high = peek(places + WORD * k)
        same = low == start
        for axis in range(axes):
            step = stride(strides, k, axis)
            same &= step == stride(strides, inputs, axis)
            low += min(step, 0) * (peek(shape + WORD * axis) - 1)
            high += max(step, 0) * (peek(shape + WORD * axis) - 1)
        if high + itemsize > start and low < stop and not same:
            return False
    return True


@jit
def _second(arrays: int, inputs: int, axes: int, places: int, shape: int, strides: int, itemsize: int) -> int:
    """The axis along which an input is contiguous, or nearly so, that is not along the first one; 0 if none is."""
    for k in range(arrays):
        best, least = 0, abs(stride(strides, k, 0))
        if least > itemsize:
            for axis in range(1, axes):
                step = abs(stride(strides, k, axis))
                if 0 < step < least:
                    best, least = axis, step
        if best > 0:
            if stride(strides, k, best) < 0:  # upwards in this input
                for other in range(inputs + 1):
                    step, place = stride(strides, other, best), peek(places + WORD * other)
                    poke(places + WORD * other, place + (peek(shape + WORD * best) - 1) * step)
                    poke(strides + WORD * (AXES * other + best), -step)
            return best
    return 0


@jit
def _constant(vectors: int, strides: int, axis: int) -> bool:
    """Whether all vectors are single values along an axis."""
    constant = True
    for k in range(vectors):
        constant &= stride(strides, k, axis) == 0
    return constant


@jit
def _scalars(inputs: int, axes: int, strides: int, loop: int) -> int:
    """The number of parameters if each is one value along the first `axes` axes, else 0."""
    scalars = peek(loop + L_SCALARS)
    for k in range(inputs - scalars, inputs):
        for axis in range(axes):
            if stride(strides, k, axis) != 0:
                return 0
    return scalars


@jit
def _plan(walk: int, arrays: int, axes: int, fresh: bool, size: int, pool: int) -> bool:
    """Decide on the tiles; False if there is no block, and a Python error set."""
    loop, places = peek(walk + W_LOOP), peek(walk + W_PLACES)
    shape, strides = peek(walk + W_SHAPE), peek(walk + W_STRIDES)
    inputs, itemsize = peek(loop + L_INPUTS), peek(loop + L_ITEMSIZE)
    second = _second(arrays, inputs, axes, places, shape, strides, itemsize)
    turned, exact = second > 0, False
    for k in range(arrays):
        exact |= turned and stride(strides, k, second) == itemsize
    second = max(second, 1)
    wide, high = peek(shape), peek(shape + WORD * second)
    scalars = _scalars(inputs, axes, strides, loop)
    streaming = not fresh and size * itemsize >= peek(pool + P_STREAM)
    for k in range(inputs):
        streaming &= peek(places + WORD * k) != peek(places + WORD * inputs)
    way, room, line = BUFFERED, room_for(inputs) // itemsize, LINE // itemsize
    if stride(strides, inputs, 0) == itemsize and _constant(inputs - scalars, strides, numba.intp(0)):
        way, columns, streaming = CONSTANT, min(wide, CHUNK), False
        rows = min(high, room, max(CHUNK // columns, 1))
    elif turned:
        lines = (TURNED if exact else APART) // itemsize
        rows = min(high, max(lines, room // wide & -lines))
        # as many for each tile, but whole lines of the result
        tiles, most = (wide * rows + room - 1) // room, room // rows
        columns = min(wide, ((wide + tiles - 1) // tiles + line - 1) & -line, most & -line if most > line else most)
    elif wide * itemsize < LONG_ROW:
        columns = wide
        rows = room // wide
        rows = min(high, rows & -line if rows > line else rows)
        if stride(strides, inputs, 0) == itemsize and _constant(inputs, strides, second):
            way = REPEATED
    else:
        way, columns, rows = ROW_BY_ROW, min(wide, CHUNK), 1
        scalars = _scalars(inputs, numba.intp(1), strides, loop)
    function, past = block(loop, scalars > 0, 0), numba.intp(0)
    if function == 0:
        return False
    if streaming:
        past = block(loop, scalars > 0, PAST_CACHES)
        if past == 0:
            return False
    if way == ROW_BY_ROW:
        plain = not streaming
        for k in range(inputs + 1):
            plain &= inputs - scalars <= k < inputs or stride(strides, k, 0) == itemsize
        if not plain:
            function = 0
    across, down = (wide + columns - 1) // columns, (high + rows - 1) // rows
    poke(walk + W_BLOCK, function)
    poke(walk + W_VECTORS, inputs - scalars)
    poke(walk + W_WAY, way)
    poke(walk + W_AXES, axes)
    poke(walk + W_SECOND, second)
    poke(walk + W_COLUMNS, columns)
    poke(walk + W_ROWS, rows)
    poke(walk + W_ACROSS, across)
    poke(walk + W_DOWN, down)
    poke(walk + W_TILES, across * down * (size // (wide * high)))
    poke(walk + W_AT_ONCE, max(1, CHUNK // (columns * rows)))
    poke(walk + W_PAST, past)
    return True


@jit
def _walk(walk: int, size: int, pool: int) -> None:
    """All tiles, with threads if they pay."""
    job, at_once = peek(pool + P_WALK_CHUNK), peek(walk + W_AT_ONCE)
    chunks = (peek(walk + W_TILES) + at_once - 1) // at_once
    threads = begin(size, peek(walk + W_LOOP), pool)
    if threads <= 1 or call(peek(pool + P_SHARE), pool, threads, job, walk, chunks) == 0:
        for chunk in range(chunks):
            call_void(job, walk, chunk, 0)
    end(threads, pool)


def views(ufunc: int, args: int, arrays: int, given: int, out: int, pool: int) -> int:
    """`fastact.cpu.quick.direct` for arrays of one dtype and any layout, and shapes that can be broadcast."""
    first = peek(args)
    loop, dtype = loop_for(ufunc, first), peek(first + A_DTYPE)
    if loop == 0:
        return NOT_MINE
    for k in range(arrays):
        array = peek(args + WORD * k)
        if peek(array + TYPE) != peek(pool + P_ARRAY) or peek(array + A_DTYPE) != dtype:
            return NOT_MINE
    inputs, itemsize = peek(loop + L_INPUTS), peek(loop + L_ITEMSIZE)
    full_shape, full, order = axis_numbers(), axis_strides(), axis_numbers()
    axes = _broadcast(args, arrays, full_shape, full)
    if axes <= 0:
        return NOT_MINE
    size = product(full_shape, axes)
    if size <= 0:
        return NOT_MINE
    places, numbers = operands(), record()
    for k in range(arrays):
        poke(places + WORD * k, peek(peek(args + WORD * k) + A_DATA))
    for k in range(arrays, inputs):
        poke(places + WORD * k, numbers + WORD * (k - arrays))
        if not store_rounded(numbers + WORD * (k - arrays), given + WORD * (k - arrays), itemsize):
            return NOT_MINE
        for axis in range(axes):
            poke(full + WORD * (AXES * k + axis), 0)
    result = out
    if out != 0:
        if peek(out + TYPE) != peek(pool + P_ARRAY) or peek(out + A_DTYPE) != dtype or not writable(out):
            return NOT_MINE
        if peek(out + A_NDIM) & INT != axes:
            return NOT_MINE
        for axis in range(axes):
            at = WORD * (axes - 1 - axis)
            if peek(peek(out + A_SHAPE) + at) != peek(full_shape + WORD * axis):
                return NOT_MINE
            poke(full + WORD * (AXES * inputs + axis), peek(peek(out + A_STRIDES) + at))
        _sort(order, axes, full, inputs, inputs)
    else:
        _sort(order, axes, full, numba.intp(0), arrays - 1)
        result = _new(dtype, order, axes, full_shape, full, inputs, pool, itemsize)
        if result == 0:
            return 0
    poke(places + WORD * inputs, peek(result + A_DATA))

    shape, strides, walk = axis_numbers(), axis_strides(), walk_room()
    axes = _join(order, axes, full_shape, full, inputs, places, shape, strides)
    if out != 0 and not _sound(arrays, inputs, axes, places, shape, strides, itemsize):
        return NOT_MINE
    thread = call(peek(pool + P_SAVE)) if size >= ALONE else 0
    before = enter()
    if axes < 2:
        steps = operands()
        for k in range(inputs + 1):
            poke(steps + WORD * k, stride(strides, k, 0) if axes > 0 else 0)
        fine = call(peek(pool + P_WHOLE), places, steps, size, loop, numba.intp(out == 0)) != 0
    else:
        poke(walk + W_LOOP, loop)
        poke(walk + W_PLACES, places)
        poke(walk + W_SHAPE, shape)
        poke(walk + W_STRIDES, strides)
        fine = _plan(walk, arrays, axes, out == 0, size, pool)
        if fine:
            _walk(walk, size, pool)
    leave(before)
    if thread != 0:
        fine &= resumed(thread, pool)
    return handed_over(fine, result, out, pool)
