"""The thread pool: what compiled loops need of it, how many threads they use, and what happens at fork().

Workers are Python threads that enter compiled code (`fastact.cpu.sharing.worker`) once and never come back, so they
need no interpreter lock and depend on no threading layer: a Numba ``parallel=True`` function running at the same time,
OpenMP or TBB, present or absent, make no difference. They are started by the first call that is large enough.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import locks
from .immortal import immortal
from .layout import SLOTS, STEERED, STREAM, Pool

_keep: list[Any] = immortal([])  # what compiled code points at must outlive it

pool: Pool = immortal(Pool())


STACK = 1 << 18  # bytes of a worker's, at least: loops take up to a quarter of that
MOST_THREADS = 4096  # more is a mistake; and so few fit what compiled code counts with


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def available_cpus() -> int:
    """The number of CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    count = os.cpu_count() or 1
    if sys.platform == "win32":
        kernel, mine, system = ctypes.WinDLL("kernel32"), ctypes.c_size_t(), ctypes.c_size_t()
        process = ctypes.c_void_p(kernel.GetCurrentProcess())
        # both masks are of one group of up to 64 CPUs: a process that may run on all of it may run on the other groups
        if kernel.GetProcessAffinityMask(process, ctypes.byref(mine), ctypes.byref(system)) and mine.value:
            return count if mine.value == system.value else mine.value.bit_count()
    return count


def _default_threads() -> int:
    """FASTACT_NUM_THREADS, NUMBA_NUM_THREADS or OMP_NUM_THREADS, else one thread a CPU.

    Those who run several processes side by side, as joblib and Dask do, set one of the latter two.
    """
    for variable in ("FASTACT_NUM_THREADS", "NUMBA_NUM_THREADS"):
        text = os.environ.get(variable)
        if text:
            try:
                return _checked(int(text), variable)
            except ValueError:
                raise ValueError(f"{variable} must be from 1 to {MOST_THREADS}, not {text!r}") from None
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # "4,2" is for nested regions
    return int(first) if first.isdecimal() and 1 <= int(first) <= MOST_THREADS else available_cpus()


def _checked(n: int, name: str = "n") -> int:
    import operator

    try:
        number = operator.index(n)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {type(n).__name__}") from None
    if not 1 <= number <= MOST_THREADS:
        raise ValueError(f"{name} must be from 1 to {MOST_THREADS}, not {number}")
    return number


def _semaphores() -> None:
    """Two semaphores of the operating system; the C calls differ in name only, spare arguments are ignored."""
    if sys.platform == "win32":
        kernel = ctypes.WinDLL("kernel32")
        kernel.CreateSemaphoreW.restype = ctypes.c_void_p
        pool.work, pool.done = (kernel.CreateSemaphoreW(None, 0, 0x7FFFFFFF, None) for _ in range(2))
        pool.post, pool.wait = _address(kernel.ReleaseSemaphore), _address(kernel.WaitForSingleObject)
    elif sys.platform == "darwin":
        system = ctypes.CDLL("/usr/lib/libSystem.dylib")
        system.dispatch_semaphore_create.restype = ctypes.c_void_p
        pool.work, pool.done = (system.dispatch_semaphore_create(ctypes.c_long(0)) for _ in range(2))
        pool.post, pool.wait = _address(system.dispatch_semaphore_signal), _address(system.dispatch_semaphore_wait)
    else:
        library = ctypes.CDLL(None)
        rooms = [ctypes.create_string_buffer(64) for _ in range(2)]  # sem_t is 32 bytes or less
        _keep.append(rooms)
        for room in rooms:
            if library.sem_init(room, 0, 0) != 0:
                raise OSError("sem_init failed")
        pool.work, pool.done = (ctypes.addressof(room) for room in rooms)
        pool.post, pool.wait = _address(library.sem_post), _address(library.sem_wait)
        names = ("sched_getcpu", "sched_getaffinity", "sched_setaffinity")
        if sys.platform == "linux" and all(hasattr(library, name) for name in names):
            pool.current_cpu, pool.get_affinity, pool.set_affinity = (_address(getattr(library, n)) for n in names)


