"""The parabolas of `fastact.cuda.half_pieces`: entries of its tables with which no result is wrong.

Each is computed from three values of the function, and then tried with its neighbours. For a slope and a root there are
bounds of the value in the middle, from the numbers that round to the wanted results at all arguments of the piece.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import ceil, log2

import numpy as np

from ..graph import halves
from ..graph.evaluate import Array, fma32

_NEIGHBOURS = tuple(product(range(-2, 3), range(-4, 5)))  # of a root and a slope
_ROUNDS = 24  # how many neighbours are tried, the most promising of each piece first
_HOPELESS = -1e-4  # how far results of a piece are off, relatively, if no neighbour will do


@dataclass(frozen=True)
class Grid:
    """Pieces that have the arguments from `low` to `high`; their middles are multiples of the width, and `shift`."""

    low: float
    high: float
    step: float
    shift: float

    def number(self, x: float) -> int:
        return int(np.rint((x - self.shift) / self.step))

    @property
    def numbers(self) -> Array:
        return np.arange(self.number(self.low), self.number(self.high) + 1)

    @property
    def rounding(self) -> float:
        """What makes a sum a multiple of the width, whose number is in the last bits of the sum."""
        return 1.5 * 2.0**23 * self.step


@dataclass(frozen=True)
class Roots:
    """Roots of curvatures as whole numbers of a unit, with a sign."""

    bits: int
    unit: float

    @property
    def zero(self) -> float:
        """A number whose last bits count units, to both sides."""
        return (2.0**23 + 2.0 ** (self.bits - 1)) * self.unit

    def curvature(self, root: Array) -> Array:
        found: Array = (root * np.abs(root) * self.unit**2).astype(np.float32)
        return found

    def limited(self, root: Array) -> Array:
        largest = 2 ** (self.bits - 1) - 1
        found: Array = np.clip(np.rint(root), -largest, largest)
        return found

    def within(self, slope: Array, root: Array, further: int = 0) -> Array:
        """The number next to a slope that has the root for its last bits, or one that is further away from 0."""
        magnitude = np.abs(slope).astype(np.float32).view(np.int32).astype(np.int64)
        last = root.astype(np.int64) & (2**self.bits - 1)
        first = np.maximum(np.rint((magnitude - last) / 2**self.bits) + further, 0).astype(np.int64) << self.bits
        found: Array = np.copysign((first + last).astype(np.int32).view(np.float32), slope.astype(np.float32))
        return found


@dataclass(frozen=True)
class Fit:
    """A function as a power of x times parabolas: of the distance from the middle, times `scale`."""

    power: int
    scale: float
    roots: Roots
    starts: Array
    slopes: Array


def seen(values: Array) -> Array:
    return halves.rounded(np.ascontiguousarray(values), "float16")


def _bounds(wanted: Array) -> tuple[Array, Array]:
    """The numbers that round to a float32 that rounds to these results; for a zero, those with its sign."""
    value = wanted.view(np.float16)
    zero, negative, found = value == 0, np.signbit(value), []
    for to, cut in ((-np.inf, zero & ~negative), (np.inf, zero & negative)):
        tie = (np.nextafter(value, np.float16(to)).astype(np.float32) + value) / 2
        beyond = np.spacing(np.abs(tie)) * np.where(wanted & 1, -0.5, 0.5)  # ties round to even
        found.append(np.where(cut, 0.0, tie + np.sign(to) * beyond))
    return found[0], found[1]


def _curves(function: Callable[[Array], Array], power: int, grid: Grid, side: float) -> tuple[Array, Array]:
    """The slope and curvature of each piece: of the parabola through three points, which lie where there are pieces."""
    middle = grid.numbers * grid.step + grid.shift
    near = np.clip(middle, grid.low + grid.step / 2, grid.high - grid.step / 2)
    x = (near[:, None] + np.array([-0.433, 0.0, 0.433]) * grid.step).astype(np.float32)
    tiny = np.float32(grid.step / 64)
    x = np.where(np.abs(x) < tiny, np.float32(side) * tiny, x)
    y = function(x.ravel()).reshape(x.shape) / x.astype(np.float64) ** power
    t = x - middle[:, None]
    slopes = np.diff(y) / np.diff(t)
    curvature = (slopes[:, 1] - slopes[:, 0]) / (t[:, 2] - t[:, 0])
    return slopes[:, 0] - curvature * (t[:, 0] + t[:, 1]), curvature


def _middle(least: Array, most: Array) -> tuple[Array, Array]:
    """The float32 in the middle of bounds, and how far they are."""
    start = ((least + most) / 2).astype(np.float32)
    return start, np.minimum(start - least, most - start)


class _Points:
    """Arguments in order, and for each its piece, the distance from its middle, and what the parabola may be there."""

    def __init__(self, x: Array, wanted: Array, grid: Grid, power: int) -> None:
        moved, rounding = x - np.float32(grid.shift), np.float32(grid.rounding)
        multiple = (moved + rounding) - rounding
        number = np.rint(multiple / grid.step).astype(np.int64)
        self.wanted, self.factor, self.u = wanted, x.astype(np.float64) ** power, moved - multiple
        self.begins = np.flatnonzero(np.diff(number, prepend=number[0] - 1))
        self.numbers = number[self.begins]  # of pieces that have any argument
        self.piece = np.repeat(np.arange(self.numbers.size), np.diff(self.begins, append=x.size))
        between = np.sort([bound / self.factor for bound in _bounds(wanted)], axis=0)
        self.low, self.high = np.where(self.factor == 0, np.array([[-np.inf], [np.inf]]), between)

    def starts(self, slope: Array, curvature: Array) -> tuple[Array, Array]:
        """The best start of each piece, and how far the values are then from where a result changes."""
        rest = (curvature[self.piece] * self.u.astype(np.float64) + slope[self.piece]) * self.u
        least = np.maximum.reduceat(self.low - rest, self.begins)
        return _middle(least, np.minimum.reduceat(self.high - rest, self.begins))

    def best(self, piece: int, slope: Array, curvature: Array) -> int:
        """Which of several parabolas keeps the values of one piece furthest from where a result changes."""
        change = np.flatnonzero(np.diff(self.wanted))  # between them nothing is decided
        some = np.unique([change, change + 1])
        some = some[self.piece[some] == piece]
        u = self.u[some].astype(np.float64)
        rest = (curvature[:, None] * u + slope[:, None]) * u
        least = (self.low[some] - rest).max(axis=1, initial=-np.inf)
        return int(np.argmax(_middle(least, (self.high[some] - rest).min(axis=1, initial=np.inf))[1]))

    def entries(self, slope: Array, root: Array, roots: Roots) -> Array | None:
        """The start and slope of every piece, from neighbours of these, with which all results are right."""
        tried, room = [], []
        for roots_on, slopes_on in _NEIGHBOURS:
            r = roots.limited(root + roots_on)
            s, c = roots.within(slope, r, slopes_on), roots.curvature(r)
            start, free = self.starts(s, c)
            tried.append((start, s, c))
            room.append(free)
        options: Array = np.array(tried)
        order = np.argsort(-np.array(room), axis=0, kind="stable")
        if np.count_nonzero(np.max(room, axis=0) < _HOPELESS * np.abs(options[0, 0])) > 1:
            return None
        chosen, left = options[0].copy(), np.arange(self.numbers.size)
        for k in order[:_ROUNDS]:
            chosen[:, left] = options[k[left], :, left].T
            some = np.isin(self.piece, left)
            u, piece = self.u[some], self.piece[some]
            start, s, c = chosen[:, piece]
            y = fma32(fma32(c, u, s), u, start) * self.factor[some].astype(np.float32)
            left = np.unique(piece[seen(y) != self.wanted[some]])
            if not left.size:
                found: Array = chosen[:2]
                return found
        return None


def fitted(function: Callable[[Array], Array], x: Array, wanted: Array, grid: Grid, bits: int) -> Fit | None:
    """The function as parabolas for these x, where its results are these, with roots of so many bits, if found."""
    side = float(np.sign(grid.low + grid.high) or 1.0)
    small = abs(float(function(np.array([side * 2.0**-10], np.float32))[0]))
    power = min(round(-log2(max(small, 2.0**-60)) / 10), 2)  # of x, that the function is next to 0
    slope, curvature = _curves(function, power, grid, side)
    points = _Points(x, wanted, grid, power)
    slope, curvature = (v[points.numbers - grid.numbers[0]] for v in (slope, curvature))
    size = np.sqrt(np.abs(curvature))
    roots = Roots(bits, 2.0 ** ceil(log2(size.max(initial=2.0**-60) / (2 ** (bits - 1) - 1))))
    root, scale = roots.limited(np.sign(curvature) * size / roots.unit), np.float32(1.0)
    zero = int(np.searchsorted(points.numbers, grid.number(0.0))) if grid.low <= 0 <= grid.high else 0
    if power == 0 and grid.low <= 0 <= grid.high and abs(slope[zero]) > grid.step:
        # so many arguments are next to 0 that all digits of the slope count there: the scale gives it those of the root
        r, s = root[zero] + np.arange(-8, 9), slope[zero] * (1 + np.arange(-64, 65) * 2.0**-23)
        r, s = np.tile(roots.limited(r), s.size), np.repeat(s, r.size)
        best = slice(k := points.best(zero, s, roots.curvature(r)), k + 1)
        root[zero], scale = r[k], np.float32(s[k] / roots.within(s[best], r[best])[0])
        points.u = points.u * scale
    entries = points.entries(slope / scale, root, roots)
    if entries is None:
        return None
    tables = np.zeros((2, grid.numbers.size), np.float32)
    tables[:, points.numbers - grid.numbers[0]] = entries
    return Fit(power, float(scale), roots, tables[0], tables[1])
