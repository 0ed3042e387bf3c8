"""The ufuncs of functions with parameters that have the defaults built in: there pickle finds them, as in `ufuncs`."""

from __future__ import annotations

from typing import Any

import fastact


def __getattr__(name: str) -> Any:
    found = getattr(getattr(fastact, name, None), "plain", None)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found
