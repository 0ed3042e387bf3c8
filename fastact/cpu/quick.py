"""The usual calls of a ufunc, past NumPy's machinery.

What NumPy does around a loop takes 0.3 us: it looks for overrides, resolves dtypes, builds an iterator, reads the error
state. None of it matters when every operand is a plain array of one dtype and one shape, which is how activations are
called. Then the vectorcall here makes the result and runs the loop itself; it hands every other call to NumPy, so there
is nothing that it must be able to do. Compiled by Numba, like `fastact.cpu.driver`.
"""

from __future__ import annotations

import numba

from .driver import (
    BUFFER,
    L_INPUTS,
    L_ITEMSIZE,
    L_POOL,
    P_COLLECT,
    U_DATA,
    WORD,
    block,
    buffers,
    jit,
    operands,
    record,
    run,
)
from .layout import Loop, Pool, UFunc, offset
from .memory import call, call_void, enter, fill, integer_as_double, leave, peek, poke, store_rounded
from .vectorcall import KEYWORDS, Choice

P_NUMPY_CALL, P_NEW_LIKE, P_DIRECT = (offset(Pool, f) for f in ("numpy_call", "new_like", "direct"))
P_ARRAY, P_FLOAT, P_INT, P_OUT = (offset(Pool, f) for f in ("array_type", "float_type", "int_type", "out_name"))
P_INCREF, P_DECREF, P_SAVE = (offset(Pool, f) for f in ("incref", "decref", "save_thread"))
P_RESTORE, P_AS_LONG = offset(Pool, "restore_thread"), offset(Pool, "as_long")
L_DTYPE, U_COUNT, U_OBJ = offset(Loop, "dtype"), offset(UFunc, "ntypes"), offset(UFunc, "obj")
C_CALL, C_COUNT, C_FIRST, C_SECOND = (offset(Choice, f) for f in ("call", "count", "first", "second"))
C_KEYWORDS, C_UFUNC, C_ARRAYS = (offset(Choice, f) for f in ("keywords", "ufunc", "arrays"))
C_PARAMETERS, C_NAMES, C_DEFAULTS = (offset(Choice, f) for f in ("parameters", "names", "defaults"))
C_NONZERO, C_REQUIRED = offset(Choice, "nonzero"), offset(Choice, "required")
HEAD = object.__basicsize__
TYPE = HEAD - WORD
TUPLE_SIZE, TUPLE_ITEMS = HEAD, tuple.__basicsize__  # where a tuple keeps its length and its elements
# PyArrayObject_fields of ndarraytypes.h, the same since NumPy 1.7
A_DATA, A_NDIM, A_SHAPE, A_STRIDES = HEAD, HEAD + WORD, HEAD + 2 * WORD, HEAD + 3 * WORD
A_DTYPE, A_FLAGS = HEAD + 5 * WORD, HEAD + 6 * WORD
INT = (1 << 32) - 1  # a C int, read with what follows it
C_ORDER, F_ORDER, WRITEABLE, WARN_ON_WRITE = 1, 2, 0x400, 1 << 31
OFFSET_FLAG = -1 << 63  # PY_VECTORCALL_ARGUMENTS_OFFSET
NOT_MINE = -1  # no address: NumPy has to do it
ALONE = 1 << 10  # elements from which on other Python threads may run meanwhile
SHORT = 128  # bytes of a row below which rows are brought together first
EXACT = 1 << 24  # integers up to here are floats


@jit
def _loop(ufunc: int, array: int) -> int:
    """The loop for arrays of the dtype of `array`, or 0."""
    dtype, data = peek(array + A_DTYPE), peek(ufunc + U_DATA)
    for k in range(peek(ufunc + U_COUNT) & INT):
        loop = peek(data + WORD * k)
        if peek(loop + L_DTYPE) == dtype:
            return loop
    return 0


