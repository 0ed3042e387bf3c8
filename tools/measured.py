"""Write the README's list of functions and its tables of measurements from the catalogue and ``benchmarks/results``.

The results are files that ``fastact bench --json`` and ``fastact accuracy --save`` wrote; the README says which.
``--check`` writes nothing and exits 1 if the README is out of date.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastact as fa
from fastact.accuracy.judges import Measurement
from fastact.accuracy.results import Results
from fastact.api import LOSSES, ROWS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
RUNS = {
    "float32-64Ki-1-thread": "fastact bench --sizes 64Ki --threads 1 --rounds 60",
    "float32-16M-all-threads": "fastact bench --sizes 16M --rounds 5 --functions NAMES (all elementwise ones)",
}


def functions() -> str:
    """The names of all functions, by kind."""
    rows = [name for name in ROWS if not name.endswith("_vjp")]
    losses = [name for name in LOSSES if not name.endswith("_gradient")]
    return ", ".join(f"`{name}`" for name in [*fa.CATALOGUE, *rows, *losses])


def table(name: str, command: str) -> str:
    """One run as a table: time, the fastest peer's, their ratio, and the largest error on the run's sample."""
    run = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    command = run.get("command", command)
    versions = ", ".join(f"{k} {v}" for k, v in run["versions"].items() if k not in ("fastact", "llvmlite"))
    machine = f"{run['machine']['cpu']}, {run['machine']['cores']} cores, {run['machine']['system'].split('-')[0]}"
    lines = [
        f"`{command}`, {run['date'][:10]}, {machine}; {versions}. Best of the rounds, ns per element.",
        "",
        "| function | fastact | fastest peer | fastact is faster by | error of fastact, ULP | error of torch, ULP |",
        "|---|---|---|---|---|---|",
    ]
    times = {(r["function"], r["library"]): r for r in run["results"]}
    for function in run["functions"]:
        own = times[function, "fastact"]
        peer = own["fastest_peer"]
        best = times[function, peer]["ns_per_element_best"]
        errors = [_error(times.get((function, library))) for library in ("fastact", "torch")]
        ratio = best / own["ns_per_element_best"]
        cells = [function, f"{own['ns_per_element_best']:.2f}", f"{best:.2f} ({peer})", f"{ratio:.2f}x", *errors]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _error(record: dict[str, Any] | None) -> str:
    if record is None or record["max_ulp"] is None:
        return ""
    largest = float(record["max_ulp"])
    text = f"{largest:.2f}" if largest < 1e3 else f"{largest:.0e}"
    return text + (" and wrong at " + ", ".join(record["wrong_at"].split()) if record["wrong_at"] else "")


def accuracy() -> str:
    """What is kept of the sweeps: for each function the largest error of all its forms, a column for a kind of form."""
    results = Results(RESULTS / "accuracy.json")
    rows = list(results.rows.values())
    wrong = sum(sum(row.found.wrong.values()) for row in rows)
    dates = sorted({row.date for row in rows})
    versions = {", ".join(f"{k} {about[k]}" for k in ("numba", "numpy")) for about in results.environments}
    every = sum(row.found.inputs for row in rows)
    lines = [
        f"{len(rows)} sweeps of {every:,} inputs in all, {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}, "
        f"{' or '.join(sorted(versions))}. Wrong zeros, NaNs, infinities and signs: {wrong}.",
        "",
        "| largest error, ULP | float32: f | float32: f′ | float32: by parameters | f correctly rounded "
        "| f′ correctly rounded | float64: f | float64: f′ | float64: by parameters | float16, bfloat16 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in fa.CATALOGUE:
        cells = [name]
        own = [row for row in rows if row.found.name == name and row.plain]
        for dtype in ("float32", "float64"):
            forms = {row.found.form: row.found for row in own if row.found.dtype == dtype}
            parameters = [found for form, found in forms.items() if form.startswith("derivative_")]
            cells += [_largest([forms[form]] if form in forms else []) for form in ("forward", "derivative")]
            cells.append(_largest(parameters))
            if dtype == "float32":
                cells += [_share(forms[form]) if form in forms else "" for form in ("forward", "derivative")]
        cells.append(_largest([row.found for row in own if row.found.dtype in ("float16", "bfloat16")]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _largest(found: Sequence[Measurement]) -> str:
    """Rounded up, so that nothing looks better than it is."""
    return f"{math.ceil(1000 * max(m.max_ulp for m in found)) / 1000:.3f}" if found else ""


def _share(found: Measurement) -> str:
    return f"{int(10_000 * found.share) / 100:.2f} %"


def readme(text: str) -> str:
    """The README with what stands between its markers made anew."""
    blocks = {"functions": functions(), "accuracy": accuracy()}
    blocks |= {name: table(name, command) for name, command in RUNS.items()}
    for name, block in blocks.items():
        pattern = rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda m, b=block: f"{m[1]}{b}\n{m[2]}", text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"README.md needs one block between <!-- {name} --> and <!-- end -->")
    return text


def main() -> int:
    """Write the README or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the README is out of date")
    before = README.read_text("utf-8")
    after = readme(before)
    if parser.parse_args().check:
        if after == before:
            return 0
        print("README.md is out of date: run python tools/measured.py", file=sys.stderr)
        return 1
    README.write_text(after, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
