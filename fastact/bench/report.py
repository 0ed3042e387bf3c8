"""What a run says: tables, a line a group, and one honest summary line."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from fastact.bench.measure import CONTIGUOUS, COPY, DISTURBED, FROM_X, IN_CACHE, RELU, Cell, Report

__all__ = [
    "SHORT",
    "Panel",
    "Table",
    "accuracy_tables",
    "behind_limit",
    "behind_loop",
    "disturbed",
    "geometric_mean",
    "group_table",
    "groups",
    "kind_of",
    "ns_limit",
    "panels",
    "summary",
    "tables",
]

SHORT = {"onnxruntime": "ort"}
FLUSHED = 1000.0
"""An error this large over subnormal inputs means that they were taken for zero."""


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    footer: str = ""
    behind: frozenset[int] = frozenset()
    """rows in which fastact is not the best"""


def _time(ns: float | None) -> str:
    if ns is None:
        return ""
    return f"{ns:.2f}" if ns < 10 else f"{ns:.1f}" if ns < 100 else f"{ns:,.0f}"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x" if ratio < 100 else f"{ratio:,.0f}x"


def _ulp(value: float) -> str:
    return (
        "inf"
        if math.isinf(value)
        else f"{value:.2f}"
        if value < 1000
        else f"{value:.1e}".replace("e+0", "e").replace("e+", "e")
    )


def _short(library: str) -> str:
    return SHORT.get(library, library)


def _threads(report: Report) -> str:
    return f"{report.plan.threads} thread{'s' if report.plan.threads > 1 else ''}"


def geometric_mean(ratios: Iterable[float]) -> float:
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(math.fsum(logs) / len(logs))


def groups(report: Report) -> dict[tuple[str, str, str], list[Cell]]:
    """The cells that belong side by side: those of one dtype, form and setting, with the setting's name."""
    found: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in report.cells:
        found.setdefault((cell.dtype, cell.form, cell.setting.name), []).append(cell)
    return found


# --- speed ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Panel:
    """Cells that are shown together: the functions of a group, or the shapes of a function along an axis."""

    title: str
    short: str
    first: str
    """what the names are"""
    cells: dict[str, Cell]


def panels(report: Report) -> list[Panel]:
    """What becomes a table or a part of the picture each."""
    found: dict[tuple[str, ...], Panel] = {}
    for cell in report.cells:
        common = f"{cell.dtype}, {cell.form}, {_threads(report)}: ns per element"
        kind = kind_of(report, cell.form, cell.dtype)
        if cell.setting.shape:
            what, first, name = cell.function, "shape", cell.setting.name
        else:
            what, first, name = cell.setting.title, "function", cell.function
        panel = found.setdefault(
            (cell.dtype, cell.form, what), Panel(f"{what}, {common}", f"{what}{',' * bool(kind)}{kind}", first, {})
        )
        panel.cells[name] = cell
    return list(found.values())


def tables(report: Report) -> list[Table]:
    """Each panel's times, and below them its limits where they were asked for; what columns mean is said once."""
    found: list[Table] = []
    explained: dict[str, int] = {}
    for panel in panels(report):
        for table in (_speed_table(report, panel), _limit_table(report, panel)):
            if table is not None:
                explained |= {line: len(found) for line in table.footer.splitlines()}
                found.append(table)
    last = [[line for line, at in explained.items() if at == i] for i in range(len(found))]
    return [replace(table, footer="\n".join(lines)) for table, lines in zip(found, last, strict=True)]


