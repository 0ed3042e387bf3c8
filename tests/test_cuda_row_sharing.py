"""How threads of `fastact.cuda` share a row, and a warp several rows: no bit of a result depends on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact import cuda
from fastact.cuda import row_templates, row_writer, rows
from fastact.cuda.rows import row_functions
from fastact.kernels.row_sums import inverse

from .cuda_host import Array, HostDriver, needs_compiler
from .test_cuda_rows import close


def test_how_rows_are_shared() -> None:
    """So that each thread has 32 registers of a row, if it is long enough, but 512 threads at most."""
    for name, length, dtype, threads, kept in (
        ("softmax", 1, "float32", 8, 4),
        ("softmax", 256, "float32", 8, 32),
        ("softmax", 257, "float32", 16, 32),
        ("softmax", 20, "bfloat16", 8, 8),
        ("softmax", 256, "bfloat16", 8, 32),
        ("softmax", 256, "float64", 16, 16),
        ("softmax", 16384, "float32", 512, 32),
        ("softmax", 16385, "float32", 512, 0),
        ("softmax_vjp", 256, "float32", 16, 16),
        ("softmax_vjp", 256, "float16", 16, 16),
        ("sparsemax", 256, "float32", 32, 8),  # its threads search for as long as their own row needs
    ):
        assert row_templates.share(row_functions()[name], length, dtype) == row_templates.Share(threads, kept)


@needs_compiler
def test_states_are_joined_without_their_order_where_it_does_not_matter(
    gpu: HostDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bits are those of states that are joined in order; and there are no selects for that."""

    def written(name: str) -> str:
        return rows.source(name, "float32", row_templates.share(row_functions()[name], 1100, "float32"), "a")

    inf, rng = np.inf, np.random.default_rng(3)
    x = (rng.normal(size=(12, 1100)) * 3).astype(np.float32)
    x[1], x[2, ::3], x[3], x[3, 500:], x[4, 7] = -inf, -inf, -0.0, 0.0, inf
    x[5, 9], x[6], x[7, :3], x[8] = np.nan, -80 * rng.random(1100), 1e30, rng.integers(0, 2, 1100) * -60
    names = ("softmax", "log_softmax", "logsumexp")
    found = [getattr(cuda, name)(Array(x)).array for name in names]
    assert all("upper" not in written(name).split("if (w2 != 0)")[0].split('extern "C"')[1] for name in names)
    rows._kernel.cache_clear()
    monkeypatch.setattr(row_writer, "_SYMMETRIC", frozenset())
    for name, before in zip(names, found, strict=True):
        assert "upper" in written(name)
        assert getattr(cuda, name)(Array(x)).array.tobytes() == before.tobytes()


@needs_compiler
@pytest.mark.parametrize("n", [20, 128, 500])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "logmeanexp"])
def test_several_rows_of_a_warp(gpu: HostDriver, name: str, n: int) -> None:
    """A row has the same bits alone and beside others, of which some want a second attempt."""
    rng = np.random.default_rng(n)
    x = (rng.normal(size=(19, n)) * 3).astype(np.float32)
    x[1], x[6, 1:], x[9] = -np.log(n), -60, -18 - rng.random(n)  # the logarithm cancels; small terms; both
    x[9, 3], x[12], x[13], x[14, 2] = 0, -np.inf, np.inf, np.nan
    with np.errstate(all="ignore"):
        want = np.asarray(getattr(fa, name)(x))
    together = getattr(cuda, name)(Array(x)).array
    assert close(together, want, 2)
    for k in range(len(x)):
        alone = getattr(cuda, name)(Array(x[k : k + 1].copy())).array
        assert alone.tobytes() == together[k : k + 1].tobytes(), k
    rows_of_a_warp = 32 // row_templates.share(row_functions()[name], n, "float32").threads
    assert rows_of_a_warp > 1
    assert gpu.launches[0][2:] == (-(-19 // (4 * rows_of_a_warp)), 128)


@needs_compiler
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "softmin"])
def test_usual_rows_are_told_apart(gpu: HostDriver, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Where nothing is huge and no exponential is 0 that is not asked for each entry, and no bit depends on it."""
    inf, rng = np.inf, np.random.default_rng(8)
    x = (rng.normal(size=(24, 72)) * 3).astype(np.float32)
    top = x.max(axis=1)
    x[1, 5], x[2, ::2], x[3], x[4], x[5, 70], x[6, 3] = -inf, -inf, -inf, inf, inf, np.nan
    x[7] += 70000
    x[8] = np.where(rng.random(72) < 0.5, 3e38, -3e38)
    x[9, 1], x[10, 1], x[11, 1], x[12] = top[9] - 104, top[10] - 103.9, top[11] - 104.1, np.nan
    x[13] = 1.5
    x[14] = -x[1]
    written = rows.source(name, "float32", row_templates.share(row_functions()[name], 72, "float32"), "a")
    assert "if (all_usual)" in written
    found = [getattr(cuda, name)(Array(part)).array for part in (x, *(row[None].copy() for row in x))]
    rows._kernel.cache_clear()
    monkeypatch.setattr(row_writer, "SHIFT", object())  # none are
    assert getattr(cuda, name)(Array(x)).array.tobytes() == found[0].tobytes()
    assert b"".join(alone.tobytes() for alone in found[1:]) == found[0].tobytes()
    with np.errstate(all="ignore"):
        assert close(found[0], np.asarray(getattr(fa, name)(x)), 2)


@needs_compiler
def test_second_attempts_of_a_warp(gpu: HostDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads shuffle together, whichever of its rows want the attempt; what it finds is for these."""
    softmax = row_functions()["softmax"]
    again = softmax.passes[2]

    def doubled(total: Any, *rest: Any) -> Any:
        hi, lo, _ = again.result(total, *rest)
        return 2.0 * hi, 2.0 * lo, hi.const(0.0)

    def attempt(least: float) -> Any:
        return replace(again, when=lambda values, known: known[0][4] > least, result=doubled)

    passes = (*softmax.passes[:2], attempt(2.0), attempt(1.0))
    odd = replace(softmax, passes=passes, finish=lambda values, known: inverse(*known[3][:2]))
    monkeypatch.setattr(rows, "kernels", lambda: {"softmax": odd})
    x = np.zeros((9, 20), np.float32)
    x[:, 3] = 1, 0, 2, 0, 0, 3, 3, 2, 0
    want = fa.softmax(x)
    want[[2, 5, 6, 7]] /= 2
    assert close(cuda.softmax(Array(x)).array, want, 2)
