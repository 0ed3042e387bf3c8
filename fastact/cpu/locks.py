"""The locks of the package, made anew in a child of fork(): another thread of the parent may have held the old ones."""

from __future__ import annotations

import os
import threading

compiling = threading.RLock()  # one loop is compiled or read from disk at a time
linking = threading.Lock()  # LLVM's engine
slots = threading.Lock()  # which threads asked for a number of threads of their own


def _renew() -> None:
    global compiling, linking, slots
    compiling, linking, slots = threading.RLock(), threading.Lock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
