"""The loops NumPy calls, shared by every ufunc: they bring any layout to a block, and split large work over threads.

A block (`fastact.cpu.emit`) knows one thing: a contiguous run of a whole number of vectors. Everything else is here,
and compiled once: ends, strides, alignment, overlap, streaming stores, threads. Code in this file runs only after Numba
has compiled it; addresses are integers and the structures are those of `fastact.cpu.layout`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

from .layout import MAX_OPERANDS, OPEN, SLOTS, Loop, Pool, UFunc, offset
from .memory import (
    FILL,
    atomic_add,
    atomic_and,
    atomic_swap,
    call,
    call_int,
    call_void,
    compare_and_swap,
    copy,
    copy2,
    copy4,
    copy8,
    enter,
    fence,
    fill2,
    fill4,
    fill8,
    leave,
    peek,
    poke,
    stack,
    stream_line,
)
from .vectorcall import KEYWORDS, Choice

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compile as a part of the caller: a call that LLVM cannot see through would bring Numba's error handling along."""
    compiled: F = numba.njit(error_model="numpy", boundscheck=False, forceinline=True)(function)
    return compiled


BUFFER = 2048  # bytes of each operand that are in flight when an operand has to be gathered, scattered or streamed
LINE = 64
CHUNK = 1 << 15  # elements a thread takes at a time: large enough that taking is free, small enough to balance
WORD = 8

L_BLOCK, L_BLOCK_SCALARS, L_BODY = (offset(Loop, f) for f in ("block", "block_scalars", "body"))
L_RESOLVE, L_POOL, L_INPUTS, L_OUTPUTS = (offset(Loop, f) for f in ("resolve", "pool", "inputs", "outputs"))
L_SCALARS, L_ITEMSIZE, L_LANES = (offset(Loop, f) for f in ("scalars", "itemsize", "lanes"))
L_THRESHOLD, L_CORE_DIMS = offset(Loop, "threshold"), offset(Loop, "core_dims")
L_ERROR_TYPE, L_ERROR_VALUE = offset(Loop, "error_type"), offset(Loop, "error_value")
P_THREADS, P_STARTED, P_BUSY, P_STATE = (offset(Pool, f) for f in ("threads", "started", "busy", "state"))
P_NEXT, P_CHUNKS, P_LIMIT, P_JOB = (offset(Pool, f) for f in ("next", "chunks", "limit", "job"))
P_CONTEXT, P_WORK, P_DONE = (offset(Pool, f) for f in ("context", "work", "done"))
P_POST, P_WAIT, P_LAUNCH = (offset(Pool, f) for f in ("post", "wait", "launch"))
P_IDENTIFY, P_OVERRIDES, P_SLOTS = (offset(Pool, f) for f in ("identify", "overrides", "slots"))
P_GIL_ENSURE, P_GIL_RELEASE, P_SET_ERROR = (offset(Pool, f) for f in ("gil_ensure", "gil_release", "set_error"))
P_STREAM = offset(Pool, "stream_bytes")
P_EMPTY_TYPE, P_EMPTY_VALUE = offset(Pool, "empty_type"), offset(Pool, "empty_value")
C_CALL, C_COUNT, C_FIRST, C_SECOND = (offset(Choice, f) for f in ("call", "count", "first", "second"))
C_KEYWORDS = offset(Choice, "keywords")
TUPLE_SIZE, TUPLE_ITEMS = object.__basicsize__, tuple.__basicsize__  # where a tuple keeps its length and its elements
OFFSET_FLAG = -1 << 63  # PY_VECTORCALL_ARGUMENTS_OFFSET
U_DATA = offset(UFunc, "data")
P_ELEMENTWISE_JOB, P_ROWS_JOB = offset(Pool, "elementwise_job"), offset(Pool, "rows_job")

operands = stack(WORD * MAX_OPERANDS)
buffers = stack(BUFFER * MAX_OPERANDS + FILL)
record = stack(WORD * 8)


@jit
def _gather(to: int, source: int, stride: int, n: int, itemsize: int) -> None:
    if itemsize == 4:
        for i in range(n):
            copy4(to + 4 * i, source + stride * i)
    elif itemsize == 8:
        for i in range(n):
            copy8(to + 8 * i, source + stride * i)
    else:
        for i in range(n):
            copy2(to + 2 * i, source + stride * i)


@jit
def _fill(to: int, source: int, itemsize: int) -> None:
    if itemsize == 4:
        fill4(to, source)
    elif itemsize == 8:
        fill8(to, source)
    else:
        fill2(to, source)


@jit
def _scatter(to: int, stride: int, source: int, n: int, itemsize: int) -> None:
    if itemsize == 4:
        for i in range(n):
            copy4(to + stride * i, source + 4 * i)
    elif itemsize == 8:
        for i in range(n):
            copy8(to + stride * i, source + 8 * i)
    else:
        for i in range(n):
            copy2(to + stride * i, source + 2 * i)


