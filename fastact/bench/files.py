"""A run as JSON and as CSV."""

from __future__ import annotations

import csv
import json
import math
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from fastact.bench import limits
from fastact.bench.libraries import available_cores
from fastact.bench.measure import CONTIGUOUS, COPY, FROM_X, IN_CACHE, RELU, Cell, Report
from fastact.bench.report import behind_limit, behind_loop, summary

__all__ = ["FORMAT", "records", "to_csv", "to_json"]

FORMAT = "fastact-bench-2"


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
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


def _of_cell(report: Report, cell: Cell) -> dict[str, Any]:
    """What is said of a cell as a whole: limits, views and saved outputs; None where it was not measured."""
    from_x = [name for name in cell.beside if name.endswith(FROM_X)]
    return {
        "fastest_peer": cell.fastest_peer,
        "fastact_against_fastest_peer": cell.ratio,
        "copy_ns_per_element": cell.ns(COPY),
        "fastact_over_copy": cell.against(COPY),
        "fastact_over_relu": cell.against(RELU),
        "bound_cycles_per_element": None if cell.bound is None else cell.bound.throughput,
        "model_cycles_per_element": None if cell.bound is None else cell.bound.simulated,
        "instructions_per_element": None if cell.bound is None else cell.bound.instructions,
        "clock_ghz": None if cell.hertz is None else cell.hertz / 1e9,
        "bound_ns_per_element": cell.ns_bound(report.plan.threads),
        "fastact_over_limit": behind_limit(report, cell),
        "in_cache_ns_per_element": cell.ns(IN_CACHE),
        "fastact_over_loop": behind_loop(cell),
        "contiguous_ns_per_element": cell.ns(CONTIGUOUS),
        "fastact_over_contiguous": cell.against(CONTIGUOUS),
        "peers_given_what_they_saved": " ".join(name.removesuffix(FROM_X) for name in from_x),
        "their_ns_per_element_from_x": min((ns for name in from_x if (ns := cell.ns(name)) is not None), default=None),
        "fastact_against_fastest_peer_from_x": cell.ratio_from_x,
    }


def records(report: Report) -> list[dict[str, Any]]:
    """One flat record for each function, form, dtype, setting and library."""
    out = []
    for cell in report.cells:
        shared = _of_cell(report, cell)
        for library, time in cell.times.items():
            error = report.errors.get((cell.function, cell.form, cell.dtype), {}).get(library)
            out.append(
                {
                    "function": cell.function,
                    "form": cell.form,
                    "dtype": cell.dtype,
                    "threads": report.plan.threads,
                    "setting": cell.setting.name,
                    "layout": cell.setting.layout,
                    "axis": cell.setting.axis,
                    "elements": cell.elements,
                    "shape": "x".join(map(str, cell.shape)),
                    "library": library,
                    "ns_per_element_best": 1e9 * time.best / cell.elements,
                    "ns_per_element_median": 1e9 * time.median / cell.elements,
                    "rounds": time.rounds,
                    **shared,
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
        "format": FORMAT,
        "date": date,
        "command": plan.command,
        "machine": {
            "cpu": _cpu(),
            "cores": available_cores(),
            "architecture": platform.machine(),
            "system": f"{platform.system()} {platform.release()}",
        },
        "versions": _versions(plan.libraries),
        "llvm_mca": plan.limits and limits.analyser() is not None,
        "threads": plan.threads,
        "dtypes": list(plan.dtypes),
        "forms": list(plan.forms),
        "rounds": plan.rounds,
        "settings": [setting.name for setting in plan.settings],
        "functions": list(plan.functions),
        "results": records(report),
        "accuracy": [
            {
                "function": name,
                "form": form,
                "dtype": dtype,
                "library": library,
                "max_ulp": _json_number(error.max_ulp),
                "max_ulp_subnormal": _json_number(error.max_ulp_subnormal),
                "wrong_at": " ".join(error.wrong_at),
            }
            for (name, form, dtype), errors in report.errors.items()
            for library, error in errors.items()
        ],
        "notes": report.notes,
        "summary": summary(report),
    }
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", "utf-8")


def to_csv(report: Report, path: Path) -> None:
    """Write one line for each function, form, dtype, setting and library."""
    rows = records(report)
    with path.open("w", newline="", encoding="utf-8") as file:
        if rows:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
