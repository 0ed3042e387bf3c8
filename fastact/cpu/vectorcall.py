"""A Python callable that chooses between two others in compiled code.

A Python function around a ufunc costs a quarter of what a whole call on one element costs. An object of the type made
here costs next to nothing: the interpreter calls the compiled `choose` with the arguments where they are (PEP 590),
which passes them on to the first function if they are just so many positional ones, with or without the keywords of a
ufunc, and to the second otherwise.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from ..activation import Parameter
from .immortal import immortal
from .layout import UFunc

_HEAD = object.__basicsize__
_HAVE_VECTORCALL = 1 << 11  # Py_TPFLAGS_HAVE_VECTORCALL
_NOT_BY_CALLING = 1 << 7  # Py_TPFLAGS_DISALLOW_INSTANTIATION: an object that `make` did not fill is good for nothing
_T_PYSSIZET, _READONLY = 19, 1
# Interned, so that the names in a call are these very objects; one that is not goes the longer way, to the same result.
KEYWORDS = tuple(
    map(sys.intern, ("out", "dtype", "casting", "order", "subok", "where", "axis", "axes", "keepdims", "signature"))
)
PARAMETERS = 4
_TP_CALL, _TP_MEMBERS = 50, 72  # numbers of type slots, fixed by the stable ABI


class Choice(ctypes.Structure):
    """The memory of one object."""

    _fields_ = [
        ("head", ctypes.c_byte * _HEAD),
        ("attributes", ctypes.c_void_p),
        ("vectorcall", ctypes.c_void_p),
        ("call", ctypes.c_void_p),  # PyObject_Vectorcall
        ("count", ctypes.c_ssize_t),  # so many positional arguments go
        ("first", ctypes.c_void_p),  # to this function
        ("second", ctypes.c_void_p),
        ("keywords", ctypes.c_void_p * len(KEYWORDS)),
        ("ufunc", ctypes.c_void_p),  # takes the arrays and all parameters
        ("arrays", ctypes.c_ssize_t),
        ("parameters", ctypes.c_ssize_t),  # 0 if there are too many for what follows
        ("names", ctypes.c_void_p * PARAMETERS),
        ("defaults", ctypes.c_double * PARAMETERS),
        ("required", ctypes.c_ssize_t * PARAMETERS),  # 1 for a parameter without a default
        ("nonzero", ctypes.c_ssize_t * PARAMETERS),  # 1 for a parameter that must not be 0
    ]


class _Member(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("offset", ctypes.c_ssize_t),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


class _Slot(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_int), ("value", ctypes.c_void_p)]


class _Spec(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("basicsize", ctypes.c_int),
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.c_void_p),
    ]


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@cache
def _type() -> tuple[type, tuple[Any, ...]]:
    """The type, and the memory its definition refers to."""
    members = (_Member * 3)(
        _Member(b"__dictoffset__", _T_PYSSIZET, Choice.attributes.offset, _READONLY, None),
        _Member(b"__vectorcalloffset__", _T_PYSSIZET, Choice.vectorcall.offset, _READONLY, None),
    )
    slots = (_Slot * 3)(
        _Slot(_TP_MEMBERS, ctypes.addressof(members)),
        _Slot(_TP_CALL, _address(ctypes.pythonapi.PyVectorcall_Call)),
    )
    spec = _Spec(
        b"fastact.parametrised", ctypes.sizeof(Choice), 0, _HAVE_VECTORCALL | _NOT_BY_CALLING, ctypes.addressof(slots)
    )
    make = ctypes.pythonapi.PyType_FromSpec
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p]
    made: Any = make(ctypes.addressof(spec))
    made.__repr__ = lambda self: f"<function {self.__module__}.{self.__name__}{self.__signature__}>"
    made.__reduce__ = lambda self: self.__name__  # pickle finds it again by name
    return immortal((made, (members, slots, spec)))


def extend(ufunc: np.ufunc, choose_options: int, function: Callable[..., Any]) -> None:
    """Let calls of `ufunc` with more than its inputs and NumPy's keywords go to `function`; so do those with `where`.

    `choose_options` is the address of the compiled function. The ufunc stays what it is in every other respect.
    """
    choice = make(choose_options, ufunc.nin, ufunc, function)
    memory, target = Choice.from_address(id(choice)), UFunc.from_address(id(ufunc))
    memory.first = target.vectorcall
    memory.keywords[KEYWORDS.index("where")] = None
    # the field of a ufunc for what it is made of, which is otherwise for np.frompyfunc
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(choice))
    target.obj, target.vectorcall = id(choice), choose_options


_made: list[Any] = immortal([])  # the objects live as long as the process, as the compiled code they point at


def make(choose: int, count: int, first: Callable[..., Any], second: Callable[..., Any]) -> Any:
    """An object that calls `first` with `count` positional arguments and any of `KEYWORDS`, `second` otherwise.

    `choose` is the address of the compiled function. Attributes can be set on the object.
    """
    allocate = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.c_ssize_t)
    made: Any = allocate(("PyType_GenericAlloc", ctypes.pythonapi))(_type()[0], 0)
    memory = Choice.from_address(id(made))
    memory.call = _address(ctypes.pythonapi.PyObject_Vectorcall)
    memory.count, memory.first, memory.second = count, id(first), id(second)
    memory.keywords = (ctypes.c_void_p * len(KEYWORDS))(*map(id, KEYWORDS))
    memory.vectorcall = choose
    _made.append((made, first, second))
    return made


def take_numbers(made: Any, ufunc: np.ufunc, arrays: int, parameters: Sequence[Parameter]) -> None:
    """Let `made` send calls with numbers for the `parameters` after `arrays` plain arrays to the loops of `ufunc`.

    `ufunc` takes all of them by position.
    """
    if len(parameters) > PARAMETERS:
        return
    memory, names = Choice.from_address(id(made)), [sys.intern(p.name) for p in parameters]
    memory.ufunc, memory.arrays, memory.parameters = id(ufunc), arrays, len(parameters)
    for k, p in enumerate(parameters):
        memory.names[k], memory.nonzero[k], memory.required[k] = id(names[k]), p.nonzero, p.default is None
        memory.defaults[k] = p.default or 0.0
    _made.append((made, ufunc, names))
