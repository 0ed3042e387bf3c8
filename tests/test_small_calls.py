"""Calls that go past NumPy's machinery do exactly what it does, and leave it what it must do."""

from __future__ import annotations

import sys
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastact as fa

from .functions import same_bits

RNG = np.random.default_rng(11)
DTYPES = [np.float16, np.float32, np.float64]


def values(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return RNG.normal(0, 3, shape).astype(dtype)


def views(dtype: Any) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    for n in (1, 2, 15, 16, 17, 31, 33, 100, 512, 700, 5000):
        yield f"contiguous {n}", values(n, dtype=dtype)
        for step in (2, 3, 4, 5, -1, -2, -3):
            yield f"{n} by {step}", values(n * abs(step), dtype=dtype)[::step]
        yield f"constant {n}", np.broadcast_to(values(1, dtype=dtype), (n,))
    for rows, columns in ((1, 1), (1, 9), (9, 1), (3, 5), (70, 16), (300, 33), (40, 200), (5, 1000)):
        x = values(rows, columns + 3, dtype=dtype)
        yield f"rows {rows, columns}", x[:, :columns]
        yield f"every second of {rows, columns}", values(rows, 2 * columns, dtype=dtype)[:, ::2]
        yield f"transposed {rows, columns}", values(columns, rows, dtype=dtype).T
        yield f"upside down {rows, columns}", x[::-1, :columns]
        yield f"mirrored {rows, columns}", x[:, ::-1]
        yield f"one row {rows, columns}", np.broadcast_to(x[:1], x.shape)
        yield f"one column {rows, columns}", np.broadcast_to(x[:, :1], x.shape)
    yield "three dimensions", values(3, 4, 5, dtype=dtype)
    yield "three, Fortran", np.asfortranarray(values(3, 4, 5, dtype=dtype))
    yield "three, gap", values(3, 4, 6, dtype=dtype)[..., :5]
    yield "three, mixed", values(3, 4, 5, dtype=dtype).transpose(1, 0, 2)
    yield "no dimension", np.asarray(dtype(0.5))
    yield "empty", np.zeros((0, 3), dtype)
    yield "byte-swapped", values(10, dtype=dtype).astype(np.dtype(dtype).newbyteorder())
    misaligned = np.zeros(40 * np.dtype(dtype).itemsize + 1, np.uint8)[1:].view(dtype)
    misaligned[:] = 0.5
    yield "misaligned", misaligned


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_result_is_the_one_numpy_makes(dtype: Any) -> None:
    """`where=True` sends a call through NumPy: bits, dtype, shape and memory layout must agree."""
    for label, x in views(dtype):
        for function in (fa.silu, fa.relu):
            direct, numpys = function(x), function(x, where=True)
            assert type(direct) is type(numpys), label
            assert (direct.dtype, direct.shape) == (numpys.dtype, numpys.shape), label
            assert same_bits(np.asarray(direct), np.asarray(numpys)), label
            # NumPy chooses between equivalent layouts of an axis of length one
            axes = [k for k, length in enumerate(direct.shape) if length > 1]
            assert [direct.strides[k] for k in axes] == [numpys.strides[k] for k in axes], label


@pytest.mark.parametrize("dtype", DTYPES)
def test_into_out(dtype: Any) -> None:
    for label, x in views(dtype):
        expected = np.asarray(fa.silu(x, where=True))
        for make in (
            lambda shape: np.zeros(shape, dtype),
            lambda shape: np.zeros(shape, dtype, order="F"),
            lambda shape: np.zeros((*shape[:-1], 2 * shape[-1]), dtype)[..., ::2] if shape else np.zeros(shape, dtype),
            lambda shape: np.zeros(shape, dtype)[::-1] if shape else np.zeros(shape, dtype),
        ):
            for out in (make(x.shape), None):
                room = make(x.shape) if out is None else out
                result = fa.silu(x, room) if out is None else fa.silu(x, out=out)
                assert result is room, label
                assert same_bits(room, expected), label


def test_two_arrays() -> None:
    everything = [*views(np.float32)]
    for label, g in everything:
        for other, x in everything:
            if g.shape != x.shape or g.ndim == 0:
                continue
            direct, numpys = fa.gelu_vjp(g, x), fa.gelu_vjp(g, x, where=True)
            assert same_bits(direct, numpys), (label, other)
            axes = [k for k, length in enumerate(direct.shape) if length > 1]
            assert [direct.strides[k] for k in axes] == [numpys.strides[k] for k in axes], (label, other)


def test_in_place_and_overlapping() -> None:
    for view in (slice(None), slice(None, None, 2), slice(None, None, -1)):
        x = values(999)
        expected = fa.tanh(x[view].copy())
        assert same_bits(fa.tanh(x[view], out=x[view]), expected)
    for a, b in ((slice(0, 900), slice(50, 950)), (slice(50, 950), slice(0, 900)), (slice(0, 400), slice(0, 800, 2))):
        x = values(999)
        expected = fa.tanh(x[a].copy())
        assert same_bits(fa.tanh(x[a], out=x[b]), expected)
    x = values(30, 30)
    expected = fa.tanh(x.T.copy())
    assert same_bits(fa.tanh(x.T, out=x), expected)


def test_out_that_may_not_be_written() -> None:
    x, out = values(5), np.zeros(5, np.float32)
    out.flags.writeable = False
    for call in (lambda: fa.relu(x, out=out), lambda: fa.relu(x, out)):
        with pytest.raises(ValueError, match="read-only"):
            call()
    assert not out.any()
    with pytest.raises(ValueError, match="broadcast"):
        fa.relu(x, out=np.zeros(4, np.float32))
    with pytest.raises(TypeError):
        fa.relu(x, out=np.zeros(5, np.int32))


class Own(np.ndarray[Any, Any]):
    pass


class Overriding:
    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> str:
        return f"{ufunc.__name__} {method} {sorted(kwargs)}"


def test_what_numpy_must_do() -> None:
    x = values(7)
    assert type(fa.relu(x.view(Own))) is Own
    assert fa.relu(Overriding()) == "relu __call__ []"
    assert fa.relu(x, out=Overriding()) == "relu __call__ ['out']"
    assert fa.relu([1.0, -1.0]).tolist() == [1.0, 0.0]
    assert fa.relu(np.arange(3)).dtype == np.float64
    assert type(fa.relu(1.5)) is np.float64
    assert type(fa.relu(np.float32(1.5))) is np.float32
    assert fa.relu(x, dtype=np.float64).dtype == np.float64
    out = np.full(7, 9, np.float32)
    fa.relu(x, where=np.arange(7) < 3, out=out)
    assert (out[3:] == 9).all()
    assert fa.gelu_vjp(x[:1], x).shape == (7,)
    assert fa.gelu_vjp(x, x.astype(np.float64)).dtype == np.float64
    for wrong in ((), (x, x, x), (x, None, None)):
        with pytest.raises(TypeError):
            fa.relu(*wrong)
    with pytest.raises(TypeError):
        fa.relu(x, axis=0)
    assert same_bits(fa.relu(x, None), fa.relu(x))
    assert same_bits(fa.relu(x, out=(None,)), fa.relu(x))


CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("leaky_relu", (0.2,), {}),
    ("leaky_relu", (), {"negative_slope": 0.2}),
    ("leaky_relu", (-2,), {}),
    ("leaky_relu", (0.01,), {}),
    ("leaky_relu", (float("nan"),), {}),
    ("leaky_relu", (float("-inf"),), {}),
    ("leaky_relu", (1e-50,), {}),
    ("leaky_relu", (True,), {}),
    ("leaky_relu", (np.float32(0.3),), {}),
    ("leaky_relu", (np.float64(0.3),), {}),
    ("hard_sigmoid", (0.25,), {}),
    ("hard_sigmoid", (0.25, 0.4), {}),
    ("hard_sigmoid", (), {"offset": 0.4}),
    ("hard_sigmoid", (), {"offset": 0.4, "slope": 0.1}),
    ("hard_sigmoid", (0.1,), {"offset": 1}),
    ("hard_tanh", (-2, 3), {}),
    ("hard_tanh", (), {"max_val": 0.5}),
    ("prelu", (0.3,), {}),
    ("prelu", (), {"a": 0.3}),
    ("celu", (-0.5,), {}),
    ("swish", (2.5,), {}),
    ("swish_vjp", (2.5,), {}),
    ("elu_derivative", (), {"alpha": 1 << 24}),
    ("elu_derivative", (), {"alpha": (1 << 24) + 1}),
]


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # 2^24 is too large for float16
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "positional", "named"), CALLS)
def test_numbers_for_parameters(name: str, positional: Any, named: Any, dtype: Any) -> None:
    function = getattr(fa, name)
    arrays = 2 if name.endswith("vjp") else 1
    for n in (1, 40, 1000):
        x = [values(n, dtype=dtype)] * arrays
        direct, numpys = function(*x, *positional, **named), function(*x, *positional, **named, where=True)
        assert direct.dtype == numpys.dtype
        assert same_bits(direct, numpys)
        if direct.dtype == dtype:
            out = np.zeros(n, dtype)
            assert function(*x, *positional, **named, out=out) is out
            assert same_bits(out, direct)


