"""Minimax fits: the coefficients c that make the largest weight(x) * |f(x) - sum c_k g_k(x)| smallest.

All arithmetic is mpmath's. The fit is a linear programme solved by Stiefel's exchange (the dual simplex on a grid of
Chebyshev points), which, unlike the textbook Remez exchange, also works where the g_k do not form a Haar system: fits
of x^2 P(x) across 0, fits in which some coefficients are prescribed, even or odd powers only.

    from remez import fit, fit_rounded, largest_error
    f = lambda x: (mp.expm1(x) - x) / x**2
    c, error = fit(f, (-0.35, 0.35), powers=range(5))                        # real coefficients
    c, error = fit_rounded(f, (-0.35, 0.35), range(5), dtype="float32")      # each a float32

`weight` multiplies the error; for a relative error give ``lambda x: 1 / f(x)``. `powers` may hold functions instead of
integers: ``[lambda x: x / (1 + x), 2]``. Where f, g or the weight divides by zero the grid point is left out, so
removable singularities need no care.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mpmath import mp, mpf

__all__ = [
    "evaluate",
    "fit",
    "fit_rounded",
    "largest_error",
    "nearly_float",
    "pair",
    "piece_error",
    "round_to",
    "show",
    "show_columns",
    "ulp",
]

mp.prec = 160

Function = Callable[[Any], Any]
Basis = Iterable["int | Function"]


def _basis(powers: Basis) -> list[Function]:
    return [p if callable(p) else (lambda x, p=p: x**p) for p in powers]


def _grid(interval: tuple[Any, Any], size: int) -> list[Any]:
    low, high = mpf(interval[0]), mpf(interval[1])
    middle, half = (low + high) / 2, (high - low) / 2
    inner = (middle - half * mp.cospi(mpf(i) / (size - 1)) for i in range(1, size - 1))
    return [low, *inner, high]


def _rows(
    f: Function, basis: list[Function], weight: Function | None, points: Iterable[Any]
) -> list[tuple[list[Any], Any]]:
    rows = []
    for x in points:
        try:
            w = mpf(1) if weight is None else weight(x)
            rows.append(([w * g(x) for g in basis], w * f(x)))
        except ZeroDivisionError:
            continue
    return rows


def _independent(rows: list[tuple[list[Any], Any]]) -> list[int]:
    """n rows as far from dependent as may be, by elimination with full pivoting, and one more that is none of them."""
    n = len(rows[0][0])
    a = [list(g) for g, _ in rows]
    free = set(range(len(a)))
    columns = list(range(n))
    chosen = []
    for _ in range(n):
        size, i, k = max((abs(a[i][k]), i, k) for i in free for k in columns)
        if size < mpf(2) ** (30 - mp.prec):
            raise ValueError("the functions are linearly dependent on the interval")
        chosen.append(i)
        free.remove(i)
        columns.remove(k)
        for j in free:
            factor = a[j][k] / a[i][k]
            for m in columns:
                a[j][m] -= factor * a[i][m]
    return chosen


def fit(
    f: Function,
    interval: tuple[Any, Any],
    powers: Basis,
    weight: Function | None = None,
    grid: int = 0,
) -> tuple[list[Any], Any]:
    """The best coefficients and the largest weighted error on the grid."""
    basis = _basis(powers)
    n = len(basis)
    if n == 0:
        return [], largest_error(f, lambda _: mpf(0), interval, weight)
    rows = _rows(f, basis, weight, _grid(interval, grid or 24 * (n + 2) + 1))
    # A start: interpolate on n well spread points, and add the point where that is worst.
    chosen = _independent(rows)
    c = list(mp.lu_solve(mp.matrix([rows[i][0] for i in chosen]), mp.matrix([rows[i][1] for i in chosen])))
    errors = [value - mp.fdot(zip(c, g, strict=True)) for g, value in rows]
    worst, at = max((abs(e), i) for i, e in enumerate(errors) if i not in chosen)
    if worst < mpf(2) ** (20 - mp.prec):
        return c, worst
    # The multipliers y with sum y_i row_i = 0, signed so that the level sum y_i f_i is positive.
    side = 1 if errors[at] > 0 else -1
    transposed = mp.matrix([[rows[i][0][k] for i in chosen] for k in range(n)])
    dual = [-side * y for y in mp.lu_solve(transposed, mp.matrix(rows[at][0]))] + [mpf(side)]
    chosen.append(at)
    sign = [1 if y >= 0 else -1 for y in dual]
    total = sum(abs(y) for y in dual)
    dual = [abs(y) / total for y in dual]
    for _ in range(100 * (n + 1)):
        system = mp.matrix([[*rows[i][0], s] for i, s in zip(chosen, sign, strict=True)])
        solution = list(mp.lu_solve(system, mp.matrix([rows[i][1] for i in chosen])))
        c, level = solution[:n], solution[n]
        worst, at = mpf(-1), 0
        for i, (g, value) in enumerate(rows):
            e = abs(value - mp.fdot(zip(c, g, strict=True)))
            if e > worst:
                worst, at = e, i
        if worst <= abs(level) * (1 + mpf(10) ** -6) or worst < mpf(2) ** (20 - mp.prec):
            return c, worst
        g, value = rows[at]
        s = 1 if value - mp.fdot(zip(c, g, strict=True)) >= 0 else -1
        columns = mp.matrix([[s_i * rows[i][0][k] for i, s_i in zip(chosen, sign, strict=True)] for k in range(n)]
                            + [[1] * (n + 1)])  # fmt: skip
        step = list(mp.lu_solve(columns, mp.matrix([s * v for v in g] + [1])))
        ratio, leaving = min((dual[i] / step[i], i) for i in range(n + 1) if step[i] > mpf(2) ** (30 - mp.prec))
        dual = [y - ratio * d for y, d in zip(dual, step, strict=True)]
        dual[leaving], chosen[leaving], sign[leaving] = ratio, at, s
    raise ArithmeticError("the exchange did not converge; try another grid")


def evaluate(coefficients: Sequence[Any], powers: Basis) -> Function:
    """The function x -> sum c_k g_k(x)."""
    basis = _basis(powers)
    return lambda x: mp.fsum(c * g(x) for c, g in zip(coefficients, basis, strict=True))


def largest_error(
    f: Function,
    p: Function,
    interval: tuple[Any, Any],
    weight: Function | None = None,
    points: int = 1001,
) -> Any:
    """The largest weight(x) * |f(x) - p(x)| on a dense grid."""
    worst = mpf(0)
    for x in _grid(interval, points):
        try:
            w = mpf(1) if weight is None else weight(x)
            worst = max(worst, abs(w * (f(x) - p(x))))
        except ZeroDivisionError:
            continue
    return worst


def round_to(value: Any, dtype: str) -> Any:
    """`value` to the nearest "float32", "float64" (subnormals included), or itself for "exact"."""
    if dtype == "exact":
        return mpf(value)
    bits, smallest = {"float32": (24, -149), "float64": (53, -1074)}[dtype]
    value = mpf(value)
    if value == 0:
        return value
    exponent = max(mp.frexp(value)[1] - bits, smallest)
    return mp.ldexp(mp.nint(mp.ldexp(value, -exponent)), exponent)


def pair(value: Any, dtype: str) -> tuple[float, float]:
    """`value` as two floats."""
    high = round_to(value, dtype)
    return float(high), float(round_to(value - high, dtype))


def ulp(y: Any) -> Any:
    """The distance of float32 numbers at `y`, above the subnormal ones."""
    return mp.ldexp(1, mp.frexp(y)[1] - 24)


def nearly_float(f: Function, start: Any, reach: Any) -> tuple[Any, Any]:
    """A float32 within `reach` of `start` at which f is very nearly a float32, and that."""
    start = round_to(start, "float32")
    step = ulp(start)
    best: tuple[Any, Any, Any] = (mpf(1), start, start)
    # Where f is flat, or as good as linear, neighbours are all alike: then look farther.
    for stride in (1, 61, 3719, 226901):
        most = int(min(1000, reach / (stride * step)))
        candidates = (start + j * stride * step for j in range(-most, most + 1))
        best = min(best, *((abs(f(b) / (c0 := round_to(f(b), "float32")) - 1), b, c0) for b in candidates))
        if best[0] < mpf(2) ** -33:
            break
    return best[1:]


def piece_error(f: Function, ends: tuple[Any, Any], piece: Sequence[Any]) -> Any:
    """The largest error in ULP of b, c0, c1 ... as real numbers, at float32 numbers at which f is not 0."""
    low, high = ends
    b, *c = (mpf(v) for v in piece)
    worst = mpf(0)
    for i in range(201):
        x = round_to(low + (high - low) * i / 200, "float32")
        y, p = f(x), mp.fsum(ck * (x - b) ** k for k, ck in enumerate(c))
        worst = max(worst, abs(p - y) / ulp(y) if y else 0)
    return worst


def show_columns(columns: Iterable[Sequence[float]], name: str) -> str:
    """A tuple of tuples of numbers, one for each coefficient of a table of pieces, four numbers a line."""
    lines = []
    for column in columns:
        lines.append("    (")
        for k in range(0, len(column), 4):
            lines.append("        " + ", ".join(repr(v) for v in column[k : k + 4]) + ",")
        lines.append("    ),")
    return "\n".join([f"{name} = (", *lines, ")"])


def fit_rounded(
    f: Function,
    interval: tuple[Any, Any],
    powers: Basis,
    weight: Function | None = None,
    dtype: str | Sequence[str] = "float32",
    *,
    order: Sequence[int] | None = None,
    grid: int = 0,
) -> tuple[list[Any], Any]:
    """Coefficients that are floats, and the largest weighted error.

    They are rounded one at a time, each followed by a new fit of those not yet rounded, which makes up for the
    rounding. `dtype` may name a format per coefficient; `order` says which is rounded first (by default in the order
    given: the lowest power, whose rounding hurts most, while all the others can still answer).
    """
    basis = _basis(powers)
    kinds = [dtype] * len(basis) if isinstance(dtype, str) else list(dtype)
    left = list(order if order is not None else range(len(basis)))
    done: dict[int, Any] = {}

    def rest(x: Any) -> Any:
        return f(x) - mp.fsum(c * basis[k](x) for k, c in done.items())

    while left:
        c, _ = fit(rest, interval, [basis[k] for k in left], weight, grid)
        done[left[0]] = round_to(c[0], kinds[left[0]])
        left.pop(0)
    coefficients = [done[k] for k in range(len(basis))]
    return coefficients, largest_error(f, evaluate(coefficients, basis), interval, weight)


def show(coefficients: Sequence[Any], name: str = "C") -> str:
    """The coefficients as a Python tuple of decimal literals that read back exactly as float64."""
    lines = []
    for c in coefficients:
        value = float(c)
        as32 = struct.unpack("f", struct.pack("f", value))[0] == value
        lines.append(f"    {value!r},  # {value.hex()}{' float32' if as32 else ''}")
    return "\n".join([f"{name} = (", *lines, ")"])
