"""Rows on which a careless softmax loses bits, or everything, and what the functions along an axis make of them.

There is no trying all inputs here. These rows have what makes such functions fail: large equal logits, one entry that
dominates, masks, wide ranges, subnormal inputs and results, up to a million entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

import fastact
from fastact.accuracy.digest import row_digest
from fastact.accuracy.judges import Measurement
from fastact.accuracy.oracles import Truth
from fastact.accuracy.rows import cross_entropy_truth, row_truth
from fastact.accuracy.ulp import compare
from fastact.api import ROWS
from fastact.kernels import cross_entropy
from fastact.kernels.rows import RowFunction
from fastact.kernels.sparse import Projection

__all__ = ["FUNCTIONS", "ROW_ULP", "RowCase", "adversarial_rows", "difference"]

Floats = npt.NDArray[Any]
Judged = tuple[Floats, Truth, "Floats | None"]
"""Results, the true values and, where two terms may cancel, the larger of them."""

ROW_ULP = 2.0
"""The largest error promised for an element of a row."""


def adversarial_rows(dtype: npt.DTypeLike) -> dict[str, Floats]:
    """The rows, by what is special about them."""
    rng = np.random.default_rng(7)
    wide = np.finfo(np.dtype(dtype))
    tiny = float(np.log(wide.smallest_subnormal))
    found = {
        "normal logits": rng.normal(size=1000) * 5,
        "one": np.array([3.25]),
        "two": np.array([0.0, -17.0]),
        "large and equal": np.full(777, 1e4),
        "huge and equal": np.full(5, float(wide.max)),
        "large with small differences": 3e4 + rng.integers(-8, 9, 301) / 4,
        "one dominates": np.concatenate([rng.normal(size=129), [40.0]]),
        "one dominates by far": np.concatenate([rng.normal(size=50) - 0.6 * abs(tiny), [3.0]]),
        "masked": np.where(rng.random(100) < 0.4, -np.inf, rng.normal(size=100) * 3),
        "all masked but one": np.array([-np.inf, -np.inf, -7.5, -np.inf]),
        "subnormal results": np.linspace(tiny, 0, 200),
        "underflowing results": np.linspace(1.2 * tiny, 0, 57),
        "whole range": np.array([float(wide.max), 0.0, -float(wide.max)]),
        "wide range": rng.normal(size=63) * 1e4,
        "subnormal inputs": rng.normal(size=33) * 100 * float(wide.smallest_subnormal),
        "negative": -1000 - rng.random(40),
        "two leaders": np.concatenate([[12.0, 12.0], rng.normal(size=30)]),
        "sorted": np.sort(rng.normal(size=515) * 20),
        "long": rng.normal(size=5000),
        "one far above many": np.concatenate([np.zeros(5000), [10.715617179870605]]),
        "one above many, by far": np.concatenate([[39.724440849525124], np.zeros(1000)]),
        "probabilities": rng.normal(size=40) - math.log(40 * math.exp(0.5)),
        "one probability next to 1": np.concatenate([[-3e-6], np.full(6, -15.8)]),
        **{f"logarithm of 1/{n}": np.full(n, -math.log(n)) for n in (2, 3, 10, 1000)},
    }
    return {name: row.astype(dtype) for name, row in found.items()}


def further_rows(dtype: npt.DTypeLike) -> Iterator[Floats]:
    """More of them than tests have time for: as they come, of any length and width, and of very many small terms."""
    rng = np.random.default_rng(2**16 + 1)
    yield from rng.normal(0, 5, (16, 500)).astype(dtype)
    for _ in range(1000):
        yield (rng.normal(size=rng.integers(1, 41)) * 10.0 ** rng.uniform(-3, 2)).astype(dtype)
    # The small terms leave no trace in the high part of a sum, and make up an eighth of it or nearly so.
    for small in (-13.25, -13.827865600585938):
        yield np.append(np.full(65535, small), 0.0).astype(dtype)


def difference(result: Floats, true: Truth, terms: Floats | None) -> tuple[npt.NDArray[np.float64], dict[str, int]]:
    """The errors of `result`, and how many of each kind are wrong; `terms` holds the larger term of a difference.

    Where less than half of it is left, the terms cancel: there the error is counted in the spacing of the larger term.
    """
    found = compare(result, *true)
    error, wrong = found.error, {kind: getattr(found, f"wrong_{kind}") for kind in ("nan", "inf", "zero", "sign")}
    if terms is not None:
        terms = np.abs(terms).astype(result.dtype)
        near = true.rounded()
        cancelled = np.abs(near) < terms / 2
        with np.errstate(all="ignore"):
            error = np.where(cancelled, np.abs(result - near) / np.spacing(terms), error)
        wrong = {kind: mask & ~cancelled for kind, mask in wrong.items()}
    # the sign of a zero that is a sum or a difference is not promised
    wrong["sign"] = wrong["sign"] & (true.hi != 0) & (result != 0)
    counts = {kind: int(np.count_nonzero(mask)) for kind, mask in wrong.items()}
    return error, {kind: n for kind, n in counts.items() if n}


def _gradients(x: Floats) -> Iterator[Floats]:
    rng = np.random.default_rng(3)
    yield np.ones_like(x)
    yield rng.normal(size=x.shape).astype(x.dtype)
    yield (np.arange(x.size) == 0).astype(x.dtype)


def _plain(name: str) -> Callable[[Floats], Iterator[Judged]]:
    def judged(x: Floats) -> Iterator[Judged]:
        yield np.atleast_1d(getattr(fastact, name)(x)), row_truth(name, x), None

    return judged


def _softmin(x: Floats) -> Iterator[Judged]:
    yield from _plain("softmin")(-x)


def _softmax_vjp(x: Floats) -> Iterator[Judged]:
    for g in _gradients(x):
        y = fastact.softmax(x)
        yield fastact.softmax_vjp(g, y), row_truth("softmax_vjp", g, y), None


def _log_softmax_vjp(x: Floats) -> Iterator[Judged]:
    for g in _gradients(x):
        y = fastact.log_softmax(x)
        yield fastact.log_softmax_vjp(g, y), row_truth("log_softmax_vjp", g, y), None


def _logsumexp_vjp(x: Floats) -> Iterator[Judged]:
    for g in (1.0, -0.7):
        narrow = x.dtype.type(g)
        yield fastact.logsumexp_vjp(x, narrow), row_truth("logsumexp_vjp", x, np.array([narrow])), None


def _projection_vjp(name: str) -> Callable[[Floats], Iterator[Judged]]:
    def judged(x: Floats) -> Iterator[Judged]:
        y = getattr(fastact, name)(x)
        weight = np.sqrt(y.astype(np.float64)) if name == "entmax15" else (y > 0).astype(np.float64)
        for g in _gradients(x):
            terms = np.maximum(np.abs(g), abs(g @ weight / weight.sum())) * (weight if name == "entmax15" else 1.0)
            yield getattr(fastact, f"{name}_vjp")(g, y), row_truth(f"{name}_vjp", g, y), terms

    return judged


def _targets(x: Floats) -> Iterator[tuple[Any, Floats]]:
    """An index or probabilities, and what each class then counts for."""
    kept = np.flatnonzero(x > -np.inf)
    for target in sorted({int(kept[0]), int(kept[-1]), int(np.argmax(x))}):
        yield target, (np.arange(x.size) == target).astype(x.dtype)
    spread = np.random.default_rng(5).dirichlet(np.ones(x.size))
    q = np.where(x > -np.inf, spread, 0.0).astype(x.dtype)
    yield q, q


def _cross_entropy(x: Floats) -> Iterator[Judged]:
    for target, q in _targets(x):
        yield np.atleast_1d(fastact.cross_entropy_with_logits(x, target)), cross_entropy_truth(x, q)[0], None


def _cross_entropy_gradient(x: Floats) -> Iterator[Judged]:
    for target, q in _targets(x):
        value, gradient = fastact.cross_entropy_with_logits_with_gradient(x, target)
        true, slope = cross_entropy_truth(x, q)
        yield np.atleast_1d(value), true, None
        terms = None
        if not isinstance(target, int):
            terms = np.maximum(q, math.fsum(q.tolist()) * fastact.softmax(x.astype(np.float64)))
        yield gradient, slope, terms


FUNCTIONS: Mapping[str, Callable[[Floats], Iterator[Judged]]] = {
    **{name: _plain(name) for name in ("softmax", "log_softmax", "logsumexp")},
    "softmin": _softmin,
    "logmeanexp": _plain("logmeanexp"),
    **{name: _plain(name) for name in ("sparsemax", "entmax15", "hardmax")},
    "softmax_vjp": _softmax_vjp,
    "log_softmax_vjp": _log_softmax_vjp,
    "logsumexp_vjp": _logsumexp_vjp,
    **{f"{name}_vjp": _projection_vjp(name) for name in ("sparsemax", "entmax15")},
    "cross_entropy_with_logits": _cross_entropy,
    "cross_entropy_with_logits_with_gradient": _cross_entropy_gradient,
}
"""name -> what is to be judged of its results on a row."""


KERNELS: Mapping[str, tuple[RowFunction | Projection, ...]] = {
    **{name: (function,) for name, function in ROWS.items()},
    **cross_entropy.LOSSES,
}
"""name -> what it is computed by."""

OF_ONE_NUMBER = ("logsumexp", "logmeanexp", "cross_entropy_with_logits")
"""Those whose result is one number a row."""


@dataclass(frozen=True)
class RowCase:
    """One function along an axis: to the command what `cases.Case` is for the elementwise ones."""

    name: str
    form: str = "rows"
    given: bool = False

    @property
    def title(self) -> str:
        """A name for tests and tables."""
        return self.name

    def bound(self, dtype: str) -> float:
        """The largest error promised, for float32 and float64."""
        return ROW_ULP

    def parameters(self, dtype: str) -> tuple[float, ...]:
        """It has none."""
        return ()

    def parts(self) -> tuple[RowCase, ...]:
        """It joins no others."""
        return ()

    def digest(self, dtype: str) -> str:
        """The fingerprint of the kernels behind it."""
        return "-".join(row_digest(function, dtype) for function in KERNELS[self.name])

    def rows(self, dtype: str) -> dict[str, Floats]:
        """The rows that it is judged on, each by a name."""
        return {**adversarial_rows(dtype), **{f"further {k}": x for k, x in enumerate(further_rows(dtype))}}

    def inputs(self, dtype: str) -> int:
        """How many results that are at least."""
        rows = self.rows(dtype)
        return len(rows) if self.name in OF_ONE_NUMBER else sum(x.size for x in rows.values())

    def measure(self, dtype: str) -> Measurement:
        """What the errors are on all the rows; `at` is the place of the worst element in `row`."""
        total = Measurement(self.name, self.form, dtype)
        for row, x in self.rows(dtype).items():
            for result, true, terms in FUNCTIONS[self.name](x):
                error, wrong = difference(result, true, terms)
                sized = np.where(np.isfinite(error), error, 0.0)
                worst = int(np.argmax(sized))
                rounded = int(np.count_nonzero(error <= 0.5))
                found = Measurement(self.name, self.form, dtype, (), result.size, float(sized[worst]), worst, rounded)
                total = total + replace(found, wrong=wrong, row=row)
        return total
