"""What a run says: tables, one honest summary line, JSON and CSV."""

from __future__ import annotations

import csv
import json
import math
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from fastact.bench.libraries import available_cores
from fastact.bench.measure import Cell, Report
from fastact.bench.sizes import size_name

__all__ = ["Table", "accuracy_table", "speed_tables", "summary", "to_csv", "to_json"]

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


def _ulp(value: float) -> str:
    return (
        "inf"
        if math.isinf(value)
        else f"{value:.2f}"
        if value < 1000
        else f"{value:.1e}".replace("e+0", "e").replace("e+", "e")
    )


def _libraries(report: Report) -> tuple[str, ...]:
    return tuple(
        library
        for library in report.plan.libraries
        if any(library in cell.times for cell in report.cells)
        or any(library in errors for errors in report.errors.values())
    )


def speed_tables(report: Report) -> list[Table]:
    """One table a size: ns per element at best, and how fastact compares with the fastest peer."""
    plan, libraries = report.plan, _libraries(report)
    tables = []
    for n in plan.sizes:
        cells = [cell for cell in report.cells if cell.requested == n]
        rows, behind = [], set()
        for i, cell in enumerate(cells):
            ratio, peer = cell.ratio, cell.fastest_peer
            if ratio is not None and ratio < 1:
                behind.add(i)
            against = "" if ratio is None or peer is None else f"{ratio:.2f}x {SHORT.get(peer, peer)}"
            rows.append((cell.function, *(_time(cell.ns(library)) for library in libraries), against))
        if rows:
            what = f"{size_name(n)} element{'s' if n > 1 else ''}"
            threads = f"{plan.threads} thread{'s' if plan.threads > 1 else ''}"
            title = f"{what}, {plan.dtype}, {plan.form}, {threads}: ns per element"
            header = (
                "function",
                *(SHORT.get(library, library) for library in libraries),
                "against the fastest peer",
            )
            tables.append(Table(title, header, tuple(rows), behind=frozenset(behind)))
    return tables


def accuracy_table(report: Report) -> Table | None:
    """The largest error of each library on the fixed sample."""
    libraries = _libraries(report)
    rows: list[tuple[str, ...]] = []
    behind: set[int] = set()
    marks: set[str] = set()
    for name, errors in report.errors.items():
        if not errors:
            continue
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
    if not rows:
        return None
    meaning = {"*": "* wrong at an infinity or NaN", "s": "s takes subnormal inputs for zero"}
    footer = "; ".join(text for mark, text in meaning.items() if mark in marks)
    header = ("function", *(SHORT.get(library, library) for library in libraries))
    title = f"largest error on a fixed sample of {report.plan.dtype}, in ULP of the true value"
    return Table(title, header, tuple(rows), footer, frozenset(behind))


def _more_accurate(errors: dict[str, Any]) -> str | None:
    """The most accurate peer, where it beats fastact by more than a sample's noise."""
    if "fastact" not in errors:
        return None
    own = errors["fastact"].max_ulp
    peers = {library: error.max_ulp for library, error in errors.items() if library != "fastact"}
    best = min(peers, key=lambda library: peers[library], default=None)
    return best if best is not None and peers[best] < 0.99 * own else None


def _names(items: Iterable[str], most: int = 6) -> str:
    listed = list(items)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def _at(cell: Cell) -> str:
    peer = cell.fastest_peer or ""
    where = f"{cell.function} at {size_name(cell.requested)}"
    return f"{where} ({cell.ratio:.2f}x {SHORT.get(peer, peer)})"


