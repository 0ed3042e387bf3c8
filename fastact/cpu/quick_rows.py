"""The usual calls of softmax and its relatives, past NumPy's machinery: plain arrays in C order, any axis.

Such an array is (outer, n, inner) with the axis in the middle. NumPy would call the loop once for each outer index, so
that threads never had enough to share, and would lay out a result of its own with the axis last, so that it had to be
transposed. Here the result is in C order too. Every other call goes to NumPy. Compiled by Numba, as `quick`.
"""

from __future__ import annotations

import numba

from .driver import (
    L_BODY,
    L_INPUTS,
    L_ITEMSIZE,
    L_POOL,
    L_THRESHOLD,
    P_SHARE,
    U_DATA,
    WORD,
    block,
    jit,
    operands,
    record,
    threads_of,
)
from .layout import Pool, offset
from .memory import call, call_void, enter, leave, peek, poke
from .quick import (
    A_DATA,
    A_FLAGS,
    A_NDIM,
    A_SHAPE,
    ALONE,
    C_ORDER,
    INT,
    OFFSET_FLAG,
    P_ARRAY,
    P_AS_LONG,
    P_INT,
    P_NEW_LIKE,
    P_NUMPY_CALL,
    P_OUT,
    P_RESTORE,
    P_SAVE,
    TUPLE_ITEMS,
    TUPLE_SIZE,
    TYPE,
    handed_over,
    is_alike,
    loop_for,
    writable,
)
from .row_driver import COLUMNS, ROW_CHUNK, arena_at, arena_for, arenas, body_for, free, usual

P_AXIS, P_ROWS, P_SLABS_JOB = (offset(Pool, f) for f in ("axis_name", "rows", "slabs_job"))


def slabs_chunk(context: int, chunk: int, me: int) -> None:
    """Some slices of arrays (outer, n, inner), or some columns of one slice.

    context: args, steps, loop, outer, n, inner, slices a chunk, columns a chunk, arenas, their size.
    """
    args, steps, loop = peek(context), peek(context + WORD), peek(context + 2 * WORD)
    outer, n, inner = peek(context + 3 * WORD), peek(context + 4 * WORD), peek(context + 5 * WORD)
    slices, columns = peek(context + 6 * WORD), peek(context + 7 * WORD)
    parts = (inner + columns - 1) // columns
    start = chunk % parts * columns
    first = chunk // parts * slices
    local, shape, piece, itemsize = operands(), record(), record(), peek(loop + L_ITEMSIZE)
    usual(piece, 0, arena_at(peek(context + 8 * WORD), peek(context + 9 * WORD), me))
    poke(shape, min(columns, inner - start))
    poke(shape + WORD, n)
    for k in range(first, min(first + slices, outer)):
        for operand in range(peek(loop + L_INPUTS) + 1):
            place = peek(args + WORD * operand) + (k * n * inner + start) * itemsize
            poke(local + WORD * operand, place)
        call_void(peek(loop + L_BODY), local, shape, steps, piece)


@jit
def _slabs(args: int, steps: int, outer: int, n: int, inner: int, loop: int) -> None:
    pool, context = peek(loop + L_POOL), record()
    poke(context, args)
    poke(context + WORD, steps)
    poke(context + 2 * WORD, loop)
    poke(context + 3 * WORD, outer)
    poke(context + 4 * WORD, n)
    poke(context + 5 * WORD, inner)
    arena = arena_for(n, inner, outer * inner, True, loop)
    poke(context + 9 * WORD, arena)
    if outer * n * inner >= peek(loop + L_THRESHOLD):
        threads = threads_of(pool)
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
            shared = call(peek(pool + P_SHARE), pool, threads, peek(pool + P_SLABS_JOB), context, chunks) != 0
            free(memory, pool)
            if shared:
                return
    poke(context + 6 * WORD, outer)
    poke(context + 7 * WORD, inner)
    memory = arenas(arena, 1, pool)
    poke(context + 8 * WORD, memory)
    call_void(peek(pool + P_SLABS_JOB), context, 0, 0)
    free(memory, pool)


@jit
def _overlap(array: int, out: int, size: int) -> bool:
    a, b = peek(array + A_DATA), peek(out + A_DATA)
    return a < b + size and b < a + size


@jit
def _called(ufunc: int, args: int, inputs: int, axis: int, out: int, pool: int) -> int:
    """Call `ufunc` with the arrays at `args`; -1, with nothing done, if they are not plain; 0 if an error is set."""
    first = peek(args)
    if peek(first + TYPE) != peek(pool + P_ARRAY):
        return -1
    loop, ndim = loop_for(ufunc, first), peek(first + A_NDIM) & INT
    if loop == 0 or axis >= ndim or axis < -ndim:
        return -1
    axis += ndim * (axis < 0)
    flags = peek(first + A_FLAGS)
    for k in range(1, inputs):
        if not is_alike(peek(args + WORD * k), first, pool):
            return -1
        flags &= peek(peek(args + WORD * k) + A_FLAGS)
    if flags & C_ORDER == 0:
        return -1
    outer, inner, n = numba.intp(1), numba.intp(1), peek(peek(first + A_SHAPE) + WORD * axis)
    for k in range(ndim):
        length = peek(peek(first + A_SHAPE) + WORD * k)
        outer *= length if k < axis else 1
        inner *= length if k > axis else 1
    itemsize = peek(loop + L_ITEMSIZE)
    size = outer * n * inner
    if size <= 0:
        return -1
    if out != 0:
        if not is_alike(out, first, pool):
            return -1
        if peek(out + A_FLAGS) & C_ORDER == 0 or not writable(out):
            return -1
        for k in range(inputs):
            if _overlap(peek(args + WORD * k), out, size * itemsize):
                return -1
    result = out
    if out == 0:
        result = call(peek(pool + P_NEW_LIKE), first, 0, 0, 0)
        if result == 0:
            return 0

    data, steps, dims = operands(), operands(), record()
    for k in range(inputs + 1):
        array = peek(args + WORD * k) if k < inputs else result
        poke(data + WORD * k, peek(array + A_DATA))
        poke(steps + WORD * k, itemsize * (n if inner == 1 else 1))
        poke(steps + WORD * (inputs + 1 + k), itemsize * inner)
    poke(dims, outer)
    poke(dims + WORD, n)
    if inner == 1:
        fine = body_for(dims, steps, loop) != 0
    else:
        fine = peek(loop + L_BODY) != 0 or block(loop, False, 0) != 0
    if fine:
        thread = call(peek(pool + P_SAVE)) if size >= ALONE else 0
        before = enter()
        if inner == 1:
            call_void(peek(pool + P_ROWS), data, dims, steps, loop)
        else:
            _slabs(data, steps, outer, n, inner, loop)
        leave(before)
        if thread != 0:
            call_void(peek(pool + P_RESTORE), thread)
    return handed_over(fine, result, out, pool)


def call_rows(ufunc: int, args: int, count: int, keywords: int) -> int:
    """The vectorcall of a gufunc (n),...,(n)->(n): plain arrays, and perhaps `axis` and `out`, are dealt with here."""
    loop = peek(peek(ufunc + U_DATA))
    pool, inputs = peek(loop + L_POOL), peek(loop + L_INPUTS)
    given, out, axis = count & ~OFFSET_FLAG, numba.intp(0), numba.intp(-1)
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
            else:
                mine = False
    if mine:
        result = _called(ufunc, args, inputs, axis, out, pool)
        if result != -1:
            return result
    return call(peek(pool + P_NUMPY_CALL), ufunc, args, count, keywords)
