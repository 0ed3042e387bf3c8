"""The usual calls of a ufunc, past NumPy's machinery.

What NumPy does around a loop takes 0.3 us: it looks for overrides, resolves dtypes, builds an iterator, reads the error
state. None of it matters when every operand is a plain array of one dtype, which is how activations are called. Then
the vectorcall here makes the result and runs the loop itself, or has `fastact.cpu.views` do so if the arrays are not
contiguous or of several shapes; it hands every other call to NumPy, so there is nothing that it must be able to do.
Compiled by Numba, like `fastact.cpu.driver`.
"""

from __future__ import annotations

import numba

from .driver import (
    L_INPUTS,
    L_ITEMSIZE,
    L_POOL,
    P_ERROR_OCCURRED,
    U_DATA,
    WORD,
    ask,
    jit,
    operands,
    record,
    run,
)
from .layout import Loop, Pool, UFunc, offset
from .memory import call, call_void, enter, integer_as_double, leave, peek, poke, store_rounded
from .vectorcall import KEYWORDS, Choice

P_NUMPY_CALL, P_NEW_LIKE, P_DIRECT = (offset(Pool, f) for f in ("numpy_call", "new_like", "direct"))
P_VIEWS, P_LOAD_VIEWS = offset(Pool, "views"), offset(Pool, "load_views")
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
MAGNITUDE, TINY = (1 << 63) - 1, (1023 - 25) << 52  # of the bits of a float64; half the least float16 above 0
C_ORDER, F_ORDER, WRITEABLE, WARN_ON_WRITE = 1, 2, 0x400, 1 << 31
OFFSET_FLAG = -1 << 63  # PY_VECTORCALL_ARGUMENTS_OFFSET
NOT_MINE = -1  # no address: NumPy has to do it
ALONE = 1 << 10  # elements from which on other Python threads may run meanwhile
EXACT = 1 << 24  # integers up to here are floats


@jit
def loop_for(ufunc: int, array: int) -> int:
    """The loop for arrays of the dtype of `array`, or 0."""
    dtype, data = peek(array + A_DTYPE), peek(ufunc + U_DATA)
    for k in range(peek(ufunc + U_COUNT) & INT):
        loop = peek(data + WORD * k)
        if peek(loop + L_DTYPE) == dtype:
            return loop
    return 0


@jit
def is_plain(array: int, dtype: int, lengths: int, ndim: int, pool: int) -> bool:
    """Whether `array` is a plain array of this dtype and shape."""
    if peek(array + TYPE) != peek(pool + P_ARRAY) or peek(array + A_DTYPE) != dtype:
        return False
    if peek(array + A_NDIM) & INT != ndim:
        return False
    same = True
    for k in range(ndim):
        same &= peek(lengths + WORD * k) == peek(peek(array + A_SHAPE) + WORD * k)
    return same


@jit
def is_alike(array: int, first: int, pool: int) -> bool:
    """Whether `array` is a plain array of the dtype and the shape of `first`."""
    return is_plain(array, peek(first + A_DTYPE), peek(first + A_SHAPE), peek(first + A_NDIM) & INT, pool)


@jit
def _apart(array: int, out: int, size: int) -> bool:
    """Whether two contiguous arrays have nothing in common, or are the very same memory."""
    return array == out or abs(array - out) >= size


@jit
def product(lengths: int, count: int) -> int:
    result = 1
    for k in range(count):
        result *= peek(lengths + WORD * k)
    return result


@jit
def writable(out: int) -> bool:
    """Whether `out` may be written without an error or a warning."""
    return peek(out + A_FLAGS) & (WRITEABLE | WARN_ON_WRITE) == WRITEABLE


@jit
def handed_over(fine: bool, result: int, out: int, pool: int) -> int:
    """A reference to the result for the caller: a result made here has one, `out` gets one more; 0 after an error."""
    if not fine:
        if out == 0:
            call_void(peek(pool + P_DECREF), result)
        return 0
    if out != 0:
        call_void(peek(pool + P_INCREF), out)
    return result


@jit
def resumed(thread: int, pool: int) -> bool:
    """Take the interpreter lock again; False if an error is set: by a signal's handler while workers were started."""
    call_void(peek(pool + P_RESTORE), thread)
    return call(peek(pool + P_ERROR_OCCURRED)) == 0