@jit
def _stream(to: int, source: int, size: int) -> None:
    """Copy whole lines past the caches, what is left over as usual; both addresses are aligned to a line."""
    for line in range(size // LINE):
        stream_line(to + LINE * line, source + LINE * line)
    whole = size // LINE * LINE
    if size > whole:
        copy(to + whole, source + whole, size - whole)


@jit
def _scalar_parameters(steps: int, loop: int) -> bool:
    """Whether every parameter is one value for this whole run."""
    inputs, scalars = peek(loop + L_INPUTS), peek(loop + L_SCALARS)
    for k in range(scalars):
        if peek(steps + WORD * (inputs - scalars + k)) != 0:
            return False
    return scalars > 0


@jit
def _block(loop: int, scalars: bool) -> int:
    """The compiled block, made now if this is its first use; 0, with a Python error set, if that is impossible."""
    function = peek(loop + (L_BLOCK_SCALARS if scalars else L_BLOCK))
    if function == 0:
        function = call(peek(loop + L_RESOLVE), loop, numba.intp(scalars))
        if function == 0:
            pool = peek(loop + L_POOL)
            held = call_int(peek(pool + P_GIL_ENSURE))
            call_void(peek(pool + P_SET_ERROR), peek(loop + L_ERROR_TYPE), peek(loop + L_ERROR_VALUE))
            call_void(peek(pool + P_GIL_RELEASE), held)
    return function


@jit
def _part(block: int, args: int, steps: int, start: int, n: int, loop: int, vectors: int, whole: bool) -> None:
    """Elements start..start+n through buffers: what is not contiguous, not a whole number of vectors, or streamed.

    `whole` says that every operand is contiguous, so that inputs of whole vectors can be read where they are.
    """
    inputs, outputs = peek(loop + L_INPUTS), peek(loop + L_OUTPUTS)
    itemsize, lanes = peek(loop + L_ITEMSIZE), peek(loop + L_LANES)
    padded = (n + lanes - 1) // lanes * lanes
    local, room = operands(), buffers()
    for k in range(inputs + outputs):
        step = peek(steps + WORD * k)
        source = peek(args + WORD * k) + start * step
        buffer = room + BUFFER * k
        poke(local + WORD * k, buffer)
        if k < vectors:
            if step == itemsize and padded == n:
                poke(local + WORD * k, source)
            else:
                if padded != n:
                    # the lanes beyond the end compute on a copy of the first element: harmless, and never slower
                    _fill(buffer + (padded - lanes) * itemsize, source, itemsize)
                if n > 1:
                    if step == itemsize:
                        copy(buffer, source, n * itemsize)
                    else:
                        _gather(buffer, source, step, n, itemsize)
        elif k < inputs:
            poke(local + WORD * k, source)
    call_void(block, local, padded)
    for o in range(outputs):
        k = inputs + o
        step = peek(steps + WORD * k)
        to = peek(args + WORD * k) + start * step
        buffer = room + BUFFER * k
        if step != itemsize or n == 1:
            _scatter(to, step, buffer, n, itemsize)
        elif whole and to % LINE == 0:
            _stream(to, buffer, n * itemsize)
        else:
            copy(to, buffer, n * itemsize)


@jit
def _piece(args: int, steps: int, start: int, n: int, loop: int, streaming: bool) -> None:
    """Elements start..start+n of one loop, on this thread."""
    scalars = _scalar_parameters(steps, loop)
    block = _block(loop, scalars)
    if block == 0:
        return
    inputs, outputs = peek(loop + L_INPUTS), peek(loop + L_OUTPUTS)
    itemsize, lanes = peek(loop + L_ITEMSIZE), peek(loop + L_LANES)
    vectors = inputs - peek(loop + L_SCALARS) if scalars else inputs
    contiguous = True
    for k in range(inputs + outputs):
        if (k < vectors or k >= inputs) and peek(steps + WORD * k) != itemsize:
            contiguous = False
    # the first output decides where a run starts: from there its stores cover whole cache lines
    ahead = (-(peek(args + WORD * inputs) + start * itemsize)) % LINE // itemsize
    if not contiguous or n < ahead + lanes:
        ahead = 0
    done = 0
    while done < n:
        run = (n - done) // lanes * lanes
        if contiguous and done >= ahead and run > 0 and not streaming:
            local = operands()
            for k in range(inputs + outputs):
                poke(local + WORD * k, peek(args + WORD * k) + (start + done) * peek(steps + WORD * k))
            call_void(block, local, run)
            done += run
        else:
            count = ahead if done < ahead else min(n - done, BUFFER // itemsize)
            _part(block, args, steps, start + done, count, loop, vectors, contiguous and streaming)
            done += count
    if streaming:
        fence()


@jit
def _must_go_one_by_one(args: int, steps: int, n: int, loop: int) -> bool:
    """Whether an output lies over an input but not exactly: each element must be stored before the next is read.

    NumPy copies such operands away, except in accumulate and reduce, and where a plain loop in order is right.
    """
    if n == 1:
        return False
    inputs, outputs = peek(loop + L_INPUTS), peek(loop + L_OUTPUTS)
    itemsize = peek(loop + L_ITEMSIZE)
    for o in range(outputs):
        step = peek(steps + WORD * (inputs + o))
        to = peek(args + WORD * (inputs + o))
        low, high = to + min(0, step * (n - 1)), to + max(0, step * (n - 1)) + itemsize
        if abs(step) < itemsize:
            return True
        for k in range(inputs):
            s = peek(steps + WORD * k)
            source = peek(args + WORD * k)
            if (
                source + max(0, s * (n - 1)) + itemsize > low
                and source + min(0, s * (n - 1)) < high
                and (source != to or s != step)
            ):
                return True
    return False


@jit
def _threads(pool: int) -> int:
    """How many threads this call may use: what this thread asked for, else what the process is set to."""
    if peek(pool + P_OVERRIDES) > 0:
        me = call(peek(pool + P_IDENTIFY))
        for k in range(SLOTS):
            if peek(pool + P_SLOTS + 2 * WORD * k) == me:
                return peek(pool + P_SLOTS + 2 * WORD * k + WORD)
    return peek(pool + P_THREADS)


@jit
def _take_chunks(pool: int) -> None:
    job, context, chunks = peek(pool + P_JOB), peek(pool + P_CONTEXT), peek(pool + P_CHUNKS)
    while True:
        chunk = atomic_add(pool + P_NEXT, 1)
        if chunk >= chunks:
            return
        call_void(job, context, chunk)


@jit
def _share(pool: int, threads: int, job: int, context: int, chunks: int) -> bool:
    """Do a job with up to `threads` threads, this one included; False, with nothing done, if the pool is taken.

    The caller takes chunks like any worker and waits only for workers that have joined, so it finishes even when none
    ever comes: in a child of fork(), say, where the workers are gone.
    """
    if compare_and_swap(pool + P_BUSY, 0, 1) != 0:
        return False
    wanted = min(threads, chunks) - 1
    if peek(pool + P_STARTED) < wanted:
        call(peek(pool + P_LAUNCH), wanted)
    poke(pool + P_JOB, job)
    poke(pool + P_CONTEXT, context)
    poke(pool + P_CHUNKS, chunks)
    poke(pool + P_LIMIT, wanted)
    poke(pool + P_NEXT, 0)
    atomic_swap(pool + P_STATE, OPEN)
    for _ in range(wanted):
        call_int(peek(pool + P_POST), peek(pool + P_WORK), 1, 0)
    _take_chunks(pool)
    if atomic_and(pool + P_STATE, ~OPEN) != OPEN:
        while call_int(peek(pool + P_WAIT), peek(pool + P_DONE), -1) != 0:
            pass  # a signal arrived
    atomic_swap(pool + P_BUSY, 0)
    return True


def worker(pool: int) -> None:
    """What a worker thread does for ever: sleep until there may be a job, join it if it is open, leave it."""
    enter()
    while True:
        while call_int(peek(pool + P_WAIT), peek(pool + P_WORK), -1) != 0:
            pass
        state = atomic_add(pool + P_STATE, 0)
        while state >= OPEN and state - OPEN < peek(pool + P_LIMIT):
            seen = compare_and_swap(pool + P_STATE, state, state + 1)
            if seen == state:
                _take_chunks(pool)
                # the caller has closed the job and waits: the last one out tells it
                if atomic_add(pool + P_STATE, -1) == 1:
                    call_int(peek(pool + P_POST), peek(pool + P_DONE), 1, 0)
                break
            state = seen


def elementwise_chunk(context: int, chunk: int) -> None:
    """One chunk of an elementwise job; context: args, steps, n, loop, streaming, first chunk's extra elements."""
    n, ahead = peek(context + 2 * WORD), peek(context + 5 * WORD)
    start = 0 if chunk == 0 else ahead + chunk * CHUNK
    stop = min(n, ahead + (chunk + 1) * CHUNK)
    args, steps, loop = peek(context), peek(context + WORD), peek(context + 3 * WORD)
    _piece(args, steps, start, stop - start, loop, peek(context + 4 * WORD) != 0)


def elementwise(args: int, dims: int, steps: int, loop: int) -> None:
    """The inner loop of every elementwise ufunc."""
    n = peek(dims)
    if n <= 0:
        return
    before = enter()
    pool = peek(loop + L_POOL)
    inputs, itemsize = peek(loop + L_INPUTS), peek(loop + L_ITEMSIZE)
    to = peek(args + WORD * inputs)
    in_order = _must_go_one_by_one(args, steps, n, loop)
    streaming = n * itemsize >= peek(pool + P_STREAM)
    for k in range(inputs):
        if peek(args + WORD * k) == to:
            streaming = False  # in place: the line is in the cache already
    threads = 1
    if n >= peek(loop + L_THRESHOLD) and not in_order:
        threads = _threads(pool)
    alone = True
    if threads > 1 and _block(loop, _scalar_parameters(steps, loop)) != 0:
        context = record()
        ahead = (-to) % LINE // itemsize
        poke(context, args)
        poke(context + WORD, steps)
        poke(context + 2 * WORD, n)
        poke(context + 3 * WORD, loop)
        poke(context + 4 * WORD, numba.intp(streaming))
        poke(context + 5 * WORD, ahead)
        chunks = (max(n - ahead, 1) + CHUNK - 1) // CHUNK
        alone = not _share(pool, threads, peek(pool + P_ELEMENTWISE_JOB), context, chunks)
    if alone:
        at_once = 1 if in_order else n
        for i in range(n // at_once):
            _piece(args, steps, i * at_once, at_once, loop, streaming and not in_order)
    leave(before)


def choose(function: int, args: int, count: int, keywords: int) -> int:
    """The vectorcall of `fastact.cpu.vectorcall`: nothing but which function the arguments go to."""
    plain = count & ~OFFSET_FLAG == peek(function + C_COUNT)
    if keywords != 0:
        for i in range(peek(keywords + TUPLE_SIZE)):
            name, known = peek(keywords + TUPLE_ITEMS + WORD * i), False
            for k in range(len(KEYWORDS)):
                known |= peek(function + C_KEYWORDS + WORD * k) == name
            plain &= known
    target = peek(function + C_FIRST) if plain else peek(function + C_SECOND)
    return call(peek(function + C_CALL), target, args, count, keywords)


def refuse_empty(ufunc: int, sizes: int) -> int:
    """NumPy's hook for the core dimensions of a gufunc, called with the GIL held: an error if a row has no element."""
    if peek(sizes) == 0:
        pool = peek(peek(peek(ufunc + U_DATA)) + L_POOL)
        call_void(peek(pool + P_SET_ERROR), peek(pool + P_EMPTY_TYPE), peek(pool + P_EMPTY_VALUE))
        return -1
    return 0


def rows_chunk(context: int, chunk: int) -> None:
    """One chunk of the rows of a gufunc; context: args, dims, steps, loop, rows a chunk."""
    args, dims, steps, loop = peek(context), peek(context + WORD), peek(context + 2 * WORD), peek(context + 3 * WORD)
    size = peek(context + 4 * WORD)
    start = chunk * size
    local, shape = operands(), record()
    for k in range(peek(loop + L_INPUTS) + peek(loop + L_OUTPUTS)):
        poke(local + WORD * k, peek(args + WORD * k) + start * peek(steps + WORD * k))
    poke(shape, min(size, peek(dims) - start))
    for k in range(peek(loop + L_CORE_DIMS)):
        poke(shape + WORD * (k + 1), peek(dims + WORD * (k + 1)))
    call_void(peek(loop + L_BODY), local, shape, steps, 0)


def rows(args: int, dims: int, steps: int, loop: int) -> None:
    """The inner loop of every gufunc, and of formulas that cannot be traced: a complete loop, run on slices of rows."""
    n = peek(dims)
    before = enter()
    body = peek(loop + L_BODY)
    if body == 0 and _block(loop, False) != 0:
        body = peek(loop + L_BODY)
    if body != 0:
        core, core_dims = 1, peek(loop + L_CORE_DIMS)
        for k in range(core_dims):
            core *= max(peek(dims + WORD * (k + 1)), 1)
        pool = peek(loop + L_POOL)
        alone = True
        in_order = core_dims == 0 and _must_go_one_by_one(args, steps, n, loop)
        if n > 1 and n * core >= peek(loop + L_THRESHOLD) and not in_order:
            threads = _threads(pool)
            if threads > 1:
                context = record()
                size = max(1, min(CHUNK // core, (n + 4 * threads - 1) // (4 * threads)))
                poke(context, args)
                poke(context + WORD, dims)
                poke(context + 2 * WORD, steps)
                poke(context + 3 * WORD, loop)
                poke(context + 4 * WORD, size)
                alone = not _share(pool, threads, peek(pool + P_ROWS_JOB), context, (n + size - 1) // size)
        if alone:
            call_void(body, args, dims, steps, 0)
    leave(before)
