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

from fastact.bench.libraries import BUILDERS, Case, aligned, installed, measuring, set_threads
from fastact.bench.peers import PEERS

__all__ = [
    "DTYPES",
    "FORMS",
    "LIBRARIES",
    "Case",
    "Missing",
    "functions",
    "inputs",
    "installed",
    "measuring",
    "peers_of",
    "prepare",
    "prepare_on",
    "set_threads",
    "shape_of",
]

Array = NDArray[Any]

LIBRARIES = tuple(BUILDERS)
"""fastact first, then its peers."""
FORMS = ("forward", "derivative", "vjp", "with_derivative")
DTYPES = ("float32", "float64", "float16")
COLUMNS = 1024
"""The length of a row for softmax and its relatives, where there are that many elements."""


class Missing(LookupError):
    """The library does not have the function in this form and dtype."""


def functions() -> tuple[str, ...]:
    """Every function that is measured: fastact's catalogue, then those along an axis."""
    import fastact as fa

    names = list(fa.CATALOGUE)
    return (*names, *(name for name, row in PEERS.items() if row.rows and name not in names))


def shape_of(name: str, n: int) -> tuple[int, ...]:
    """The shape that stands for `n` elements; functions along an axis get whole rows of up to
    1,024."""
    if not PEERS[name].rows:
        return (n,)
    columns = min(n, COLUMNS)
    return (n // columns, columns)


def inputs(name: str, dtype: str, n: int) -> tuple[Array, Array]:
    """Arguments like a network's pre-activations, N(0, 3), and gradients N(0, 1); the same at every
    call."""
    shape = shape_of(name, n)
    rng = np.random.default_rng(12345)
    x, g = aligned(shape, dtype), aligned(shape, dtype)
    # a block of 2^16 values is enough variety, and 16 M normal deviates would take longer than the
    # benchmark
    for array, scale in ((x, 3.0), (g, 1.0)):
        block = rng.normal(0.0, scale, 1 << 16).astype(dtype)
        array.reshape(-1)[:] = np.resize(block, array.size)
    return x, g


def prepare_on(name: str, form: str, library: str, x: Array, g: Array) -> Case:
    """The case on given arrays; raises `Missing` where the library has nothing to offer."""
    if library not in BUILDERS:
        raise ValueError(f"unknown library {library!r}: choose from {', '.join(LIBRARIES)}")
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r}: choose from {', '.join(FORMS)}")
    if name not in PEERS:
        raise ValueError(f"no benchmark for {name!r}: add a row to PEERS in fastact/bench/peers.py")
    if PEERS[name].reduces and form != "forward":
        raise Missing(f"{name} is measured forward only")
    with np.errstate(all="ignore"):
        case = BUILDERS[library](name, form, x, g)
    if case is None:
        raise Missing(f"{library} has no {name} ({form}, {x.dtype})")
    return case


def prepare(name: str, form: str, library: str, dtype: str, n: int) -> Any:
    """A call without arguments that computes `form` of `name` on `n` elements with `library`."""
    x, g = inputs(name, dtype, n)
    return prepare_on(name, form, library, x, g).run


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