@jit
def _alike(array: int, first: int, pool: int) -> bool:
    """Whether `array` is a plain array of the dtype and the shape of `first`."""
    if peek(array + TYPE) != peek(pool + P_ARRAY) or peek(array + A_DTYPE) != peek(first + A_DTYPE):
        return False
    ndim = peek(first + A_NDIM) & INT
    if peek(array + A_NDIM) & INT != ndim:
        return False
    shape, other = peek(first + A_SHAPE), peek(array + A_SHAPE)
    same = True
    for k in range(ndim):
        same &= peek(shape + WORD * k) == peek(other + WORD * k)
    return same


@jit
def _bounds(array: int, itemsize: int) -> tuple[int, int]:
    """The first address of `array` and the one after its last."""
    low = high = peek(array + A_DATA)
    for k in range(peek(array + A_NDIM) & INT):
        reach = (peek(peek(array + A_SHAPE) + WORD * k) - 1) * _stride(array, k)
        low += min(reach, 0)
        high += max(reach, 0)
    return low, high + itemsize


@jit
def _stride(array: int, k: int) -> int:
    return peek(peek(array + A_STRIDES) + WORD * k)


@jit
def _apart(array: int, out: int, itemsize: int) -> bool:
    """Whether the two have nothing in common, or are the very same memory."""
    low, high = _bounds(array, itemsize)
    start, stop = _bounds(out, itemsize)
    if high <= start or stop <= low:
        return True
    same = peek(array + A_DATA) == peek(out + A_DATA)
    for k in range(peek(out + A_NDIM) & INT):
        same &= _stride(array, k) == _stride(out, k)
    return same


@jit
def _writable(out: int, itemsize: int) -> bool:
    """Whether `out` may be written, each element once, without a warning."""
    flags = peek(out + A_FLAGS)
    distinct = flags & (C_ORDER | F_ORDER) != 0 or (peek(out + A_NDIM) & INT == 1 and abs(_stride(out, 0)) >= itemsize)
    return distinct and flags & (WRITEABLE | WARN_ON_WRITE) == WRITEABLE


@jit
def _by_rows(array: int) -> bool:
    """Whether NumPy would walk through `array`, of two dimensions, row by row and from left to right."""
    outer, inner = _stride(array, 0), _stride(array, 1)
    return inner >= 0 and (outer >= inner or outer == 0)


@jit
def _short_rows(data: int, steps: int, between: int, rows: int, n: int, loop: int, arrays: int) -> bool:
    """Rows of `n` elements, many at a time: side by side in buffers. The result is contiguous."""
    inputs, itemsize, pool = peek(loop + L_INPUTS), peek(loop + L_ITEMSIZE), peek(loop + L_POOL)
    function = block(loop, arrays < inputs)
    if function == 0:
        return False
    at_once = BUFFER // (n * itemsize)
    local, room = operands(), buffers()
    done = 0
    while done < rows:
        count = min(at_once, rows - done)
        for k in range(inputs + 1):
            place, step, jump = peek(data + WORD * k), peek(steps + WORD * k), peek(between + WORD * k)
            poke(local + WORD * k, place + done * jump)
            if k < arrays:
                to = room + BUFFER * k
                poke(local + WORD * k, to)
                for row in range(done, done + count):
                    if step == 0:
                        fill(to, place + row * jump, n, itemsize)
                    else:
                        call_void(peek(pool + P_COLLECT), to, place + row * jump, step, n, itemsize)
                    to += n * itemsize
        call_void(function, local, count * n)
        done += count
    return True