def _speed_table(report: Report, panel: Panel) -> Table:
    """ns per element at best, and how fastact compares with the fastest peer."""
    cells = panel.cells.values()
    libraries = [library for library in report.plan.libraries if any(library in cell.times for cell in cells)]
    from_x = sorted({name for cell in cells for name in cell.beside if name.endswith(FROM_X)})
    views = any(CONTIGUOUS in cell.beside for cell in cells)
    rows, behind = [], set()
    for i, (name, cell) in enumerate(panel.cells.items()):
        ratio, peer = cell.ratio, cell.fastest_peer
        if ratio is not None and ratio < 1:
            behind.add(i)
        row = [name, *(_time(cell.ns(library)) for library in libraries)]
        row += [_time(cell.ns(other)) for other in from_x]
        row += [_time(cell.ns(CONTIGUOUS)), _times(cell.against(CONTIGUOUS))] if views else []
        row.append("" if peer is None else f"{_times(ratio)} {_short(peer)}")
        rows.append(tuple(row))
    header = [panel.first, *map(_short, libraries), *from_x, *(("contig.", "view/c.") if views else ()), "against best"]
    notes = []
    if from_x:
        notes.append(f"{', '.join(from_x)}: with what it saves in the forward pass and is given otherwise")
    if views:
        notes.append("contig.: fastact on a contiguous input; view/c.: its time here as a multiple of that")
    return Table(panel.title, tuple(header), tuple(rows), "\n".join(notes), frozenset(behind))


# --- limits ---------------------------------------------------------------------------------------


def ns_limit(report: Report, cell: Cell) -> float | None:
    """Nanoseconds an element below which no implementation with these instructions gets: the larger of both limits."""
    known = [ns for ns in (cell.ns(COPY), cell.ns_bound(report.plan.threads)) if ns is not None]
    return max(known, default=None)


def behind_limit(report: Report, cell: Cell) -> float | None:
    """The time of fastact as a multiple of the limit."""
    limit, own = ns_limit(report, cell), cell.ns("fastact")
    return None if limit is None or own is None else own / limit


def behind_loop(cell: Cell) -> float | None:
    """The time of fastact as a multiple of the copy or of its own loop in cache, whichever takes longer."""
    copy, loop, own = cell.ns(COPY), cell.ns(IN_CACHE), cell.ns("fastact")
    return None if copy is None or loop is None or own is None else own / max(copy, loop)


def _limit_table(report: Report, panel: Panel) -> Table | None:
    """What fastact takes, as a multiple of a copy and of what the arithmetic needs; None where it was not asked."""
    cells = panel.cells.values()
    if not any(COPY in cell.beside for cell in cells):
        return None
    threads = report.plan.threads
    relu = any(RELU in cell.beside for cell in cells)
    bounds = any(cell.bound is not None for cell in cells)
    loops = any(IN_CACHE in cell.beside for cell in cells)
    rows = []
    for name, cell in panel.cells.items():
        row = [name, _time(cell.ns("fastact")), _time(cell.ns(COPY)), _times(cell.against(COPY))]
        row += [_times(cell.against(RELU))] if relu else []
        if bounds:
            least, own = cell.ns_bound(threads), cell.ns("fastact")
            row.append("" if cell.bound is None else f"{cell.bound.throughput:.2f}")
            row.append("" if cell.bound is None else f"{cell.bound.simulated:.2f}")
            row += [_time(least), _times(own / least if own and least else None)]
        row += [_time(cell.ns(IN_CACHE)), _times(behind_loop(cell))] if loops else []
        row.append(_times(behind_limit(report, cell)))
        rows.append(tuple(row))
    header = [panel.first, "fastact", "copy", "fastact/copy", *(("/relu",) if relu else ())]
    header += ["cycles", "model", "bound", "fastact/bound"] if bounds else []
    header += ["in cache", "/loop"] if loops else []
    notes = ["copy: the fastest copy of as many bytes"]
    notes += ["/relu: as a multiple of fastact's relu"] if relu else []
    if bounds:
        clock = max(cell.hertz or 0.0 for cell in report.cells) / 1e9
        notes += [
            "cycles: what the CPU's ports need for an element, as llvm-mca knows them; model: its run of the loop",
            f"bound: those cycles in ns at the {clock:.2f} GHz seen, on {_threads(report)}",
        ]
    if loops:
        notes += [
            f"in cache: the same loop on {_threads(report)}, over data that stay in the first cache",
            "/loop: fastact as a multiple of the larger of copy and that",
        ]
    notes.append("/limit: fastact as a multiple of the larger of copy and bound")
    return Table(f"limits: {panel.title}", (*header, "/limit"), tuple(rows), "\n".join(notes))


# --- accuracy -------------------------------------------------------------------------------------


