"""One digest of every function's results over a fixed set of inputs: what must be the same on every machine.

The inputs are bit patterns and fractions made with integers, so no platform's rounding or random numbers come into
them; a NaN counts as one value, whatever its sign and payload, for those are the machine's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

import fastact
from fastact.accuracy.samples import PARAMETERS, numpy_dtype, walk
from fastact.accuracy.ulp import FORMATS
from fastact.activation import all_forms
from fastact.api import ROWS

__all__ = ["bit_digest", "inputs", "subjects"]

Floats = npt.NDArray[Any]


def inputs(dtype: str) -> Floats:
    """All 65,536 numbers of a narrow dtype; else twenty thousand of every exponent, most where functions bend."""
    form = FORMATS[dtype]
    if form.bits == 16:
        return walk(dtype, 1 << 16)
    # 2^-12 to 2^11 in steps that are odd, so that low bits vary; both signs
    bias = (1 << (form.bits - form.precision - 1)) - 1
    low, high = ((bias + k) << (form.precision - 1) for k in (-12, 11))
    middle = np.arange(8192, dtype=np.uint64) * np.uint64(((high - low) // 8192) | 1) + np.uint64(low)
    patterns = np.concatenate([middle, middle | np.uint64(1 << (form.bits - 1))])
    return np.concatenate([patterns.astype(form.unsigned).view(numpy_dtype(dtype)), walk(dtype, 4096)])


def subjects() -> Iterator[tuple[str, tuple[float, ...]]]:
    """Every public function with the parameters it is called with: its defaults, and one other set."""
    for record in fastact.CATALOGUE.values():
        grid = PARAMETERS[record.name][:1] if record.parameters else ()
        complete = all(p.default is not None for p in record.parameters)
        for form in all_forms(record):
            for values in [*([()] if complete else []), *grid]:
                yield form.name, tuple(values)
    for name in ROWS:
        yield name, ()


def _operands(name: str, dtype: str) -> list[Floats]:
    if name not in ROWS:
        x = inputs(dtype)
        return [x[::-1], x] if "_vjp" in name else [x]
    # exact in every dtype; a row is longer than what is computed at once, and no multiple of it; half have a mask
    eighths = ((np.arange(60 * 91) * 7919 % 256 - 128) / 8).reshape(60, 91)
    eighths[:30, ::17] = -np.inf
    x = eighths.astype(numpy_dtype(dtype))
    if name == "logsumexp_vjp":
        return [x, x[:, 0]]
    return [x[::-1], x] if name.endswith("_vjp") else [x]


def bit_digest(name: str, parameters: tuple[float, ...], dtype: str) -> str:
    """The digest of one public function's results for `dtype`, in hexadecimal."""
    kind = FORMATS[dtype].unsigned.newbyteorder("<")
    with np.errstate(invalid="ignore"):  # signalling NaNs
        typed = np.array(parameters, np.float64).astype(numpy_dtype(dtype))
        results = getattr(fastact, name)(*_operands(name, dtype), *typed)
    digest = hashlib.blake2b(digest_size=8)
    for result in results if isinstance(results, tuple) else (results,):
        patterns = np.ascontiguousarray(result).view(FORMATS[dtype].unsigned).copy()
        patterns[np.isnan(result)] = FORMATS[dtype].infinity + 1
        digest.update(patterns.astype(kind).tobytes())
    return digest.hexdigest()
