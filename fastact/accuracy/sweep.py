"""Measuring the error of a function: over every float32, over a walk of bit patterns, or at chosen points.

float16, bfloat16 and float32 are judged by the float64 reference, float64 by the multi-precision oracle. A sweep over
all patterns goes in blocks; what is finished is kept in a small file, so that an interrupted sweep goes on where it
stopped.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastact.accuracy.oracles import Truth, truth
from fastact.accuracy.reference import reference64
from fastact.accuracy.samples import numpy_dtype, samples
from fastact.accuracy.ulp import FORMATS, compare

__all__ = ["Measurement", "blocks", "measure", "sweep"]

Floats = npt.NDArray[Any]
Function = Callable[..., Any]

CHUNK = 1 << 15
"""Elements judged at a time: a dozen float64 temporaries of this size stay in the second-level cache."""
BLOCK = 1 << 22
"""Bit patterns in one unit of work."""


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

    def __add__(self, other: Measurement) -> Measurement:
        worse = other if other.max_ulp > self.max_ulp or math.isnan(self.at) else self
        kinds = sorted({*self.wrong, *other.wrong})
        return replace(
            self,
            inputs=self.inputs + other.inputs,
            max_ulp=worse.max_ulp,
            at=worse.at,
            correctly_rounded=self.correctly_rounded + other.correctly_rounded,
            wrong={kind: self.wrong.get(kind, 0) + other.wrong.get(kind, 0) for kind in kinds},
            examples={**other.examples, **self.examples},
        )

    @property
    def share(self) -> float:
        """The share of correctly rounded results."""
        return self.correctly_rounded / max(self.inputs, 1)

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
    about = Measurement(name, form, x.dtype.name, tuple(parameters))
    if form == "with_derivative":
        y, dy = function(x)
        first = _judge(y, replace(about, form="forward"), x, precise)
        second = _judge(dy, replace(about, form="derivative"), x, precise)
        return replace(first + second, form=form)
    return _judge(function(x), about, x, precise)


def _judge(result: Floats, about: Measurement, x: Floats, precise: bool | None) -> Measurement:
    name, form, dtype, parameters = about.name, about.form, result.dtype.name, about.parameters
    blank = total = replace(about, dtype=dtype)
    if precise or (precise is None and dtype == "float64"):
        true = truth(name, form, x, *parameters)
        return _compare(blank, result, x, true)
    for start in range(0, x.size, CHUNK):
        part = slice(start, start + CHUNK)
        true_part = reference64(name, form, x[part], *parameters)
        total = total + _quick(blank, result[part], x[part], true_part)
    return total


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


def _quick(about: Measurement, result: Floats, x: Floats, true: npt.NDArray[np.float64]) -> Measurement:
    """As `_compare`, in a fifth of the time: what is not plainly in order is handed on to it.

    The spacing at a true value is read off its exponent bits, and so is 1 / spacing made.
    """
    form = FORMATS[result.dtype.name]
    with np.errstate(all="ignore"):
        exponent = (true.view(np.int64) >> 52) & 0x7FF
        # the biased exponent of 1 / spacing, spacing = 2^(max(exponent, lowest) - (precision - 1))
        np.maximum(exponent, 1023 + form.lowest, out=exponent)
        np.subtract(2046 + form.precision - 1, exponent, out=exponent)
        error = np.subtract(result, true, dtype=np.float64)
        np.abs(error, out=error)
        error *= (exponent << 52).view(np.float64)
        plain = (error < 1.0) & (np.signbit(result) == np.signbit(true)) & (np.abs(result) < np.inf)
    rest = np.flatnonzero(~plain)
    found = about
    if rest.size:
        exact = np.zeros(rest.size)
        found = _compare(about, result[rest], x[rest], Truth(true[rest], exact, exact.astype(np.int64)))
        error[rest] = -1.0
    if rest.size < result.size:
        worst = int(np.argmax(error))
        rounded = int(np.count_nonzero(error <= 0.5)) - rest.size
        easy = replace(about, inputs=result.size - rest.size, max_ulp=float(error[worst]), at=float(x[worst]))
        found = found + replace(easy, correctly_rounded=rounded)
    return found


def blocks(dtype: str, stride: int = 1) -> list[tuple[int, int]]:
    """The bit patterns of a dtype as ranges of about `BLOCK` patterns each after striding."""
    total, step = 1 << FORMATS[dtype].bits, BLOCK * stride
    return [(start, min(start + step, total)) for start in range(0, total, step)]


def _block(function: Function, about: Measurement, bounds: tuple[int, int], stride: int) -> Measurement:
    form = FORMATS[about.dtype]
    start, stop = bounds
    # A block starts at a multiple of the stride plus what the ones before left over.
    first = -(-start // stride) * stride
    patterns = np.arange(first, stop, stride, dtype=np.uint64).astype(form.unsigned)
    x = patterns.view(numpy_dtype(about.dtype))
    total = about
    for at in range(0, x.size, CHUNK):
        total = total + measure(function, about.name, about.form, x[at : at + CHUNK], about.parameters)
    return total


def sweep(
    function: Function,
    name: str,
    form: str,
    dtype: str,
    parameters: tuple[float, ...] = (),
    *,
    stride: int = 1,
    points: int = 20_000,
    kinks: Sequence[float] = (),
    threads: int | None = None,
    state: Path | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Measurement:
    """Sweep one form of one function: every `stride`-th bit pattern, or for float64 about `points` stratified points.

    `state` is the file that remembers finished blocks; it is removed at the end. `progress` is told the finished share.
    """
    about = Measurement(name, form, dtype, tuple(parameters))
    if dtype == "float64":
        total = about
        x = samples(name, dtype, points, parameters, kinks)
        for start in range(0, x.size, 1000):
            total = total + measure(function, name, form, x[start : start + 1000], parameters)
            progress(min(1.0, (start + 1000) / x.size))
        return total
    ranges = blocks(dtype, stride)
    done, total = _load(state, about)
    left = {index: bounds for index, bounds in enumerate(ranges) if index not in done}
    for index, found in _finished(function, about, left, stride, threads or os.cpu_count() or 1):
        done.add(index)
        total = total + found
        _save(state, total, done)
        progress(len(done) / len(ranges))
    if state is not None:
        state.unlink(missing_ok=True)
    return total


def _finished(
    function: Function,
    about: Measurement,
    ranges: dict[int, tuple[int, int]],
    stride: int,
    threads: int,
) -> Iterator[tuple[int, Measurement]]:
    """The blocks by number, each as soon as one of the threads has finished it."""
    left = list(ranges)
    with ThreadPoolExecutor(threads) as pool:
        running: dict[Future[Measurement], int] = {}
        try:
            while left or running:
                while left and len(running) < 2 * threads:
                    index = left.pop(0)
                    running[pool.submit(_block, function, about, ranges[index], stride)] = index
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield running.pop(future), future.result()
        finally:
            for future in running:
                future.cancel()


def _load(state: Path | None, about: Measurement) -> tuple[set[int], Measurement]:
    """Finished blocks and what they found, from the file of an interrupted sweep of the same kind."""
    if state is None or not state.exists():
        return set(), about
    try:
        content = json.loads(state.read_text())
        found = content["found"]
        same = (found["name"], found["form"], found["dtype"], tuple(found["parameters"]))
        if same != (about.name, about.form, about.dtype, about.parameters):
            return set(), about
        found["parameters"] = tuple(found["parameters"])
        return set(content["done"]), Measurement(**found)
    except (ValueError, KeyError, TypeError):
        return set(), about


def _save(state: Path | None, total: Measurement, done: set[int]) -> None:
    if state is None:
        return
    state.parent.mkdir(parents=True, exist_ok=True)
    temporary = state.with_suffix(".new")
    temporary.write_text(json.dumps({"found": asdict(total), "done": sorted(done)}))
    temporary.replace(state)
