"""The usual calls of softmax and its relatives, past NumPy's machinery: plain arrays in C order, any axis.

Such an array is (outer, n, inner) with the axis in the middle. NumPy would call the loop once for each outer index, so
that threads never had enough to share, and would lay out a result of its own with the axis last, so that it had to be
transposed. Here the result is in C order too. Every other call goes to NumPy. Compiled by Numba, as `quick`.
"""

from __future__ import annotations

import numba

from .driver import L_INPUTS, L_ITEMSIZE, L_OUTPUTS, L_POOL, P_SHARE, U_DATA, WORD, begin, end, jit, operands, record
from .layout import Loop, Pool, offset
from .memory import call, call_void, enter, leave, peek, poke, stack, store_rounded
from .quick import (
    A_DATA,
    A_DTYPE,
    A_FLAGS,
    A_NDIM,
    A_SHAPE,
    ALONE,
    C_ORDER,
    INT,
    OFFSET_FLAG,
    P_ARRAY,
    P_AS_LONG,
    P_DECREF,
    P_INCREF,
    P_INT,
    P_NEW_LIKE,
    P_NUMPY_CALL,
    P_OUT,
    P_SAVE,
    TUPLE_ITEMS,
    TUPLE_SIZE,
    TYPE,
    handed_over,
    is_plain,
    loop_for,
    number_of,
    product,
    resumed,
    writable,
)
from .row_driver import (
    COLUMNS,
    L_SCALARS,
    ROW_CHUNK,
    arena_at,
    arena_for,
    arenas,
    body_for,
    body_with,
    free,
    usual,
    writes,
)

P_AXIS, P_KEEPDIMS, P_TRUE = (offset(Pool, f) for f in ("axis_name", "keepdims_name", "true"))
P_ROWS, P_SLABS_JOB = offset(Pool, "rows"), offset(Pool, "slabs_job")
P_INDEX, P_NEW_ARRAY, P_NEW_TUPLE = (offset(Pool, f) for f in ("index_type", "new_array", "new_tuple"))
L_INDICES = offset(Loop, "indices")

axis_numbers = stack(WORD * 64)  # NumPy's arrays have no more axes


def slabs_chunk(context: int, chunk: int, me: int) -> None:
    """Some slices of arrays (outer, n, inner), or some columns of one slice.

    context: args, steps, loop, outer, n, inner, slices a chunk, columns a chunk, arenas, their size, body.
    """
    args, steps, loop = peek(context), peek(context + WORD), peek(context + 2 * WORD)
    outer, n, inner = peek(context + 3 * WORD), peek(context + 4 * WORD), peek(context + 5 * WORD)
    slices, columns = peek(context + 6 * WORD), peek(context + 7 * WORD)
    parts = (inner + columns - 1) // columns
    start = chunk % parts * columns
    first = chunk // parts * slices
    local, shape, piece = operands(), record(), record()
    inputs, nargs = peek(loop + L_INPUTS), peek(loop + L_INPUTS) + peek(loop + L_OUTPUTS)
    rows = inputs - peek(loop + L_SCALARS)
    usual(piece, 0, arena_at(peek(context + 8 * WORD), peek(context + 9 * WORD), me))
    poke(shape, min(columns, inner - start))
    poke(shape + WORD, n)
    for k in range(first, min(first + slices, outer)):
        for operand in range(nargs):
            step = peek(steps + WORD * operand)
            row = operand < rows or (operand == nargs - 1 and writes(loop))
            place = peek(args + WORD * operand) + (k * (n if row else 1) * inner + start) * step
            poke(local + WORD * operand, place)
        call_void(peek(context + 10 * WORD), local, shape, steps, piece)


