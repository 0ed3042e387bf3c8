"""The locks of the package.

Whoever forks holds those two under which Numba and LLVM work: these have locks of their own, which another thread would
leave locked in the child for ever.
"""

from __future__ import annotations

import os
import threading

compiling = threading.RLock()  # one loop is compiled or read from disk at a time
linking = threading.RLock()  # LLVM's engine
slots = threading.RLock()  # which threads asked for a number of threads of their own; a signal's handler may, too


def _hold() -> None:
    compiling.acquire()
    linking.acquire()


def _let_go() -> None:
    linking.release()
    compiling.release()


def _renew() -> None:
    global compiling, linking, slots
    compiling, linking, slots = threading.RLock(), threading.RLock(), threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_renew)
