"""One result for one input, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact.accuracy.bits import IN_PARTS, ROW_CALLS, bit_digest, subjects
from fastact.api import ROWS
from fastact.cpu.threads import pool
from tools.bits import title

from .functions import ELEMENTWISE, SHAPES, arrays, as_cpu, call, outputs, same_bits, sample

X = sample(64)
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_same_input_anywhere(name: str) -> None:
    """Alone, in the middle of many, strided, misaligned, with one thread and with several."""
    count = arrays(name)
    alone = [outputs(call(name, *[X[k : k + 1]] * count)) for k in range(len(X))]
    expected = tuple(np.concatenate(parts) for parts in zip(*alone, strict=True))

    def check(view: np.ndarray[Any, Any], start: int) -> None:
        view[start : start + len(X)] = X
        for threads in (1, 2, 3):
            with fa.threads(threads):
                result = outputs(call(name, *[view] * count))
            assert same_bits(tuple(r[start : start + len(X)] for r in result), expected)

    check(np.ones(len(X), np.float32), 0)
    check(np.full(1_000_000, 0.5, np.float32), 499_999)
    check(np.ones(3 * 200_000, np.float32)[::-3], 100_001)
    check(np.zeros(4 * 200_000 + 1, np.uint8)[1:].view(np.float32), 77_777)


LAYOUTS = {
    "reversed": lambda x: x[::-1].copy()[::-1],
    "every second": lambda x: np.repeat(x, 2)[::2],
    "every third, backwards": lambda x: np.repeat(x[::-1], 3)[::-3],
    "a column": lambda x: np.tile(x[:, None], (1, 5))[:, 3],
    "two dimensions": lambda x: np.asfortranarray(x.reshape(8, -1)),
    "broadcast": lambda x: np.broadcast_to(x[:, None], (len(x), 7)),
    "beside a byte": lambda x: _beside(x, np.int8),
    "between doubles": lambda x: _beside(x, np.float64),
    "between strings": lambda x: _beside(x, "S3"),
}


def _beside(x: np.ndarray[Any, Any], other: Any) -> np.ndarray[Any, Any]:
    """`x` as a field of records, whose other fields are of another dtype: strided, and perhaps misaligned."""
    records = np.zeros(len(x), [("before", other), ("x", x.dtype), ("after", other)])
    records["x"] = x
    return records["x"]


def _numbers(dtype: str) -> np.ndarray[Any, Any]:
    """128 numbers of every magnitude, special ones among them."""
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    with np.errstate(over="ignore"):
        return sample(128, np.float64, seed=5).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", [*SHAPES, "gelu", "softplus_derivative_beta", "mish_with_derivative"])
def test_every_length_offset_and_layout(name: str, dtype: str) -> None:
    x, count = _numbers(dtype), arrays(name)
    alone = [outputs(call(name, *[x[k : k + 1]] * count)) for k in range(len(x))]
    expected = tuple(np.concatenate(parts) for parts in zip(*alone, strict=True))
    for length in range(len(x) + 1):
        start = len(x) - length
        found = outputs(call(name, *[x[start:]] * count))
        assert same_bits(found, tuple(e[start:] for e in expected)), length
    memory = np.zeros(len(x) * x.itemsize + 64, np.uint8)
    for offset in range(64):
        moved = memory[offset : offset + len(x) * x.itemsize].view(x.dtype)
        moved[:] = x
        assert same_bits(call(name, *[moved] * count), expected), offset
    for layout, arrange in LAYOUTS.items():
        laid = arrange(x)
        shaped = tuple(np.broadcast_to(arrange(e), laid.shape) for e in expected)
        assert same_bits(call(name, *[laid] * count), shaped), layout
        results = tuple(np.ones(laid.shape, e.dtype) for e in expected)
        strided = tuple(np.repeat(r[..., None], 2, -1)[..., 0] for r in results)
        call(name, *[laid] * count, out=strided if len(strided) > 1 else strided[0])
        assert same_bits(strided, shaped), layout


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ["relu", "gelu_vjp", "silu_with_derivative", "leaky_relu"])
def test_results_past_the_caches(name: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large results are stored by a loop of its own, which starts at a cache line of every output, or not at all."""
    count, n = arrays(name), 300_001
    x = sample(n, dtype)
    expected = outputs(call(name, *[x] * count))
    monkeypatch.setattr(pool, "stream_bytes", 1)
    for places in ([0], [1], [37], [0, 0], [5, 5], [0, 1]):
        if len(places) != len(expected):
            continue
        memory = [np.zeros(n + 2 * 64, dtype) for _ in places]
        start = [(-m.ctypes.data % 64) // m.itemsize + place for m, place in zip(memory, places, strict=True)]
        for number in (1, 2):
            found = [m[s : s + n] for m, s in zip(memory, start, strict=True)]
            with fa.threads(number):
                call(name, *[x] * count, out=found[0] if len(found) == 1 else tuple(found))
            assert same_bits(tuple(found), expected), (places, number)
            for m, s in zip(memory, start, strict=True):
                assert not m[:s].any()
                assert not m[s + n :].any()
                m.fill(0)


CHEAPER = [(r.name, r) for r in fa.CATALOGUE.values() if r.at_defaults is not None]
CHEAPER += [(f"{r.name}_derivative", r) for r in fa.CATALOGUE.values() if r.derivative_at_defaults is not None]
CHEAPER += [(f"{r.name}_derivative_{p}", r) for r in fa.CATALOGUE.values() for p in r.parameter_derivatives_at_defaults]


@pytest.mark.parametrize(("name", "record"), CHEAPER, ids=[name for name, _ in CHEAPER])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_kernel_for_the_defaults_gives_the_same_bits(name: str, record: Any, dtype: Any) -> None:
    patterns = np.random.default_rng(3).integers(0, 1 << 32, 2_000_000, dtype=np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):  # signalling NaNs are quieted
        x = np.concatenate([patterns, np.linspace(-20, 20, 1_000_000)]).astype(dtype)
    function = getattr(fa, name)
    defaults = [np.dtype(dtype).type(p.default) for p in record.parameters]
    assert same_bits(function(x), function.ufunc(x, *defaults))


@pytest.mark.parametrize("function", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("n", [1, 2, 10, 31, 32, 33, 1000])
def test_a_row_alone_or_in_a_batch(function: str, n: int) -> None:
    x = np.random.default_rng(n).normal(size=(300, n)).astype(np.float32) * 5
    ufunc = getattr(fa, function)
    batch = ufunc(x)
    assert same_bits(batch, np.stack([ufunc(row) for row in x]))
    by_column = ufunc(np.asfortranarray(x))
    assert same_bits(by_column, batch)
    across = ufunc(x.T, axis=0)
    assert same_bits(across.T, batch)
    out = np.empty((300, 2 * n), np.float32)[:, ::2]
    if ufunc.signature == "(n)->(n)":
        assert same_bits(ufunc(x, out=out), batch)
        copy = x.copy()
        assert same_bits(ufunc(copy, out=copy), batch)


def bits(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What ``tools/bits.py --check`` says about a machine with this environment."""
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "bits.py"), "--check", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _but(turn: int, of: int) -> str:
    """Functions along an axis, which take long to compile: all but one of so many in turn."""
    left_out = [name for k, name in enumerate((*ROWS, *ROW_CALLS)) if k % of != turn]
    return ",".join([*left_out, *(name + IN_PARTS for name in left_out)])


@pytest.mark.parametrize(
    ("dtype", "left_out"), [("float32", ""), ("float64", ""), ("float16", _but(0, 2)), ("bfloat16", _but(1, 2))]
)
def test_the_bits_are_those_of_every_other_machine(dtype: str, left_out: str) -> None:
    """Against the digests in the repository; they were made on another machine, or with another version.

    16-bit rows are computed by what computes those of float32, so of their functions each dtype does every second.
    """
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    stored = json.loads((ROOT / "tests" / "bits.json").read_text("utf-8"))[dtype]
    assert list(stored) == [title(name, parameters) for name, parameters in subjects()]
    done = bits("--dtype", dtype, "--except", left_out)
    assert done.returncode == 0, (
        f"other results than stored; if that was meant, run python tools/bits.py\n{done.stderr}"
    )


@pytest.mark.parametrize(("level", "dtype", "turn"), [("SSE2 and FMA", "float32", 0), ("AVX2", "float64", 1)])
def test_narrower_vectors(level: str, dtype: str, turn: int) -> None:
    """A dtype each, and of the functions along an axis every third, because everything is compiled anew.

    ``tools/bits.py --check`` does all of them for all dtypes.
    """
    done = bits("--dtype", dtype, "--except", _but(turn, 3), **as_cpu(level))
    assert done.returncode == 0, done.stderr


def test_a_digest_knows_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    before = bit_digest("relu", (), "float32")
    assert before == bit_digest("relu", (), "float32")

    def nearly(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        y = np.maximum(x, np.float32(0)) + np.float32(0)
        y[0] = np.nextafter(y[0], np.float32(1))
        return y

    monkeypatch.setattr(fa, "relu", nearly, raising=False)
    assert bit_digest("relu", (), "float32") != before