def direct(ufunc: int, args: int, arrays: int, given: int, out: int, pool: int) -> int:
    """Call `ufunc` with the arrays at `args` and the numbers at `given`; NOT_MINE, with nothing done, if not plain.

    `given` is 0, or the address of a double for each parameter. 0 means that a Python error is set.
    """
    first = peek(args)
    if peek(first + TYPE) != peek(pool + P_ARRAY):
        return NOT_MINE
    loop = _loop(ufunc, first)
    ndim = peek(first + A_NDIM) & INT
    if loop == 0 or ndim == 0:
        return NOT_MINE
    itemsize, inputs = peek(loop + L_ITEMSIZE), peek(loop + L_INPUTS)
    flags = peek(first + A_FLAGS)
    for k in range(1, arrays):
        if not _alike(peek(args + WORD * k), first, pool):
            return NOT_MINE
        flags &= peek(peek(args + WORD * k) + A_FLAGS)
    if out != 0:
        if not _alike(out, first, pool) or not _writable(out, itemsize):
            return NOT_MINE
        for k in range(arrays):
            if not _apart(peek(args + WORD * k), out, itemsize):
                return NOT_MINE
        flags &= peek(out + A_FLAGS)
    size = 1
    for k in range(ndim):
        size *= peek(peek(first + A_SHAPE) + WORD * k)
    if size <= 0:
        return NOT_MINE

    order, rows, n = numba.intp(0), numba.intp(1), size
    flat = flags & (C_ORDER | F_ORDER) != 0
    if flat:
        order = numba.intp(flags & C_ORDER == 0)
    elif ndim == 2:
        rows, n = peek(peek(first + A_SHAPE)), peek(peek(first + A_SHAPE) + WORD)
        for k in range(arrays):
            if not _by_rows(peek(args + WORD * k)):
                return NOT_MINE
        if out != 0 and peek(out + A_FLAGS) & C_ORDER == 0:
            return NOT_MINE
    elif ndim > 2:
        return NOT_MINE

    numbers = record()
    if given != 0:
        for k in range(inputs - arrays):
            if not store_rounded(numbers + WORD * k, given + WORD * k, itemsize):
                return NOT_MINE
    result = out
    if out == 0:
        result = call(peek(pool + P_NEW_LIKE), first, order, 0, 0)
        if result == 0:
            return 0

    data, steps, between = operands(), operands(), operands()
    joined = rows > 1
    for k in range(inputs + 1):
        step, jump = 0, 0
        if arrays <= k < inputs:
            place = numbers + WORD * (k - arrays)
        else:
            array = peek(args + WORD * k) if k < arrays else result
            place = peek(array + A_DATA)
            step = itemsize if flat else _stride(array, ndim - 1)
            if rows > 1:
                jump = _stride(array, 0)
            joined &= jump == n * step
        poke(data + WORD * k, place)
        poke(steps + WORD * k, step)
        poke(between + WORD * k, jump)
    if joined:
        rows, n = 1, size

    thread = call(peek(pool + P_SAVE)) if size >= ALONE else 0
    before = enter()
    fine = True
    if rows > 1 and n * itemsize <= SHORT:
        fine = _short_rows(data, steps, between, rows, n, loop, arrays)
    else:
        for _ in range(rows):
            fine = fine and run(data, steps, n, loop, out == 0)
            for k in range(inputs + 1):
                poke(data + WORD * k, peek(data + WORD * k) + peek(between + WORD * k))
    leave(before)
    if thread != 0:
        call_void(peek(pool + P_RESTORE), thread)
    if not fine:
        if out == 0:
            call_void(peek(pool + P_DECREF), result)
        return 0
    if out != 0:
        call_void(peek(pool + P_INCREF), out)
    return result


def call_ufunc(ufunc: int, args: int, count: int, keywords: int) -> int:
    """The vectorcall of a ufunc with one output: plain arrays, and perhaps `out`, are dealt with here."""
    loop = peek(peek(ufunc + U_DATA))
    pool, inputs = peek(loop + L_POOL), peek(loop + L_INPUTS)
    given, out, mine = count & ~OFFSET_FLAG, numba.intp(0), False
    if keywords == 0:
        mine = given == inputs
        if given == inputs + 1:
            mine, out = True, peek(args + WORD * inputs)
    elif given == inputs and peek(keywords + TUPLE_SIZE) == 1 and peek(keywords + TUPLE_ITEMS) == peek(pool + P_OUT):
        mine, out = True, peek(args + WORD * inputs)
    if mine:
        result = call(peek(pool + P_DIRECT), ufunc, args, inputs, 0, out, pool)
        if result != NOT_MINE:
            return result
    return call(peek(pool + P_NUMPY_CALL), ufunc, args, count, keywords)


