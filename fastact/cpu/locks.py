"""The locks of the package.

Numba asks for functions of this package while it holds a lock of its own, its compilers'. So whoever needs both takes
Numba's first; but most code is found on disk, and then Numba is not even imported. See `alone`.

Whoever forks holds those locks under which Numba and LLVM work, Numba's own too: another thread would leave them locked
in the child for ever.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Found = TypeVar("Found")

compiling = threading.RLock()  # one loop is compiled or read from disk at a time: see `alone`
linking = threading.RLock()  # LLVM's engine
slots = threading.RLock()  # which threads asked for a number of threads of their own; a signal's handler may, too

_mine = threading.local()  # inside: whether this thread is in `alone`; numba: whether it has Numba's lock, too
_held: list[Any] = []  # Numba's lock while somebody forks


class _NumbaIsNeeded(BaseException):
    """Work that holds only this package's lock is to compile something."""


def alone(work: Callable[[], Found]) -> Found:
    """The result of `work()`, while no other thread compiles code or reads it from disk.

    It begins without Numba's lock. If something is to be compiled after all, both locks are taken and `work` is called
    once more: it must not mind.
    """
    if getattr(_mine, "inside", False):
        return work()
    try:
        return _inside(work)
    except _NumbaIsNeeded:
        from numba.core.compiler_lock import global_compiler_lock
    with global_compiler_lock:
        return _inside(work, numba=True)


def _inside(work: Callable[[], Found], numba: bool = False) -> Found:
    with compiling:
        try:
            _mine.inside, _mine.numba = True, numba
            return work()
        finally:
            _mine.inside = False


def need_numba() -> None:
    """To be called in `alone` by whoever is about to compile with Numba."""
    if getattr(_mine, "inside", False) and not _mine.numba:
        raise _NumbaIsNeeded


def _hold() -> None:
    numba = getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)
    if numba is not None:
        numba.acquire()
    compiling.acquire()
    linking.acquire()
    _held.append(numba)


def _let_go() -> None:
    numba = _held.pop()
    linking.release()
    compiling.release()
    if numba is not None:
        numba.release()


def _renew() -> None:
    global compiling, linking, slots
    compiling, linking, slots = threading.RLock(), threading.RLock(), threading.RLock()
    numba = _held.pop()
    if numba is not None:
        numba.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_renew)
