"""Neural-network activation functions and their derivatives, as genuine NumPy ufuncs compiled by Numba.

Every public function is made when it is first asked for; importing this package compiles nothing and starts no thread.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .cpu import hook as _hook
from .cpu import locks as _locks

__version__ = "0.1.0"

_PACKAGES = ("kernels", "cuda")  # public, and imported when they are first asked for

_hook.install()


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return import_module(".api", __name__).names()
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # import_module, because "from . import x" would ask this function for x before it looks for a submodule
    if name in _PACKAGES:
        return import_module(f".{name}", __name__)  # which sets the attribute, too
    api = import_module(".api", __name__)
    if name not in api.names():  # Numba asks for some while it holds a lock of its own
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def made() -> Any:
        if name not in globals():
            globals()[name] = api.find(name)
        return globals()[name]

    return _locks.alone(made)  # two threads would make two objects, of which pickle knows one


def __dir__() -> list[str]:
    return sorted({*globals(), *_PACKAGES, *import_module(".api", __name__).names()})
