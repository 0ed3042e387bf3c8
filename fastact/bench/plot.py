"""The picture of a run: time an element at each size, the limits, and the largest error, one dot a library."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

from fastact.bench.measure import COPY, FROM_X, Cell, Report
from fastact.bench.report import SHORT, kind_of, panels

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
    shown = panels(report)
    names = list(dict.fromkeys(name for panel in shown for name in panel.cells))[::-1]
    libraries = [library for library in plan.libraries[::-1] if any(library in cell.times for cell in report.cells)]
    kinds = [] if shown[0].first == "shape" else list(dict.fromkeys(key[1:] for key in report.errors))
    count = len(shown) + len(kinds)
    columns = min(count, 4)
    lines = math.ceil(count / columns)
    figure, axes = pyplot.subplots(
        lines,
        columns,
        figsize=(1.7 + 3.0 * columns, lines * (1.2 + 0.21 * max(len(names), 4)) + 0.6),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    flat = list(axes.flat)
    for axis in flat[count:]:
        axis.set_visible(False)
    for axis, panel in zip(flat, shown, strict=False):
        for library in libraries:
            points = [
                (cell.ns(library), names.index(name)) for name, cell in panel.cells.items() if library in cell.times
            ]
            _dots(axis, library, points)
            again = [(ns, names.index(name)) for name, cell in panel.cells.items() if (ns := cell.ns(library + FROM_X))]
            if again:
                _dots(axis, library, again, hollow=True)
        for label, colour, of in (("copy", "0.45", _copy), ("arithmetic", "#8A6D00", _bound)):
            limits = [(ns, names.index(name)) for name, cell in panel.cells.items() if (ns := of(report, cell))]
            if limits:
                _ticks(axis, label, colour, limits)
        axis.set_title(panel.short, fontsize=10, loc="left")
        axis.set_xlabel("ns per element", fontsize=9)
    for axis, (form, dtype) in zip(flat[len(shown) :], kinds, strict=False):
        for library in libraries:
            points = [
                (min(max(errors[library].max_ulp, 0.1), WRONG), names.index(key[0]))
                for key, errors in report.errors.items()
                if key[1:] == (form, dtype) and library in errors and key[0] in names
            ]
            _dots(axis, library, points)
        axis.axvline(1.0, color="0.4", linewidth=0.8, linestyle="--", zorder=0)
        axis.set_title(f"largest error{kind_of(report, form, dtype)}", fontsize=10, loc="left")
        axis.set_xlabel("ULP (0.1 or less at the left edge)", fontsize=9)
    for axis in flat[:count]:
        axis.set_xscale("log")
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.tick_params(axis="x", labelsize=8)
        axis.tick_params(axis="y", length=0)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.grid(axis="both", color="0.92", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.set_ylim(-0.7, len(names) - 0.3)
    handles: dict[str, Any] = {}
    for axis in flat[: len(shown)]:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    order = [SHORT.get(library, library) + from_x for library in plan.libraries for from_x in ("", FROM_X)]
    order += ["copy", "arithmetic"]
    labels = [label for label in order if label in handles]
    threads = f"{plan.threads} thread{'s' if plan.threads > 1 else ''}"
    title = f"{', '.join(plan.forms)}, {', '.join(plan.dtypes)}, {threads}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.legend(
        [handles[label] for label in labels],
        labels,
        loc="outside upper right" if columns > 2 else "outside lower center",
        ncols=len(labels) if columns > 2 else 4,
        frameon=False,
        fontsize=9,
        handletextpad=0.3,
        columnspacing=1.2,
    )
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _copy(report: Report, cell: Cell) -> float | None:
    return cell.ns(COPY)


def _bound(report: Report, cell: Cell) -> float | None:
    return cell.ns_bound(report.plan.threads)


def _ticks(axis: Any, label: str, colour: str, points: list[tuple[Any, int]]) -> None:
    """A limit: a line across the row of each function."""
    axis.scatter(
        [x for x, _ in points],
        [y for _, y in points],
        s=110,
        marker="|",
        color=colour,
        linewidths=1.4,
        label=label,
        zorder=1,
    )


def _dots(axis: Any, library: str, points: list[tuple[Any, int]], hollow: bool = False) -> None:
    """A mark in the row of each function; a hollow one where the library had to start from x."""
    own = library == "fastact"
    name = SHORT.get(library, library)
    axis.scatter(
        [x for x, _ in points],
        [y for _, y in points],
        s=46 if own else 20,
        marker="D" if own else "o",
        facecolors="none" if hollow else COLOURS[library],
        edgecolors=COLOURS[library],
        alpha=1.0 if own else 0.8,
        linewidths=1.2 if hollow else 0,
        label=name + FROM_X if hollow else name,
        zorder=2 if own else 3,  # a peer at the same place stays visible on the larger mark
    )