def accuracy_tables(report: Report) -> list[Table]:
    """The largest error of each library on the fixed sample: a table a dtype and form."""
    kinds = dict.fromkeys((dtype, form) for (_, form, dtype), errors in report.errors.items() if errors)
    return [_accuracy_table(report, dtype, form) for dtype, form in kinds]


def _accuracy_table(report: Report, dtype: str, form: str) -> Table:
    chosen = {key[0]: errors for key, errors in report.errors.items() if key[1:] == (form, dtype) and errors}
    libraries = [library for library in report.plan.libraries if any(library in errors for errors in chosen.values())]
    rows: list[tuple[str, ...]] = []
    behind: set[int] = set()
    marks: set[str] = set()
    for name, errors in chosen.items():
        row = [name]
        for library in libraries:
            if library not in errors:
                row.append("")
                continue
            error = errors[library]
            mark = "*" if error.wrong_at else ""
            mark += "s" if error.max_ulp_subnormal > FLUSHED else ""
            marks |= set(mark)
            row.append(f"{_ulp(error.max_ulp)} {mark}".rstrip())
        if _more_accurate(errors):
            behind.add(len(rows))
        rows.append(tuple(row))
    meaning = {"*": "* wrong at an infinity or NaN", "s": "s takes subnormal inputs for zero"}
    footer = "; ".join(text for mark, text in meaning.items() if mark in marks)
    title = f"largest error on a fixed sample of {dtype}, {form}, in ULP of the true value"
    return Table(title, ("function", *map(_short, libraries)), tuple(rows), footer, frozenset(behind))


def _more_accurate(errors: dict[str, Any]) -> str | None:
    """The most accurate peer, where it beats fastact by more than a sample's noise."""
    if "fastact" not in errors:
        return None
    own = errors["fastact"].max_ulp
    peers = {library: error.max_ulp for library, error in errors.items() if library != "fastact"}
    best = min(peers, key=lambda library: peers[library], default=None)
    return best if best is not None and peers[best] < 0.99 * own else None


# --- summary --------------------------------------------------------------------------------------


def _names(items: Iterable[str], most: int = 6) -> str:
    listed = list(items)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def kind_of(report: Report, form: str, dtype: str) -> str:
    """What has to be said beside a function's name to tell it from others of the run."""
    parts = [form] * (len(report.plan.forms) > 1) + [dtype] * (len(report.plan.dtypes) > 1)
    return " ".join(["", *parts])


def _at(report: Report, cell: Cell) -> str:
    where = f"{cell.function}{kind_of(report, cell.form, cell.dtype)} at {cell.setting.name}"
    return f"{where} ({_times(cell.ratio)} {_short(cell.fastest_peer or '')})"


def _figures(cells: Iterable[Cell]) -> dict[str, Any]:
    compared = sorted((cell for cell in cells if cell.ratio is not None), key=lambda cell: cell.ratio or 0)
    ratios = [cell.ratio or 0.0 for cell in compared]
    return {
        "cells": len(compared),
        "ahead": sum(ratio >= 1 for ratio in ratios),
        "geometric_mean_ratio": geometric_mean(ratios) if ratios else None,
        "worst_ratio": ratios[0] if ratios else None,
        "worst": compared[0].function if compared else None,
        "worst_peer": compared[0].fastest_peer if compared else None,
    }


def group_table(report: Report) -> Table | None:
    """A line a group: in how many cells fastact is ahead, by how much, and where it is worst. None for one group."""
    found = groups(report)
    if len(found) < 2:
        return None
    limits = any(COPY in cell.beside for cell in report.cells)
    rows, behind = [], set()
    for i, ((dtype, form, setting), cells) in enumerate(found.items()):
        figures = _figures(cells)
        if figures["cells"] == 0:
            continue
        if figures["ahead"] < figures["cells"]:
            behind.add(i)
        row = [f"{dtype} {form} {setting}", f"{figures['ahead']} of {figures['cells']}"]
        row += [_times(figures["geometric_mean_ratio"]), _times(figures["worst_ratio"])]
        row.append(f"{figures['worst']} ({_short(figures['worst_peer'])})")
        if limits:
            gaps = [gap for cell in cells if (gap := behind_limit(report, cell)) is not None]
            row.append(_times(geometric_mean(gaps)) if gaps else "")
        rows.append(tuple(row))
    if not rows:
        return None
    header = ("dtype, form, size", "ahead in", "geometric mean", "worst", "where", *(("/limit",) * limits))
    return Table(f"against the fastest peer, {_threads(report)}", header, tuple(rows), "", frozenset(behind))


