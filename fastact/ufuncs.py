"""The ufuncs behind functions with parameters or options, by their own names: there pickle finds them, for Dask say."""

from __future__ import annotations

from typing import Any

import fastact

from . import losses, row_options


def __getattr__(name: str) -> Any:
    found = None if name.startswith("_") else row_options.core(name) or losses.core(name)
    found = found or getattr(getattr(fastact, name, None), "ufunc", None)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found
