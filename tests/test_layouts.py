"""Arrays of any layout: the bits are those of contiguous arrays, the layout of the result is NumPy's."""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastact as fa

from .functions import same_bits

Array = np.ndarray[Any, Any]

DTYPES = [np.float16, np.float32, np.float64]
SETTINGS = settings(max_examples=150, deadline=None)
VALUES = np.random.default_rng(3).normal(0, 3, 1 << 15)


def filled(shape: tuple[int, ...], dtype: Any) -> Array:
    return np.resize(VALUES, math.prod(shape)).astype(dtype).reshape(shape)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, ...]:
    """Up to five axes, most of them short, one perhaps long, at most some thousand elements."""
    sides = draw(st.lists(st.sampled_from([1, 2, 3, 4, 5, 8, 9, 16, 17, 31, 33, 64, 100]), min_size=1, max_size=5))
    while math.prod(sides) > 20_000:
        sides[sides.index(max(sides))] = 2
    return tuple(sides)


@st.composite
def views(draw: st.DrawFn, shape: tuple[int, ...], dtype: Any, broadcast: bool = True) -> Array:
    """An array of that shape whose axes lie in any order in memory, backwards or with gaps, or are one value each."""
    axes = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 2, 3, 5, -1, -2])) for _ in shape]
    gaps = [draw(st.sampled_from([0, 0, 1, 7])) for _ in shape]
    single = [broadcast and draw(st.sampled_from([False] * 5 + [True])) for _ in shape]
    reach = [1 if one else n * abs(step) + gap for n, step, gap, one in zip(shape, steps, gaps, single, strict=True)]
    array = filled(tuple(reach[k] for k in axes), dtype).transpose(np.argsort(axes))
    for k, (side, step, one) in enumerate(zip(shape, steps, single, strict=True)):
        if not one:
            taken = slice(None, None, step) if step > 0 else slice(side * -step - 1, None, step)
            array = array[(slice(None),) * k + (taken,)]
            array = array[(slice(None),) * k + (slice(side),)]
    return np.broadcast_to(array, shape)