def test_numbers_that_cannot_be_parameters() -> None:
    x = values(4)
    for call in (
        lambda: fa.celu(x, 0.0),
        lambda: fa.celu(x, -0.0),
        lambda: fa.celu(x, 0),
        lambda: fa.softplus(x, beta=0.0),
        lambda: fa.celu(x, -1e-300),  # which float32 rounds to 0
        lambda: fa.celu(x[:2], alpha=1e-46),
        lambda: fa.softplus(x.astype(np.float16), 1e-8),
    ):
        with pytest.raises(ValueError, match="must not be 0"):
            call()
    assert fa.celu(x.astype(np.float64), 1e-300).dtype == np.float64
    assert fa.celu(x.astype(np.float16), 6e-8).dtype == np.float16
    for wrong in (
        lambda: fa.leaky_relu(x, 0.1, negative_slope=0.2),
        lambda: fa.leaky_relu(x, slope=0.2),
        lambda: fa.leaky_relu(x, 0.1, 0.2),
        lambda: fa.leaky_relu(negative_slope=0.2),
        lambda: fa.prelu(x),
        lambda: fa.leaky_relu(x, "0.1"),
        lambda: fa.leaky_relu(x, 0.1j),
    ):
        with pytest.raises(TypeError):
            wrong()
    with pytest.warns(RuntimeWarning, match="overflow"):
        assert np.isneginf(fa.leaky_relu(np.float32([-1]), 1e300)).all()
    with pytest.raises(OverflowError):
        fa.leaky_relu(x, 10**400)


