"""Rows give the same bits however they lie in memory: along, across, strided, in blocks, streamed, in threads."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import fastact as fa

from .functions import same_bits

LENGTHS = (1, 2, 3, 4, 5, 15, 16, 17, 47, 48, 49, 63, 64, 65, 127, 1023, 1024, 1025, 2049, 16384, 16385, 40000)


def rows(n: int, dtype: Any) -> np.ndarray[Any, Any]:
    x = np.random.default_rng(n).normal(size=(37, n)) * 6
    x[3, n // 2] = -np.inf
    x[4] = x[4, 0]
    x[5] += 1e4
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("n", LENGTHS)
def test_any_layout(n: int, dtype: Any) -> None:
    x = rows(n, dtype)
    for name in ("softmax", "log_softmax", "logsumexp"):
        function = getattr(fa, name)
        found = function(x)
        assert same_bits(np.stack([function(row) for row in x]), found)
        assert same_bits(function(np.ascontiguousarray(x.T), axis=0).T, found)
        assert same_bits(function(x[::-1, ::-1][::-1, ::-1]), found)
        wide = np.zeros((37, 2 * n), dtype)
        wide[:, ::2] = x
        assert same_bits(function(wide[:, ::2]), found)
        if name == "logsumexp":
            continue
        across = np.empty((n, 41), dtype).T[:37]
        assert same_bits(function(x, out=across), found)


@pytest.mark.parametrize("n", [2, 10, 200, 3000])
def test_gradients_in_any_layout(n: int) -> None:
    x, g = rows(n, np.float32), rows(n, np.float32)[::-1].copy()
    g[~np.isfinite(g)] = 0
    for forward, vjp in ((fa.softmax, fa.softmax_vjp), (fa.log_softmax, fa.log_softmax_vjp)):
        y = forward(x)
        found = vjp(g, y)
        assert same_bits(np.stack([vjp(a, b) for a, b in zip(g, y, strict=True)]), found)
        assert same_bits(vjp(np.ascontiguousarray(g.T), np.ascontiguousarray(y.T), axis=0).T, found)


def test_results_that_are_written_past_the_caches() -> None:
    x = np.random.default_rng(1).normal(size=(9, 1_000_003)).astype(np.float32)
    for function in (fa.softmax, fa.log_softmax):
        found = function(x)
        for k in (0, 4, 8):
            assert same_bits(function(x[k]), found[k])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("count", "n"), [(40_000, 130), (9_000, 600), (5_000, 1024), (2_000, 2500)])
def test_many_rows_are_as_few(count: int, n: int, dtype: Any) -> None:
    """How many are taken together, in which order passes over them are made and where terms are kept depends on it."""
    x = np.resize(np.random.default_rng(5).normal(size=70_001) * 3, (count, n)).astype(dtype)
    out = np.empty_like(x)
    for function, given in ((fa.softmax, [x]), (fa.log_softmax, [x]), (fa.softmax_vjp, [x[::-1], x])):
        for threads in (1, 2):
            with fa.threads(threads):
                function(*given, out=out)
            for few in (slice(30), slice(count // 2, count // 2 + 30), slice(-30, None)):
                assert same_bits(out[few], function(*(a[few] for a in given)))
    y = x.copy()
    assert same_bits(fa.softmax(y, out=y), fa.softmax(x))


def large_results() -> str:
    """A digest of some."""
    digest = hashlib.sha256()
    for shape in ((60, 50_257), (2_500, 1_000)):
        digest.update(fa.softmax(np.resize(np.random.default_rng(6).normal(size=10_007), shape).astype(np.float32)))
    return digest.hexdigest()


def test_large_results_on_other_x86() -> None:
    """AMD's Zen goes through the caches where others go past them: this machine as if it were of the other kind."""
    features = llvm.get_host_cpu_features()
    if "clzero" not in features:
        pytest.skip("not x86")
    features["clzero"] = not features["clzero"]
    environment = {"NUMBA_CPU_NAME": llvm.get_host_cpu_name(), "NUMBA_CPU_FEATURES": features.flatten()}
    other = subprocess.run(
        [sys.executable, "-c", "from tests.test_rows import large_results; print(large_results())"],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == large_results()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 100, 1000, 5000])
def test_equal_entries_get_equal_shares(n: int, dtype: Any) -> None:
    for value in (0.0, 3.3, -71.7, 1e5, 1e30):
        assert same_bits(fa.softmax(np.full(n, value, dtype)), np.full(n, dtype(1) / dtype(n)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [64, 65, 100, 1000])
def test_losses_along_another_axis_that_need_a_second_attempt(n: int, dtype: str) -> None:
    """All classes alike, or one far ahead: what is behind the last class in a panel counts for nothing."""
    for base in (-1, -50, -200, 3):
        x, targets = np.full((n, 64), base, dtype), np.zeros(64, int)
        for _ in range(2):
            loss, gradient = fa.cross_entropy_with_logits_with_gradient(x, targets, axis=0)
            rows = np.ascontiguousarray(x.T)
            expected = fa.cross_entropy_with_logits_with_gradient(rows, targets)
            assert same_bits((loss, np.ascontiguousarray(gradient.T)), expected)
            assert same_bits(loss, fa.cross_entropy_with_logits(rows, targets))
            x[3], targets[:] = base + 40, 3


def test_very_many_small_terms_are_added_up_again() -> None:
    """They are as small as the low part of the sum, whose rounding errors would show: 1.04 ULP at the largest entry."""
    n, small = 65536, np.float32(-13.25)
    x = np.append(np.full(n - 1, small), np.float32(0))
    share = 1 / (1 + (n - 1) * np.exp(np.float64(small)))
    found = {
        "softmax": fa.softmax(x),
        "of two rows": fa.softmax(np.stack([x, x]))[1],
        "softmin": fa.softmin(-x),
        "logsumexp_vjp": fa.logsumexp_vjp(x, np.float32(1)),
        "with a temperature": fa.softmax(2 * x, temperature=2),
    }
    for name, y in found.items():
        assert abs(float(y[-1]) - share) < 0.6 * np.spacing(np.float32(share)), name