def same_layout(a: Array, b: Array) -> bool:
    """Whether strides agree where they mean something."""
    return a.shape == b.shape and all(s == t for s, t, n in zip(a.strides, b.strides, a.shape, strict=True) if n > 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_array(dtype: Any) -> None:
    @SETTINGS
    @given(st.data())
    def check(data: st.DataObject) -> None:
        shape = data.draw(shapes())
        x = data.draw(views(shape, dtype))
        expected = fa.silu(x.copy(order="C"))
        result = fa.silu(x)
        assert same_bits(result, expected)
        assert same_layout(result, fa.silu(x, where=True))
        assert result.flags.owndata
        out = data.draw(views(shape, dtype, broadcast=False))
        out.flags.writeable = True
        assert fa.silu(x, out=out) is out
        assert same_bits(out, expected)

    check()


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_arrays(dtype: Any) -> None:
    @SETTINGS
    @given(st.data())
    def check(data: st.DataObject) -> None:
        shape = data.draw(shapes())
        g, x = (data.draw(views(shape, dtype)) for _ in range(2))
        expected = fa.gelu_vjp(g.copy(order="C"), x.copy(order="C"))
        result = fa.gelu_vjp(g, x)
        assert same_bits(result, expected)
        assert same_layout(result, fa.gelu_vjp(g, x, where=True))

    check()


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_of_different_shapes(dtype: Any) -> None:
    """Numbers of axes may differ, and axes of length one."""

    @SETTINGS
    @given(st.data())
    def check(data: st.DataObject) -> None:
        shape = data.draw(shapes())
        parts = []
        for _ in range(2):
            own = tuple(data.draw(st.sampled_from([side, side, 1])) for side in shape)
            own = own[data.draw(st.integers(0, len(own))) :]
            parts.append(data.draw(views(own, dtype)) if own else np.asarray(dtype(0.25)))
        for function in (fa.silu_vjp, fa.prelu):
            result, numpys = function(*parts), function(*parts, where=True)
            assert np.shape(result) == np.shape(numpys)
            assert same_bits(np.asarray(result), np.asarray(numpys))
            assert same_layout(np.asarray(result), np.asarray(numpys))

    check()


LARGE: dict[str, Any] = {
    "transposed": lambda make: make(700, 1100).T,
    "transposed, a gap": lambda make: make(700, 1111).T[:1100],
    "transposed, backwards": lambda make: make(700, 1100)[::-1].T[::-1],
    "every second of a transpose": lambda make: make(700, 1100)[:, ::2].T,
    "three columns": lambda make: make(200_001, 3).T,
    "of three columns": lambda make: make(3, 200_001).T,
    "a narrow gap": lambda make: make(9000, 51)[:, :-1],
    "short rows": lambda make: make(90_000, 9)[:, 1:8],
    "long rows": lambda make: make(40, 20_000)[:, 3:-1],
    "rows of many threads": lambda make: make(2, 400_001)[:, :-1],
    "upside down": lambda make: make(700, 1100)[::-1],
    "mirrored": lambda make: make(700, 1100)[:, ::-1],
    "mirrored, long": lambda make: make(70, 11_000)[:, ::-1],
    "one row": lambda make: np.broadcast_to(make(1, 1100), (700, 1100)),
    "one short row": lambda make: np.broadcast_to(make(1, 101), (7000, 101)),
    "one row for each of several": lambda make: np.broadcast_to(make(5, 1, 300), (5, 450, 300)),
    "one mirrored row": lambda make: np.broadcast_to(make(1, 256)[:, ::-1], (2800, 256)),
    "one column": lambda make: np.broadcast_to(make(700, 1), (700, 1100)),
    "a long column": lambda make: np.broadcast_to(make(70_001, 1), (70_001, 9)),
    "one long column": lambda make: np.broadcast_to(make(3, 1), (3, 300_000)),
    "channels last": lambda make: make(4, 32, 5000).transpose(0, 2, 1),
    "three axes turned": lambda make: make(90, 80, 100).transpose(2, 0, 1),
    "an image without its border": lambda make: make(50, 130, 130)[:, 1:-1, 1:-1],
    "every second of every second": lambda make: make(1400, 1100)[::2, ::2],
    "every second, long": lambda make: make(70, 22_001)[:, 1::2],
    "every second, one axis": lambda make: make(600_001)[::2],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LARGE)
def test_large_arrays_and_threads(layout: str, dtype: Any) -> None:
    x = LARGE[layout](lambda *shape: filled(shape, dtype))
    plain = np.ascontiguousarray(x)
    with fa.threads(1):
        expected, both = fa.silu(plain), fa.silu_vjp(plain, plain)
    for n in (1, 3):
        with fa.threads(n):
            out = np.empty(x.shape, dtype)
            assert same_bits(fa.silu(x), expected)
            assert same_bits(fa.silu(x, out=out), expected)
            assert same_bits(fa.silu_vjp(x, plain), both)
            assert same_bits(fa.silu_vjp(plain, x, out=out), both)
            assert same_bits(fa.silu_vjp(x, x), both)
            assert same_bits(fa.silu(plain, out=np.empty(x.shape[::-1], dtype).T), expected)
            assert same_bits(fa.leaky_relu(x, 0.2), fa.leaky_relu(plain, 0.2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_second_element(dtype: Any) -> None:
    """Of runs of any length, to wherever the result begins, with one result or two."""
    memory, room = filled((2500,), dtype), np.full(1300, 9, dtype)
    for n in (511, 512, 513, 575, 576, 577, 640, 1021, 1249):
        x = memory[1 : 2 * n : 2]
        expected, both = fa.silu(x.copy()), fa.silu_with_derivative(x.copy())
        for start in (0, 1, 16, 31):
            room[...] = 9
            assert same_bits(fa.silu(x, out=room[start : start + n]), expected)
            assert (room[:start] == 9).all()
            assert (room[start + n :] == 9).all()
        assert all(map(same_bits, fa.silu_with_derivative(x), both))
        assert same_bits(fa.prelu(x, x), fa.prelu(x.copy(), x.copy()))
        assert same_bits(fa.leaky_relu(x, 0.3), fa.leaky_relu(x.copy(), 0.3))


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect is called as on Linux")
def test_nothing_beyond_the_input_is_read() -> None:
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 4 * page)
    whole = np.frombuffer(memory, np.uint8)
    system = ctypes.CDLL(None, use_errno=True)
    last = ctypes.c_void_p(whole.ctypes.data + 3 * page)
    assert system.mprotect(last, ctypes.c_size_t(page), 0) == 0
    try:
        for dtype in DTYPES:
            x = whole[: 3 * page].view(dtype)
            for view in (x[1::2], x[2::3], x[3::4], x[::-1], x.reshape(64, -1).T, x.reshape(-1, 32).T, x[-999:]):
                out = np.empty(view.shape, dtype)
                assert same_bits(fa.silu(view, out=out), fa.silu(view.copy()))
    finally:
        system.mprotect(last, ctypes.c_size_t(page), mmap.PROT_READ | mmap.PROT_WRITE)


@pytest.mark.parametrize(
    ("slopes", "shape"), [((16, 1, 1), (5, 16, 20, 30)), ((16,), (5, 30, 16)), ((7, 1), (7, 3000))]
)
def test_a_slope_for_each_channel(slopes: tuple[int, ...], shape: tuple[int, ...]) -> None:
    x, a = filled(shape, np.float32), filled(slopes, np.float32)
    expected = fa.prelu(x, np.broadcast_to(a, shape).copy())
    assert same_bits(fa.prelu(x, a), expected)
    assert same_bits(fa.prelu(np.asfortranarray(x), a), expected)


def test_an_output_that_overlaps_an_input() -> None:
    """As if the input had been copied; over itself, exactly, nothing need be."""
    memory = filled((40, 90), np.float32)
    for target, source in (
        (lambda m: m[:, :50], lambda m: m[:, 30:80]),
        (lambda m: m[:, 30:80], lambda m: m[:, :50]),
        (lambda m: m[1:], lambda m: m[:-1]),
        (lambda m: m[::-1], lambda m: m),
        (lambda m: m[:, ::2], lambda m: m[:, 1::2]),
        (lambda m: m[:, :40].T, lambda m: m[:, :40]),
        (lambda m: m[:, :40], lambda m: m[:1, :40]),
        (lambda m: m[:, 5:40], lambda m: m[:, 5:40]),
        (lambda m: m[::2, 5:40:3], lambda m: m[::2, 5:40:3]),
    ):
        x = memory.copy()
        expected = np.broadcast_to(fa.silu(source(x).copy()), target(x).shape)
        untouched = memory.copy()
        target(untouched)[...] = expected
        fa.silu(source(x), out=target(x))
        assert same_bits(x, untouched)
        x = memory.copy()
        g = filled(target(x).shape, np.float32)
        expected = fa.silu_vjp(g, np.broadcast_to(source(x).copy(), g.shape).copy())
        fa.silu_vjp(g, source(x), out=target(x))
        assert same_bits(target(x), expected)


def test_nothing_beside_the_output_is_written() -> None:
    for dtype in DTYPES:
        memory = np.full((37, 41, 5), 9, dtype)
        for view in (
            memory[1:-1, 1:-1, :-1],
            memory[:, 2:-1, 2],
            memory[::2, ::-3].transpose(1, 2, 0),
            memory[3, :, ::2],
            memory[:, 1:20].transpose(1, 0, 2)[..., ::-1],
        ):
            memory[...] = 9
            marked = np.zeros(memory.shape, bool)
            strides = tuple(s // memory.itemsize for s in view.strides)
            offset = (view.ctypes.data - memory.ctypes.data) // memory.itemsize
            np.lib.stride_tricks.as_strided(marked.ravel()[offset:], view.shape, strides)[...] = True
            x = filled(view.shape, dtype)
            for given_x in (x, np.asfortranarray(x), x[..., :1]):
                fa.relu(given_x, out=view)
                assert same_bits(view, np.broadcast_to(fa.relu(given_x), view.shape))
                assert (memory[~marked] == 9).all()


def test_an_output_whose_elements_share_memory() -> None:
    x = filled((6, 8), np.float32)
    out = np.lib.stride_tricks.as_strided(np.zeros(13, np.float32), (6, 8), (4, 4))
    fa.relu(x, out=out)
    assert out[5, 7] == fa.relu(x)[5, 7]


def test_read_only() -> None:
    x, out = filled((6, 8), np.float32)[:, ::2], np.zeros((6, 8), np.float32)[:, ::2]
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        fa.relu(x, out=out)
    x.flags.writeable = False
    assert same_bits(fa.relu(x), fa.relu(x.copy()))


def test_many_axes_none_and_no_element() -> None:
    for axes in (31, 32, 33, 64):
        x = filled((2,) * 3 + (1,) * (axes - 6) + (3,) * 3, np.float32).transpose(*range(axes)[::-1])
        assert same_bits(fa.silu(x), fa.silu(x.copy()))
        assert same_bits(fa.silu(x[::-1]), fa.silu(x[::-1].copy()))
    one = np.asarray(np.float32(0.5))
    assert same_bits(fa.silu_vjp(one, filled((3, 4), np.float32)), 0.5 * fa.silu_derivative(filled((3, 4), np.float32)))
    assert type(fa.silu_vjp(one, one)) is np.float32
    assert fa.silu(np.zeros((4, 0, 3), np.float32).T).shape == (3, 0, 4)
    assert fa.silu_vjp(np.zeros((0, 1), np.float32), np.zeros((1, 5), np.float32)).shape == (0, 5)
    with pytest.raises(ValueError, match="broadcast"):
        fa.silu_vjp(filled((3, 4), np.float32), filled((4, 3), np.float32))
    with pytest.raises(ValueError, match="broadcast"):
        fa.silu(filled((3, 4), np.float32), out=np.zeros((4, 3), np.float32))
    out = np.zeros((5, 3, 4), np.float32)
    fa.silu(filled((3, 4), np.float32), out=out)
    assert same_bits(out[4], fa.silu(filled((3, 4), np.float32)))


def test_references_are_neither_lost_nor_kept() -> None:
    x, out = filled((30, 40), np.float32)[:, ::2], np.zeros((20, 30), np.float32).T
    for call in (lambda: fa.relu(x), lambda: fa.relu(x, out=out), lambda: fa.silu_vjp(x, x[:1])):
        call()
        counted = (x, out, x.dtype, np.ndarray)
        before = [sys.getrefcount(thing) for thing in counted]
        for _ in range(1000):
            call()
        after = [sys.getrefcount(thing) for thing in counted]
        assert all(abs(a - b) < 100 for a, b in zip(after, before, strict=True)), (before, after)


def test_results_too_large_for_the_caches() -> None:
    """They are written past them, whole lines and what is left, wherever they begin."""
    n = (9 << 20) + 5
    memory = np.resize(VALUES.astype(np.float32), 2 * n)
    room = np.full(n + 40, 9, np.float32)
    for start in (0, 3, 16):
        out = room[start : start + n]
        for x in (memory[::2], memory[n - 1 :: -1], memory[:n]):
            room[...] = 9
            fa.relu(x, out=out)
            assert np.array_equal(out, np.maximum(x, 0))
            assert (room[:start] == 9).all()
            assert (room[start + n :] == 9).all()
    rows, columns = 3001, 3003
    square = memory[: rows * columns].reshape(columns, rows)
    room = np.full((rows, columns + 9), 9, np.float32)
    for x in (square.T, square.T[::-1], memory[: rows * (columns + 1)].reshape(rows, -1)[:, 1:]):
        for start in (0, 5):
            out = room[:, start : start + columns]
            room[...] = 9
            for n_threads in (1, 3):
                with fa.threads(n_threads):
                    fa.relu(x, out=out)
                assert np.array_equal(out, np.maximum(x, 0))
                assert (room[:, :start] == 9).all()
                assert (room[:, start + columns :] == 9).all()
