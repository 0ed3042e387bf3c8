"""How threads share a job, the caller among them. Compiled by Numba.

Its chunks are cut into as many ranges as there may be threads. Each thread takes those of its own range, one by one,
then helps with the others. So in one job after another a thread gets much the same part of the arrays, some of which
its own cache still holds: what was done last, and so every second job is done backwards.
"""

from __future__ import annotations

import numba

from .driver import P_AWAKE, WORD, ask, jit
from .layout import APART, OPEN, RANGES, STEERED, Pool, offset
from .memory import (
    atomic_add,
    atomic_and,
    atomic_load,
    atomic_swap,
    call_int,
    call_void,
    compare_and_swap,
    enter,
    pause,
    peek,
    poke,
    stack,
)

SPINS = 1 << 12  # looks, of 10 to 50 ns each, before a thread goes to sleep: to be woken takes as long
CPU_MASK = 128  # bytes: 1,024 CPUs, as in the C library's cpu_set_t

P_STARTED, P_BUSY, P_STATE, P_CONTEXT = (offset(Pool, f) for f in ("started", "busy", "state", "context"))
P_CHUNKS, P_LIMIT, P_JOB = (offset(Pool, f) for f in ("chunks", "limit", "job"))
P_RANGES, P_BACKWARDS, P_TAKEN = (offset(Pool, f) for f in ("ranges", "backwards", "taken"))
P_WORK, P_DONE, P_POST, P_WAIT = (offset(Pool, f) for f in ("work", "done", "post", "wait"))
P_LAUNCH, P_CURRENT_CPU, P_STEERED = (offset(Pool, f) for f in ("launch", "current_cpu", "steered"))
P_GET_AFFINITY, P_SET_AFFINITY = offset(Pool, "get_affinity"), offset(Pool, "set_affinity")

cpu_mask = stack(CPU_MASK)


@jit
def _take_chunks(pool: int, me: int) -> None:
    job, context, chunks = peek(pool + P_JOB), peek(pool + P_CONTEXT), peek(pool + P_CHUNKS)
    ranges, backwards = peek(pool + P_RANGES), peek(pool + P_BACKWARDS)
    for k in range(ranges):
        which = (me + k) % ranges
        first, end = which * chunks // ranges, (which + 1) * chunks // ranges
        while True:
            done = atomic_add(pool + P_TAKEN + WORD * APART * which, 1)
            if done >= end - first:
                break
            call_void(job, context, end - 1 - done if backwards != 0 else first + done, me)


@jit
def _open(pool: int) -> int:
    """The state of the pool if it has room for one more, else 0."""
    state = atomic_load(pool + P_STATE)
    return state if state >= OPEN and state - OPEN < peek(pool + P_LIMIT) else numba.intp(0)


@jit
def _spin(pool: int, left: bool) -> None:
    """Wait a little while for the pool to be left by all, or to be open: to sleep and be woken may take longer."""
    for _ in range(SPINS):
        if atomic_load(pool + P_STATE) == 0 if left else _open(pool) != 0:
            return
        pause()


@jit
def _steer(pool: int, wanted: int) -> None:
    """Let the system run the workers wherever this thread may run, but for the CPU that this thread is on.

    A guest of KVM takes a CPU that has been idle for a while for one that its host took away, and so wakes a worker on
    the CPU of whoever woke it. There the two take turns, while the other CPUs stay idle.
    """
    if peek(pool + P_CURRENT_CPU) == 0:
        return
    cpu = call_int(peek(pool + P_CURRENT_CPU))
    mask = cpu_mask()
    others = 0
    for k in range(min(wanted, STEERED)):
        steered = pool + P_STEERED + 2 * WORD * k
        if peek(steered) != 0 and peek(steered + WORD) != cpu + 1:
            if others == 0:
                if not 0 <= cpu < 8 * CPU_MASK or call_int(peek(pool + P_GET_AFFINITY), 0, CPU_MASK, mask) != 0:
                    return
                own = mask + cpu // 64 * WORD
                poke(own, peek(own) & ~(1 << cpu % 64))
                for word in range(CPU_MASK // WORD):
                    others |= peek(mask + WORD * word)
                if others == 0:  # this thread may run nowhere else: that says nothing about the workers
                    return
            call_int(peek(pool + P_SET_AFFINITY), peek(steered), CPU_MASK, mask)
            poke(steered + WORD, cpu + 1)


def share(pool: int, threads: int, job: int, context: int, chunks: int) -> int:
    """Do a job with up to `threads` threads, this one included; 0, with nothing done, if the pool is taken.

    The caller takes chunks like any worker and waits only for workers that have joined, so it finishes even when none
    ever comes: in a child of fork(), say, where the workers are gone.
    """
    if compare_and_swap(pool + P_BUSY, 0, 1) != 0:
        return 0
    wanted = min(threads, chunks) - 1
    if peek(pool + P_STARTED) < wanted:
        ask(pool, peek(pool + P_LAUNCH), wanted)
    _steer(pool, wanted)
    poke(pool + P_JOB, job)
    poke(pool + P_CONTEXT, context)
    poke(pool + P_CHUNKS, chunks)
    poke(pool + P_LIMIT, wanted)
    ranges = min(wanted + 1, RANGES)
    poke(pool + P_RANGES, ranges)
    for k in range(ranges):
        poke(pool + P_TAKEN + WORD * APART * k, 0)
    poke(pool + P_BACKWARDS, 1 - peek(pool + P_BACKWARDS))
    atomic_swap(pool + P_STATE, OPEN)
    # Those that are awake see it; whoever is about to sleep says so first, and then looks once more.
    for _ in range(wanted - atomic_load(pool + P_AWAKE)):
        call_int(peek(pool + P_POST), peek(pool + P_WORK), 1, 0)
    _take_chunks(pool, 0)
    if atomic_and(pool + P_STATE, ~OPEN) != OPEN:
        _spin(pool, True)
        while call_int(peek(pool + P_WAIT), peek(pool + P_DONE), -1) != 0:
            pass  # a signal arrived
    atomic_swap(pool + P_BUSY, 0)
    return 1


def worker(pool: int) -> None:
    """What a worker thread does for ever: look for a job for a while, then sleep until there may be one; do its share.

    It may be woken for nothing, because it saw a job by itself that somebody wanted to wake it for.
    """
    enter()
    atomic_add(pool + P_AWAKE, 1)
    while True:
        _spin(pool, False)
        if _open(pool) == 0:
            atomic_add(pool + P_AWAKE, -1)
            if _open(pool) == 0:
                while call_int(peek(pool + P_WAIT), peek(pool + P_WORK), -1) != 0:
                    pass
            atomic_add(pool + P_AWAKE, 1)
        state = _open(pool)
        while state != 0:
            if compare_and_swap(pool + P_STATE, state, state + 1) == state:
                _take_chunks(pool, state - OPEN + 1)  # whoever leaves lets nobody in who still finds a chunk
                # the caller has closed the job and waits: the last one out tells it
                if atomic_add(pool + P_STATE, -1) == 1:
                    call_int(peek(pool + P_POST), peek(pool + P_DONE), 1, 0)
                break
            state = _open(pool)