@jit
def _slabs(args: int, steps: int, outer: int, n: int, inner: int, loop: int, body: int, threads: int) -> bool:
    """Do all slices; False, with a Python error set, if that takes a loop that cannot be made."""
    pool, context = peek(loop + L_POOL), record()
    poke(context, args)
    poke(context + WORD, steps)
    poke(context + 2 * WORD, loop)
    poke(context + 3 * WORD, outer)
    poke(context + 4 * WORD, n)
    poke(context + 5 * WORD, inner)
    arena = arena_for(n, inner, outer * inner, True, loop)
    poke(context + 9 * WORD, arena)
    if threads > 1:
        slices, columns = numba.intp(1), inner
        if outer >= 2 * threads:
            # those that follow on each other, because lines of the next are asked for in time
            slices = min(outer // (2 * threads), max(outer // (8 * threads), ROW_CHUNK // (n * inner), 1))
        else:
            wanted = (2 * threads + outer - 1) // outer
            columns = max(COLUMNS, (inner // wanted + COLUMNS - 1) // COLUMNS * COLUMNS)
        poke(context + 6 * WORD, slices)
        poke(context + 7 * WORD, columns)
        chunks = (outer + slices - 1) // slices * ((inner + columns - 1) // columns)
        memory = arenas(arena, min(threads, chunks), pool)
        poke(context + 8 * WORD, memory)
        poke(context + 10 * WORD, body_with(memory, body, n, loop))
        if peek(context + 10 * WORD) == 0:
            return False
        shared = call(peek(pool + P_SHARE), pool, threads, peek(pool + P_SLABS_JOB), context, chunks) != 0
        free(memory, pool)
        if shared:
            return True
    poke(context + 6 * WORD, outer)
    poke(context + 7 * WORD, inner)
    memory = arenas(arena, 1, pool)
    poke(context + 8 * WORD, memory)
    poke(context + 10 * WORD, body_with(memory, body, n, loop))
    if peek(context + 10 * WORD) == 0:
        return False
    call_void(peek(pool + P_SLABS_JOB), context, 0, 0)
    free(memory, pool)
    return True


@jit
def _extent(array: int, itemsize: int) -> int:
    """Bytes of a contiguous array."""
    return product(peek(array + A_SHAPE), peek(array + A_NDIM) & INT) * itemsize


@jit
def _overlap(array: int, bytes_each: int, out: int, itemsize: int) -> bool:
    a, b = peek(array + A_DATA), peek(out + A_DATA)
    return a < b + _extent(out, itemsize) and b < a + _extent(array, bytes_each)


@jit
def _is_index(loop: int, operand: int) -> bool:
    """Whether an input is an index, one a row."""
    value = operand - (peek(loop + L_INPUTS) - peek(loop + L_SCALARS))
    return value >= 0 and (peek(loop + L_INDICES) >> value) & 1 != 0


@jit
def _in_order(array: int, dtype: int, lengths: int, ndim: int, pool: int) -> bool:
    """Whether `array` is a plain array of this dtype and shape, in C order."""
    return is_plain(array, dtype, lengths, ndim, pool) and peek(array + A_FLAGS) & C_ORDER != 0


@jit
def _one_for_all(array: int, first: int, axis: int, pool: int) -> bool:
    """Whether `array` is one row, along the same axis, for all rows of `first`."""
    if peek(array + TYPE) != peek(pool + P_ARRAY) or peek(array + A_DTYPE) != peek(first + A_DTYPE):
        return False
    ndim = peek(first + A_NDIM) & INT
    if peek(array + A_NDIM) & INT != ndim or peek(array + A_FLAGS) & C_ORDER == 0:
        return False
    same = True
    for k in range(ndim):
        same &= peek(peek(array + A_SHAPE) + WORD * k) == (peek(peek(first + A_SHAPE) + WORD * k) if k == axis else 1)
    return same


@jit
def _value(thing: int, index: bool, first: int, lengths: int, number: int, itemsize: int, pool: int) -> int:
    """The step of an operand of one number a row: 0 if it is one for all rows; -1 if it is not plain.

    `lengths` is the shape it has if not. What a Python number is goes to `number`.
    """
    kind, ndim = peek(thing + TYPE), (peek(first + A_NDIM) & INT) - 1
    if kind == peek(pool + P_ARRAY):
        dtype = peek(pool + P_INDEX) if index else peek(first + A_DTYPE)
        if is_plain(thing, dtype, lengths, 0, pool):
            return 0
        if not _in_order(thing, dtype, lengths, ndim, pool):
            return -1
        return WORD if index else itemsize
    if index:
        if kind != peek(pool + P_INT):
            return -1
        overflow = record()
        poke(number, call(peek(pool + P_AS_LONG), thing, overflow))
        return 0 if peek(overflow) & INT == 0 else -1
    given = record()
    return 0 if number_of(thing, given, pool) and store_rounded(number, given, itemsize) else -1


@jit
def _new_values(first: int, lengths: int, ndim: int, pool: int) -> int:
    """A new array of the dtype of `first` and this shape, in C order; 0 if there is no memory."""
    call_void(peek(pool + P_INCREF), peek(first + A_DTYPE))  # which the next call takes over
    return call(peek(pool + P_NEW_ARRAY), peek(pool + P_ARRAY), peek(first + A_DTYPE), ndim, lengths, 0, 0, 0, 0)


@jit
def _pair(value: int, row: int, pool: int) -> int:
    """A tuple of two new arrays, which it takes over; 0 if there is no memory for any of the three."""
    made = call(peek(pool + P_NEW_TUPLE), 2) if value != 0 and row != 0 else 0
    if made != 0:
        poke(made + TUPLE_ITEMS, value)
        poke(made + TUPLE_ITEMS + WORD, row)
        return made
    if value != 0:
        call_void(peek(pool + P_DECREF), value)
    if row != 0:
        call_void(peek(pool + P_DECREF), row)
    return 0


@jit
def _called(ufunc: int, args: int, inputs: int, axis: int, keep: bool, out: int, pool: int) -> int:
    """Call `ufunc` with the operands at `args`; -1, with nothing done, if they are not plain; 0 if an error is set."""
    first = peek(args)
    if peek(first + TYPE) != peek(pool + P_ARRAY):
        return -1
    loop, ndim = loop_for(ufunc, first), peek(first + A_NDIM) & INT
    if loop == 0 or axis >= ndim or axis < -ndim or peek(first + A_FLAGS) & C_ORDER == 0:
        return -1
    axis += ndim * (axis < 0)
    dtype, shape = peek(first + A_DTYPE), peek(first + A_SHAPE)
    itemsize, outputs, rows = peek(loop + L_ITEMSIZE), peek(loop + L_OUTPUTS), inputs - peek(loop + L_SCALARS)
    written = writes(loop)
    if keep and (rows < inputs or rows > 1 or written):
        return -1
    outer, inner, n = numba.intp(1), numba.intp(1), peek(shape + WORD * axis)
    lengths, count = axis_numbers(), numba.intp(0)  # the shape of numbers of rows
    for k in range(ndim):
        length = peek(shape + WORD * k)
        outer *= length if k < axis else 1
        inner *= length if k > axis else 1
        if k != axis or keep:
            poke(lengths + WORD * count, 1 if k == axis else length)
            count += 1
    size = outer * n * inner
    if size <= 0 or (count == 0 and outputs > written):  # NumPy makes a number of it
        return -1

    data, steps, numbers = operands(), operands(), record()
    cores, nargs = inputs + outputs, inputs + outputs
    for k in range(inputs):
        thing, number = peek(args + WORD * k), numbers + WORD * (k - rows)
        if k >= rows:
            step = _value(thing, _is_index(loop, k), first, lengths, number, itemsize, pool)
            if step < 0:
                return -1
        else:
            step, core = itemsize * (n if inner == 1 else 1), itemsize * inner
            if k > 0 and not _in_order(thing, dtype, shape, ndim, pool):
                if not _one_for_all(thing, first, axis, pool):
                    return -1
                step, core = 0, itemsize
            poke(steps + WORD * cores, core)
            cores += 1
        poke(data + WORD * k, peek(thing + A_DATA) if peek(thing + TYPE) == peek(pool + P_ARRAY) else number)
        poke(steps + WORD * k, step)
    result = value = row = out
    if out != 0:
        wanted, axes = (shape, ndim) if written else (lengths, count)
        if outputs > 1 or not _in_order(out, dtype, wanted, axes, pool) or not writable(out):
            return -1
        for k in range(inputs):
            thing, bytes_each = peek(args + WORD * k), WORD if _is_index(loop, k) else itemsize
            if peek(thing + TYPE) == peek(pool + P_ARRAY) and _overlap(thing, bytes_each, out, itemsize):
                return -1
    else:
        if outputs > written:
            result = value = _new_values(first, lengths, count, pool)
        if written:
            result = row = call(peek(pool + P_NEW_LIKE), first, 0, 0, 0)
        if outputs > 1:
            result = _pair(value, row, pool)
        if result == 0:
            return 0
    if outputs > written:
        poke(data + WORD * inputs, peek(value + A_DATA))
        poke(steps + WORD * inputs, itemsize)
    if written:
        poke(data + WORD * (nargs - 1), peek(row + A_DATA))
        poke(steps + WORD * (nargs - 1), itemsize * (n if inner == 1 else 1))
        poke(steps + WORD * cores, itemsize * inner)
    dims = record()
    poke(dims, outer if inner == 1 else inner)
    poke(dims + WORD, n)
    body = body_for(dims, steps, loop)
    fine = body != 0
    if fine:
        thread = call(peek(pool + P_SAVE)) if size >= ALONE else 0
        before = enter()
        if inner == 1:
            call_void(peek(pool + P_ROWS), data, dims, steps, loop)
        else:
            threads = begin(outer * n * inner, loop, pool)
            fine = _slabs(data, steps, outer, n, inner, loop, body, threads)
            end(threads, pool)
        leave(before)
        if thread != 0:
            fine &= resumed(thread, pool)
    return handed_over(fine, result, out, pool)


def call_rows(ufunc: int, args: int, count: int, keywords: int) -> int:
    """The vectorcall of a gufunc of rows: plain arrays, perhaps `axis`, `keepdims` and `out`, are dealt with here."""
    loop = peek(peek(ufunc + U_DATA))
    pool, inputs = peek(loop + L_POOL), peek(loop + L_INPUTS)
    given, out, axis, keep = count & ~OFFSET_FLAG, numba.intp(0), numba.intp(-1), False
    mine = given == inputs or given == inputs + 1
    if given == inputs + 1:
        out = peek(args + WORD * inputs)
    if mine and keywords != 0:
        for i in range(peek(keywords + TUPLE_SIZE)):
            name, value = peek(keywords + TUPLE_ITEMS + WORD * i), peek(args + WORD * (given + i))
            if name == peek(pool + P_OUT) and out == 0:
                out = value
            elif name == peek(pool + P_AXIS) and peek(value + TYPE) == peek(pool + P_INT):
                overflow = record()
                axis = call(peek(pool + P_AS_LONG), value, overflow)
                mine &= peek(overflow) & INT == 0
            elif name == peek(pool + P_KEEPDIMS) and value == peek(pool + P_TRUE):
                keep = True
            else:
                mine = False
    if mine:
        result = _called(ufunc, args, inputs, axis, keep, out, pool)
        if result != -1:
            return result
    return call(peek(pool + P_NUMPY_CALL), ufunc, args, count, keywords)
