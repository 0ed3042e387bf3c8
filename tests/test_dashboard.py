"""The asv suite as a dashboard: everything in it has a name, a value and links that lead somewhere."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from benchmarks import publish
from benchmarks.accuracy import Accuracy, AccuracyOfRows

ROOT = Path(__file__).parents[1]
MODULES = ("accuracy", "calls", "memory", "speed", "startup")
KINDS = ("time_", "track_", "peakmem_", "timeraw_")


def suites() -> dict[str, Any]:
    """The classes of benchmarks, with what they measure."""
    found = {}
    for module in MODULES:
        for name, cls in inspect.getmembers(import_module(f"benchmarks.{module}"), inspect.isclass):
            measured = [f for n, f in inspect.getmembers(cls) if n.startswith(KINDS)]
            if measured and cls.__module__ == f"benchmarks.{module}":
                found[f"{module}.{name}"] = (cls, measured)
    return found


def test_every_benchmark_has_a_name_of_its_own() -> None:
    names = [function.pretty_name for _, measured in suites().values() for function in measured]
    assert len(names) > 20
    assert len(set(names)) == len(names)
    assert all(len(name) <= 45 for name in names), "the grid cuts longer ones off"


def test_no_error_is_not_available() -> None:
    """A combination of parameters without a figure is a row of n/a."""
    pytest.importorskip("gmpy2")
    elementwise, rows = Accuracy(), AccuracyOfRows()
    found = [elementwise.track_max_ulp(*each) for each in itertools.product(*Accuracy.params)]
    found += [rows.track_max_ulp(*each) for each in itertools.product(*AccuracyOfRows.params)]
    assert all(map(math.isfinite, found))


def test_links_to_commits_lead_to_one() -> None:
    config = json.loads((ROOT / "asv.conf.json").read_text("utf-8"))
    page, _, anchor = config["show_commit_url"].partition("#")
    assert (page, anchor) == (config["project_url"], "") == ("commits.html", "")
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        pytest.skip("this is no checkout")
    head = asked.stdout.strip()
    text = publish.commits([head])
    assert f'<section id="{head}"><a id="{head[:8]}">' in text
