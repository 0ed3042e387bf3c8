"""Softmax and its relatives along any axis: the calls that go past NumPy, and those that do not, agree."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import fastact as fa

from .functions import same_bits

FUNCTIONS = ("softmax", "log_softmax")


def along(name: str, x: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
    """The result by way of rows that lie side by side in memory."""
    rows = np.ascontiguousarray(np.moveaxis(x, axis, -1))
    return np.moveaxis(getattr(fa, name)(rows), -1, axis)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(7,), (1, 5), (40, 33), (3, 1, 5), (5, 17, 70), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_axis(name: str, shape: tuple[int, ...], dtype: Any) -> None:
    x, function = (np.random.default_rng(0).normal(size=shape) * 5).astype(dtype), getattr(fa, name)
    for axis in range(-len(shape), len(shape)):
        expected, out = along(name, x, axis), np.empty_like(x)
        found = function(x, axis=axis)
        assert found.flags.c_contiguous
        assert same_bits(found, expected)
        assert function(x, axis=axis, out=out) is out
        assert same_bits(out, expected)
        assert same_bits(function(x, axis=np.int64(axis)), expected)
        assert same_bits(function(x, out, axis=axis), expected)
        assert same_bits(function(np.asfortranarray(x), axis=axis), expected)
        assert same_bits(function(x[::-1], axis=axis)[::-1], expected if axis % len(shape) else along(name, x, axis))
        both = x.copy()
        assert same_bits(function(both, axis=axis, out=both), expected)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("n", [1, 2, 3, 10, 16, 17, 48, 49, 64, 65, 200, 1025])
def test_columns_that_fill_no_vector(name: str, n: int) -> None:
    x, function = np.random.default_rng(n).normal(size=(n, 1100)).astype(np.float32) * 7, getattr(fa, name)
    expected = along(name, x, 0)
    for columns in (1, 3, 4, 31, 32, 33, 511, 512, 545, 1100):
        assert same_bits(function(np.ascontiguousarray(x[:, :columns]), axis=0), expected[:, :columns])
        assert same_bits(function(x[:, -columns:], axis=0), expected[:, -columns:])


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("shape", "axis"), [((40000, 10), 1), ((300, 1500), 0), ((60, 100, 80), 1), ((3, 200, 700), 1), ((2000, 3, 70), 1)]
)
def test_threads_along_any_axis(name: str, shape: tuple[int, ...], axis: int) -> None:
    x, function = np.random.default_rng(1).normal(size=shape).astype(np.float32), getattr(fa, name)
    expected = along(name, x, axis)
    for threads in (1, 2, 3, 7):
        with fa.threads(threads):
            assert same_bits(function(x, axis=axis), expected)


def test_gradients_along_any_axis() -> None:
    x, g = np.random.default_rng(2).normal(size=(2, 6, 50, 40)).astype(np.float32)
    y = fa.softmax(x, axis=1)
    found = fa.softmax_vjp(g, y, axis=1)
    moved = [np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (g, y)]
    assert same_bits(found, np.moveaxis(fa.softmax_vjp(*moved), -1, 1))


class Other(np.ndarray):  # which NumPy has to deal with
    pass


@pytest.mark.parametrize("name", ["logsumexp", "logmeanexp"])
@pytest.mark.parametrize("shape", [(7,), (1, 5), (40, 33), (3, 1, 5), (2, 3, 4, 5)])
def test_a_number_a_row(name: str, shape: tuple[int, ...]) -> None:
    x, function = np.random.default_rng(0).normal(size=shape).astype(np.float32), getattr(fa, name)
    for axis in range(-len(shape), len(shape)):
        for keepdims in (False, True):
            expected = function(x.view(Other), axis=axis, keepdims=keepdims)
            found = function(x, axis=axis, keepdims=keepdims)
            assert found.shape == expected.shape
            assert same_bits(np.asarray(found), np.asarray(expected))
            if np.ndim(found):
                assert found.flags.c_contiguous
                out = np.empty_like(found)
                assert function(x, axis=axis, keepdims=keepdims, out=out) is out
                assert same_bits(out, found)
    out = np.empty((2, 9), np.float32)
    with pytest.raises(ValueError, match="broadcast"):
        function(np.zeros((3, 5), np.float32), out=out)


@pytest.mark.parametrize("shape", [(7,), (1, 5), (40, 33), (3, 1, 5), (2, 3, 4, 5)])
def test_losses_along_any_axis(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(4)
    x, both = rng.normal(size=shape).astype(np.float32), fa.cross_entropy_with_logits_with_gradient
    for axis in range(-len(shape), len(shape)):
        rows = np.ascontiguousarray(np.moveaxis(x, axis, -1))
        classes, q = rng.integers(0, rows.shape[-1], rows.shape[:-1]), rng.random(shape).astype(np.float32)
        weight = rng.random(rows.shape[-1]).astype(np.float32)
        options: list[dict[str, Any]] = [{}, {"weight": weight}, {"label_smoothing": 0.1, "weight": weight}]
        options += [{"ignore_index": 0}, {"ignore_index": 0, "label_smoothing": 0.1}]
        cases = [(classes, classes, o) for o in options]
        cases += [(q, np.ascontiguousarray(np.moveaxis(q, axis, -1)), o) for o in options[:3]]
        for targets, moved, given in cases:
            value, gradient = both(x, targets, axis=axis, **given)
            wanted, slope = both(rows, moved, **given)
            assert same_bits(np.asarray(value), np.asarray(wanted))
            alone = fa.cross_entropy_with_logits(x, targets, axis=axis, **given)
            assert same_bits(np.asarray(alone), np.asarray(wanted))
            assert gradient.shape == x.shape
            assert same_bits(gradient, np.moveaxis(slope, -1, axis))
            by_numpy = both(x.view(Other), targets, axis=axis, **given)
            assert same_bits(np.asarray(by_numpy[1]), gradient)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_temperatures_along_any_axis(axis: int) -> None:
    x = np.random.default_rng(5).normal(size=(3, 20, 17)).astype(np.float32)
    rows = np.ascontiguousarray(np.moveaxis(x, axis, -1))
    each = np.random.default_rng(6).random(rows.shape[:-1]).astype(np.float32) + 1
    for temperature in (2, 0.5, np.float32(3), each):
        found = fa.softmax(x, temperature=temperature, axis=axis)
        assert same_bits(found, np.moveaxis(fa.softmax(rows, temperature=temperature), -1, axis))
        assert same_bits(found, np.asarray(fa.softmax(x.view(Other), temperature=temperature, axis=axis)))
    out = np.empty_like(each)
    assert same_bits(fa.logsumexp(x, axis=axis, out=out), fa.logsumexp(x, axis=axis))


@pytest.mark.parametrize(("shape", "axis"), [((300, 1500), 0), ((60, 100, 80), 1), ((2000, 3, 70), 1)])
def test_threads_where_rows_become_numbers(shape: tuple[int, ...], axis: int) -> None:
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    classes = np.random.default_rng(2).integers(0, shape[axis], shape[:axis] + shape[axis + 1 :])

    def results() -> list[np.ndarray[Any, Any]]:
        return [fa.logsumexp(x, axis=axis), *fa.cross_entropy_with_logits_with_gradient(x, classes, axis=axis)]

    with fa.threads(1):
        expected = results()
    for threads in (2, 3, 7):
        with fa.threads(threads):
            assert all(map(same_bits, results(), expected))


def test_references_are_given_back() -> None:
    x, classes = np.zeros((5, 3), np.float32), np.zeros(5, np.int64)
    before = [sys.getrefcount(thing) for thing in (x, classes, x.dtype)]
    for _ in range(1000):
        fa.logsumexp(x)
        fa.logsumexp(x, keepdims=True)
        fa.cross_entropy_with_logits_with_gradient(x, classes)
        fa.softmax(x, temperature=2.0)
    after = [sys.getrefcount(thing) for thing in (x, classes, x.dtype)]
    assert all(b <= a + 10 for a, b in zip(before, after, strict=True))


def test_what_numpy_has_to_deal_with() -> None:
    x = np.random.default_rng(3).normal(size=(6, 7)).astype(np.float32)
    expected = along("softmax", x, 0)
    assert same_bits(fa.softmax(x, axes=[(0,), (0,)]), expected)
    assert same_bits(fa.softmax(x.tolist(), axis=0, dtype=np.float32), expected)
    assert same_bits(fa.softmax(x, axis=0, out=(np.empty_like(x),)), expected)
    memory = np.zeros(6 * 7 + 3, np.float32)
    memory[: x.size] = x.ravel()
    over = fa.softmax(memory[: x.size].reshape(x.shape), axis=0, out=memory[3:].reshape(x.shape))
    assert same_bits(over, expected)
    read_only = np.empty_like(x)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        fa.softmax(x, axis=0, out=read_only)
    with pytest.raises(np.exceptions.AxisError):
        fa.softmax(x, axis=2)
    with pytest.raises(np.exceptions.AxisError):
        fa.softmax(x, axis=-3)
    with pytest.raises(ValueError, match="mismatch"):
        fa.softmax(x, axis=0, out=np.empty((7, 6), np.float32))
    assert fa.softmax(np.empty((0, 5), np.float32)).shape == (0, 5)


def test_targets_may_be_integers_of_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x, targets = np.eye(3, 7, dtype=np.float32), np.array([1, 0, 6])
    expected = fa.cross_entropy_with_logits(x, targets)
    for dtype in (ml_dtypes.int4, ml_dtypes.uint4):
        assert same_bits(fa.cross_entropy_with_logits(x, targets.astype(dtype)), expected)
    with pytest.raises(IndexError, match="target -1"):
        fa.cross_entropy_with_logits(x, np.array([1, -1, 0]).astype(ml_dtypes.int4))
