"""The bars: their commands are commands, and their judges judge."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

import fastact as fa
from benchmarks import bars
from benchmarks.bars import BARS, MODULES, SIXTEEN, SOFTMAXES
from fastact.bench.arrays import BARS_OF_ROWS
from fastact.bench.command import _chosen_functions, add_arguments


@pytest.mark.parametrize("name", BARS)
def test_a_command_is_one(name: str) -> None:
    bar = BARS[name]
    assert bar.judges
    if bar.command in MODULES:
        return
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = parser.parse_args(shlex.split(bar.command))
    assert _chosen_functions(options.functions, options.rows is not None)


def test_the_functions_are_there() -> None:
    assert len(set(SIXTEEN)) == 16
    assert set(SIXTEEN) <= set(fa.CATALOGUE)
    assert all(hasattr(fa, name) for name in SOFTMAXES)


def test_every_shape_has_a_bar() -> None:
    for name in ("rows-1-thread", "rows-all-threads"):
        (judge,) = BARS[name].judges
        found = list(judge([record(setting=shape) for shape in BARS_OF_ROWS.split(",")]))
        assert len(found) == len(BARS_OF_ROWS.split(","))


def record(**given: Any) -> dict[str, Any]:
    return {
        "function": "relu",
        "form": "forward",
        "dtype": "float32",
        "setting": "64Ki",
        "library": "fastact",
        "fastest_peer": "torch",
        "fastact_against_fastest_peer": 2.0,
        "ns_per_element_best": 1.0,
        **given,
    }


def test_the_worst_function_and_the_mean_are_judged() -> None:
    slow = record(function="tanh", fastact_against_fastest_peer=0.5)
    worst, mean = bars.ahead(1.0, 2.0)([record(), slow, record(library="torch")])
    assert (worst.met, worst.found) == (False, "0.50x: tanh (torch)")
    assert (mean.met, mean.found) == (False, "1.00x")
    worst, mean = bars.ahead(0.5, 2.0, ("relu",))([record(), slow])
    assert worst.met
    assert mean.met
    assert not list(bars.ahead()([record(fastact_against_fastest_peer=None)]))


def test_other_figures_are_judged() -> None:
    (found,) = bars.at_most("fastact_over_relu", 1.25)([record(fastact_over_relu=1.3), record(fastact_over_relu=None)])
    assert not found.met
    (found,) = bars.relu_over_torch(1.2)([record(), record(library="torch", ns_per_element_best=1.3)])
    assert found.met
    (found,) = bars.figure("seconds", 0.3, "s")([{"what": "import", "seconds": 0.2}])
    assert (found.met, found.found) == (True, "0.2 s")


def test_commands_are_listed_and_kept_results_judged(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert bars.main(["--list", "startup", "rows-1-thread"]) == 0
    out = capsys.readouterr().out
    assert "python -m benchmarks.startup" in out
    assert "fastact bench --rows" in out
    monkeypatch.setattr(bars, "RESULTS", tmp_path)
    assert bars.main(["--check", "startup"]) == 1
    assert "not measured" in capsys.readouterr().out
    (tmp_path / "startup.json").write_text(
        json.dumps({"results": [{"what": "x", "seconds_above_numpy": 0.1}]}), "utf-8"
    )
    assert bars.main(["--check", "startup"]) == 0
    assert "all bars are met" in capsys.readouterr().out
    (tmp_path / "rows-1-thread.json").write_text(
        json.dumps({"format": "fastact-bench-1", "results": [{"x": 1}]}), "utf-8"
    )
    assert bars.main(["--check", "rows-1-thread"]) == 1
    assert "measured by an older version (fastact-bench-1)" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        bars.main(["--check", "no-such-bar"])


def test_measuring_keeps_the_results(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bars, "RESULTS", tmp_path)
    quick = bars.Bar("a look", "--functions relu --sizes 1 --libraries numpy --no-accuracy --quick", (bars.ahead(0.0),))
    made = [{"what": "gelu(x)", "over_numpy_exp": 1.0}]
    monkeypatch.setitem(BARS, "quick", quick)
    monkeypatch.setitem(MODULES, "calls", lambda: made)
    assert bars.main(["quick", "calls"]) == 0
    assert json.loads((tmp_path / "calls.json").read_text("utf-8"))["results"] == made
    command = json.loads((tmp_path / "quick.json").read_text("utf-8"))["command"]
    assert command == "fastact bench --functions relu --sizes 1 --libraries numpy --quick --no-accuracy"
    assert "quick: a look" in capsys.readouterr().out
