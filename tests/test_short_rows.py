"""Many short rows, for which a loop of their own length is compiled: to the bit what the general loops give."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact.api import ROWS
from fastact.cpu.layout import LONGEST, SHORTEST
from fastact.cpu.row_network import stages

from .functions import same_bits

Array = np.ndarray[Any, Any]
SPECIAL = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 88, -104, 70000, -70000, 1e-40])


def rows(n: int, dtype: str = "float32", count: int = 700) -> Array:
    """Of usual size, nearly equal, far apart, logarithms of shares, and with special values."""
    rng = np.random.default_rng(n)
    usual = rng.normal(size=(count, n)) * 3
    shares = np.log(rng.dirichlet(np.ones(n), size=count))
    special = np.where(rng.random((count, n)) < 0.3, rng.choice(SPECIAL, size=(count, n)), usual)
    with np.errstate(over="ignore"):
        return np.concatenate([usual, usual * 1e-3, usual * 20, shares, special, usual[:5]]).astype(dtype)


def strided(x: Array) -> Array:
    """The same numbers where the general loops take them."""
    return np.repeat(x, 2, axis=1)[:, ::2]


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("n", range(SHORTEST, LONGEST + 1))
def test_rows_become_columns_in_steps_of_two_vectors(n: int, lanes: int) -> None:
    found = stages(n, lanes)
    assert found[0] == [[divmod(lanes * v + lane, n) for lane in range(lanes)] for v in range(n)]
    assert found[-1] == [[(row, column) for row in range(lanes)] for column in range(n)]
    for pair in itertools.pairwise(found):
        for have, want in (pair, pair[::-1]):
            where = {place: k for k, vector in enumerate(have) for place in vector}
            assert all(len({where[place] for place in vector}) <= 2 for vector in want)


def check(function: Callable[..., Any], x: Array, *others: Array) -> None:
    expected = function(strided(x), *others)
    for threads in (1, 2):
        with fa.threads(threads):
            assert same_bits(function(x, *others), expected)
    shifted = np.empty(x.size + 1, x.dtype)[1:].reshape(x.shape)  # no row of it may begin a cache line
    shifted[...] = x
    assert same_bits(function(shifted, *others), expected)
    assert same_bits(function(x[:77], *(other[:77] for other in others)), _first(expected, 77))


def _first(results: Any, count: int) -> Any:
    return tuple(r[:count] for r in results) if isinstance(results, tuple) else results[:count]


@pytest.mark.parametrize("n", [2, 3, 4, 6, 7, 10, 16, 17, 24, 31])
def test_softmax(n: int) -> None:
    check(fa.softmax, rows(n))


@pytest.mark.parametrize("n", [2, 3, 10, 32])
@pytest.mark.parametrize("name", ["log_softmax", "logsumexp", "logmeanexp"])
def test_logarithms(name: str, n: int) -> None:
    check(getattr(fa, name), rows(n))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("name", ["softmax", "logsumexp"])
def test_other_dtypes(name: str, dtype: str) -> None:
    check(getattr(fa, name), rows(5, dtype))


def test_several_operands() -> None:
    x = rows(10)
    classes = np.arange(len(x)) % 10
    check(fa.cross_entropy_with_logits, x, classes)
    check(fa.softmax_vjp, x, fa.softmax(x))
    check(lambda a: fa.softmax(a, temperature=2.5, where=np.isfinite(x[: len(a)])), x)


def test_operands_that_do_not_follow_on_each_other() -> None:
    """Only the first one does, or all but the output."""
    x = rows(10)
    g, y = np.broadcast_to(x[:1], x.shape), fa.softmax(x)
    assert same_bits(fa.softmax_vjp(x, strided(y)), fa.softmax_vjp(x, y))
    assert same_bits(fa.softmax_vjp(x, g), fa.softmax_vjp(x, g.copy()))
    out = np.zeros((len(x), 13), np.float32)
    fa.softmax(x, out=out[:, 1:11])
    assert same_bits(out[:, 1:11], y)
    assert not out[:, [0, 11, 12]].any()
    again = x.copy()
    assert same_bits(fa.softmax(again, out=again), y)


@pytest.mark.parametrize("n", [2, 10])
def test_rows_that_wait_for_a_second_attempt(n: int) -> None:
    """A few among very many, the first and the last among them, or hardly any; results that lie apart."""
    x = np.random.default_rng(n).normal(size=(6000, n)).astype(np.float32) + 9
    for few in (slice(0, None, 97), slice(5999, None), slice(0, 1), slice(3000, 3050)):
        x[few] = np.log(np.float32(1 / n)) + x[few] * 1e-6
        check(fa.logsumexp, x)
        out = np.zeros(2 * len(x), np.float32)
        fa.logsumexp(x, out=out[::2])
        assert same_bits(out[::2], fa.logsumexp(strided(x)))
        assert not out[1::2].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_few_very_short_rows_that_lie_apart(n: int, dtype: str) -> None:
    """They are less than what is moved at a time, and staged in memory of the stack, which nothing may go beyond."""
    calls: list[Callable[..., Any]] = [getattr(fa, name) for name in ROWS if not name.endswith("vjp")]
    calls += [lambda x: fa.sparsemax_vjp(x, x), lambda x: fa.log_softmax_vjp(x, x), lambda x: fa.softmax_vjp(x, x)]
    calls += [lambda x: fa.log_softmax(x, temperature=2.0), lambda x: fa.softmax(x, where=x > 0)]
    calls += [lambda x: fa.cross_entropy_with_logits(x, np.zeros(len(x), int))]
    for count in (3, 48, 511):
        x = rows(n, dtype, count)[:count]
        for call in calls:
            assert same_bits(call(np.pad(x, [(0, 0), (0, 2)])[:, :n]), call(x))
