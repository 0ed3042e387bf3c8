"""Inputs and parameters that vary together, for what no single value of a parameter would show.

A parameter may have any size, up to both ends of the range, and its product with x may be nearer to the zero of a
derivative than any float is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

import fastact
from fastact.accuracy.digest import elementwise_digest
from fastact.accuracy.judges import Measurement, compared
from fastact.accuracy.oracles import truth
from fastact.accuracy.reference import ROOTS, root_of
from fastact.accuracy.samples import POINTS, RELATIVES, numpy_dtype, specials, walk
from fastact.accuracy.ulp import FORMATS
from fastact.activation import Activation, forms

__all__ = ["VARIED", "VariedCase", "next_to", "pairs", "varied_cases"]

Floats = npt.NDArray[Any]

VARIED: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "elu": lambda t, alpha: t,
    "celu": lambda t, alpha: t * alpha,
    "swish": lambda t, beta: t / beta,
    "softplus": lambda t, beta: t / beta,
}
"""name -> the x at which the function with this parameter has its exponential at t."""

COUNT = 3000


def _product(x: Floats, factor: Floats) -> tuple[Floats, Floats]:
    """x times factor as two float64, exactly (Dekker); neither may be very large or small."""

    def halves(a: Floats) -> tuple[Floats, Floats]:
        upper = a * 134217729.0  # 2^27 + 1
        upper = upper - (upper - a)
        return upper, a - upper

    p, (a, a_low), (b, b_low) = x * factor, halves(x), halves(factor)
    return p, ((a * b - p) + a * b_low + a_low * b) + a_low * b_low


def next_to(target: tuple[float, float], dtype: str, count: int) -> tuple[Floats, Floats]:
    """About `count` pairs (x, factor) of `dtype` whose product is next to the `target`, hi + lo.

    Half of them are as near to it as few of some hundred thousand pairs are: much nearer than a float is. Those of the
    others have distances of all sizes from there to a half.
    """
    rng = np.random.default_rng(17)
    kind, hi, lo = numpy_dtype(dtype), *target
    wide = np.concatenate([rng.uniform(0.25, 4, 40 * count), np.exp2(rng.uniform(-30, 30, 10 * count))]).astype(kind)
    x = (hi / wide.astype(np.float64)).astype(kind)
    p, p_low = _product(x.astype(np.float64), wide.astype(np.float64))
    nearest = np.argsort(np.abs((p - hi) + (p_low - lo)))[: count // 2]
    some = rng.choice(wide, count // 2)
    away = np.exp2(rng.uniform(-1.0 - FORMATS[dtype].precision, -1.0, some.size)) * rng.choice([-1.0, 1.0], some.size)
    x = np.concatenate([x[nearest], ((hi + away) / some.astype(np.float64)).astype(kind)])
    factor = np.concatenate([wide[nearest], some])
    signs = rng.choice([-1.0, 1.0], x.size).astype(kind)
    return x * signs, factor * signs


def pairs(name: str, dtype: str, count: int) -> tuple[Floats, Floats]:
    """About `count` pairs of x and a parameter of every size, both signs, subnormal ones too.

    The exponential is mostly where the function bends or a result leaves the range of floats, for that parameter.
    """
    with np.errstate(all="ignore"):
        return _pairs(name, dtype, count)


def _pairs(name: str, dtype: str, count: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(23)
    kind, format_, ends = numpy_dtype(dtype), FORMATS[dtype], np.finfo(dtype)
    exponents = rng.integers(format_.lowest - format_.precision + 1, format_.highest + 1, count)
    parameter = np.ldexp(rng.uniform(1, 2, count), exponents).astype(kind)
    parameter[::16] = np.resize(np.array([ends.max, ends.smallest_normal, ends.smallest_subnormal], kind), count)[::16]
    parameter[::2] *= -1
    # an extreme parameter wants three times the usual exponents: its square may come in as well
    points = np.array([0.0, *POINTS[RELATIVES.get(name, name)]])
    points = np.concatenate([points, np.geomspace(1, 3.2 * -np.log(float(ends.smallest_subnormal)), 60)])
    t = rng.choice(points, count) * rng.uniform(0.97, 1.03, count)
    t[::3] = np.exp(rng.uniform(-40, 8, t[::3].size))
    t *= rng.choice([-1.0, 1.0], count)
    x = VARIED[name](t, parameter.astype(np.float64)).astype(kind)
    x[1::8] = t[1::8].astype(kind)
    x[2::8] = np.resize(specials(dtype), x[2::8].size)
    anything = walk(dtype, x[3::8].size)
    x[3::8] = rng.permutation(anything)[: x[3::8].size]
    return x, parameter


@dataclass(frozen=True)
class VariedCase:
    """One form of one function of x and a parameter: to the command what `cases.Case` is for fixed parameters."""

    record: Activation
    form: str
    public: str
    given: bool = field(default=True, init=False)

    @property
    def name(self) -> str:
        """The function's name, of whatever form."""
        return self.record.name

    @property
    def title(self) -> str:
        """A name for tests and tables."""
        return f"{self.public}(any {self.record.parameters[0].name})"

    def bound(self, dtype: str) -> float:
        """The largest error the record promises."""
        return float(getattr(self.record.contract, dtype))

    def parameters(self, dtype: str) -> tuple[float, ...]:
        """None that is fixed."""
        return ()

    def parts(self) -> tuple[VariedCase, ...]:
        """It joins no others."""
        return ()

    def digest(self, dtype: str) -> str:
        """The fingerprint of the kernel behind it."""
        return elementwise_digest(self.record, self.form, dtype, True)

    def inputs(self, dtype: str) -> tuple[Floats, Floats]:
        """x and the parameter."""
        parts: Sequence[tuple[Floats, Floats]] = [pairs(self.name, dtype, COUNT)]
        if (self.name, self.form) in ROOTS:
            parts = [*parts, next_to(root_of(*ROOTS[self.name, self.form]), dtype, COUNT)]
        x, parameter = map(np.concatenate, zip(*parts, strict=True))
        return x, parameter

    def measure(self, dtype: str) -> Measurement:
        """What the errors are."""
        with np.errstate(all="ignore"):
            x, parameter = self.inputs(dtype)
            true = truth(self.name, self.form, x, parameter)
        result = getattr(fastact, self.public)(x, parameter)
        with np.errstate(all="ignore"):
            return compared(Measurement(self.name, self.form, dtype), result, x, true)


def varied_cases(records: Iterable[Activation], wanted: Iterable[str] | None = None) -> Iterator[VariedCase]:
    """Every form (or those `wanted`) of those records whose parameter is varied, but for the ones that join others."""
    chosen = None if wanted is None else set(wanted)
    for record in records:
        for form, public in forms(record) if record.name in VARIED else ():
            if form not in ("vjp", "with_derivative") and (chosen is None or form in chosen):
                yield VariedCase(record, form, public)
