"""Row functions, their options and losses of `fastact.cuda`, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact import cuda
from fastact.api import LOSSES as LOSS_NAMES
from fastact.cuda.rows import row_functions

from .cuda_host import DTYPES, Array, HostDriver, Huge, needs_compiler
from .functions import sample


def row_operands(name: str, shape: tuple[int, ...], dtype: Any) -> list[np.ndarray[Any, Any]]:
    """Operands of a row function, along the last axis."""
    function = row_functions()[name]
    rng = np.random.default_rng(1)
    x = (rng.normal(size=shape) * 3).astype(dtype)
    if name.endswith("_vjp") and len(function.rows) == 2:
        return [rng.normal(size=shape).astype(dtype), np.asarray(getattr(fa, name.removesuffix("_vjp"))(x))]
    return [x, *(rng.normal(size=shape[:-1]).astype(dtype) for _ in function.values)]


def close(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any], ulps: int) -> bool:
    """Whether results are within some units in the last place of each other."""
    integer = {2: np.int16, 4: np.int32, 8: np.int64}[want.dtype.itemsize]
    a, b = (np.ascontiguousarray(v).view(integer).astype(object) for v in (got, want))
    equal = (got == want) | (got != got) & (want != want)
    return bool(np.all(equal | (np.abs(a - b) <= ulps)))


ROW_CASES = [(name, "float32") for name in row_functions()]
ROW_CASES += [(name, "bfloat16") for name in ("softmax", "logsumexp", "entmax15", "softmax_vjp")]
ROW_CASES += [("softmax", "float16"), ("logsumexp_vjp", "float64"), ("sparsemax", "float64")]


@needs_compiler
@pytest.mark.parametrize(("name", "dtype"), ROW_CASES)
def test_rows(gpu: HostDriver, name: str, dtype: str) -> None:
    """A warp a row, with and without 16-byte reads."""
    for n in (128, 77) if dtype == "float32" else (120,):
        xs = row_operands(name, (7, n), DTYPES[dtype])
        got = getattr(cuda, name)(*(Array(x) for x in xs))
        want = np.asarray(getattr(fa, name)(*xs))
        assert got.array.dtype == want.dtype
        assert got.array.shape == want.shape
        assert close(got.array, want, 2)
        again = getattr(cuda, name)(*(Array(x) for x in xs))
        assert got.array.tobytes() == again.array.tobytes()


@needs_compiler
@pytest.mark.parametrize("n", [1, 33, 1024, 1500, 2052, 17000])
@pytest.mark.parametrize("name", ["softmax", "entmax15"])
def test_long_and_short_rows(gpu: HostDriver, name: str, n: int) -> None:
    xs = row_operands(name, (3, n), np.float32)
    got = getattr(cuda, name)(*(Array(x) for x in xs))
    assert close(got.array, np.asarray(getattr(fa, name)(*xs)), 2)


@needs_compiler
def test_row_layouts(gpu: HostDriver) -> None:
    x = sample(4 * 6 * 24).reshape(4, 6, 24)
    for axis in (0, 1, 2, -2):
        with np.errstate(all="ignore"):
            want = fa.softmax(x, axis=axis)
        assert close(cuda.softmax(Array(x), axis=axis).array, want, 2)
    assert close(cuda.softmax(Array(x[:, ::2, ::-1])).array, fa.softmax(x[:, ::2, ::-1]), 2)
    out = Array(x.copy())
    assert cuda.softmax(out, out=out) is out
    assert close(out.array, fa.softmax(x), 2)
    g = np.random.default_rng(0).normal(size=24).astype(np.float32)
    y = fa.softmax(x)
    assert close(cuda.softmax_vjp(Array(g), Array(y)).array, fa.softmax_vjp(g, y), 2)


@needs_compiler
def test_special_rows(gpu: HostDriver) -> None:
    inf, nan = np.inf, np.nan
    x = np.float32(
        [[1, 2, -inf, 3], [-inf] * 4, [1, inf, 0, 0], [nan, 1, 2, 3], [9000, -1, 0, 88], [0, -17, -99, -103]]
    )
    for name in ("softmax", "log_softmax", "logsumexp", "softmin", "sparsemax", "entmax15", "hardmax"):
        with np.errstate(all="ignore"):
            want = np.asarray(getattr(fa, name)(x))
        assert close(getattr(cuda, name)(Array(x)).array, want, 2), name


@needs_compiler
def test_rows_at_the_ends_of_the_range(gpu: HostDriver) -> None:
    """Entries that only count because they are many, products that underflow and sums that overflow."""
    n, most = 1024, np.finfo(np.float32).max
    x = np.full((2, n), -105.5, np.float32)
    x[:, 77] = 0
    x[1, ::2] = -np.inf
    assert close(cuda.log_softmax(Array(x)).array, fa.log_softmax(x), 2)
    assert close(cuda.logsumexp(Array(x)).array, np.asarray(fa.logsumexp(x)), 2)
    rng = np.random.default_rng(0)
    y = fa.softmax(rng.normal(size=(5, n)).astype(np.float32))
    g = rng.normal(size=(5, n)).astype(np.float32)
    g[0] = most
    g[1] = most * rng.uniform(0.5, 1, n)
    g[2] *= most / 8
    g[3:], y[3:] = 1.1 * 2.0**-10, 1.3 * 2.0**-126
    g[3, 5], g[4, 5], y[3:, 5] = 1, 2.0**100, 1
    for name in ("softmax_vjp", "log_softmax_vjp", "sparsemax_vjp", "entmax15_vjp"):
        given = g, np.log(y) if name == "log_softmax_vjp" else y
        want = getattr(fa, name)(*given)
        assert not np.isnan(want).any()
        assert close(getattr(cuda, name)(*map(Array, given)).array, want, 2), name


def test_rows_that_are_refused(idle: HostDriver) -> None:
    x = Array(sample(24).reshape(4, 6))
    with pytest.raises(ValueError, match=r"softmax\(\): axis 2 is out of range for an array of 2 dimensions"):
        cuda.softmax(x, axis=2)
    for axis in (1.0, "1", None, (0,)):
        for more in ({}, {"temperature": 2.0}):
            with pytest.raises(TypeError, match=r"softmax\(\): axis must be an integer, not "):
                cuda.softmax(x, axis=axis, **more)
    with pytest.raises(ValueError, match=r"softmax_vjp\(\): axis 1 must be counted from the end .*: g 1, y 2"):
        cuda.softmax_vjp(Array(np.zeros(6, np.float32)), x, axis=1)
    with pytest.raises(ValueError, match=r"softmax\(\): the axis -1 has no element"):
        cuda.softmax(Array(np.zeros((3, 0), np.float32)))
    with pytest.raises(ValueError, match=r"softmax\(\) needs at least one dimension"):
        cuda.softmax(Array(np.zeros((), np.float32)))
    with pytest.raises(TypeError, match="takes 2 arrays but 1 were given"):
        cuda.softmax_vjp(x)
    room = sample(48)
    with pytest.raises(ValueError, match="overlaps"):
        cuda.softmax(Array(room[:24].reshape(4, 6)), out=Array(room[6:30].reshape(4, 6)))
    assert not idle.launches


def test_overlap_of_arrays_with_items_of_other_sizes(idle: HostDriver) -> None:
    """A mask has a byte an entry, class indices have eight: what lies beside the result is no part of it."""
    room, apart = np.zeros(400, np.uint8), "out overlaps input 1 without being the same array"

    def at(start: int, shape: tuple[int, ...], dtype: Any) -> Array:
        end = start + int(np.prod(shape)) * np.dtype(dtype).itemsize
        return Array(room[start:end].view(dtype).reshape(shape))

    x, half = Array(sample(24).reshape(4, 6)), Array(np.zeros((24, 6), np.float16))
    cuda.softmax(x, where=at(0, (4, 6), np.bool_), out=at(24, (4, 6), np.float32))
    cuda.softmax(x, where=at(120, (4, 6), np.bool_), out=at(24, (4, 6), np.float32))
    assert len(idle.launches) == 2
    with pytest.raises(ValueError, match=apart):
        cuda.cross_entropy_with_logits(half, at(0, (24,), np.int64), out=at(96, (24,), np.float16))
    with pytest.raises(ValueError, match=apart):  # the same place and shape, other items
        cuda.softmax(half, where=at(0, (24, 6), np.bool_), out=at(0, (24, 6), np.float16))
    assert len(idle.launches) == 2


def test_weights_are_not_overwritten_before_all_rows_have_read_them(idle: HostDriver) -> None:
    x, targets, room = Array(sample(36).reshape(6, 6)), Array(np.arange(6)), np.ones((6, 6), np.float32)
    loss = "cross_entropy_with_logits"
    for weight in (room[0], room[:, 1]):
        with pytest.raises(ValueError, match=rf"{loss}_with_gradient\(\): out\[1\] overlaps weight"):
            cuda.cross_entropy_with_logits_with_gradient(
                x, targets, weight=Array(weight), out=(Array(np.zeros(6, np.float32)), Array(room))
            )
        with pytest.raises(ValueError, match=rf"{loss}\(\): out overlaps weight"):
            cuda.cross_entropy_with_logits(x, targets, weight=Array(weight), out=Array(weight))
    assert not idle.launches
    cuda.cross_entropy_with_logits(x, targets, weight=Array(room[0]), out=Array(room[1]))
    assert len(idle.launches) == 1


def test_results_and_stream_are_those_of_the_first_input(idle: HostDriver) -> None:
    g, y = Array(sample(24).reshape(4, 6), stream=7), Array(sample(24).reshape(4, 6))
    assert isinstance(cuda.softmax_vjp(g, y), Array)
    assert cuda.cross_entropy_with_logits(g, Array(np.arange(4))).array.dtype == np.float32
    assert [launch[1] for launch in idle.launches] == [7, 7]
    for function in (cuda.softmax, cuda.softmax_vjp, *(getattr(cuda, name) for name in LOSS_NAMES)):
        assert "library of the first input" in " ".join((function.__doc__ or "").split())
        assert "last input" not in function.__doc__


def test_row_grid(idle: HostDriver) -> None:
    cuda.softmax(Huge((1000, 512)), out=Huge((1000, 512), pointer=1 << 50))
    cuda.softmax(Huge((1000, 4096)), out=Huge((1000, 4096), pointer=1 << 50))
    assert [launch[2:] for launch in idle.launches] == [(125, 128), (1000, 128)]


def test_rows_too_long_for_their_positions(idle: HostDriver) -> None:
    n = 2**31
    x, out, one = Huge((1, n)), Huge((1, n), pointer=1 << 50), Huge((1,), pointer=1 << 51)
    calls: list[Callable[[], Any]] = [
        lambda: cuda.softmax(x, 2.0, out=out),
        lambda: cuda.hardmax(x, out=out),
        lambda: cuda.logmeanexp(x, out=one),
        lambda: cuda.cross_entropy_with_logits(x, Array(np.zeros(1, np.int64)), out=one),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=rf"rows of float32 may have {n - 1} elements at most, not {n}"):
            call()
    assert not idle.launches
    cuda.softmax(x, out=out)
    assert len(idle.launches) == 1


# --- temperature and masks

X = sample(3 * 5 * 72, seed=3).reshape(3, 5, 72)
SEEN = np.random.default_rng(3).random(X.shape) < 0.6
SEEN[0, 0] = False
OPTIONS: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 0.7},
    "below zero": {"temperature": -2.5},
    "one a row": {"temperature": np.float32([[0.5], [1], [-2]])},
    "mask": {"where": SEEN},
    "mask of columns": {"where": SEEN[1, 1], "axis": 1},
    "causal": {"causal": True},
    "causal, other axis": {"causal": True, "axis": 1, "temperature": 2.0},
    "all": {"where": SEEN, "causal": True, "temperature": 3.0, "axis": 0},
}


def on_gpu(options: dict[str, Any]) -> dict[str, Any]:
    return {name: Array(v) if isinstance(v, np.ndarray) else v for name, v in options.items()}


OPTION_CASES = [(name, options) for name in ("softmax", "log_softmax") for options in OPTIONS]
OPTION_CASES += [("softmin", "temperature"), ("softmin", "one a row"), ("softmin", "causal")]


@needs_compiler
@pytest.mark.parametrize(("name", "options"), OPTION_CASES)
def test_options(gpu: HostDriver, name: str, options: str) -> None:
    x, given = np.clip(X, -50, 50), OPTIONS[options]
    with np.errstate(all="ignore"):
        want = getattr(fa, name)(x, **given)
    assert close(getattr(cuda, name)(Array(x), **on_gpu(given)).array, want, 3)


@needs_compiler
def test_a_mask_of_more_dimensions(gpu: HostDriver) -> None:
    x = np.clip(X[0, 0], -50, 50)
    want = fa.softmax(x, where=SEEN[1], causal=True)
    assert want.shape == (5, 72)
    assert close(cuda.softmax(Array(x), where=Array(SEEN[1]), causal=True).array, want, 3)


@needs_compiler
def test_options_in_bfloat16(gpu: HostDriver) -> None:
    x = np.clip(X, -50, 50).astype(DTYPES["bfloat16"])
    got = cuda.softmax(Array(x), 0.5, where=Array(SEEN), causal=True)
    assert close(got.array, fa.softmax(x, x.dtype.type(0.5), where=SEEN, causal=True), 1)


@needs_compiler
@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.bool_, np.float16, DTYPES["bfloat16"]])
def test_temperatures_of_any_type(gpu: HostDriver, kind: Any) -> None:
    x = X[0].clip(-9, 9)
    for temperature in (kind(1), kind(3)):
        for name in ("softmin", "softmax"):
            want = getattr(fa, name)(x, temperature=float(temperature))
            assert close(getattr(cuda, name)(Array(x), temperature).array, want, 2)


def test_options_that_are_refused(idle: HostDriver) -> None:
    x = Array(X)
    with pytest.raises(ValueError, match=r"softmax\(\): temperature must not be 0"):
        cuda.softmax(x, 0)
    with pytest.raises(TypeError, match=r"softmin\(\): temperature must be a number or an array on the GPU"):
        cuda.softmin(x, np.ones(3))
    for wrong in ("2", np.str_("2"), np.datetime64(2, "s"), np.void(b"2"), 1j, np.complex64(2), None):
        with pytest.raises(TypeError, match=r"softmax\(\): temperature must be a number or an array on the GPU, not "):
            cuda.softmax(x, wrong)
    with pytest.raises(ValueError, match=r"softmax\(\): temperature is an int too large for float32"):
        cuda.softmax(x, 10**400)
    with pytest.raises(TypeError, match=r"softmax\(\): where must be bool, not float32"):
        cuda.softmax(x, where=x)
    with pytest.raises(ValueError, match=r"log_softmax\(\): causal=True needs an x of at least two dimensions"):
        cuda.log_softmax(Array(X[0, 0].copy()), causal=True)
    with pytest.raises(ValueError, match="do not go together"):
        cuda.softmax(x, where=Array(SEEN[:, :4]))
    assert not idle.launches


# --- losses

WEIGHT = np.float32(np.random.default_rng(4).random(72))
TARGETS = np.random.default_rng(5).integers(0, 72, (3, 5))
IGNORED = np.where(TARGETS < 20, -100, TARGETS)
SHARES = np.float32(np.random.default_rng(6).dirichlet(np.ones(72), size=(3, 5)))
LOSSES: dict[str, tuple[Any, dict[str, Any]]] = {
    "classes": (TARGETS, {}),
    "weights": (TARGETS.astype(np.int32), {"weight": WEIGHT}),
    "ignored": (IGNORED, {"ignore_index": -100, "weight": WEIGHT}),
    "smoothing": (IGNORED, {"ignore_index": -100, "label_smoothing": 0.1}),
    "distributions": (SHARES, {}),
    "all": (SHARES, {"label_smoothing": 0.2, "weight": WEIGHT}),
}


@needs_compiler
@pytest.mark.parametrize("case", LOSSES)
@pytest.mark.parametrize("axis", [-1, 1])
def test_losses(gpu: HostDriver, case: str, axis: int) -> None:
    targets, options = LOSSES[case]
    x = np.float32(np.random.default_rng(7).normal(size=(3, 5, 72)) * 3)
    if axis == 1:
        x, targets = np.moveaxis(x, -1, 1), np.moveaxis(targets, -1, 1) if targets.ndim == 3 else targets
    want, slope = fa.cross_entropy_with_logits_with_gradient(x, targets, axis=axis, **options)
    got, gradient = cuda.cross_entropy_with_logits_with_gradient(Array(x), Array(targets), axis, **on_gpu(options))
    assert close(got.array, want, 2)
    # p - q, to within two units of the larger one
    assert gradient.array.shape == x.shape
    assert np.all(np.abs(gradient.array - slope) <= 2.0**-22 * np.maximum(np.abs(slope), 1 / 16))
    alone = cuda.cross_entropy_with_logits(Array(x), Array(targets), axis, **on_gpu(options))
    assert close(alone.array, want, 2)


@needs_compiler
def test_smoothing_too_small_to_take_anything_from_shares(gpu: HostDriver) -> None:
    """1 - 1e-9 is 1 in float32, but a class of share 0 gets its part, and here that is all there is."""
    x, shares = np.float32([[0, -1e10]]), np.float32([[1, 0]])
    want = fa.cross_entropy_with_logits_with_gradient(x, shares, label_smoothing=1e-9)
    got = cuda.cross_entropy_with_logits_with_gradient(Array(x), Array(shares), label_smoothing=1e-9)
    assert want[0] == [5]
    assert all(close(a.array, b, 2) for a, b in zip(got, want, strict=True))


@needs_compiler
def test_targets_out_of_range_give_nan(gpu: HostDriver) -> None:
    targets = TARGETS.copy()
    targets[0, 0], targets[1, 1] = 72, -1
    for smoothing in (0.0, 0.1):
        value, gradient = cuda.cross_entropy_with_logits_with_gradient(
            Array(X.clip(-9, 9)), Array(targets), label_smoothing=smoothing
        )
        wrong = np.zeros((3, 5), bool)
        wrong[0, 0] = wrong[1, 1] = True
        assert np.array_equal(np.isnan(value.array), wrong)
        assert np.array_equal(np.isnan(gradient.array).all(-1), wrong)
        assert np.array_equal(np.isnan(gradient.array).any(-1), wrong)


@needs_compiler
def test_shares_of_smoothed_classes_are_rounded_once(gpu: HostDriver) -> None:
    """To float16, not to float32 first: that is half-way between two float16 here."""
    x, smoothing = np.float16([[0, -1000]]), 0.5 * (1 + 2.0**-11 + 2.0**-40)
    want = fa.cross_entropy_with_logits(x, np.array([0]), label_smoothing=smoothing)
    got = cuda.cross_entropy_with_logits(Array(x), Array(np.array([0])), label_smoothing=smoothing)
    assert got.array == want == np.float16(1000 * (0.25 + 2.0**-12))


@needs_compiler
def test_ignore_index_is_any_integer(gpu: HostDriver) -> None:
    x, targets = X[0].clip(-9, 9), TARGETS[0]
    want = fa.cross_entropy_with_logits(x, targets)
    for index in (2**64 + int(targets[0]), -(2**63) - 1, 2**63, np.int8(-1)):
        assert close(cuda.cross_entropy_with_logits(Array(x), Array(targets), ignore_index=index).array, want, 2)


@needs_compiler
def test_ignored_rows_without_a_number_among_the_logits(gpu: HostDriver) -> None:
    x, targets = np.float32([[np.nan, 1], [np.inf, 1], [-np.inf, -np.inf], [3, 1]]), np.array([-1, -1, -1, 0])
    weight = np.float32([np.inf, 1])
    for smoothing in (0.0, 0.1):
        value, gradient = cuda.cross_entropy_with_logits_with_gradient(
            Array(x), Array(targets), ignore_index=-1, label_smoothing=smoothing, weight=Array(weight)
        )
        assert not value.array[:3].any()
        assert not gradient.array[:3].any()


@needs_compiler
def test_a_loss_in_bfloat16(gpu: HostDriver) -> None:
    x = X.clip(-9, 9).astype(DTYPES["bfloat16"])
    want = fa.cross_entropy_with_logits(x, TARGETS, label_smoothing=0.1)
    assert close(cuda.cross_entropy_with_logits(Array(x), Array(TARGETS), label_smoothing=0.1).array, want, 1)


def test_losses_that_are_refused(idle: HostDriver) -> None:
    x, loss = Array(X), cuda.cross_entropy_with_logits
    with pytest.raises(TypeError, match="targets must be float16, bfloat16, float32, float64, int32 or int64"):
        loss(x, Array(TARGETS.astype(np.uint8)))
    with pytest.raises(ValueError, match=r"targets must have the shape of logits without the class axis, \(3, 5\)"):
        loss(x, Array(TARGETS[0]))
    with pytest.raises(ValueError, match=r"weight must have shape \(72,\)"):
        loss(x, Array(TARGETS), weight=Array(WEIGHT[:-1]))
    with pytest.raises(ValueError, match="label_smoothing must be between 0 and 1"):
        loss(x, Array(TARGETS), label_smoothing=1.5)
    with pytest.raises(ValueError, match="ignore_index goes with class indices"):
        loss(x, Array(SHARES), ignore_index=3)
    with pytest.raises(ValueError, match="at least one class"):
        loss(Array(np.zeros((3, 0), np.float32)), Array(np.zeros(3, np.int64)))
    assert not idle.launches
