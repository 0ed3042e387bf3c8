"""What `fastact.cuda.check` finds, a line each, and the dtypes it finds it for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

INTEGERS = {2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass
class Result:
    """One line of the table."""

    what: str
    function: str
    dtype: str
    size: int
    value: float  # inputs with other bits, per cent of a copy, or microseconds
    unit: str
    passed: bool
    torch: float | None = None  # the time of PyTorch's kernel, with ours = 1

    def __str__(self) -> str:
        torch = "" if self.torch is None else f"torch x{self.torch:.2f}"
        verdict = "ok" if self.passed else "MISS"
        start = f"{self.what:10} {self.function:34} {self.dtype:9} {self.size:13,d}"
        return f"{start} {self.value:10.2f} {self.unit:10} {torch:12} {verdict}"


def dtypes() -> dict[str, Any]:
    """The dtypes NumPy can hold here: bfloat16 is that of ml_dtypes."""
    found = {name: np.dtype(name) for name in ("float16", "float32", "float64")}
    try:
        import ml_dtypes
    except ImportError:
        return found
    return {**found, "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def differences(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> int:
    """How many bit patterns differ; any NaN equals any NaN."""
    integer = INTEGERS[a.dtype.itemsize]
    differ = a.view(integer) != b.view(integer)
    a, b = a[differ], b[differ]
    with np.errstate(invalid="ignore"):  # signalling NaN
        return int(np.count_nonzero(~((a != a) & (b != b))))