@jit
def _number(thing: int, to: int, pool: int) -> bool:
    """Write a Python float, or an int that is exactly one, to `to` as a double; False if it is anything else."""
    kind = peek(thing + TYPE)
    if kind == peek(pool + P_FLOAT):
        poke(to, peek(thing + HEAD))
        return True
    if kind != peek(pool + P_INT):
        return False
    overflow = record()
    value = call(peek(pool + P_AS_LONG), thing, overflow)
    if abs(value) > EXACT or peek(overflow) & INT != 0:
        return False
    poke(to, integer_as_double(value))
    return True


@jit
def _with_numbers(function: int, args: int, count: int, keywords: int) -> int:
    """The arrays followed by numbers, by position or by name: one call of the ufunc that takes all of them."""
    arrays, parameters = peek(function + C_ARRAYS), peek(function + C_PARAMETERS)
    if parameters == 0 or count < arrays or count > arrays + parameters:
        return NOT_MINE
    pool = peek(peek(peek(peek(function + C_UFUNC) + U_DATA)) + L_POOL)
    given, out, missing = record(), numba.intp(0), numba.intp(0)
    for k in range(parameters):
        poke(given + WORD * k, peek(function + C_DEFAULTS + WORD * k))
        if arrays + k < count:
            if not _number(peek(args + WORD * (arrays + k)), given + WORD * k, pool):
                return NOT_MINE
        elif peek(function + C_REQUIRED + WORD * k) != 0:
            missing += 1
    if keywords != 0:
        for i in range(peek(keywords + TUPLE_SIZE)):
            name, value, known = peek(keywords + TUPLE_ITEMS + WORD * i), peek(args + WORD * (count + i)), False
            if name == peek(pool + P_OUT):
                out, known = value, True
            for k in range(max(count - arrays, 0), parameters):
                if name == peek(function + C_NAMES + WORD * k):
                    if not _number(value, given + WORD * k, pool):
                        return NOT_MINE
                    missing -= peek(function + C_REQUIRED + WORD * k)
                    known = True
            if not known:
                return NOT_MINE
    if missing > 0:
        return NOT_MINE
    for k in range(parameters):
        # twice, so that the sign of a zero is no matter
        if peek(function + C_NONZERO + WORD * k) != 0 and peek(given + WORD * k) << 1 == 0:
            return NOT_MINE
    return call(peek(pool + P_DIRECT), peek(function + C_UFUNC), args, arrays, given, out, pool)


@jit
def _plain(choice: int, count: int, keywords: int) -> bool:
    """Whether a call with these arguments is one the first function of a `Choice` takes."""
    plain = count == peek(choice + C_COUNT)
    if keywords != 0:
        for i in range(peek(keywords + TUPLE_SIZE)):
            name, known = peek(keywords + TUPLE_ITEMS + WORD * i), False
            for k in range(len(KEYWORDS)):
                known |= peek(choice + C_KEYWORDS + WORD * k) == name
            plain &= known
    return plain


def choose(function: int, args: int, count: int, keywords: int) -> int:
    """The vectorcall of `fastact.cpu.vectorcall`: which function the arguments go to, if it cannot be done here."""
    given = count & ~OFFSET_FLAG
    plain = _plain(function, given, keywords)
    if not plain or given > peek(function + C_ARRAYS):
        result = _with_numbers(function, args, given, keywords)
        if result != NOT_MINE:
            return result
    target = peek(function + C_FIRST) if plain else peek(function + C_SECOND)
    return call(peek(function + C_CALL), target, args, count, keywords)


def choose_options(ufunc: int, args: int, count: int, keywords: int) -> int:
    """The vectorcall of a ufunc that takes more keywords than NumPy gives it: its own one, or a function for those."""
    choice = peek(ufunc + U_OBJ)
    if _plain(choice, count & ~OFFSET_FLAG, keywords):
        return call(peek(choice + C_FIRST), ufunc, args, count, keywords)
    return call(peek(choice + C_CALL), peek(choice + C_SECOND), args, count, keywords)