def summary(report: Report) -> dict[str, Any]:
    """How fastact stands, as figures and as the line that ends the run."""
    compared = sorted((cell for cell in report.cells if cell.ratio is not None), key=lambda cell: cell.ratio or 0)
    behind = [cell for cell in compared if (cell.ratio or 0) < 1]
    less_accurate = {name: peer for name, errors in report.errors.items() if (peer := _more_accurate(errors))}
    own = {name: errors["fastact"] for name, errors in report.errors.items() if "fastact" in errors}
    geometric_mean = math.exp(math.fsum(math.log(c.ratio or 1) for c in compared) / len(compared)) if compared else None
    parts = []
    if not report.finished:
        parts.append("interrupted, so far:")
    if not compared:
        parts.append(f"fastact ran {len(report.cells)} cells and no peer was measured beside it.")
    else:
        parts.append(
            f"fastact is ahead of the fastest peer in {len(compared) - len(behind)} of "
            f"{len(compared)} (function, size) cells, {geometric_mean:.2f}x in the geometric mean; "
            f"the worst is {_at(compared[0])}."
        )
        if behind:
            parts.append(f"It is behind in {len(behind)}: {_names(_at(cell) for cell in behind)}.")
    if own:
        inexact = max(own, key=lambda name: own[name].max_ulp)
        parts.append(f"Its largest error on the sample is {_ulp(own[inexact].max_ulp)} ULP ({inexact}).")
        if less_accurate:
            named = (
                f"{name} ({SHORT.get(peer, peer)} {_ulp(report.errors[name][peer].max_ulp)}, "
                f"fastact {_ulp(own[name].max_ulp)})"
                for name, peer in less_accurate.items()
            )
            parts.append(f"A peer is more accurate in {len(less_accurate)} of {len(own)}: {_names(named)}.")
        wrong = [name for name, error in own.items() if error.wrong_at]
        if wrong:
            parts.append(f"It is wrong at an infinity or NaN in {_names(wrong)}.")
    failed = list(dict.fromkeys(report.failed))
    if failed:
        parts.append(f"It FAILED in {len(failed)}: {_names(failed)}.")
    return {
        "cells": len(compared),
        "ahead": len(compared) - len(behind),
        "geometric_mean_ratio": geometric_mean,
        "worst_ratio": compared[0].ratio if compared else None,
        "behind": [
            {
                "function": c.function,
                "elements": c.elements,
                "ratio": c.ratio,
                "peer": c.fastest_peer,
            }
            for c in behind
        ],
        "less_accurate": less_accurate,
        "failed": failed,
        "finished": report.finished,
        "line": " ".join(parts),
    }


# --- files ----------------------------------------------------------------------------------------


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _versions(libraries: Iterable[str]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in (*libraries, "numba", "llvmlite"):
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = "not installed as a distribution"
    return found


def records(report: Report) -> list[dict[str, Any]]:
    """One flat record for each function, size and library."""
    plan = report.plan
    out = []
    for cell in report.cells:
        for library, time in cell.times.items():
            error = report.errors.get(cell.function, {}).get(library)
            out.append(
                {
                    "function": cell.function,
                    "form": plan.form,
                    "dtype": plan.dtype,
                    "threads": plan.threads,
                    "elements": cell.elements,
                    "shape": "x".join(map(str, cell.shape)),
                    "library": library,
                    "ns_per_element_best": 1e9 * time.best / cell.elements,
                    "ns_per_element_median": 1e9 * time.median / cell.elements,
                    "rounds": time.rounds,
                    "fastest_peer": cell.fastest_peer,
                    "fastact_against_fastest_peer": cell.ratio,
                    "max_ulp": None if error is None else _json_number(error.max_ulp),
                    "max_ulp_subnormal": None if error is None else _json_number(error.max_ulp_subnormal),
                    "wrong_at": None if error is None else " ".join(error.wrong_at),
                }
            )
    return out


def _json_number(value: float) -> float | str:
    return value if math.isfinite(value) else "inf"  # JSON has no infinity


def to_json(report: Report, path: Path, date: str) -> None:
    """Write everything, with what is needed to judge it."""
    plan = report.plan
    document = {
        "format": "fastact-bench-1",
        "date": date,
        "machine": {
            "cpu": _cpu(),
            "cores": available_cores(),
            "architecture": platform.machine(),
            "system": f"{platform.system()} {platform.release()}",
        },
        "versions": _versions(plan.libraries),
        "threads": plan.threads,
        "dtype": plan.dtype,
        "form": plan.form,
        "rounds": plan.rounds,
        "sizes": list(plan.sizes),
        "functions": list(plan.functions),
        "results": records(report),
        "accuracy": {
            name: {
                library: {
                    "max_ulp": _json_number(error.max_ulp),
                    "max_ulp_subnormal": _json_number(error.max_ulp_subnormal),
                    "wrong_at": list(error.wrong_at),
                }
                for library, error in errors.items()
            }
            for name, errors in report.errors.items()
        },
        "notes": report.notes,
        "summary": summary(report),
    }
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def to_csv(report: Report, path: Path) -> None:
    """Write one line for each function, size and library."""
    rows = records(report)
    with path.open("w", newline="") as file:
        if rows:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
