"""One definition of every benchmark, shared by ``fastact bench``, the asv suite and the pytest
benchmarks.

    >>> from fastact.bench.cases import prepare
    >>> call = prepare("tanh", "forward", "numpy", "float32", 1000)
    >>> _ = call()

`prepare` does everything that may be done once and returns a call without arguments, which writes
into a buffer that is there already where the library allows it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.bench import arrays
from fastact.bench.arrays import DTYPES, FORMS, LAYOUTS, Setting
from fastact.bench.libraries import BUILDERS, Case, installed, measuring, set_threads
from fastact.bench.peers import PEERS

__all__ = [
    "DTYPES",
    "FORMS",
    "LAYOUTS",
    "LIBRARIES",
    "Case",
    "Missing",
    "Setting",
    "functions",
    "inputs",
    "installed",
    "measuring",
    "peers_of",
    "prepare",
    "prepare_on",
    "set_threads",
]

Array = NDArray[Any]

LIBRARIES = tuple(BUILDERS)
"""fastact first, then its peers."""


class Missing(LookupError):
    """The library does not have the function in this form, dtype and layout."""


def functions(*, rows: bool | None = None) -> tuple[str, ...]:
    """Every function that is measured: fastact's catalogue, then those along an axis; or only one of the two."""
    import fastact as fa

    along = tuple(name for name, row in PEERS.items() if row.rows and hasattr(fa, name))
    elementwise = tuple(name for name in fa.CATALOGUE if name not in along)
    return {None: (*elementwise, *along), True: along, False: elementwise}[rows]


def inputs(name: str, dtype: str, setting: int | Setting) -> tuple[Array, Array]:
    """Arguments and gradients for a function, given a number of elements or all that a setting says."""
    setting = Setting(setting) if isinstance(setting, int) else setting
    return arrays.inputs(setting, PEERS[name].rows, dtype)


def prepare_on(name: str, form: str, library: str, x: Array, g: Array, axis: int = -1) -> Case:
    """The case on given arrays; raises `Missing` where the library has nothing to offer."""
    if library not in BUILDERS:
        raise ValueError(f"unknown library {library!r}: choose from {', '.join(LIBRARIES)}")
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r}: choose from {', '.join(FORMS)}")
    if name not in PEERS:
        raise ValueError(f"no benchmark for {name!r}: add a row to PEERS in fastact/bench/peers.py")
    if PEERS[name].reduces and form != "forward" and not (PEERS[name].targets and form == "with_derivative"):
        raise Missing(f"{name} is not measured in this form: {form}")
    with np.errstate(all="ignore"):
        case = BUILDERS[library](name, form, x, g, axis)
    if case is None:
        view = "" if x.flags.c_contiguous else ", on such a view"
        raise Missing(f"{library} has no {name} ({form}, {x.dtype}{view})")
    return case


def prepare(name: str, form: str, library: str, dtype: str, setting: int | Setting) -> Any:
    """A call without arguments that computes `form` of `name` with `library` on a number of elements, or on what a
    setting says."""
    x, g = inputs(name, dtype, setting)
    return prepare_on(name, form, library, x, g, setting.axis if isinstance(setting, Setting) else -1).run


def peers_of(name: str, form: str = "forward") -> tuple[str, ...]:
    """The libraries that have `form` of `name`, installed or not."""
    row = PEERS[name]
    found = []
    for library in LIBRARIES[1:]:
        entry = getattr(row, library)
        if entry is None:
            continue
        derivative = entry[1] if isinstance(entry, tuple) else library == "jax"
        if form == "forward" or derivative:
            found.append(library)
    return tuple(found)
