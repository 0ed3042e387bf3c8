"""The main job: ``fastact bench`` measures, reports, writes what it promises and refuses what it
cannot do."""

from __future__ import annotations

import argparse
import csv
import importlib
import importlib.util
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact.bench import cases, command, libraries, limits, measure, report
from fastact.bench.arrays import Setting
from fastact.bench.command import add_arguments, run
from fastact.bench.formulas import Binary
from fastact.bench.measure import Cell, Plan, Report, Time
from fastact.bench.onnx_model import one_node_model
from fastact.bench.peers import CONSTANTS, PEERS
from fastact.bench.sample import Error, measure_error, truth
from fastact.bench.sizes import parse_size, size_name

SHORT = ["--quick", "--rounds", "1", "--sizes", "1,1000"]


@pytest.fixture(autouse=True)
def _restored_threads() -> Any:
    threads = fa.get_num_threads()
    yield
    fa.set_num_threads(threads)


def bench(*arguments: str) -> int:
    parser = argparse.ArgumentParser("fastact bench")
    add_arguments(parser)
    try:
        return run(parser.parse_args(arguments))
    except SystemExit as stop:  # argparse's own errors
        return int(stop.code or 0)


# --- a run -------------------------------------------------------------------------------------


def test_run_beside_numpy_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status = bench(*SHORT, "--libraries", "numpy", "--functions", "relu,leaky_relu", "--threads", "1")
    out = capsys.readouterr().out
    assert status == 0
    assert "1 element, float32, forward, 1 thread" in out
    assert "1K elements" in out
    last = out.rstrip().splitlines()[-1]
    assert last.startswith("fastact is ahead of the fastest peer in ")
    assert "of 4 (function, size) cells" in last


def test_run_without_any_peer(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*SHORT, "--libraries", "fastact", "--functions", "relu") == 0
    assert "no peer was measured" in capsys.readouterr().out


def test_only_what_is_installed_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases, "installed", lambda library: library in ("fastact", "numpy"))
    assert bench(*SHORT, "--functions", "relu") == 0
    assert "fastact beside numpy;" in capsys.readouterr().out


