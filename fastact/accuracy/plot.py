"""The picture of an error: the largest in each of many narrow intervals of x, fastact's over the peers'."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastact.accuracy.cases import Case
from fastact.accuracy.oracles import Truth, truth
from fastact.accuracy.peers import peer_results
from fastact.accuracy.reference import reference64
from fastact.accuracy.samples import numpy_dtype
from fastact.accuracy.ulp import FORMATS, compare
from fastact.bench.plot import COLOURS, require_matplotlib

__all__ = ["draw", "errors", "intervals"]

Floats = npt.NDArray[Any]

OCTAVES = (-10, 8)
"""x goes from 2^-10 to 2^8 on both sides of zero: below and beyond nothing new happens but in steps of an exponent."""
STEPS = 16
"""Intervals an octave; all of them hold equally many numbers."""
INPUTS = {"float64": 6}
"""Numbers looked at in an interval; where not given, `USUAL`, or as many as there are."""
USUAL = 1 << 10
LEAST = 0.2
"""Errors below are drawn here: a correct rounding has any error up to 0.5."""
WRONG = 3e9
"""Where a NaN or an infinity that should not be there is drawn."""


def intervals(dtype: str) -> tuple[Floats, npt.NDArray[np.float64]]:
    """The inputs, one line for each interval, and the intervals' centres; from the left to the right."""
    form = FORMATS[dtype]
    low, high = (max(OCTAVES[0], form.lowest) + 1023, OCTAVES[1] + 1023)
    octave = 1 << (form.precision - 1)
    width = octave // STEPS
    count = min(INPUTS.get(dtype, USUAL), width)
    # an odd step, so that the low bits vary
    step = max(1, width // count) | 1 if width > count else 1
    bias = 1023 - (1 - form.lowest)
    starts = np.arange((low - bias) * STEPS, (high - bias) * STEPS, dtype=np.int64) * width
    patterns = starts[:, None] + np.minimum(np.arange(count) * step, width - 1)[None, :]
    positive = patterns.astype(form.unsigned).view(numpy_dtype(dtype))
    x = np.concatenate([-positive[::-1], positive])
    return x, np.median(x.astype(np.float64), axis=1)


def errors(case: Case, dtype: str, x: Floats, library: str | None = None) -> Iterator[tuple[str, Floats]]:
    """fastact and each peer that has the function, with the errors of their results at `x`."""
    parameters, line = case.parameters(dtype), x.ravel()
    if dtype == "float64":
        true = truth(case.name, case.form, line, *parameters)
    else:
        values = reference64(case.name, case.form, line, *parameters)
        true = Truth(values, np.zeros_like(values), np.zeros(values.shape, np.int64))
    found = [("fastact", case.function(dtype)(line)), *peer_results(case, line)]
    for name, result in found:
        compared = compare(np.asarray(result).ravel(), *true, dtype=numpy_dtype(dtype))
        yield name, compared.error.reshape(x.shape)


def draw(cases: Sequence[Case], dtype: str, path: Path) -> None:
    """Draw one panel for each case into `path`."""
    pyplot = require_matplotlib()
    columns = 1 if len(cases) == 1 else 2 if len(cases) <= 8 else 3
    lines = math.ceil(len(cases) / columns)
    figure, axes = pyplot.subplots(
        lines,
        columns,
        figsize=(9.0 if columns == 1 else 6.2 * columns, 0.9 + (4.2 if columns == 1 else 2.9) * lines),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    shown: dict[str, Any] = {}
    x, centres = intervals(dtype)
    top = 1.0
    for axis, case in zip(axes.flat, cases, strict=False):
        for library, error in errors(case, dtype, x):
            worst = np.max(np.where(np.isfinite(error), error, WRONG), axis=1)
            top = max(top, float(worst.max()))
            shown.setdefault(library, _line(axis, library, centres, worst))
        axis.axhline(case.bound(dtype), color="0.35", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axis.set_title(case.title, fontsize=10, loc="left")
    _scales(axes, top, pyplot)
    for axis in list(axes.flat)[len(cases) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("error, ULP", fontsize=9)
    for axis in axes[-1, :]:
        axis.set_xlabel("x", fontsize=9)
    figure.suptitle(
        f"Largest error in each interval of x, {dtype}; dashed: fastact's bound",
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
    )
    names = sorted(shown, key=list(COLOURS).index)
    figure.legend(
        [shown[name] for name in names],
        names,
        loc="outside lower center",
        ncols=len(names),
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _line(axis: Any, library: str, x: Floats, worst: Floats) -> Any:
    own = library == "fastact"
    drawn = np.clip(worst, LEAST, WRONG)
    # no line through zero, where the picture leaves numbers out
    left = x < 0
    for side in (left, ~left):
        (line,) = axis.plot(
            x[side],
            drawn[side],
            color=COLOURS[library],
            linewidth=1.6 if own else 1.0,
            alpha=1.0 if own else 0.85,
            drawstyle="steps-mid",
            zorder=4 if own else 3,
        )
    return line


def _scales(axes: Any, top: float, pyplot: Any) -> None:
    edge, far = 2.0 ** OCTAVES[0], 2.0 ** OCTAVES[1]
    powers = [-8, -4, 0, 4, 8]
    ticks = [*(-(2.0**p) for p in powers[::-1]), *(2.0**p for p in powers)]
    labels = [*("-1" if p == 0 else f"$-2^{{{p}}}$" for p in powers[::-1])]
    labels += ["1" if p == 0 else f"$2^{{{p}}}$" for p in powers]
    for axis in axes.flat:
        axis.set_xscale("symlog", linthresh=edge, linscale=0.35, base=2)
        axis.set_xticks(ticks, labels, fontsize=8)
        axis.set_xticks([], minor=True)
        axis.set_xlim(-far, far)
        axis.set_yscale("log")
        axis.set_ylim(LEAST * 0.7, 10 * top if top < WRONG else 2 * WRONG)
        decades = range(int(math.log10(max(top, 10.0))) + 1)
        marks = [10.0**k for k in decades if k % (1 if top < 1e4 else 2) == 0]
        named = [f"{m:g}" if m < 1e4 else f"$10^{{{round(math.log10(m))}}}$" for m in marks]
        marks, named = ([*marks[:-1], WRONG], [*named[:-1], "wrong"]) if top >= WRONG else (marks, named)
        axis.set_yticks(marks, named, fontsize=8)
        axis.set_yticks([], minor=True)
        axis.axvspan(-edge, edge, color="0.95", zorder=0)
        axis.grid(color="0.92", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
