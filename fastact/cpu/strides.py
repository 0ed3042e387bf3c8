"""Elements in memory brought together and taken apart again: rows of bytes, and elements a constant distance apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from .emit import INTP, counted, load_at, repeat, store_at, store_masked
from .lanes import Builder, Target
from .layout import LINE

_SIZES = (4, 8, 2)
# Distances, in elements, that are worth code of their own: beyond, one load an element is as fast as the shuffles.
_NEAR = (1, 2, -1, -2, 3, 4)
_AT_ONCE = 8


Place = tuple[Any, Any]  # the address of the first row, and how many bytes further the next one is


def emit_copy_rows(builder: Builder, to: Place, source: Place, size: Any, rows: Any) -> None:
    """Append code that copies `rows` rows of `size` bytes, at least two; nothing beyond a row is touched."""

    def move(row: Any, at: Any, width: int) -> None:
        target, origin = (builder.add(builder.add(p, builder.mul(row, step)), at) for p, step in (to, source))
        store_at(builder, target, load_at(builder, origin, ir.VectorType(_integer(1), width)))

    _cover(builder, size, rows, 2, lambda row: partial(move, row))


def emit_pack_rows(builder: Builder, to: Any, source: Place, size: Any, rows: Any) -> None:
    """`emit_copy_rows` for all but the last of rows of at least 64 bytes that do not overlap, to lie side by side.

    Most of what is written is whole aligned lines. What is written beyond a row, the next one writes again.
    """
    kind = ir.VectorType(_integer(1), LINE)

    def each(row: Any) -> None:
        start, origin = builder.add(to, builder.mul(row, size)), builder.add(source[0], builder.mul(row, source[1]))

        def line(at: Any) -> None:
            store_at(builder, builder.add(start, at), load_at(builder, builder.add(origin, at), kind))

        line(INTP(0))
        aligned = builder.sub(INTP(LINE), builder.and_(start, INTP(LINE - 1)))
        counted(builder, aligned, size, LINE, line)

    counted(builder, INTP(0), builder.sub(rows, INTP(1)), 1, each)


def emit_fill_rows(builder: Builder, to: Place, source: Place, n: Any, rows: Any, itemsize: Any) -> None:
    """Append code that writes the element at `source`, for each row one, to `n` consecutive places."""

    def begin(size: int, row: Any) -> Callable[[Any, int], None]:
        start, origin = (builder.add(p, builder.mul(row, step)) for p, step in (to, source))
        line = repeat(builder, load_at(builder, origin, _integer(size)), LINE // size)

        def move(at: Any, width: int) -> None:
            first = ir.Constant(ir.VectorType(ir.IntType(32), width // size), list(range(width // size)))
            store_at(builder, builder.add(start, at), builder.shuffle_vector(line, line, first))

        return move

    for size in _SIZES:
        with _when_equal(builder, itemsize, INTP(size)):
            _cover(builder, builder.mul(n, INTP(size)), rows, size, partial(begin, size))


def _cover(
    builder: Builder, size: Any, rows: Any, least: int, begin: Callable[[Any], Callable[[Any, int], None]]
) -> None:
    """Append moves that cover `size` bytes, at least `least`, of each row; the last two of a row may overlap.

    `begin(row)` returns what moves `width` bytes that are `at` bytes from where the row starts.
    """

    def long(row: Any) -> None:
        move, last = begin(row), builder.sub(size, INTP(LINE))
        counted(builder, INTP(0), last, LINE, lambda at: move(at, LINE))
        move(last, LINE)

    def short(width: int, row: Any) -> None:
        move = begin(row)
        move(INTP(0), width)
        move(builder.sub(size, INTP(width)), width)

    def exact(width: int, row: Any) -> None:
        begin(row)(INTP(0), width)

    with builder.if_then(builder.icmp_signed(">=", size, INTP(LINE))):
        counted(builder, INTP(0), rows, 1, long)
    width = LINE // 2
    while width >= least:
        with _when_equal(builder, size, INTP(width)):
            counted(builder, INTP(0), rows, 1, partial(exact, width))
        fits = [builder.icmp_signed(*limit) for limit in ((">", size, INTP(width)), ("<", size, INTP(2 * width)))]
        with builder.if_then(builder.and_(*fits)):
            counted(builder, INTP(0), rows, 1, partial(short, width))
        width //= 2


def emit_gather(builder: Builder, to: Any, source: Any, stride: Any, n: Any, itemsize: Any, target: Target) -> None:
    """Append code that copies `n` elements, `stride` bytes apart from `source` on, to consecutive places from `to`."""

    def group(size: int, ratio: int, i: Any) -> None:
        count = LINE // size
        kind = ir.VectorType(_integer(size), count * abs(ratio))
        window = load_at(builder, _window(builder, source, i, size, ratio), kind)
        undefined = ir.Constant(window.type, ir.Undefined)
        places = ir.Constant(ir.VectorType(ir.IntType(32), count), _places(size, ratio))
        store_at(builder, _plus(builder, to, i, size), builder.shuffle_vector(window, undefined, places))

    def each(size: int, i: Any) -> None:
        value = load_at(builder, builder.add(source, builder.mul(i, stride)), _integer(size))
        store_at(builder, _plus(builder, to, i, size), value)

    _emit(builder, stride, n, itemsize, _NEAR, group, each)


def emit_scatter(builder: Builder, to: Any, stride: Any, source: Any, n: Any, itemsize: Any, target: Target) -> None:
    """Append code that copies `n` consecutive elements from `source` on to places `stride` bytes apart from `to` on."""

    def group(size: int, ratio: int, i: Any) -> None:
        count = LINE // size
        value = load_at(builder, _plus(builder, source, i, size), ir.VectorType(_integer(size), count))
        undefined = ir.Constant(value.type, ir.Undefined)
        places, wide = _places(size, ratio), count * abs(ratio)
        origin = [places.index(k) if k in places else 0 for k in range(wide)]
        spread = builder.shuffle_vector(value, undefined, ir.Constant(ir.VectorType(ir.IntType(32), wide), origin))
        mask = ir.Constant(ir.VectorType(ir.IntType(1), wide), [int(k in places) for k in range(wide)])
        store_masked(builder, _window(builder, to, i, size, ratio), mask, spread)

    def each(size: int, i: Any) -> None:
        value = load_at(builder, _plus(builder, source, i, size), _integer(size))
        store_at(builder, builder.add(to, builder.mul(i, stride)), value)

    # what lies between the elements must not be written, and only AVX-512 writes part of a vector in one go
    near = _NEAR if target.has("avx512bw") else (1, -1)
    _emit(builder, stride, n, itemsize, near, group, each)


def _integer(size: int) -> ir.IntType:
    return ir.IntType(8 * size)


def _plus(builder: Builder, address: Any, i: Any, size: int) -> Any:
    return builder.add(address, builder.mul(i, INTP(size)))


def _places(size: int, ratio: int) -> list[int]:
    """Where in a window the elements of a group are."""
    count, apart = LINE // size, abs(ratio)
    return [apart * k if ratio > 0 else apart * (count - k) - 1 for k in range(count)]


def _window(builder: Builder, start: Any, i: Any, size: int, ratio: int) -> Any:
    """The lowest address of a group of elements and of what lies between them up to the element after the group."""
    first = builder.add(start, builder.mul(i, INTP(ratio * size)))
    return first if ratio > 0 else builder.add(first, INTP(size + ratio * LINE))


def _emit(
    builder: Builder,
    stride: Any,
    n: Any,
    itemsize: Any,
    near: tuple[int, ...],
    group: Callable[[int, int, Any], None],
    each: Callable[[int, Any], None],
) -> None:
    done = cgutils.alloca_once_value(builder, INTP(0))
    for size in _SIZES:
        with _when_equal(builder, itemsize, INTP(size)):
            count = LINE // size
            for ratio in near:
                # a window ends just before the element after the group: there must be one, to load nothing beyond it
                grouped = builder.and_(builder.sub(n, INTP(int(abs(ratio) > 1))), INTP(-count))
                with _when_equal(builder, stride, INTP(ratio * size)):
                    counted(builder, INTP(0), grouped, count, partial(group, size, ratio))
                    builder.store(grouped, done)

            def some(size: int, i: Any) -> None:
                for k in range(_AT_ONCE):
                    each(size, builder.add(i, INTP(k)))

            start = builder.load(done)
            whole = builder.add(start, builder.and_(builder.sub(n, start), INTP(-_AT_ONCE)))
            counted(builder, start, whole, _AT_ONCE, partial(some, size))
            counted(builder, whole, n, 1, partial(each, size))


@contextmanager
def _when_equal(builder: Builder, a: Any, b: Any) -> Iterator[None]:
    with builder.if_then(builder.icmp_signed("==", a, b)):
        yield
