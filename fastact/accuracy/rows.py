"""What the functions along an axis are, one row at a time, to hundreds of bits.

A formula takes whole rows and returns a list of numbers; each is computed at rising precision until it no longer
changes. Masked entries (-inf) never reach the formulas: their limits are put in afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastact.accuracy.arithmetic import AGREE, CAP, START, Real, Scaled, namespaces, require, scaled
from fastact.accuracy.oracles import Truth
from fastact.accuracy.sparse import SPARSE, SPARSE_VJPS
from fastact.activation import Unfinished

__all__ = ["ROWS", "cross_entropy_truth", "row_truth"]

Row = Sequence[Real]
Formula = Callable[..., list[Real]]


def _each(formula: Callable[[Real], Real], x: Row) -> list[Real]:
    """What a formula gives for each entry; of equal ones, which rows of many have, it is computed once."""
    found = {v: formula(v) for v in set(x)}
    return [found[v] for v in x]


def _shifted(m: Any, x: Row) -> tuple[Real, Real]:
    """The largest entry, and log(sum e^(x - largest)) without the 1 that would hide the other terms."""
    top = max(range(len(x)), key=lambda k: x[k])
    others = sum(_each(lambda v: m.exp(v - x[top]), [v for k, v in enumerate(x) if k != top]), m.number(0))
    return x[top], m.log1p(others)


def _softmax(m: Any, x: Row) -> list[Real]:
    top, rest = _shifted(m, x)
    return _each(lambda v: m.exp(v - top - rest), x)


def _log_softmax(m: Any, x: Row) -> list[Real]:
    top, rest = _shifted(m, x)
    return [v - top - rest for v in x]


def _logsumexp(m: Any, x: Row) -> list[Real]:
    top, rest = _shifted(m, x)
    return [top + rest]


def _logmeanexp(m: Any, x: Row, length: Row) -> list[Real]:
    top = max(x)
    # of e^x - 1, because the entries may be so small that 1 hides them at any precision
    total = sum(_each(lambda v: m.expm1(v - top), x), m.number(0)) - (length[0] - len(x))
    return [top + m.log1p(total / length[0])]


def _softmax_vjp(m: Any, g: Row, y: Row) -> list[Real]:
    dot = sum((a * b for a, b in zip(g, y, strict=True)), m.number(0))
    return [b * (a - dot) for a, b in zip(g, y, strict=True)]


def _log_softmax_vjp(m: Any, g: Row, y: Row) -> list[Real]:
    total = sum(g, m.number(0))
    return [a - b * total for a, b in zip(g, _each(m.exp, y), strict=True)]


def _logsumexp_vjp(m: Any, x: Row, g: Row) -> list[Real]:
    return [g[0] * v for v in _softmax(m, x)]


def _cross_entropy(m: Any, x: Row, q: Row) -> list[Real]:
    """sum q (log sum e^x - x), every term of which is positive, then its gradient by x."""
    top, rest = _shifted(m, x)
    weight = sum(q, m.number(0))
    value = sum((b * (top - a) for a, b in zip(x, q, strict=True) if b), weight * rest)
    return [value] + [weight * a - b for a, b in zip(_each(lambda v: m.exp(v - top - rest), x), q, strict=True)]


ROWS: Mapping[str, Formula] = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "logmeanexp": _logmeanexp,
    "softmax_vjp": _softmax_vjp,
    "log_softmax_vjp": _log_softmax_vjp,
    "logsumexp_vjp": _logsumexp_vjp,
}
"""name -> formula(m, *rows): the result of one row."""


def _formula(name: str) -> Formula:
    if name not in ROWS:
        raise Unfinished(name, "a formula", "ROWS, or a case to row_truth,", "fastact/accuracy/rows.py")
    return ROWS[name]


def _evaluate(formula: Formula, *rows: Sequence[float]) -> list[Scaled]:
    fast, slow = namespaces()
    if fast is not None:
        gmpy2 = require("gmpy2")
        limits = {"emin": gmpy2.get_emin_min(), "emax": gmpy2.get_emax_max()}

        def at(bits: int) -> list[Real]:
            with gmpy2.context(precision=bits, **limits):
                return formula(fast, *([fast.number(v) for v in row] for row in rows))
    else:
        mp = require("mpmath").mp

        def at(bits: int) -> list[Real]:
            with mp.workprec(bits):
                return [+v for v in formula(slow, *([slow.number(v) for v in row] for row in rows))]

    bits, coarse = START, at(START)
    while True:
        bits *= 2
        fine = at(bits)
        if bits >= CAP or all(_agree(a, b) for a, b in zip(coarse, fine, strict=True)):
            return [scaled(v) for v in fine]
        coarse = fine


def _agree(coarse: Real, fine: Real) -> bool:
    if coarse == fine:
        return bool(fine != 0)
    return bool(fine != 0 and abs(float((fine - coarse) / fine)) < 2.0**-AGREE)


def row_truth(name: str, *rows: npt.ArrayLike) -> Truth:
    """The true result of one row of a function in `ROWS`, `SPARSE` or `SPARSE_VJPS`, or of softmin.

    `rows` are x, or (g, y) for a vjp, or (x, [g]) for logsumexp_vjp.
    """
    columns = [np.asarray(row).astype(np.float64).tolist() for row in rows]
    if name in SPARSE_VJPS:
        return _truth(SPARSE_VJPS[name](*columns))
    if name in ("softmax_vjp", "log_softmax_vjp"):
        g, y = columns
        formula = _formula(name)
        if name == "log_softmax_vjp":
            # e^-inf = 0 leaves g alone.
            y = [max(v, -1e15) for v in y]
        return _truth(_evaluate(formula, g, y))
    x, *others = columns
    if name == "softmin":
        name, x = "softmax", [-v for v in x]
    if name == "logmeanexp":
        others = [[float(len(x))]]
    one = name in ("logsumexp", "logmeanexp")
    kept = [v for v in x if v > -math.inf]
    if any(math.isnan(v) or v == math.inf for v in x) or not kept:
        value = Scaled(-math.inf if one and not kept else math.nan, 0.0, 0)
        return _truth([value] * (1 if one else len(x)))
    if name in SPARSE:
        return _truth(SPARSE[name](x))
    formula = _formula(name)
    found = iter(_evaluate(formula, kept, *others))
    if one:
        return _truth(list(found))
    masked = Scaled(-math.inf if name == "log_softmax" else 0.0, 0.0, 0)
    return _truth([next(found) if v > -math.inf else masked for v in x])


def cross_entropy_truth(logits: npt.ArrayLike, q: npt.ArrayLike) -> tuple[Truth, Truth]:
    """The true cross entropy of one row, and its gradient by the logits.

    `q` holds what each class counts for: its target probability, smoothing and weight multiplied out.
    """
    x = np.asarray(logits).astype(np.float64).tolist()
    counts = np.asarray(q).astype(np.float64).tolist()
    kept = [k for k, v in enumerate(x) if v > -math.inf]
    value, *gradient = _evaluate(_cross_entropy, [x[k] for k in kept], [counts[k] for k in kept])
    if any(counts[k] for k in range(len(x)) if k not in kept):
        value = Scaled(math.inf, 0.0, 0)
    every = dict(zip(kept, gradient, strict=True))
    slopes = [every.get(k) or scaled(-counts[k] if counts[k] else 0.0) for k in range(len(x))]
    return _truth([value]), _truth(slopes)


def _truth(values: Sequence[Scaled]) -> Truth:
    return Truth(
        np.array([v.hi for v in values], np.float64),
        np.array([v.lo for v in values], np.float64),
        np.array([v.exponent for v in values], np.int64),
    )
