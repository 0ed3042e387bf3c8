"""The loops NumPy calls, shared by every ufunc: they bring any layout to a block, and split large work over threads.

A block (`fastact.cpu.emit`) knows one thing: a contiguous run of a whole number of vectors. Everything else is here,
and compiled once: ends, strides, alignment, overlap, streaming stores, threads. Code in this file runs only after Numba
has compiled it; addresses are integers and the structures are those of `fastact.cpu.layout`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, TypeVar

import numba

from .compiler import jit_enabled
from .layout import EVERY_SECOND, KINDS, LINE, MAX_OPERANDS, PAST_CACHES, SCALARS, SLOTS, Loop, Pool, UFunc, offset
from .memory import (
    atomic_add,
    atomic_load,
    call,
    call_int,
    call_void,
    enter,
    fence,
    fill_rows,
    gather,
    leave,
    peek,
    poke,
    scatter,
    stack,
)

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compile as a part of the caller: a call that LLVM cannot see through would bring Numba's error handling along."""
    options = {"error_model": "numpy", "boundscheck": False, "forceinline": True}
    with jit_enabled():
        compiled: F = numba.njit(**options, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
    return compiled


BUFFERS = 40960  # bytes of all operands that are in flight when an operand has to be gathered or scattered
BUFFER = 8192  # and of one at most: these stay in the first cache, and what is between two parts costs little
ALIGN = 512  # elements from which on it pays to begin with a few that bring the rest to whole cache lines
CHUNK = 1 << 13  # elements a thread takes at a time at least: taking them is free, and work is balanced
CHUNKS = 16  # for each thread, so that none waits long for the last, though some have less of their core than others
CALLS_ALONE = 16  # of which the last wakes workers that the others did without: that may take as long as such a call
HUGE_PAGE = 1 << 21  # bytes a thread takes at a time at most
WORD = 8
IDENTITY = -1 if ctypes.sizeof(ctypes.c_long) == WORD else (1 << 32) - 1  # the bits of a C long: Windows' has 32

L_BLOCK, L_BODY = offset(Loop, "block"), offset(Loop, "body")
L_POOL, L_INPUTS, L_OUTPUTS = (offset(Loop, f) for f in ("pool", "inputs", "outputs"))
L_SCALARS, L_ITEMSIZE = (offset(Loop, f) for f in ("scalars", "itemsize"))
L_THRESHOLD, L_LANES = offset(Loop, "threshold"), offset(Loop, "lanes")
P_THREADS, P_AWAKE, P_ALONE = (offset(Pool, f) for f in ("threads", "awake", "alone"))
P_IDENTIFY, P_OVERRIDES, P_SLOTS = (offset(Pool, f) for f in ("identify", "overrides", "slots"))
P_GIL_ENSURE, P_GIL_RELEASE, P_SET_ERROR = (offset(Pool, f) for f in ("gil_ensure", "gil_release", "set_error"))
P_RESOLVE, P_CALL_ONE, P_DECREF = (offset(Pool, f) for f in ("resolve", "call_one", "decref"))
P_FROM_INTP, P_AS_INTP, P_ERROR_OCCURRED = (offset(Pool, f) for f in ("from_intp", "as_intp", "error_occurred"))
P_STREAM, P_CALLERS = offset(Pool, "stream_bytes"), offset(Pool, "callers")
P_PIECE, P_WHOLE = offset(Pool, "piece"), offset(Pool, "whole")
P_COLLECT, P_SPREAD, P_SHARE = (offset(Pool, f) for f in ("collect", "spread", "share"))
P_ELEMENTWISE_JOB = offset(Pool, "elementwise_job")
U_DATA = offset(UFunc, "data")

operands = stack(WORD * MAX_OPERANDS)
buffers = stack(BUFFERS)
record = stack(WORD * 11)


@jit
def _scalar_parameters(steps: int, loop: int) -> bool:
    """Whether every parameter is one value for this whole run."""
    inputs, scalars = peek(loop + L_INPUTS), peek(loop + L_SCALARS)
    for k in range(scalars):
        if peek(steps + WORD * (inputs - scalars + k)) != 0:
            return False
    return scalars > 0


@jit
def ask(pool: int, function: int, number: int) -> int:
    """What a function of Python's makes of a number; 0, with the error set, if it raises one.

    It is not called through ctypes, which has nowhere to put an error: that of a signal's handler, say, which Python
    calls whenever a function begins.
    """
    answer: int = numba.intp(0)
    held = call_int(peek(pool + P_GIL_ENSURE))
    failed = call(peek(pool + P_ERROR_OCCURRED)) != 0  # before, and the driver has gone on to another way
    argument = numba.intp(0) if failed else call(peek(pool + P_FROM_INTP), number)
    if argument != 0:
        result = call(peek(pool + P_CALL_ONE), function, argument)
        call_void(peek(pool + P_DECREF), argument)
        if result != 0:
            answer = call(peek(pool + P_AS_INTP), result)
            call_void(peek(pool + P_DECREF), result)
    call_void(peek(pool + P_GIL_RELEASE), held)
    return answer


@jit
def resolved(loop: int, kind: int) -> int:
    """What is compiled now for the first use of some kind of code; 0, with a Python error set, if it cannot be."""
    pool = peek(loop + L_POOL)
    return ask(pool, peek(pool + P_RESOLVE), loop * KINDS + kind)


@jit
def block(loop: int, scalars: bool, way: int) -> int:
    """The compiled block, made now if this is its first use; 0, with a Python error set, if that is impossible."""
    kind = way + (SCALARS if scalars else 0)
    function = peek(loop + L_BLOCK + WORD * kind)
    return function if function != 0 else resolved(loop, kind)


def collect(to: int, source: int, step: int, n: int, itemsize: int) -> None:
    """Bring `n` elements that are `step` bytes apart side by side."""
    gather(to, source, step, n, itemsize)


def spread(to: int, step: int, source: int, n: int, itemsize: int) -> None:
    """Put `n` elements that lie side by side `step` bytes apart."""
    scatter(to, step, source, n, itemsize)


@jit
def _part(
    function: int,
    args: int,
    steps: int,
    start: int,
    n: int,
    loop: int,
    vectors: int,
    room: int,
    each: int,
    first: int,
) -> None:
    """Elements start..start+n, at most a buffer of them, of operands that are not contiguous."""
    inputs, outputs, itemsize = peek(loop + L_INPUTS), peek(loop + L_OUTPUTS), peek(loop + L_ITEMSIZE)
    local, pool = operands(), peek(loop + L_POOL)
    for k in range(inputs + outputs):
        step = peek(steps + WORD * k)
        place = peek(args + WORD * k) + start * step
        buffer = room + each * k
        if (k < vectors or k >= inputs) and step != itemsize:
            poke(local + WORD * k, buffer)
            if k < vectors:
                if step == 0:
                    if first != 0:  # it stays in its buffer for the parts that follow
                        fill_rows(buffer, 0, place, 0, n, 1, itemsize)
                else:
                    call_void(peek(pool + P_COLLECT), buffer, place, step, n, itemsize)
        else:
            poke(local + WORD * k, place)
    call_void(function, local, n)
    for k in range(inputs, inputs + outputs):
        step = peek(steps + WORD * k)
        to = peek(args + WORD * k) + start * step
        buffer = room + each * k
        if step != itemsize:
            call_void(peek(pool + P_SPREAD), to, step, buffer, n, itemsize)


@jit
def _contiguous(steps: int, loop: int, vectors: int) -> bool:
    """Whether every operand but the parameters that are single values is contiguous."""
    inputs, itemsize = peek(loop + L_INPUTS), peek(loop + L_ITEMSIZE)
    for k in range(inputs + peek(loop + L_OUTPUTS)):
        if (k < vectors or k >= inputs) and peek(steps + WORD * k) != itemsize:
            return False
    return True


@jit
def _constant(steps: int, loop: int, vectors: int) -> bool:
    """Whether all elements of a contiguous result are the same: every input is a single value."""
    inputs, itemsize = peek(loop + L_INPUTS), peek(loop + L_ITEMSIZE)
    for k in range(inputs + peek(loop + L_OUTPUTS)):
        if (k < vectors and peek(steps + WORD * k) != 0) or (k >= inputs and peek(steps + WORD * k) != itemsize):
            return False
    return True


@jit
def _own_part(function: int, args: int, steps: int, start: int, n: int, loop: int) -> int:
    """As many elements as a block does that reads them where they are, but not the last; how many these are."""
    local, count = operands(), (n - 1) & -peek(loop + L_LANES)
    for k in range(peek(loop + L_INPUTS) + peek(loop + L_OUTPUTS)):
        poke(local + WORD * k, peek(args + WORD * k) + start * peek(steps + WORD * k))
    call_void(function, local, count)
    return count


@jit
def _every_second(steps: int, n: int, loop: int, vectors: int, streaming: bool) -> bool:
    """Whether there is a block for these operands: of every input every second element, and contiguous results."""
    inputs, itemsize = peek(loop + L_INPUTS), peek(loop + L_ITEMSIZE)
    fits = n >= ALIGN and not streaming
    for k in range(inputs + peek(loop + L_OUTPUTS)):
        if k < vectors or k >= inputs:
            fits &= peek(steps + WORD * k) == (2 * itemsize if k < vectors else itemsize)
    return fits


def piece(args: int, steps: int, start: int, n: int, loop: int, streaming: int) -> int:
    """Elements start..start+n of one loop, on this thread; 0 if that is impossible, and a Python error set."""
    scalars = _scalar_parameters(steps, loop)
    function = block(loop, scalars, 0)
    if function == 0:
        return 0
    inputs, outputs, itemsize = peek(loop + L_INPUTS), peek(loop + L_OUTPUTS), peek(loop + L_ITEMSIZE)
    vectors = inputs - peek(loop + L_SCALARS) if scalars else inputs
    contiguous = _contiguous(steps, loop, vectors)
    done = 0
    past = streaming != 0
    if n >= ALIGN and (contiguous or past):
        # from where the first output begins a cache line on, every store covers whole lines
        done = (-(peek(args + WORD * inputs) + start * itemsize)) % LINE // itemsize
    if contiguous:
        local = operands()
        for k in range(inputs + outputs):
            poke(local + WORD * k, peek(args + WORD * k) + start * peek(steps + WORD * k))
        if done > 0:
            call_void(function, local, done)
            for k in range(inputs + outputs):
                poke(local + WORD * k, peek(local + WORD * k) + done * peek(steps + WORD * k))
        for k in range(inputs, inputs + outputs):
            past = past and peek(local + WORD * k) % LINE == 0
        if past:
            function = block(loop, scalars, PAST_CACHES)
            if function == 0:
                return 0
        call_void(function, local, n - done)
        if past:
            fence()
        return 1
    room, each = buffers(), min(BUFFER, BUFFERS // (inputs + outputs) & -LINE)
    if n > 1 and _constant(steps, loop, vectors):
        local = operands()
        for k in range(inputs + outputs):
            poke(local + WORD * k, peek(args + WORD * k) if k < inputs else room + each * k)
        call_void(function, local, 1)
        for k in range(inputs, inputs + outputs):
            fill_rows(peek(args + WORD * k) + start * itemsize, 0, room + each * k, 0, n, 1, itemsize)
        return 1
    for k in range(inputs, inputs + outputs):
        whole_lines = (peek(args + WORD * k) + (start + done) * itemsize) % LINE == 0
        past = past and whole_lines and peek(steps + WORD * k) == itemsize
    lead, first, usual = done if past else 0, numba.intp(1), function
    done, own = 0, numba.intp(0)
    if past:
        function = block(loop, scalars, PAST_CACHES)
        if function == 0:
            return 0
    elif _every_second(steps, n, loop, vectors, streaming != 0):
        own = block(loop, scalars, EVERY_SECOND)
        if own == 0:
            return 0
        lead = (-(peek(args + WORD * inputs) + start * itemsize)) % LINE // itemsize
    while done < n:
        if own != 0 and lead == 0:
            count, own = _own_part(own, args, steps, start + done, n - done, loop), 0
            done += count
        count = lead if lead > 0 else min(n - done, each // itemsize)
        _part(usual if lead > 0 else function, args, steps, start + done, count, loop, vectors, room, each, first)
        done += count
        first, lead = min(lead, 1), 0
    if past:
        fence()
    return 1


@jit
def must_go_one_by_one(args: int, steps: int, n: int, loop: int) -> bool:
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
def _run(args: int, steps: int, n: int, loop: int) -> bool:
    """The whole loop in one call of the block; False if its operands are not such, or there is no block."""
    scalars = _scalar_parameters(steps, loop)
    inputs = peek(loop + L_INPUTS)
    vectors = inputs - peek(loop + L_SCALARS) if scalars else inputs
    if n > 1 and (not _contiguous(steps, loop, vectors) or must_go_one_by_one(args, steps, n, loop)):
        return False
    function = block(loop, scalars, 0)
    if function == 0:
        return False
    call_void(function, args, n)
    return True


@jit
def threads_of(pool: int) -> int:
    """How many threads this call may use: what this thread asked for, else what the process is set to."""
    if peek(pool + P_OVERRIDES) > 0:
        me = call(peek(pool + P_IDENTIFY)) & IDENTITY
        for k in range(SLOTS):
            if peek(pool + P_SLOTS + 2 * WORD * k) == me:
                return peek(pool + P_SLOTS + 2 * WORD * k + WORD)
    return peek(pool + P_THREADS)


@jit
def threads_for(size: int, loop: int, pool: int) -> int:
    """How many threads are worth while for so many elements; to be worth waking, workers need eight times as many.

    For one call, that is: of calls of fewer, one in so many wakes them for those that may follow.
    """
    if size < peek(loop + L_THRESHOLD):
        awake = atomic_load(pool + P_AWAKE)
        if awake > 0:
            return min(threads_of(pool), 1 + awake)
        if atomic_add(pool + P_ALONE, 1) & (CALLS_ALONE - 1) != CALLS_ALONE - 1:
            return 1
    return threads_of(pool)


@jit
def begin(size: int, loop: int, pool: int) -> int:
    """`threads_for` a call that begins, less one for each other caller, which keeps a CPU busy until it comes to `end`.

    0 for a call that has nothing to share, and is not counted.
    """
    if size < peek(loop + L_THRESHOLD) >> 3:
        return 0
    return max(1, threads_for(size, loop, pool) - atomic_add(pool + P_CALLERS, 1))


@jit
def end(threads: int, pool: int) -> None:
    """What `begin` said is no longer in use."""
    if threads > 0:
        atomic_add(pool + P_CALLERS, -1)


def elementwise_chunk(context: int, chunk: int, me: int) -> None:
    """One chunk of an elementwise job; context: args, steps, n, loop, streaming, first chunk's extra, chunk size."""
    n, ahead = peek(context + 2 * WORD), peek(context + 5 * WORD)
    size = peek(context + 6 * WORD)
    start = 0 if chunk == 0 else ahead + chunk * size
    stop = min(n, ahead + (chunk + 1) * size)
    args, steps, loop = peek(context), peek(context + WORD), peek(context + 3 * WORD)
    pool = peek(loop + L_POOL)
    call(peek(pool + P_PIECE), args, steps, start, stop - start, loop, peek(context + 4 * WORD))


@jit
def run(args: int, steps: int, n: int, loop: int, fresh: bool) -> bool:
    """One loop over all its elements; False if that is impossible, and a Python error set.

    `fresh` says that the results go to memory just obtained, which no operand can overlap.
    """
    if n < ALIGN and _run(args, steps, n, loop):
        return True
    return call(peek(peek(loop + L_POOL) + P_WHOLE), args, steps, n, loop, numba.intp(fresh)) != 0


def whole(args: int, steps: int, n: int, loop: int, fresh: int) -> int:
    """`run` for what is not short and plain: with threads if they pay, past the caches if that pays."""
    pool = peek(loop + L_POOL)
    inputs, itemsize = peek(loop + L_INPUTS), peek(loop + L_ITEMSIZE)
    to = peek(args + WORD * inputs)
    in_order = fresh == 0 and must_go_one_by_one(args, steps, n, loop)
    # The system has just cleared fresh memory: what it wrote is in the caches, and past them would be a second way.
    streaming = n * itemsize >= peek(pool + P_STREAM) and fresh == 0 and not in_order
    for k in range(inputs):
        if peek(args + WORD * k) == to:
            streaming = False  # in place: the line is in the cache already
    threads = 0 if in_order else begin(n, loop, pool)
    fine, shared = 1, False
    if threads > 1:
        # compiled now, not by several threads at once
        scalars = _scalar_parameters(steps, loop)
        vectors = inputs - peek(loop + L_SCALARS) if scalars else inputs
        if block(loop, scalars, PAST_CACHES if streaming else 0) == 0 or (
            _every_second(steps, n, loop, vectors, streaming) and block(loop, scalars, EVERY_SECOND) == 0
        ):
            fine = 0
    if threads > 1 and fine != 0:
        context = record()
        ahead = (-to) % LINE // itemsize
        # whole huge pages if there are enough, so that no two threads wait for the system to clear the same one
        size = max(CHUNK, min(HUGE_PAGE // itemsize, n // (CHUNKS * threads) // CHUNK * CHUNK))
        poke(context, args)
        poke(context + WORD, steps)
        poke(context + 2 * WORD, n)
        poke(context + 3 * WORD, loop)
        poke(context + 4 * WORD, numba.intp(streaming))
        poke(context + 5 * WORD, ahead)
        poke(context + 6 * WORD, size)
        chunks = (max(n - ahead, 1) + size - 1) // size
        shared = call(peek(pool + P_SHARE), pool, threads, peek(pool + P_ELEMENTWISE_JOB), context, chunks) != 0
    if fine != 0 and not shared:
        at_once = 1 if in_order else n
        for i in range(n // at_once):
            if call(peek(pool + P_PIECE), args, steps, i * at_once, at_once, loop, numba.intp(streaming)) == 0:
                fine = 0
                break
    end(threads, pool)
    return fine


def elementwise(args: int, dims: int, steps: int, loop: int) -> None:
    """The inner loop of every elementwise ufunc."""
    n = peek(dims)
    if n > 0:
        before = enter()
        run(args, steps, n, loop, False)
        leave(before)
