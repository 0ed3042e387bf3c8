"""One digest of every function's results over a fixed set of inputs: what must be the same on every machine.

The inputs are bit patterns and fractions made with integers, so no platform's rounding or random numbers come into
them; a NaN counts as one value, whatever its sign and payload, for those are the machine's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

import fastact
from fastact.accuracy.samples import numpy_dtype, other_parameters, walk
from fastact.accuracy.ulp import FORMATS
from fastact.activation import all_forms
from fastact.api import LOSSES, ROWS

__all__ = ["IN_PARTS", "ROW_CALLS", "belongs_to", "bit_digest", "inputs", "subjects"]

Floats = npt.NDArray[Any]


def _temperatures(x: Floats) -> Floats:
    return ((np.arange(len(x)) % 13 + 1) / 4).astype(x.dtype)[:, None]


def _extreme_temperatures(x: Floats) -> Floats:
    """The least and the largest power of two that is normal, their roots, and 1; every other one negative."""
    least, most = FORMATS[x.dtype.name].lowest, FORMATS[x.dtype.name].highest
    exponents = np.array([least, most, least // 2, most // 2, 0])[np.arange(len(x)) % 5]
    signs = 1 - 2 * (np.arange(len(x)) % 2)
    powers: Floats = signs * np.exp2(exponents)
    return powers.astype(x.dtype)[:, None]


def _weights(x: Floats) -> Floats:
    """One for each class, some of them 0."""
    return (np.arange(x.shape[1]) % 6 / 4).astype(x.dtype)


def _mask(x: Floats) -> npt.NDArray[np.bool_]:
    return np.arange(x.size).reshape(x.shape) % 3 > 0


def _classes(x: Floats) -> npt.NDArray[np.int64]:
    chosen: npt.NDArray[np.int64] = np.arange(len(x)) * 7 % x.shape[1]
    return chosen


def _distribution(x: Floats) -> Floats:
    """As many probabilities as there are entries: sums of powers of two, exact in every dtype."""
    q = np.zeros(x.shape)
    for share, step in ((0.5, 3), (0.25, 5), (0.25, 11)):
        q[np.arange(len(x)), np.arange(len(x)) * step % x.shape[1]] += share
    return q.astype(x.dtype)


ROW_CALLS: Mapping[str, Callable[[Floats], Any]] = {
    "softmax with temperatures": lambda x: fastact.softmax(x, temperature=_temperatures(x)),
    "softmax with a mask": lambda x: fastact.softmax(x, where=_mask(x), temperature=-0.75),
    "log_softmax with temperatures": lambda x: fastact.log_softmax(x, temperature=_temperatures(x)),
    "log_softmax with a mask": lambda x: fastact.log_softmax(x, where=_mask(x), causal=True),
    "softmax with extreme temperatures": lambda x: fastact.softmax(x, temperature=_extreme_temperatures(x)),
    "log_softmax with extreme temperatures": lambda x: fastact.log_softmax(x, temperature=_extreme_temperatures(x)),
    "cross entropy of classes": lambda x: fastact.cross_entropy_with_logits_with_gradient(x, _classes(x)),
    "cross entropy of distributions": lambda x: fastact.cross_entropy_with_logits_with_gradient(x, _distribution(x)),
    "cross entropy of smoothed classes": lambda x: fastact.cross_entropy_with_logits_with_gradient(
        x, _classes(x), label_smoothing=0.125
    ),
    "cross entropy of weighted classes": lambda x: fastact.cross_entropy_with_logits_with_gradient(
        x, _classes(x), weight=_weights(x), ignore_index=3
    ),
    "cross entropy of weighted and smoothed classes": lambda x: fastact.cross_entropy_with_logits_with_gradient(
        x, _classes(x), weight=_weights(x), label_smoothing=0.125
    ),
    "cross entropy of weighted distributions": lambda x: fastact.cross_entropy_with_logits_with_gradient(
        x, _distribution(x), weight=_weights(x)
    ),
}
"""What functions along an axis are called with besides rows."""

IN_PARTS = " of long rows"
"""After the name of a function along an axis: of rows that are computed in two parts or more, and by a second sum."""


def belongs_to(subject: str, name: str) -> bool:
    """Whether what `subjects` has as `subject` follows from the kernels of the function `name`: a form of it, or a row
    call of it.
    """
    subject = subject.removesuffix(IN_PARTS)
    if subject in ROW_CALLS:
        return name in LOSSES if subject.startswith("cross entropy") else name == subject.split(maxsplit=1)[0]
    return f"{subject}_".startswith(f"{name}_")


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
        grid = other_parameters(record)[:1]
        complete = all(p.default is not None for p in record.parameters)
        for form in all_forms(record):
            for values in [*([()] if complete else []), *grid]:
                yield form.name, tuple(values)
    for ending in ("", IN_PARTS):
        for name in (*ROWS, *ROW_CALLS):
            yield name + ending, ()


def _eighths(count: int, length: int) -> Floats:
    return ((np.arange(count * length) * 7919 % 256 - 128) / 8).reshape(count, length)


def _long_rows(dtype: str) -> Iterator[Floats]:
    """The same in more than one part, and a row of which small terms make up an eighth of the sum."""
    yield (_eighths(2, 70_001) / 2).astype(numpy_dtype(dtype))
    small = np.full((1, 65536), -13.25)
    small[0, -1] = 0
    yield small.astype(numpy_dtype(dtype))


def _rows(dtype: str) -> Iterator[Floats]:
    """Rows of numbers that are exact in every dtype."""
    # longer than what is computed at once, and no multiple of it; half have a mask
    x = _eighths(60, 91)
    x[:30, ::17] = -np.inf
    # a few entries; many; so many that a row is computed in parts
    for rows in (x, _eighths(29, 7), _eighths(7, 2049) / 2, _eighths(2, 140_001) / 2):
        yield rows.astype(numpy_dtype(dtype))
    # the largest entry alone, and next to -0, infinities and a NaN; a row of equal entries, and one of nothing
    special = _eighths(8, 33)
    special[:, 5] = [200.0, 0.0, -0.0, np.inf, -np.inf, np.nan, 16.0, 0.0]
    special[2] = -abs(special[2])
    special[6:] = [[16.0], [-np.inf]]
    yield special.astype(numpy_dtype(dtype))


def _operands(name: str, dtype: str) -> Iterator[list[Floats]]:
    """The arrays of every call."""
    rows = _long_rows if name.endswith(IN_PARTS) else _rows
    name = name.removesuffix(IN_PARTS)
    if name not in ROWS and name not in ROW_CALLS:
        x = inputs(dtype)
        yield [x[::-1], x] if "_vjp" in name else [x]
        return
    for x in rows(dtype):
        if name == "logsumexp_vjp":
            yield [x, x[:, 0]]
        else:
            yield [x[::-1], x] if name.endswith("_vjp") else [x]


def bit_digest(name: str, parameters: tuple[float, ...], dtype: str) -> str:
    """The digest of one public function's results for `dtype`, in hexadecimal."""
    kind = FORMATS[dtype].unsigned.newbyteorder("<")
    called = name.removesuffix(IN_PARTS)
    function = ROW_CALLS.get(called) or getattr(fastact, called)
    digest = hashlib.blake2b(digest_size=8)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        typed = np.array(parameters, np.float64).astype(numpy_dtype(dtype))
        for operands in _operands(name, dtype):
            results = function(*operands, *typed)
            for result in results if isinstance(results, tuple) else (results,):
                patterns = np.ascontiguousarray(result).view(FORMATS[dtype].unsigned).copy()
                patterns[np.isnan(result)] = FORMATS[dtype].infinity + 1
                digest.update(patterns.astype(kind).tobytes())
    return digest.hexdigest()
