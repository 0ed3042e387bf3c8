"""The picture of an activation and its derivative, drawn with the library itself."""

from __future__ import annotations

import io
import itertools
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import fastact as fa
from fastact.activation import Activation

HALF_WIDTH, MARGIN = 4.0, 2.0
FUNCTION, DERIVATIVE = {"color": "#0072b2"}, {"color": "#d55e00", "linestyle": "--"}
SETTINGS = {"svg.hashsalt": "fastact", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}


def draw(record: Activation, parameters: tuple[float, ...]) -> str:
    """The picture as SVG text, the same for the same record."""
    edges = [
        min([-HALF_WIDTH, *(k - MARGIN for k in record.kinks)]),
        *record.kinks,
        max([HALF_WIDTH, *(k + MARGIN for k in record.kinks)]),
    ]
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(4.5, 3.0), layout="constrained")
        axes = figure.subplots()
        axes.axhline(0, color="0.8", linewidth=0.8)
        axes.axvline(0, color="0.8", linewidth=0.8)
        for name, label, style in ((record.name, "f(x)", FUNCTION), (f"{record.name}_derivative", "f'(x)", DERIVATIVE)):
            _curve(axes, getattr(fa, name), parameters, edges, label, style)
        shown = "".join(f", {p.name} = {v:g}" for p, v in zip(record.parameters, parameters, strict=False))
        axes.set_title(record.name + shown, fontsize=11)
        axes.set_xlabel("x")
        axes.set_xlim(edges[0], edges[-1])
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _curve(axes: Any, function: Any, parameters: tuple[float, ...], edges: list[float], label: str, style: Any) -> None:
    """One line from kink to kink, so that no line is drawn across a jump; a dot is the value at the jump."""
    for place, (start, stop) in enumerate(itertools.pairwise(edges)):
        x = np.linspace(np.nextafter(start, stop), np.nextafter(stop, start), 400)
        axes.plot(x, function(x, *parameters), label=label if place == 0 else None, **style)
    for kink in edges[1:-1]:
        around = np.float64([np.nextafter(kink, -np.inf), kink, np.nextafter(kink, np.inf)])
        left, at, right = function(around, *parameters)
        if abs(right - left) > 1e-6:
            axes.plot(kink, at, "o", markersize=5, color=style["color"])