def direct(ufunc: int, args: int, arrays: int, given: int, out: int, pool: int) -> int:
    """Call `ufunc` with the arrays at `args` and the numbers at `given`; NOT_MINE, with nothing done, if not plain.

    `given` is 0, or the address of a double for each parameter. 0 means that a Python error is set.
    """
    first = peek(args)
    if peek(first + TYPE) != peek(pool + P_ARRAY):
        return NOT_MINE
    loop = loop_for(ufunc, first)
    if loop == 0:
        return NOT_MINE
    ndim, flags, alike = peek(first + A_NDIM) & INT, peek(first + A_FLAGS), True
    for k in range(1, arrays):
        alike = alike and is_alike(peek(args + WORD * k), first, pool)
        flags &= peek(peek(args + WORD * k) + A_FLAGS) if alike else 0
    if out != 0:
        alike = alike and is_alike(out, first, pool)
        flags &= peek(out + A_FLAGS) if alike else 0
    flat = flags & (C_ORDER | F_ORDER) != 0
    if ndim == 0 or not alike or not flat:
        if peek(pool + P_VIEWS) == 0 and ask(pool, peek(pool + P_LOAD_VIEWS), 0) == 0:
            return 0
        return call(peek(pool + P_VIEWS), ufunc, args, arrays, given, out, pool)
    itemsize, inputs = peek(loop + L_ITEMSIZE), peek(loop + L_INPUTS)
    n = product(peek(first + A_SHAPE), ndim)
    if n <= 0:
        return NOT_MINE
    if out != 0:
        if not writable(out):
            return NOT_MINE
        for k in range(arrays):
            if not _apart(peek(peek(args + WORD * k) + A_DATA), peek(out + A_DATA), n * itemsize):
                return NOT_MINE
    numbers = record()
    if given != 0:
        for k in range(inputs - arrays):
            if not store_rounded(numbers + WORD * k, given + WORD * k, itemsize):
                return NOT_MINE
    result = out
    if out == 0:
        result = call(peek(pool + P_NEW_LIKE), first, numba.intp(flags & C_ORDER == 0), 0, 0)
        if result == 0:
            return 0

    data, steps = operands(), operands()
    for k in range(inputs + 1):
        place, step = numbers + WORD * (k - arrays), 0
        if k < arrays or k == inputs:
            place, step = peek((peek(args + WORD * k) if k < arrays else result) + A_DATA), itemsize
        poke(data + WORD * k, place)
        poke(steps + WORD * k, step)
    thread = call(peek(pool + P_SAVE)) if n >= ALONE else 0
    before = enter()
    fine = run(data, steps, n, loop, out == 0)
    leave(before)
    if thread != 0:
        fine &= resumed(thread, pool)
    return handed_over(fine, result, out, pool)


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
def number_of(thing: int, to: int, pool: int) -> bool:
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
            if not number_of(peek(args + WORD * (arrays + k)), given + WORD * k, pool):
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
                    if not number_of(value, given + WORD * k, pool):
                        return NOT_MINE
                    missing -= peek(function + C_REQUIRED + WORD * k)
                    known = True
            if not known:
                return NOT_MINE
    if missing > 0:
        return NOT_MINE
    for k in range(parameters):
        if peek(function + C_NONZERO + WORD * k) != 0 and peek(given + WORD * k) & MAGNITUDE < TINY:
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
        if given > peek(function + C_ARRAYS):  # beside bfloat16 numbers are not what NumPy takes them for
            pool = peek(peek(peek(peek(function + C_UFUNC) + U_DATA)) + L_POOL)
            kind = peek(peek(args + WORD * (given - 1)) + TYPE)
            plain = plain and kind != peek(pool + P_FLOAT) and kind != peek(pool + P_INT)
    target = peek(function + C_FIRST) if plain else peek(function + C_SECOND)
    return call(peek(function + C_CALL), target, args, count, keywords)


def choose_options(ufunc: int, args: int, count: int, keywords: int) -> int:
    """The vectorcall of a ufunc that takes more keywords than NumPy gives it: its own one, or a function for those."""
    choice = peek(ufunc + U_OBJ)
    if _plain(choice, count & ~OFFSET_FLAG, keywords):
        return call(peek(choice + C_FIRST), ufunc, args, count, keywords)
    return call(peek(choice + C_CALL), peek(choice + C_SECOND), args, count, keywords)