def disturbed(report: Report) -> str:
    """Which figures are in doubt, because half of the rounds took much longer than the best; nothing if none are."""
    found = [
        f"{cell.function}{kind_of(report, cell.form, cell.dtype)} at {cell.setting.name} ({_short(library)})"
        for cell in report.cells
        for library, time in cell.times.items()
        if time.disturbed
    ]
    if not found:
        return ""
    every = sum(len(cell.times) for cell in report.cells)
    why = f"half of their rounds took {DISTURBED:g} times as long as the best, or longer"
    return f"the machine did something else during {len(found)} of {every} figures ({why}): {_names(found)}"


def summary(report: Report) -> dict[str, Any]:
    """How fastact stands, as figures and as the line that ends the run."""
    figures = _figures(report.cells)
    ranked = sorted((cell for cell in report.cells if cell.ratio is not None), key=lambda cell: cell.ratio or 0)
    behind = [cell for cell in ranked if (cell.ratio or 0) < 1]
    errors = report.errors
    less_accurate = {key: peer for key, found in errors.items() if (peer := _more_accurate(found))}
    own = {key: found["fastact"] for key, found in errors.items() if "fastact" in found}
    parts = []
    if not report.finished:
        parts.append("interrupted, so far:")
    if not ranked:
        parts.append(f"fastact ran {len(report.cells)} cells and no peer was measured beside it.")
    else:
        parts.append(
            f"fastact is ahead of the fastest peer in {figures['ahead']} of "
            f"{len(ranked)} (function, size) cells, {figures['geometric_mean_ratio']:.2f}x in the geometric mean; "
            f"the worst is {_at(report, ranked[0])}."
        )
        if behind:
            parts.append(f"It is behind in {len(behind)}: {_names(_at(report, cell) for cell in behind)}.")
        given = [cell for cell in behind if (cell.ratio_from_x or 0) >= 1]
        if given:
            named = (f"{cell.function} {_times(cell.ratio_from_x)}" for cell in given)
            parts.append(f"In {len(given)} of these the peer is given what it saved; from x: {_names(named)}.")
    if own:
        worst = max(own, key=lambda key: own[key].max_ulp)
        name = f"{worst[0]}{kind_of(report, worst[1], worst[2])}"
        parts.append(f"Its largest error on the sample is {_ulp(own[worst].max_ulp)} ULP ({name}).")
        if less_accurate:
            said = (
                f"{key[0]}{kind_of(report, key[1], key[2])} ({_short(peer)} {_ulp(errors[key][peer].max_ulp)}, "
                f"fastact {_ulp(own[key].max_ulp)})"
                for key, peer in less_accurate.items()
            )
            parts.append(f"A peer is more accurate in {len(less_accurate)} of {len(own)}: {_names(said)}.")
        wrong = [f"{key[0]}{kind_of(report, key[1], key[2])}" for key, error in own.items() if error.wrong_at]
        if wrong:
            parts.append(f"It is wrong at an infinity or NaN in {_names(wrong)}.")
    failed = list(dict.fromkeys(report.failed))
    if failed:
        parts.append(f"It FAILED in {len(failed)}: {_names(failed)}.")
    return {
        **figures,
        "groups": [
            {"dtype": dtype, "form": form, "setting": setting, **_figures(cells)}
            for (dtype, form, setting), cells in groups(report).items()
        ],
        "behind": [
            {
                "function": cell.function,
                "form": cell.form,
                "dtype": cell.dtype,
                "setting": cell.setting.name,
                "ratio": cell.ratio,
                "peer": cell.fastest_peer,
                "ratio_from_x": cell.ratio_from_x,
            }
            for cell in behind
        ],
        "less_accurate": [
            {"function": name, "form": form, "dtype": dtype, "peer": peer}
            for (name, form, dtype), peer in less_accurate.items()
        ],
        "failed": failed,
        "finished": report.finished,
        "line": " ".join(parts),
    }