def test_json_holds_everything_that_is_needed_to_judge_it(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    options = ["--libraries", "numpy", "--functions", "relu,softsign", "--json", str(file)]
    assert bench(*SHORT, *options, "--threads", "1", "--form", "with_derivative") == 0
    document = json.loads(file.read_text("utf-8"), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert document["threads"] == 1
    assert document["forms"] == ["with_derivative"]
    assert document["dtypes"] == ["float32"]
    assert document["settings"] == ["1", "1K"]
    options_of_it = (
        "--functions relu,softsign --sizes 1,1K --form with_derivative --threads 1 --libraries numpy --rounds 1"
    )
    assert document["command"] == f"fastact bench {options_of_it} --quick"
    assert document["machine"]["cpu"]
    assert document["machine"]["cores"] >= 1
    assert document["versions"]["numpy"] == np.__version__
    assert document["date"].endswith("+00:00")
    records = document["results"]
    found = {(r["function"], r["elements"], r["library"]) for r in records}
    assert found == {(f, n, lib) for f in ("relu", "softsign") for n in (1, 1000) for lib in ("fastact", "numpy")}
    assert all(0 < r["ns_per_element_best"] <= r["ns_per_element_median"] for r in records)
    errors = {(e["function"], e["library"]): e for e in document["accuracy"]}
    assert errors["softsign", "fastact"]["max_ulp"] < 1
    assert {r["max_ulp"] for r in records if (r["function"], r["library"]) == ("softsign", "fastact")} == {
        errors["softsign", "fastact"]["max_ulp"]
    }
    assert document["summary"]["cells"] == 4
    assert document["summary"]["finished"]


def test_csv_has_one_line_a_measurement(tmp_path: Path) -> None:
    file = tmp_path / "bench.csv"
    assert bench(*SHORT, "--libraries", "numpy", "--functions", "relu", "--csv", str(file)) == 0
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    assert [(row["elements"], row["library"]) for row in rows] == [
        ("1", "fastact"),
        ("1", "numpy"),
        ("1000", "fastact"),
        ("1000", "numpy"),
    ]
    assert all(float(row["ns_per_element_best"]) > 0 for row in rows)


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "bench.png"
    assert bench(*SHORT, "--libraries", "numpy", "--functions", "relu", "--plot", str(file)) == 0
    assert file.read_bytes()[:4] == b"\x89PNG"


def test_an_interrupted_run_keeps_what_it_has(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = measure._measure_cell

    def interrupted(report: Report, name: str, form: str, dtype: str, setting: Setting) -> None:
        if setting.elements > 1:
            raise KeyboardInterrupt
        original(report, name, form, dtype, setting)

    monkeypatch.setattr(measure, "_measure_cell", interrupted)
    file = tmp_path / "bench.json"
    options = ["--libraries", "numpy", "--functions", "relu", "--json", str(file)]
    assert bench(*SHORT, *options) == 130
    assert len(json.loads(file.read_text("utf-8"))["results"]) == 2
    assert "interrupted, so far:" in capsys.readouterr().out


def test_a_peer_that_fails_is_noted_and_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setitem(libraries.BUILDERS, "numpy", broken)
    assert bench(*SHORT, "--libraries", "numpy", "--functions", "relu") == 0
    assert "note: numpy relu (forward, float32): out of order" in capsys.readouterr().out


def test_a_failure_of_fastact_is_reported_and_the_rest_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = libraries.BUILDERS["fastact"]

    def half_broken(name: str, *rest: Any) -> Any:
        if name == "relu6":
            raise RuntimeError("no such kernel")
        return original(name, *rest)

    monkeypatch.setitem(libraries.BUILDERS, "fastact", half_broken)
    assert bench(*SHORT, "--libraries", "numpy", "--functions", "relu6,relu") == 1
    out = capsys.readouterr().out
    assert "note: fastact relu6 (forward, float32): no such kernel" in out
    assert "It FAILED in 1: relu6." in out
    assert "of 2 (function, size) cells" in out


def test_without_rich_and_without_the_oracles(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec

    def no_rich(name: str, package: str | None = None) -> Any:
        return None if name.startswith("rich") else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", no_rich)

    def no_truth(*_: object) -> None:
        raise ImportError("needs mpmath")

    monkeypatch.setattr(measure, "truth", no_truth)
    assert bench(*SHORT, "--libraries", "numpy", "--functions", "relu") == 0
    captured = capsys.readouterr()
    assert "note: no max ULP: needs mpmath" in captured.out
    assert "[1/3] relu: accuracy" in captured.err


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--functions", "rellu"],
            "argument --functions: unknown function 'rellu': did you mean relu",
        ),
        (["--functions", ","], "argument --functions: no function given"),
        (["--sizes", "0"], "argument --sizes: '0' is out of range"),
        (["--sizes", "12.5"], "argument --sizes: '12.5' is not a size"),
        (["--sizes", "5000M"], "argument --sizes: '5000M' is out of range"),
        (["--dtype", "float8"], "argument --dtype: invalid choice: 'float8'"),
        (["--dtype", ","], "argument --dtype: invalid choice: ''"),
        (["--form", "sideways"], "argument --form: invalid choice: 'sideways'"),
        (["--layout", "spiral"], "argument --layout: invalid choice: 'spiral' (choose from contiguous, "),
        (["--rows", "3x"], "argument --rows: '3x' is not a shape: write 1024x1024"),
        (["--rows", "3x3@2"], "argument --rows: '3x3@2': there is no axis 2 in 2 dimensions"),
        (["--rows", "3x3", "--sizes", "9"], "argument --rows: shapes say how many elements"),
        (["--rows", "3x3", "--functions", "relu"], "argument --functions: unknown function 'relu'"),
        (["--threads", "0"], "argument --threads: '0' is not a number from 1 to 1024"),
        (["--rounds", "many"], "argument --rounds: 'many' is not a number"),
        (["--libraries", "tensorflow"], "argument --libraries: unknown library 'tensorflow'"),
        (["--json", "no/such/place.json"], "argument --json: no directory 'no/such'"),
        (["--csv", "."], "argument --csv: '.' is a directory"),
        (["--plot", "speed.xls"], "argument --plot: 'speed.xls' does not end in .png"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*arguments) == 2
    assert message in capsys.readouterr().err


def test_a_library_that_is_not_installed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "installed", lambda library: library == "fastact")
    assert bench("--libraries", "torch") == 2
    assert "argument --libraries: 'torch' is not installed" in capsys.readouterr().err


def test_plot_without_matplotlib(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert bench("--plot", str(tmp_path / "x.png")) == 2
    assert "pip install fastact[bench]" in capsys.readouterr().err


# --- the parts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("10_000", 10_000), ("64Ki", 65536), ("1M", 10**6), ("2mi", 2**21)],
)
def test_sizes(text: str, number: int) -> None:
    assert parse_size(text) == number
    assert parse_size(size_name(number)) == number


def test_second_names_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*SHORT, "--libraries", "numpy", "--functions", "expit,sigmoid") == 0
    assert "of 2 (function, size) cells" in capsys.readouterr().out


def test_kinds_of_functions() -> None:
    both = ("elementwise", "rows")
    chosen = [command._chosen_functions((kind,), False) for kind in both]
    assert chosen == [cases.functions(rows=False), cases.functions(rows=True)]
    assert command._chosen_functions(both, False) == cases.functions() == command._chosen_functions(None, False)


def test_expressions_name_only_what_is_defined() -> None:
    known = {*CONSTANTS, "x", "exp", "expm1", "log1p", "tanh", "abs", "where"}
    for name, row in PEERS.items():
        for expression in row.numexpr or ():
            if expression is not None:
                assert set(compile(expression, name, "eval").co_names) <= known, name


def test_one_node_model_is_what_onnx_would_write() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(
        one_node_model("LeakyRelu", {"alpha": 0.25}, {"c": 2.0}, "float32", (3, 4), domain="com.microsoft")
    )
    (node,) = model.graph.node
    assert (node.op_type, list(node.input), list(node.output)) == ("LeakyRelu", ["x", "c"], ["y"])
    assert onnx.helper.get_attribute_value(node.attribute[0]) == 0.25
    assert onnx.numpy_helper.to_array(model.graph.initializer[0]) == np.float32(2.0)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [3, 4]
    negative = onnx.load_from_string(one_node_model("Softmax", {"axis": -1}, {}, "float64", (2,)))
    assert onnx.helper.get_attribute_value(negative.graph.node[0].attribute[0]) == -1
    onnx.checker.check_model(negative)


def test_inputs_are_the_same_at_every_call_and_aligned() -> None:
    x, g = cases.inputs("relu", "float32", 100_001)
    again, _ = cases.inputs("relu", "float32", 100_001)
    np.testing.assert_array_equal(x, again)
    assert x.shape == g.shape == (100_001,)
    assert x.ctypes.data % 64 == 0
    assert cases.inputs("softmax", "float64", 10_000)[0].shape == (9, 1024)


def test_prepare_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="unknown library 'blas'"):
        cases.prepare("relu", "forward", "blas", "float32", 1)
    with pytest.raises(ValueError, match="unknown form 'sideways'"):
        cases.prepare("relu", "sideways", "numpy", "float32", 1)
    with pytest.raises(cases.Missing, match="numpy has no gelu"):
        cases.prepare("gelu", "forward", "numpy", "float32", 1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numpy_formula_of_relu_is_exact_on_the_sample(dtype: str) -> None:
    pytest.importorskip("mpmath")
    true = truth("relu", "forward", dtype)
    assert true is not None
    case = cases.prepare_on("relu", "forward", "numpy", true.x, true.g)
    assert measure_error(case, true) == Error(0.0, 0.0, ())


def _made_up(
    times: dict[str, float], errors: dict[str, float], beside: dict[str, float] | None = None, form: str = "forward"
) -> Report:
    setting = Setting(1)
    plan = Plan(("relu",), (setting,), tuple(times), ("float32",), (form,), 1, 1, 0.1, 0.1)
    taken, other = ({k: Time(v, v, 1) for k, v in some.items()} for some in (times, beside or {}))
    cell = Cell("relu", form, "float32", setting, (1,), taken, other)
    made = {("relu", form, "float32"): {k: Error(v, v, ()) for k, v in errors.items()}}
    return Report(plan, [cell], made, finished=True)


def test_summary_says_where_fastact_is_behind() -> None:
    behind = report.summary(_made_up({"fastact": 2.0, "torch": 1.0, "numpy": 4.0}, {"fastact": 0.9, "torch": 0.5}))
    assert behind["ahead"] == 0
    assert behind["worst_ratio"] == 0.5
    assert "ahead of the fastest peer in 0 of 1" in behind["line"]
    assert "behind in 1: relu at 1 (0.50x torch)" in behind["line"]
    assert "A peer is more accurate in 1 of 1: relu (torch 0.50, fastact 0.90)" in behind["line"]
    ahead = report.summary(_made_up({"fastact": 1.0, "torch": 3.0}, {"fastact": 0.5, "torch": 2.0}))
    assert math.isclose(ahead["geometric_mean_ratio"], 3.0)
    assert "behind" not in ahead["line"]
    assert "more accurate" not in ahead["line"]


def test_summary_says_where_a_peer_was_given_what_it_saved() -> None:
    made = _made_up({"fastact": 2.0, "torch": 1.0, "jax": 5.0}, {}, {"torch from x": 3.0}, form="vjp")
    found = report.summary(made)
    assert found["behind"][0]["ratio"] == 0.5
    assert found["behind"][0]["ratio_from_x"] == 1.5
    assert "In 1 of these the peer is given what it saved; from x: relu 1.50x." in found["line"]
    (table,) = report.tables(made)
    assert table.header == ("function", "fastact", "torch", "jax", "torch from x", "against best")
    assert table.behind == {0}
    made.cells[0].beside["torch from x"] = Time(1.5, 1.5, 1)
    assert "given what it saved" not in report.summary(made)["line"]


def test_each_group_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--libraries", "numpy", "--functions", "relu", "--dtype", "float32,float64", "--form", "forward,vjp"]
    assert bench(*SHORT, *options, "--no-accuracy", "--brief") == 0
    out = capsys.readouterr().out
    assert "ns per element" not in out
    assert "largest error" not in out
    for group in ("float32 forward 1 ", "float32 vjp 1K ", "float64 forward 1K ", "float64 vjp 1 "):
        assert group in out
    assert "of 8 (function, size) cells" in out
    assert "the worst is relu " in out


def test_rows_have_shapes_and_an_axis(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    options = ["--rows", "6x8x5@1,40x3", "--functions", "softmax,logsumexp", "--libraries", "numpy", "--limits"]
    assert bench("--quick", "--rounds", "1", *options, "--json", str(file)) == 0
    out = capsys.readouterr().out
    assert "softmax, float32, forward" in out
    assert "6x8x5@1" in out
    document = json.loads(file.read_text("utf-8"))
    assert {(r["function"], r["setting"], r["axis"], r["elements"]) for r in document["results"]} == {
        (name, *rest) for name in ("softmax", "logsumexp") for rest in (("6x8x5@1", 1, 240), ("40x3", -1, 120))
    }
    assert all(r["fastact_over_copy"] > 0 for r in document["results"])
    assert all(r["bound_ns_per_element"] is None for r in document["results"])


def test_layouts_are_beside_a_contiguous_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "layouts.csv"
    options = ["--layout", "contiguous,strided2,transposed", "--functions", "relu", "--libraries", "numpy"]
    assert bench(*SHORT, *options, "--no-accuracy", "--csv", str(file)) == 0
    assert "1K elements, strided2, float32, forward" in capsys.readouterr().out
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    assert {row["layout"] for row in rows} == {"contiguous", "strided2", "transposed"}
    assert all((row["fastact_over_contiguous"] != "") == (row["layout"] != "contiguous") for row in rows)


def test_limits_without_llvm_mca_say_so_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "analyser", lambda: None)
    limits.bound_of.cache_clear()
    assert bench(*SHORT, "--libraries", "numpy", "--functions", "relu,relu6", "--limits", "--no-accuracy") == 0
    out = capsys.readouterr().out
    assert out.count("note: no bound of the arithmetic: llvm-mca is not installed") == 1
    assert "limits: 1K elements, float32, forward" in out
    assert "fastact/copy" in out


@pytest.mark.skipif(limits.analyser() is None, reason="llvm-mca is not installed")
def test_limits_with_llvm_mca(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "limits.json"
    limits.bound_of.cache_clear()
    options = ["--libraries", "numpy", "--functions", "relu,elu", "--limits", "--json", str(file), "--threads", "1"]
    assert bench(*SHORT, *options, "--plot", str(tmp_path / "limits.png")) == 0
    out = capsys.readouterr().out
    assert "fastact/bound" in out
    document = json.loads(file.read_text("utf-8"))
    assert document["llvm_mca"]
    for r in document["results"]:
        assert r["fastact_over_limit"] > 0
        if r["elements"] == 1:  # the throughput of a loop says nothing of one element
            assert r["bound_ns_per_element"] is None
        else:
            assert r["bound_ns_per_element"] == pytest.approx(r["bound_cycles_per_element"] / r["clock_ghz"])


def test_formulas_leave_their_input_alone() -> None:
    for name, row in PEERS.items():
        for formula in row.numpy or ():
            if formula is None or isinstance(formula, Binary | np.ufunc):
                continue
            x, _ = cases.inputs(name, "float32", 2048)
            before = x.copy()
            out = np.empty(x.shape[:-1] if row.reduces else x.shape, "f4")
            call: Callable[..., None] = formula
            with np.errstate(all="ignore"):
                call(x, out, np.empty_like(x))
            np.testing.assert_array_equal(x, before, err_msg=name)


# --- a machine that does something else ------------------------------------------------------------


def test_disturbed_figures_are_named() -> None:
    made = _made_up({"fastact": 1.0, "torch": 2.0}, {})
    assert report.disturbed(made) == ""
    made.cells[0].times["torch"] = Time(2.0, 3.1, 5)
    assert report.disturbed(made).startswith("the machine did something else during 1 of 2 figures")
    assert report.disturbed(made).endswith(": relu at 1 (torch)")


@pytest.mark.parametrize(("later", "rounds"), [(1.0, 3), (2.0, 6)])
def test_a_disturbed_cell_gets_as_many_rounds_again(later: float, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = iter([1.0, *[later] * 99])
    monkeypatch.setattr(measure, "_calls_a_batch", lambda call, seconds: 1)
    monkeypatch.setattr(measure, "_batch", lambda call, number: 1e-6 * next(batches))
    settings = (Setting(1),)
    plan = Plan(("relu",), settings, ("fastact",), ("float32",), ("forward",), 1, 3, 1e-4, 1.0, accuracy=False)
    made = Report(plan)
    measure.measure(made, lambda what: None)
    assert made.cells[0].times["fastact"].rounds == rounds


def test_a_busy_machine_is_said_so_first(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [*SHORT, "--libraries", "numpy", "--functions", "relu", "--threads", "1", "--no-accuracy"]
    for load, said in ((0.0, False), (1e3, True)):
        monkeypatch.setattr(command.os, "getloadavg", lambda load=load: (load, load, load), raising=False)
        assert bench(*arguments) == 0
        assert ("1000.0 other programs or threads share the" in capsys.readouterr().out) == said


def test_every_row_function_has_an_error_in_the_sample() -> None:
    """A cell without a figure says nothing."""
    pytest.importorskip("gmpy2")
    for name, row in PEERS.items():
        if row.rows:
            true = truth(name, "forward", "float32")
            assert true is not None, name
            assert measure_error(cases.prepare_on(name, "forward", "fastact", true.x, true.g), true).max_ulp < 2, name
