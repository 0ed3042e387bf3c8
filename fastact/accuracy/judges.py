"""Judging results: by the float64 reference, by the multi-precision oracle, or by other results bit for bit.

`Measurement` is what was found. What judges it looks at a part of the inputs after another, and counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastact.accuracy.oracles import Truth, truth
from fastact.accuracy.reference import compiled, filler
from fastact.accuracy.ulp import FORMATS, compare

__all__ = ["CHUNK", "Against", "Judge", "Measurement", "SameBits", "measure"]

Floats = npt.NDArray[Any]
Function = Callable[..., Any]

CHUNK = 1 << 14
"""Elements judged at a time: half a dozen float64 temporaries of this size stay in the second-level cache."""


@dataclass(frozen=True)
class Measurement:
    """What a sweep found; `+` joins the findings of two disjoint sets of inputs."""

    name: str
    form: str
    dtype: str
    parameters: tuple[float, ...] = ()
    inputs: int = 0
    max_ulp: float = 0.0
    """the largest error of a number for a number; a NaN or infinity that is wrong has no size and is counted below"""
    at: float = math.nan
    """the input with the largest error"""
    correctly_rounded: int = 0
    wrong: dict[str, int] = field(default_factory=dict)
    """how many results have a wrong "nan", "inf", "zero" or "sign"; empty if none"""
    examples: dict[str, float] = field(default_factory=dict)
    """for each kind of wrong one input"""
    row: str = ""
    """of a function along an axis, whose input is no number: the row in which entry `at` has the largest error"""

    def __add__(self, other: Measurement) -> Measurement:
        worse = other if other.max_ulp > self.max_ulp or math.isnan(self.at) else self
        kinds = sorted({*self.wrong, *other.wrong})
        return replace(
            self,
            inputs=self.inputs + other.inputs,
            max_ulp=worse.max_ulp,
            at=worse.at,
            row=worse.row,
            correctly_rounded=self.correctly_rounded + other.correctly_rounded,
            wrong={kind: self.wrong.get(kind, 0) + other.wrong.get(kind, 0) for kind in kinds},
            examples={**other.examples, **self.examples},
        )

    @property
    def outputs(self) -> int:
        """How many results an input has."""
        return 2 if self.form == "with_derivative" else 1

    @property
    def share(self) -> float:
        """The share of correctly rounded results."""
        return self.correctly_rounded / max(self.inputs * self.outputs, 1)

    def holds(self, bound: float) -> bool:
        """Whether every error is below `bound` ULP and nothing is wrong."""
        return self.max_ulp < bound and not self.wrong

    def as_dict(self) -> dict[str, Any]:
        """The measurement for JSON."""
        found = asdict(self)
        found["parameters"] = list(self.parameters)
        found["at_hex"] = float(self.at).hex()
        found["share_correctly_rounded"] = self.share
        return found


def _compare(about: Measurement, result: Floats, x: Floats, true: Truth) -> Measurement:
    """One measurement, every kind of wrong looked at; `about` is a measurement of nothing."""
    if not result.size:
        return about
    found = compare(result, *true)
    error = np.where(found.wrong_nan | found.wrong_inf, 0.0, found.error)
    worst = int(np.argmax(error))
    wrong, examples = {}, {}
    for kind in ("nan", "inf", "zero", "sign"):
        mask = getattr(found, f"wrong_{kind}")
        if mask.any():
            wrong[kind] = int(np.count_nonzero(mask))
            examples[kind] = float(x[np.argmax(mask)])
    return replace(
        about,
        inputs=result.size,
        max_ulp=float(error[worst]),
        at=float(x[worst]),
        correctly_rounded=int(np.count_nonzero((found.error <= 0.5) & ~found.wrong)),
        wrong=wrong,
        examples=examples,
    )


HALF = int(np.float64(0.5).view(np.int64))


@cache
def _compiled() -> tuple[Any, Any]:
    """Loops that judge what is plainly in order: one counts, the other says how each element was judged."""

    def error(result: Any, true: Any, bits: Any, precision: Any, lowest: Any, top: float) -> Any:
        # Errors are compared as the integers that their bits are: those have no NaN, and SIMD instructions.
        # The biased exponent of 1 / spacing, where spacing is 2^(max(exponent, lowest) - (precision - 1)):
        scale = np.int64(2045 + precision) - max((bits >> 52) & 0x7FF, np.int64(1023 + lowest))
        spacing = np.int64(scale << 52).view(np.float64)
        units = abs(result - true) * spacing
        same_sign = math.copysign(1.0, result) == math.copysign(1.0, true)
        both_nan = (result != result) & (true != true)
        both_inf = (abs(result) == math.inf) & (abs(true) >= top) & same_sign
        found = np.float64(units).view(np.int64) if units < 1.0 else np.int64(-1)
        found = found if same_sign & (abs(result) < math.inf) else np.int64(-1)
        return np.int64(0) if both_nan | both_inf else found

    one = compiled(error)

    def count(
        result: Floats, true: Floats, bits: Floats, precision: int, lowest: int, top: float
    ) -> tuple[Any, Any, Any]:
        worst, rounded, plain = np.int64(0), np.int64(0), np.int64(0)
        for i in range(result.size):
            found = one(np.float64(result[i]), true[i], bits[i], precision, lowest, top)
            worst = max(worst, found)
            rounded += (found >= 0) & (found <= HALF)
            plain += found >= 0
        return worst, rounded, plain

    def each(result: Floats, true: Floats, bits: Floats, precision: int, lowest: int, top: float, out: Floats) -> None:
        for i in range(result.size):
            out[i] = one(np.float64(result[i]), true[i], bits[i], precision, lowest, top)

    return compiled(count), compiled(each)


class Precise:
    """Counts by the multi-precision oracle."""

    def __init__(self, about: Measurement) -> None:
        self.about = self.total = about

    def add(self, x: Floats, result: Floats) -> None:
        """Judge `result` for the inputs `x`."""
        about = self.about
        self.total = self.total + _compare(about, result, x, truth(about.name, about.form, x, *about.parameters))

    def found(self) -> Measurement:
        """The findings so far."""
        return self.total


class Tally:
    """Counts what `_compare` would find for a dtype that fits float32, in a hundredth of its time.

    What is not plainly in order is handed on to `_compare`. The arrays in between are kept: making them anew would
    take as long as the arithmetic.
    """

    def __init__(self, about: Measurement) -> None:
        self.about = self.rest = about
        self.inputs = self.rounded = 0
        self.worst, self.at = -1, math.nan
        form = FORMATS[about.dtype]
        self.format = (form.precision, form.lowest, math.ldexp(1.0, form.highest + 1))
        self.count, self.each = _compiled()
        self.fill = filler(about.name, about.form, about.parameters)
        self.arrays = [np.empty(0)] * 3

    def add(self, x: Floats, result: Floats) -> None:
        """Judge `result` for the inputs `x`."""
        if x.size != self.arrays[0].size:
            self.arrays = [np.empty(x.size) for _ in range(3)]
        wide, true, scratch = self.arrays
        with np.errstate(all="ignore"):
            wide[:] = x
            self.fill(wide, true, scratch)
        narrow = _compilable(result)
        worst, rounded, plain = self.count(narrow, true, true.view(np.int64), *self.format)
        self.inputs += plain
        self.rounded += rounded
        if plain == x.size and worst <= self.worst:
            return
        errors = np.empty(x.size, np.int64)
        self.each(narrow, true, true.view(np.int64), *self.format, errors)
        if worst > self.worst:
            self.worst, self.at = worst, float(x[np.argmax(errors)])
        rest = np.flatnonzero(errors < 0)
        if rest.size:
            exact = np.zeros(rest.size)
            beyond = Truth(true[rest], exact, exact.astype(np.int64))
            self.rest = self.rest + _compare(self.about, result[rest], x[rest], beyond)

    def found(self) -> Measurement:
        """The findings so far."""
        worst = float(np.int64(max(self.worst, 0)).view(np.float64))
        plain = replace(self.about, inputs=self.inputs, max_ulp=worst, at=self.at, correctly_rounded=self.rounded)
        return plain + self.rest


class Judge(Protocol):
    """Looks at a part of the inputs after another, and tells what was found."""

    def look(self, x: Floats) -> None: ...
    def found(self) -> Measurement: ...


class Against:
    """Judges a function by the reference, or float64 by the oracle."""

    def __init__(self, function: Function, about: Measurement, precise: bool | None = None) -> None:
        self.function, self.about = function, about
        forms = ("forward", "derivative") if about.form == "with_derivative" else (about.form,)
        kind = Precise if precise or (precise is None and about.dtype == "float64") else Tally
        self.tallies: list[Precise | Tally] = [kind(replace(about, form=form)) for form in forms]

    def look(self, x: Floats) -> None:
        results = self.function(x)
        for tally, result in zip(self.tallies, results if len(self.tallies) > 1 else (results,), strict=True):
            for start in range(0, x.size, CHUNK):
                tally.add(x[start : start + CHUNK], result[start : start + CHUNK])

    def found(self) -> Measurement:
        every = [replace(tally.found(), form=self.about.form) for tally in self.tallies]
        return replace(sum(every, self.about), inputs=every[0].inputs)


@cache
def _differences() -> Any:
    def count(a: Floats, b: Floats) -> int:
        different = 0
        for i in range(a.size):
            equal = (a[i] == b[i]) & (math.copysign(1.0, a[i]) == math.copysign(1.0, b[i]))
            different += not equal | ((a[i] != a[i]) & (b[i] != b[i]))
        return different

    return compiled(count)


def _compilable(x: Floats) -> Floats:
    """`x` in a dtype that Numba knows, with the same values."""
    return x if x.itemsize >= 4 else x.astype(np.float32)


class SameBits:
    """Judges a function of several results by the functions that give one each; a difference is wrong "bits"."""

    def __init__(self, function: Function, parts: Sequence[Function], about: Measurement) -> None:
        self.function, self.parts, self.about = function, parts, about
        self.inputs = self.different = 0

    def look(self, x: Floats) -> None:
        self.inputs += x.size
        for result, part in zip(self.function(x), self.parts, strict=True):
            self.different += _differences()(*map(_compilable, (result, part(x))))

    def found(self) -> Measurement:
        wrong = {"bits": self.different} if self.different else {}
        return replace(self.about, inputs=self.inputs, wrong=wrong)


def measure(
    function: Function,
    name: str,
    form: str,
    x: Floats,
    parameters: Sequence[float] = (),
    *,
    precise: bool | None = None,
) -> Measurement:
    """Measure ``function(x)`` against the true values of `form` of `name` at `parameters`.

    `precise` asks for the multi-precision oracle; by default it judges float64 only. For "with_derivative" both results
    are judged.
    """
    judge = Against(function, Measurement(name, form, x.dtype.name, tuple(parameters)), precise)
    judge.look(x)
    return judge.found()
