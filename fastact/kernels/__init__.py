"""The mathematics: scalar kernels, callable in anyone's ``@njit`` code as ``fastact.kernels.NAME``.

The names are those of the elementwise ufuncs: ``sigmoid``, ``sigmoid_derivative``, ``sigmoid_vjp``,
``sigmoid_with_derivative`` and so on, with every parameter passed by position.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any


def __getattr__(name: str) -> Any:
    # "from . import x" asks here before it looks for the module x: the catalogue does, which must not ask for itself
    if name.startswith("_") or find_spec(f"{__name__}.{name}") is not None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    api = import_module("..api", __name__)
    found = api.public_kernels().get(api.aliases().get(name, name))
    if found is None:
        raise AttributeError(f"module {__name__!r} has no kernel {name!r}")
    import_module("..cpu.target", __name__).install()  # Numba must know it before code that calls it is compiled
    return found


def __dir__() -> list[str]:
    api = import_module("..api", __name__)
    return sorted({*globals(), *api.public_kernels(), *api.aliases()})
