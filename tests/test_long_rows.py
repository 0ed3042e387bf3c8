"""Rows that no cache holds, whose sums are found part by part: against exact results, and the same bits in any way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact.accuracy.ulp import ulp_error
from fastact.kernels.rows import LONG_ROW, PART

from .functions import same_bits

gmpy2 = pytest.importorskip("gmpy2")
INF, NAN = np.inf, np.nan
Array = np.ndarray[Any, Any]
both = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def width(dtype: Any) -> int:
    return 8 * np.dtype(dtype).itemsize


def true_rows(x: Array) -> dict[str, tuple[Array, Array]]:
    """The functions of a row of few different entries to 300 bits, as pairs."""
    values, places, counts = np.unique(x.astype(np.float64), return_inverse=True, return_counts=True)
    with gmpy2.context(precision=300):
        z = [gmpy2.mpfr(v) - gmpy2.mpfr(values[-1]) for v in values.tolist()]
        parts = [int(c) * gmpy2.exp(v) for c, v in zip(counts, z, strict=True)]
        rest = gmpy2.log1p(sum(parts[:-1], gmpy2.mpfr(int(counts[-1]) - 1)))
        logs = [v - rest for v in z]
        total = gmpy2.mpfr(values[-1]) + rest
        found = {
            "softmax": [gmpy2.exp(v) for v in logs],
            "log_softmax": logs,
            "logsumexp": [total],
            "logmeanexp": [total - gmpy2.log(len(x))],
        }
        pairs = {}
        for name, exact in found.items():
            hi = np.array([float(v) for v in exact])
            lo = np.array([float(v - h) if np.isfinite(h) else 0.0 for v, h in zip(exact, hi.tolist(), strict=True)])
            pairs[name] = (hi[places], lo[places]) if len(exact) > 1 or len(values) == 1 else (hi, lo)
    return pairs


def close(result: Any, pair: tuple[Array, Array], bound: float = 1.5) -> None:
    error = ulp_error(np.atleast_1d(result), *pair)
    assert error.max() < bound, f"{error.max():.4g} ULP at {int(error.argmax())}"


def usual(n: int, dtype: Any) -> Array:
    """Entries as they come, but of some hundred values."""
    return (np.round(np.random.default_rng(n).normal(size=n) * 256) / 64).astype(dtype)


def _levels(step: float) -> Callable[[Array], Array]:
    """Every part higher, or lower, than the one before."""
    return lambda x: x + x.dtype.type(step) * (np.arange(len(x)) // PART[width(x.dtype)]).astype(x.dtype)


def _with(places: Callable[[int, int], Any], value: float) -> Callable[[Array], Array]:
    def changed(x: Array) -> Array:
        x = x.copy()
        x[places(len(x), PART[width(x.dtype)])] = value
        return x

    return changed


def _far(x: Array) -> Array:
    """One entry, and all others so far below that their exponentials are nearly nothing: of some parts, nothing."""
    part, w = PART[width(x.dtype)], width(x.dtype)
    far = np.full_like(x, -INF)
    far[part + 5] = 1
    for k, below in enumerate((100.0, 103.5, 104.5, 110.0) if w == 32 else (740.0, 745.0, 746.0, 750.0)):
        far[(k + 1) * part + 100 : (k + 1) * part + 120 + k] = 1 - below
    return far


ROWS: dict[str, Callable[[Array], Array]] = {
    "as they come": lambda x: x,
    "ascending": np.sort,
    "descending": lambda x: np.sort(x)[::-1].copy(),
    "rising": _levels(9.5),
    "falling": _levels(-11.25),
    "falling far": _levels(-70.0),
    "one in the first part": _with(lambda n, part: 17, 33.25),
    "one in the last part": _with(lambda n, part: n - 1, 33.25),
    "one in the middle": _with(lambda n, part: n // 2, 33.25),
    "one that dominates": _with(lambda n, part: 2 * part, 90.0),
    "the same in several parts": _with(lambda n, part: [0, 1, part, 2 * part - 1, n - 1], 20.5),
    "a part of -inf": _with(lambda n, part: slice(part, 2 * part), -INF),
    "a first part of -inf": _with(lambda n, part: slice(0, part), -INF),
    "all but one are -inf": lambda x: _with(lambda n, part: 3 * part + 1, 2.5)(np.full_like(x, -INF)),
    "far below": _far,
    "small terms": lambda x: _with(lambda n, part: n - 7, 14.0)(np.full_like(x, 0.5)),
    "huge": lambda x: x + x.dtype.type(1e6),
    "huge and negative": lambda x: x - x.dtype.type(1e6),
    "some parts beyond 2^16": lambda x: _levels(3.0)(x.astype(np.float32) + np.float32(65520.0)).astype(x.dtype),
    "wide": lambda x: x * x.dtype.type(1e4),
    "one far beyond": _with(lambda n, part: 3 * part, 1e30),
}


@both
@pytest.mark.parametrize("name", ROWS)
def test_against_exact_results(name: str, dtype: Any) -> None:
    part = PART[width(dtype)]
    for n in (LONG_ROW[width(dtype)] + 1, 7 * part - 77):
        x = ROWS[name](usual(n, dtype))
        true = true_rows(x)
        with np.errstate(all="ignore"):
            close(fa.softmax(x), true["softmax"])
            close(fa.log_softmax(x), true["log_softmax"])
            close(fa.logsumexp(x), true["logsumexp"])
            close(fa.logmeanexp(x), true["logmeanexp"])
            assert same_bits(fa.softmin(-x), fa.softmax(x))
            halves = x * dtype(2)
            if np.isfinite(halves).all():
                close(fa.softmax(halves, temperature=2), true["softmax"])
                close(fa.log_softmax(halves, temperature=2), true["log_softmax"])
            seen = x != -INF
            if not seen.all():
                close(fa.softmax(np.where(seen, x, 50), where=seen), true["softmax"])
                close(fa.log_softmax(np.where(seen, x, 50), where=seen), true["log_softmax"])
            for target in (int(np.argmax(x)), n - 2):
                hi, lo = (-pair[target] for pair in true["log_softmax"])
                loss, gradient = fa.cross_entropy_with_logits_with_gradient(x, target)
                close(loss, (np.atleast_1d(hi), np.atleast_1d(lo)), 2)
                assert same_bits(fa.cross_entropy_with_logits(x, target), loss)
                others = np.arange(n) != target
                close(gradient[others], tuple(pair[others] for pair in true["softmax"]))  # type: ignore[arg-type]


@both
def test_equal_entries_get_equal_shares(dtype: Any) -> None:
    for n in (LONG_ROW[width(dtype)] + 1, 100_000, 1 << 17):
        for value in (0.0, 3.3, -71.7, 1e5, 1e30):
            x = np.full(n, value, dtype)
            assert same_bits(fa.softmax(x), np.full(n, dtype(1) / dtype(n)))
            close(fa.log_softmax(x), true_rows(x)["log_softmax"])


CALLS: dict[str, Callable[..., Any]] = {
    "softmax": fa.softmax,
    "log_softmax": fa.log_softmax,
    "logsumexp": fa.logsumexp,
    "logmeanexp": fa.logmeanexp,
    "with a temperature": lambda x, axis=-1: fa.softmax(x, temperature=1.7, axis=axis),
    "with a mask": lambda x, axis=-1: fa.log_softmax(x, where=np.isfinite(x), axis=axis),
    "a class": lambda x, axis=-1: (
        fa.cross_entropy_with_logits(x, np.full(x.shape[1 + axis], 30_000), axis=axis)
        if x.ndim > 1
        else fa.cross_entropy_with_logits(x, 30_000)
    ),
}


@both
@pytest.mark.parametrize("name", CALLS)
def test_the_same_bits_in_any_way(name: str, dtype: Any) -> None:
    part, function = PART[width(dtype)], CALLS[name]
    for n in (4 * part + 1, 6 * part - 1, 6 * part + 1025):
        x = np.random.default_rng(n).normal(size=(5, n)).astype(dtype) * 7
        x[1] = np.sort(x[1])
        x[2] += dtype(65530)
        x[3, part : 3 * part - 5] = -INF
        x[4, n // 2] = 80
        with fa.threads(1):
            found = function(x)
            assert same_bits(np.stack([function(row) for row in x]), found)
            assert same_bits(np.moveaxis(function(np.ascontiguousarray(x.T), axis=0), 0, -1), found)
            assert same_bits(function(np.repeat(x, 2, axis=1)[:, ::2]), found)
            # as many columns as there are in a vector, and more than that are taken together
            columns = np.ascontiguousarray(np.concatenate([x] * 15).T)
            assert same_bits(np.moveaxis(function(columns, axis=0), 0, -1), np.concatenate([found] * 15))
        for threads in (2, 3):
            with fa.threads(threads):
                assert same_bits(np.stack([function(row) for row in x]), found)
                assert same_bits(function(x), found)


def test_in_place() -> None:
    x = np.random.default_rng(0).normal(size=(3, 5 * PART[32] + 11)).astype(np.float32)
    for function in (fa.softmax, fa.log_softmax):
        expected = function(x)
        for axis, here in ((-1, x.copy()), (0, np.ascontiguousarray(x.T))):
            function(here, axis=axis, out=here)
            assert same_bits(here if axis else here.T, expected)


@pytest.mark.parametrize("n", [5, 128, 1000, 3000, LONG_ROW[32] + 7])
def test_gradients_in_place(n: int) -> None:
    """Of rows with a g so near to the sum that it is made again, after the row may have been written."""
    rng = np.random.default_rng(n)
    g = rng.normal(size=(40, n)).astype(np.float32)
    y = fa.softmax(rng.normal(size=(40, n)).astype(np.float32) * 3)
    rows, largest = np.arange(40), y.argmax(-1)
    g[rows, largest] = 0
    g[rows, largest] = (g.astype(np.float64) * y).sum(-1) / (1 - y[rows, largest].astype(np.float64))
    expected = fa.softmax_vjp(g, y)
    for place in (0, 1):
        operands = [g.copy(), y.copy()]
        fa.softmax_vjp(*operands, out=operands[place])
        assert same_bits(operands[place], expected)
    beside = np.zeros((40, n + 1), np.float32)
    beside[:, 1:] = g
    assert same_bits(fa.softmax_vjp(beside[:, 1:], y, out=beside[:, :-1]), expected)


@both
def test_what_is_not_finite(dtype: Any) -> None:
    part = PART[width(dtype)]
    x = usual(5 * part, dtype)
    with np.errstate(all="ignore"):
        for place in (0, 2 * part + 1, 5 * part - 1):
            for other in (x, np.full_like(x, -INF)):
                row = other.copy()
                row[place] = NAN
                assert np.isnan(fa.softmax(row)).all()
                assert np.isnan(fa.log_softmax(row)).all()
                assert np.isnan(fa.logsumexp(row))
                assert np.isnan(fa.softmax(row, temperature=2)).all()
                assert np.isnan(fa.log_softmax(row, temperature=2)).all()
                seen = np.arange(len(x)) != place
                assert np.isnan(fa.softmax(row, where=~seen)[place])
                if other is x:
                    assert same_bits(fa.softmax(row, where=seen), fa.softmax(x, where=seen))
                    assert same_bits(fa.log_softmax(row, where=seen), fa.log_softmax(x, where=seen))
            row = x.copy()
            row[place] = INF
            assert np.isnan(fa.softmax(row)).all()
            assert fa.logsumexp(row) == INF
            assert fa.logmeanexp(row) == INF
            row[5] = NAN
            assert np.isnan(fa.logsumexp(row))
        nothing = np.full_like(x, -INF)
        assert fa.logsumexp(nothing) == -INF
        for result in (
            fa.softmax(nothing),
            fa.log_softmax(nothing),
            fa.softmax(nothing, temperature=3),
            fa.log_softmax(nothing, temperature=3),
            fa.softmax(x, where=False),
            fa.log_softmax(x, where=np.zeros(x.shape, bool)),
        ):
            assert np.isnan(result).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [31, 50, 64, 100, 127])
@pytest.mark.parametrize("threads", [1, 2])
def test_many_rows_of_no_whole_lines_past_the_caches(n: int, dtype: str, threads: int) -> None:
    """They are shorter than those for which it pays to begin with a whole line, and still must."""
    count = (20 << 20) // (n * np.dtype(dtype).itemsize)
    x = np.random.default_rng(n).normal(size=(count, n)).astype(dtype)
    beside = np.empty(x.size + 1, dtype)[1:].reshape(x.shape)
    with fa.threads(threads):
        few, y = fa.log_softmax(x[:500]), fa.log_softmax(x)
        assert same_bits(y[:500], few)
        assert same_bits(fa.log_softmax(x, out=beside), y)
        for gradient in (fa.softmax_vjp, fa.log_softmax_vjp):
            assert same_bits(gradient(x, y)[-500:], gradient(x[-500:], y[-500:]))


@pytest.mark.parametrize("keepdims", [False, True])
def test_rows_too_long_for_positions_of_32_bits(keepdims: bool) -> None:
    """2,147,483,648 elements, in four bytes of memory. float64 has positions of 64 bits."""
    row = np.broadcast_to(np.float32(0), 2**31)
    with pytest.raises(ValueError, match=r"may have 2147483647 elements at most .* not 2147483648"):
        fa.logmeanexp(row, keepdims=keepdims)
    with pytest.raises(ValueError, match="may have 2147483647 elements at most"):
        fa.logmeanexp(row[None, :, None], axis=1, keepdims=keepdims)
