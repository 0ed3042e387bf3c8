"""The float32 names of `fastact.kernels.scaled` that the row functions use."""

from __future__ import annotations

from fastact.kernels.scaled import ATANH_TAIL as _ATANH_TAIL
from fastact.kernels.scaled import FORMATS, exp_scaled32

__all__ = ["ATANH_TAIL", "LARGEST_EXPONENT", "TWO_MINUS_124", "exp_scaled32"]

ATANH_TAIL = _ATANH_TAIL[32]
LARGEST_EXPONENT = FORMATS[32].limit
TWO_MINUS_124 = FORMATS[32].down
