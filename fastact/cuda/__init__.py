"""The functions of `fastact` on arrays of an NVIDIA GPU, with the same bits.

``fastact.cuda.gelu(x)`` takes an array of PyTorch, CuPy, Numba or anything with ``__cuda_array_interface__`` or DLPack
and gives one of the same library, computed in its current stream, without waiting. Importing this package needs neither
a GPU nor any other package; a call says what is missing: ``pip install 'fastact[cuda]'``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def _names() -> list[str]:
    api = import_module("..api", __name__)
    return sorted([*api.elementwise_forms(), *api.aliases(), *api.ROWS, *api.LOSSES])


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return _names()
    # `from . import driver` asks here too, before it looks for a submodule
    if name.startswith("_") or name not in _names():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    api = import_module("..api", __name__)
    if name in api.ROWS or name in api.LOSSES:
        value = import_module(".rows", __name__).row_function(name)
    else:
        value = import_module(".functions", __name__).find(name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_names()})