def set_up(worker: int) -> None:
    """Make the pool ready for loops that have been loaded; no thread is started."""
    enter = ctypes.CFUNCTYPE(None, ctypes.c_ssize_t)(worker)

    def launch(wanted: int) -> int:
        # Called by a loop that found work for more workers than there are. Without them it does the work alone.
        if sys.is_finalizing():  # a thread would be waited for that can no longer begin
            return 0
        before = threading.stack_size()
        try:
            if 0 < before < STACK:  # what the program sets for threads of its own
                threading.stack_size(STACK)
            while pool.started < wanted:
                name = f"fastact-{pool.started}"
                thread = threading.Thread(target=enter, args=(ctypes.addressof(pool),), name=name, daemon=True)
                thread.start()
                if pool.started < STEERED:
                    pool.steered[2 * pool.started] = thread.native_id or 0
                pool.started += 1
        except RuntimeError as error:  # no more threads to be had, or the interpreter is shutting down
            if error.__context__ is not None:  # or it is what threading made of the error of a signal's handler
                raise
            return 0
        finally:
            threading.stack_size(before)
        return 1

    python = ctypes.pythonapi
    _keep.extend([enter, launch])
    pool.launch = id(launch)
    pool.identify = _address(python.PyThread_get_thread_ident)
    pool.gil_ensure, pool.gil_release = _address(python.PyGILState_Ensure), _address(python.PyGILState_Release)
    pool.gil_check, pool.set_error = _address(python.PyGILState_Check), _address(python.PyErr_SetObject)
    pool.raw_malloc, pool.raw_free = _address(python.PyMem_RawMalloc), _address(python.PyMem_RawFree)
    empty = "softmax and its relatives are not defined for an empty row (the axis has no element)"
    _keep.append(empty)
    pool.empty_type, pool.empty_value = id(ValueError), id(empty)
    pool.stream_bytes = _stream_bytes()
    _semaphores()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


def _stream_bytes() -> int:
    """The size from which a result is written past the caches."""
    return 1 << 62 if sys.platform == "darwin" else STREAM


def _after_fork() -> None:
    """In the child there are no workers: go on alone, with semaphores nobody else has touched."""
    pool.threads = 1
    pool.started = pool.busy = pool.state = pool.callers = pool.overrides = pool.awake = 0
    for field in (Pool.slots, Pool.steered):
        ctypes.memset(ctypes.addressof(pool) + field.offset, 0, field.size)
    _semaphores()


pool.threads = _default_threads()


def get_num_threads() -> int:
    """The number of threads a call of this thread may use.

    Returns
    -------
    int
        What `threads` set for this thread, else what `set_num_threads` set for the process.

    Examples
    --------
    >>> import fastact as fa
    >>> with fa.threads(1):
    ...     fa.get_num_threads()
    1
    """
    me = threading.get_ident()
    for slot in range(SLOTS):
        if pool.overrides and pool.slots[2 * slot] == me:
            return int(pool.slots[2 * slot + 1])
    return int(pool.threads)


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use, in every thread of this process.

    Parameters
    ----------
    n : int
        At least 1; 1 means no threads. The default is FASTACT_NUM_THREADS, else NUMBA_NUM_THREADS, else
        OMP_NUM_THREADS, else the number of CPUs this process may run on. Small arrays are always done by the calling
        thread. A child of ``fork()`` starts with 1.

    Raises
    ------
    TypeError, ValueError
        If `n` is not a whole number from 1 to 4096.
    """
    pool.threads = _checked(n)


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Use up to `n` threads for calls made by this thread inside the ``with`` block.

    Parameters
    ----------
    n : int
        At least 1; 1 means no threads.

    Raises
    ------
    TypeError, ValueError
        If `n` is not a whole number from 1 to 4096.
    RuntimeError
        If more than 64 threads are inside such a block at once.

    Examples
    --------
    >>> import fastact as fa, numpy as np
    >>> with fa.threads(1):
    ...     y = fa.relu(np.float32([-1, 2]))
    >>> y
    array([0., 2.], dtype=float32)
    """
    number, me, slot, before = _checked(n), threading.get_ident(), -1, (0, 0)
    try:  # from here on: a signal's handler may raise an error between any two lines
        with locks.slots:
            owned = [pool.slots[2 * slot] for slot in range(SLOTS)]
            found = owned.index(me) if me in owned else owned.index(0) if 0 in owned else -1
            if found < 0:
                raise RuntimeError(f"more than {SLOTS} threads are inside fastact.threads() at once")
            before = (pool.slots[2 * found], pool.slots[2 * found + 1])
            slot = found
            pool.slots[2 * slot + 1] = number
            pool.slots[2 * slot] = me
            pool.overrides += before[0] == 0
        yield
    finally:
        with locks.slots:
            if slot >= 0 and pool.slots[2 * slot] == me:  # not after a fork inside the block
                pool.slots[2 * slot + 1] = before[1]
                pool.slots[2 * slot] = before[0]
                pool.overrides -= before[0] == 0


__all__ = ["get_num_threads", "pool", "set_num_threads", "set_up", "threads"]
