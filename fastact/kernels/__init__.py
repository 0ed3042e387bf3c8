"""The mathematics: scalar kernels, callable in anyone's ``@njit`` code as ``fastact.kernels.NAME``.

The names are those of the elementwise ufuncs: ``sigmoid``, ``sigmoid_derivative``, ``sigmoid_vjp``,
``sigmoid_with_derivative`` and so on, with every parameter passed by position.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    api = import_module("..api", __name__)
    if name in api.aliases():
        name = api.aliases()[name]
    found = api.elementwise_forms().get(name)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no kernel {name!r}")
    import_module("..cpu.target", __name__).install()  # Numba must know it before code that calls it is compiled
    return found[1].kernel