def test_references_are_neither_lost_nor_kept() -> None:
    x, out = values(50), np.zeros(50, np.float32)
    calls = [
        lambda: fa.relu(x),
        lambda: fa.relu(x, out),
        lambda: fa.relu(x, out=out),
        lambda: fa.relu(x, where=True),
        lambda: fa.leaky_relu(x, 0.2),
        lambda: fa.leaky_relu(x, negative_slope=7, out=out),
    ]
    counted = (x, out, x.dtype, np.ndarray, "out")
    for call in calls:
        call()
        before = [sys.getrefcount(thing) for thing in counted]
        for _ in range(1000):
            call()
        after = [sys.getrefcount(thing) for thing in counted]
        assert all(abs(a - b) < 100 for a, b in zip(after, before, strict=True)), (before, after)
    tracemalloc.start()
    try:
        for call in calls:
            call()
        first, _ = tracemalloc.get_traced_memory()
        for _ in range(1000):
            for call in calls:
                call()
        last, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert last - first < 10_000


def test_other_threads_run_meanwhile() -> None:
    x, rounds, ticks, stop = values(100_000), 50, [0], threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks[0] += 1

    expected = fa.gelu(x)
    other = threading.Thread(target=tick)
    other.start()
    try:
        for _ in range(rounds):
            assert same_bits(fa.gelu(x), expected)
    finally:
        stop.set()
        other.join()
    assert ticks[0] > 0


def test_no_warning_and_the_state_of_the_caller() -> None:
    x = np.float32([np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-45, 0.0, -0.0])
    with np.errstate(all="raise"):
        for name in ("silu", "gelu", "softplus", "relu", "tanh", "mish"):
            getattr(fa, name)(x)
        fa.leaky_relu(x, 3e38)
        fa.elu(x, 1e-300)
