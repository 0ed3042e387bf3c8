"""Threads that share one long row: the same bits as one thread alone, in any layout, at any time."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact.kernels.rows import PART

from .functions import same_bits

N = 10 * PART[32] + 4321
LONG = 257 * PART[32] + 1  # more parts than whose totals are kept at a time
INF, NAN = np.inf, np.nan


def rows(count: int, n: int = N, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return (np.random.default_rng(n).normal(size=(count, n)) * 4).astype(dtype)


def distribution(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    q = np.random.default_rng(1).random(shape)
    return (q / q.sum(-1, keepdims=True)).astype(dtype)


CALLS = {
    "softmax": lambda x: fa.softmax(x),
    "log_softmax": lambda x: fa.log_softmax(x),
    "softmin": lambda x: fa.softmin(x),
    "logsumexp": lambda x: fa.logsumexp(x),
    "logmeanexp": lambda x: fa.logmeanexp(x),
    "with a temperature": lambda x: fa.softmax(x, temperature=1.7),
    "with a mask": lambda x: fa.log_softmax(x, where=np.arange(x.shape[-1]) % 3 > 0),
    "softmax_vjp": lambda x: fa.softmax_vjp(x[..., ::-1].copy(), x),
    "log_softmax_vjp": lambda x: fa.log_softmax_vjp(x[..., ::-1].copy(), -abs(x)),
    "logsumexp_vjp": lambda x: fa.logsumexp_vjp(x[..., 5].copy(), x),
    "a class": lambda x: fa.cross_entropy_with_logits(x, np.full(x.shape[:-1], 70_000)),
    "a class, with the gradient": lambda x: fa.cross_entropy_with_logits_with_gradient(
        x, np.full(x.shape[:-1], 70_000)
    ),
    "a distribution": lambda x: fa.cross_entropy_with_logits_with_gradient(x, distribution(x.shape, x.dtype)),
    "hardmax": lambda x: fa.hardmax(x),
    "sparsemax": lambda x: fa.sparsemax(x),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_for_any_number_of_threads(name: str, dtype: Any) -> None:
    for count in (1, 2, 3):
        x = rows(count, dtype=dtype)
        with fa.threads(1):
            alone = CALLS[name](x)
        for threads in (2, 3, 4, 5):
            with fa.threads(threads):
                assert same_bits(CALLS[name](x), alone)


@pytest.mark.parametrize("n", [LONG, 1 << 17, (1 << 17) + 1, 9 * PART[32], 9 * PART[32] + 1])
def test_lengths(n: int) -> None:
    x = rows(1, n)[0]
    for function in (fa.softmax, fa.log_softmax, fa.logsumexp):
        with fa.threads(1):
            alone = function(x)
        with fa.threads(3):
            assert same_bits(function(x), alone)
            assert same_bits(function(np.stack([x, x, x]))[1], alone)


def test_other_layouts() -> None:
    x = rows(3)
    with fa.threads(1):
        expected = fa.softmax(x)
    for threads in (2, 3, 5):
        with fa.threads(threads):
            assert same_bits(fa.softmax(x[:, ::-1])[:, ::-1], fa.softmax(x[:, ::-1].copy())[:, ::-1])
            assert same_bits(fa.softmax(np.repeat(x, 2, axis=1)[:, ::2]), expected)
            assert same_bits(fa.softmax(x.T.copy(), axis=0), expected.T)
            assert same_bits(fa.softmax(x[1:2].T.copy(), axis=0), expected[1:2].T)
            out = np.empty((N, 3), np.float32)
            assert fa.softmax(x, out=out.T) is not None
            assert same_bits(out, expected.T)
            out = np.empty((3, N + 1), np.float32)[:, 1:]
            assert same_bits(fa.softmax(x, out=out), expected)
            here = x.copy()
            assert same_bits(fa.softmax(here, out=here), expected)
            assert same_bits(fa.logsumexp(x, keepdims=True), fa.logsumexp(x)[:, None])


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_sixteen_bits(dtype: Any) -> None:
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    x = rows(1).astype(dtype)
    for function in (fa.softmax, fa.log_softmax, fa.logsumexp):
        with fa.threads(1):
            alone = function(x)
        with fa.threads(3):
            found = function(x)
        assert alone.tobytes() == found.tobytes()


@pytest.mark.parametrize("special", [[NAN], [INF], [-INF], [INF, NAN], [1e5], [3e38, 3e38], [-0.0], [200.0]])
def test_special_rows(special: list[float]) -> None:
    x = rows(1)[0]
    x[np.linspace(3 * PART[32], N - 1, len(special)).astype(int)] = special
    only = np.full(N, -INF, np.float32)
    only[-len(special) :] = special
    for row in (x, only, x - np.float32(1e6)):
        for function in (fa.softmax, fa.log_softmax, fa.logsumexp):
            with fa.threads(1), np.errstate(all="ignore"):
                alone = function(row)
            with fa.threads(3), np.errstate(all="ignore"):
                assert same_bits(function(row), alone)


def test_several_callers() -> None:
    xs = [rows(1, N + 1000 * k) for k in range(4)]
    with fa.threads(1):
        expected = [(fa.softmax(x), fa.logsumexp(x)) for x in xs]

    def work(k: int) -> bool:
        with fa.threads(3):
            return all(same_bits((fa.softmax(xs[k]), fa.logsumexp(xs[k])), expected[k]) for _ in range(5))

    with ThreadPoolExecutor(4) as callers:
        assert all(callers.map(work, [0, 1, 2, 3] * 3))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_after_fork() -> None:
    code = """
        import os, numpy as np, fastact as fa
        x = np.random.default_rng(0).normal(size=(1, 300_000)).astype(np.float32)
        fa.set_num_threads(1)
        expected = fa.softmax(x)
        fa.set_num_threads(3)
        assert np.array_equal(fa.softmax(x), expected)
        child = os.fork()
        if child == 0:
            fine = np.array_equal(fa.softmax(x), expected)
            fa.set_num_threads(2)
            fine = fine and np.array_equal(fa.softmax(x), expected)
            os._exit(0 if fine else 3)
        assert os.waitpid(child, 0)[1] == 0
        assert np.array_equal(fa.softmax(x), expected)
    """
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
