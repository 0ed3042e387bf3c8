"""Objects that outlive the modules that made them: NumPy and compiled code point at them and hold no reference."""

from __future__ import annotations

import ctypes
from typing import TypeVar

Thing = TypeVar("Thing")


def immortal(thing: Thing) -> Thing:
    """Keep `thing` for the life of the process, also when its module is reloaded and while the interpreter ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    return thing
