"""The picture of a run: time an element at each size, and the largest error, one dot a library."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

from fastact.bench.measure import Report
from fastact.bench.report import SHORT
from fastact.bench.sizes import size_name

__all__ = ["SUFFIXES", "draw", "require_matplotlib"]

SUFFIXES = (".png", ".svg", ".pdf")

# Okabe and Ito's colours, which stay apart for colour-blind readers; black is fastact's alone.
COLOURS = {
    "fastact": "#000000",
    "numpy": "#0072B2",
    "scipy": "#56B4E9",
    "numexpr": "#E69F00",
    "torch": "#D55E00",
    "jax": "#009E73",
    "onnxruntime": "#CC79A7",
}
WRONG = 3e8
"""Where an infinite error is drawn."""


def require_matplotlib() -> Any:
    """matplotlib, or an ImportError that says how to get it."""
    try:
        matplotlib = importlib.import_module("matplotlib")
    except ImportError as error:
        raise ImportError("argument --plot: drawing needs matplotlib: pip install fastact[bench]") from error
    matplotlib.use("Agg")
    return importlib.import_module("matplotlib.pyplot")


def draw(report: Report, path: Path) -> None:
    """Draw `report` into `path`."""
    pyplot = require_matplotlib()
    plan = report.plan
    names = list(dict.fromkeys(cell.function for cell in report.cells))[::-1]
    sizes = [n for n in plan.sizes if any(cell.requested == n for cell in report.cells)]
    libraries = [library for library in plan.libraries[::-1] if any(library in cell.times for cell in report.cells)]
    panels = len(sizes) + bool(report.errors)
    columns = min(panels, 4)
    lines = math.ceil(panels / columns)
    figure, axes = pyplot.subplots(
        lines,
        columns,
        figsize=(1.5 + 3.0 * columns, lines * (1.2 + 0.21 * max(len(names), 4)) + 0.6),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    flat = list(axes.flat)
    for axis in flat[panels:]:
        axis.set_visible(False)
    for axis, n in zip(flat, sizes, strict=False):
        for library in libraries:
            points = [
                (cell.ns(library), names.index(cell.function))
                for cell in report.cells
                if cell.requested == n and library in cell.times
            ]
            _dots(axis, library, points)
        axis.set_title(f"{size_name(n)} element{'s' if n > 1 else ''}", fontsize=10, loc="left")
        axis.set_xlabel("ns per element")
    if report.errors:
        axis = flat[len(sizes)]
        for library in libraries:
            points = [
                (min(max(errors[library].max_ulp, 0.1), WRONG), names.index(name))
                for name, errors in report.errors.items()
                if library in errors and name in names
            ]
            _dots(axis, library, points)
        axis.axvline(1.0, color="0.4", linewidth=0.8, linestyle="--", zorder=0)
        axis.set_title("largest error", fontsize=10, loc="left")
        axis.set_xlabel("ULP (0.1 or less at the left edge)")
    for axis in flat[:panels]:
        axis.set_xscale("log")
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.tick_params(axis="x", labelsize=8)
        axis.grid(axis="both", color="0.92", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.set_ylim(-0.7, len(names) - 0.3)
    handles, labels = flat[0].get_legend_handles_labels()
    threads = f"{plan.threads} thread{'s' if plan.threads > 1 else ''}"
    figure.suptitle(f"{plan.form}, {plan.dtype}, {threads}", x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.legend(
        handles[::-1],
        labels[::-1],
        loc="outside upper right",
        ncols=len(libraries),
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _dots(axis: Any, library: str, points: list[tuple[Any, int]]) -> None:
    own = library == "fastact"
    axis.scatter(
        [x for x, _ in points],
        [y for _, y in points],
        s=46 if own else 20,
        marker="D" if own else "o",
        color=COLOURS[library],
        alpha=1.0 if own else 0.8,
        linewidths=0,
        label=SHORT.get(library, library),
        zorder=2 if own else 3,  # a peer at the same place stays visible on the larger mark
    )
