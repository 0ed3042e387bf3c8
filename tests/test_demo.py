"""The demo: its network is right, it learns the digits, and it shows what it says it shows."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact.demo import command, formulas, lessons, report
from fastact.demo import network as nn

ENGINES = ("fastact", "NumPy")


def engine_of(kind: str, name: str) -> nn.Engine:
    if name == "gelu" and kind == "NumPy":
        pytest.importorskip("scipy")
    engine = nn.fastact_engine(name) if kind == "fastact" else nn.numpy_engine(name)
    assert engine is not None
    return engine


@pytest.fixture(scope="module", autouse=True)
def one_blas_thread() -> Iterator[None]:
    """As in the command: on a busy machine, threads that wait for each other make matrices this small slow."""
    with command.one_blas_thread():
        yield


@pytest.fixture(scope="module")
def data() -> nn.Data:
    pytest.importorskip("sklearn")
    return command.load_data(seed=0)


def settings(**changes: Any) -> nn.Settings:
    usual = {"layers": 2, "width": 64, "epochs": 6, "batch_size": 64, "learning_rate": 0.05}
    return nn.Settings(**(usual | {"seed": 0} | changes))


def call(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="fastact demo")
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments))


def test_every_founding_activation_has_a_plain_numpy_formula() -> None:
    founding = {name for name, record in fa.CATALOGUE.items() if record.founding}
    missing = founding - formulas.FORMULAS.keys()
    assert not missing, f"add {sorted(missing)} to fastact/demo/formulas.py"


@pytest.mark.parametrize("name", sorted(formulas.FORMULAS))
def test_plain_formulas_and_fastact_agree(name: str) -> None:
    x = np.linspace(-8.0, 8.0, 1601)  # in float64, with the kinks among the points
    g = np.linspace(-1.0, 2.0, 1601)
    ours, plain = engine_of("fastact", name), engine_of("NumPy", name)
    values = [np.full(1, nn.FIRST_SLOPE)] * len(ours.learned)
    y = ours.forward(x, *values)
    np.testing.assert_allclose(plain.forward(x, *values), y, rtol=1e-9, atol=1e-12)
    expected = ours.backward(g, x, y, *values)
    np.testing.assert_allclose(plain.backward(g, x, y, *values), expected, rtol=1e-9, atol=1e-12)
    for mine, theirs in zip(ours.learned, plain.learned, strict=True):
        np.testing.assert_array_equal(mine(x, *values), theirs(x, *values))


@pytest.mark.parametrize("name", sorted(formulas.FORMULAS))
def test_plain_formulas_stay_in_float32(name: str) -> None:
    engine = engine_of("NumPy", name)
    x = np.linspace(-3.0, 3.0, 12, dtype=np.float32)
    values = [np.full(1, nn.FIRST_SLOPE, np.float32)] * len(engine.learned)
    y = engine.forward(x, *values)
    assert y.dtype == engine.backward(x, x, y, *values).dtype == np.float32


def test_plain_cross_entropy_is_fastacts() -> None:
    generator = np.random.default_rng(5)
    logits = 4.0 * generator.standard_normal((20, 7))
    targets = generator.integers(0, 7, 20)
    ours = fa.cross_entropy_with_logits_with_gradient(logits, targets)
    for mine, plain in zip(ours, formulas.cross_entropy(logits, targets), strict=True):
        np.testing.assert_allclose(mine, plain, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "prelu", "selu", "gelu", "softplus"])
def test_gradients_are_the_slopes_of_the_loss(kind: str, name: str) -> None:
    engine = engine_of(kind, name)
    network = nn.build(name, (5, 7, 6, 3), 3, learned=len(engine.learned), dtype=np.float64)
    generator = np.random.default_rng(7)
    x, targets = generator.standard_normal((11, 5)), generator.integers(0, 3, 11)
    per_layer = nn.gradients(network, engine, x, targets)[1]
    step = 1e-6
    for layer, arrays in zip(network, per_layer, strict=True):
        for array, gradient in zip(layer.arrays(), arrays, strict=True):
            assert array.shape == gradient.shape
            for place in np.ndindex(array.shape):
                kept = array[place]
                array[place] = kept + step
                above = nn.gradients(network, engine, x, targets)[0]
                array[place] = kept - step
                below = nn.gradients(network, engine, x, targets)[0]
                array[place] = kept
                assert gradient[place] == pytest.approx((above - below) / (2 * step), abs=2e-8)


@pytest.mark.parametrize(("name", "variance"), [("relu", 2e-3), ("tanh", 1e-3), ("selu", 1e-3)])
def test_the_activation_chooses_the_initialisation(name: str, variance: float) -> None:
    weights = nn.build(name, (1000, 1000, 10), 0)[0].weights
    assert np.var(weights) == pytest.approx(variance, rel=0.02)
    assert {nn.scheme(n) for n in ("relu", "tanh", "selu")} == {"He", "Glorot", "LeCun"}


def test_layer_facts_find_a_dead_unit() -> None:
    engine = engine_of("fastact", "relu")
    network = nn.build("relu", (4, 2, 3), 0)
    network[0].weights[:] = 0.0
    network[0].bias[:] = [-1.0, 1.0]
    facts = nn.layer_facts(network, engine, np.ones((6, 4), np.float32))[0]
    assert facts == nn.LayerFacts(inactive=0.5, dead=0.5, saturated=0.5, mean=0.5, variance=0.25)


@pytest.mark.parametrize("name", ["tanh", "relu", "prelu", "selu", "gelu"])
def test_the_network_learns_the_digits(name: str, data: nn.Data) -> None:
    engines = [engine_of(kind, name) for kind in ENGINES]
    ours, plain = nn.train(name, engines, data, settings())
    assert ours.accuracies[-1] > 0.93
    assert ours.losses[-1] < 0.5 * ours.losses[0]
    # The same start and the same batches: only roundings set the twins apart.
    assert ours.losses[0] == pytest.approx(plain.losses[0], rel=1e-3)
    assert len(ours.losses) == len(ours.accuracies) == len(ours.seconds) == 6


def test_a_learned_slope_moves(data: nn.Data) -> None:
    history = nn.train("prelu", [engine_of("fastact", "prelu")], data, settings(epochs=1))[0]
    slopes = history.network[0].values[0]
    assert slopes.shape == (64,)
    assert np.any(slopes != np.float32(nn.FIRST_SLOPE))


def test_the_same_seed_gives_the_same_figures(data: nn.Data) -> None:
    engine = engine_of("fastact", "gelu")
    first, again, other = (nn.train("gelu", [engine], data, settings(epochs=2, seed=seed))[0] for seed in (1, 1, 2))
    assert first.losses == again.losses
    assert first.accuracies == again.accuracies
    assert first.losses != other.losses


def test_a_step_function_passes_no_gradient(data: nn.Data) -> None:
    result = command.train_activation("binary_step", data, settings(epochs=1))
    assert result.gradients_before[:2] == [0.0, 0.0]
    assert result.gradients_before[2] > 0.0
    assert [facts.dead for facts in result.layers] == [1.0, 1.0]


def test_sigmoids_gradient_vanishes_and_selu_keeps_its_variance(data: nn.Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "DEEP_EPOCHS", 1)
    stacks = {
        name: lessons.deep_stack(name, engine_of("fastact", name), data, 20, seed=0)
        for name in ("sigmoid", "tanh", "relu", "selu")
    }
    assert stacks["sigmoid"].gradient_ratio < 1e-9
    for name in ("tanh", "relu", "selu"):
        assert 0.05 < stacks[name].gradient_ratio < 20.0
    for facts in stacks["selu"].layers:
        assert abs(facts.mean) < 0.25
        assert 0.7 < facts.variance < 1.4
    assert stacks["tanh"].layers[-1].variance < 0.1
    assert stacks["relu"].layers[-1].mean > 0.1
    # One epoch tells already which of them can learn.
    assert stacks["sigmoid"].accuracy < 0.3
    assert stacks["selu"].accuracy > 0.5
    text = " ".join(lessons.deep_sentences(list(stacks.values())))
    assert f"{stacks['sigmoid'].gradient_ratio:.1g}" in text


def test_dead_relus_stay_dead_and_the_others_come_back(data: nn.Data) -> None:
    results = {
        name: lessons.switched_off(name, engine_of("fastact", name), data, seed=0)
        for name in ("relu", "leaky_relu", "elu", "selu")
    }
    relu = results["relu"]
    assert relu.before.dead > 0.8
    assert relu.after.dead > 0.8
    assert relu.after.dead == relu.after.inactive
    for name in ("leaky_relu", "elu", "selu"):
        assert results[name].before.inactive > 0.8
        assert results[name].after.dead == 0.0
        assert results[name].accuracy > relu.accuracy + 0.2
    assert results["selu"].after.inactive < results["selu"].before.inactive
    assert "elu 0%" in lessons.dead_sentences(list(results.values()))[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--epochs", "0"), "argument --epochs: 0 is less than 1"),
        (("--layers", "two"), "argument --layers: 'two' is not a whole number"),
        (("--width", "-3"), "argument --width: -3 is less than 1"),
        (("--seed", "-1"), "argument --seed: -1 is less than 0"),
        (("--depth", "1"), "argument --depth: 1 is less than 2"),
        (("--learning-rate", "nan"), "argument --learning-rate: nan is not a finite"),
        (("--learning-rate", "fast"), "argument --learning-rate: 'fast' is not a number"),
        (("--all", "--activation", "relu"), "argument --activation: not allowed with"),
        (("--activation", "gelo"), "'gelo' is not in the catalogue; did you mean gelu"),
        (("--activation", "xyzzy"), "'xyzzy' is not in the catalogue; choose from"),
        (("--batch-size", "9999"), "argument --batch-size: 9999 is more than the 1438"),
        (("--width", "1000000000"), "--width 1000000000: 3 layers of 1000000000 units have"),
        (("--depth", "9999"), "argument --depth 9999: 9999 layers of 128 units have"),
        (("--json", "no/such/place.json"), "argument --json: the directory of"),
        (("--json", "."), "argument --json: '.' is a directory"),
    ],
)
def test_bad_input_is_named(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    try:
        code = call(*arguments)
    except SystemExit as stop:  # argparse itself
        code = int(stop.code or 0)
    assert code == 2
    assert message in capsys.readouterr().err


def test_an_unknown_picture_format_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert call("--plot", "curves.xyz") == 2
    assert "argument --plot: 'curves.xyz' does not end in one of" in capsys.readouterr().err


@pytest.mark.parametrize(("missing", "arguments"), [("sklearn", ()), ("matplotlib", ("--plot", "curves.png"))])
def test_a_missing_package_is_named(
    missing: str,
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else real(name))
    assert call(*arguments) == 1
    assert "pip install fastact[demo]" in capsys.readouterr().err


def test_the_command_prints_draws_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    picture, figures = tmp_path / "curves.png", tmp_path / "figures.json"
    code = call(
        *("--activation", "logistic", "gelu", "sigmoid"),  # an alias, and the same again
        *("--layers", "2", "--width", "32", "--epochs", "2", "--no-lessons"),
        *("--plot", str(picture), "--json", str(figures)),
    )
    output = capsys.readouterr().out
    assert code == 0
    assert output.splitlines()[-1].startswith("Best test accuracy ")
    assert picture.read_bytes().startswith(b"\x89PNG")
    content = json.loads(figures.read_text("utf-8"))
    assert [entry["activation"] for entry in content["training"]] == ["sigmoid", "gelu"]
    assert content["summary"] == output.splitlines()[-1]
    entry = content["training"][1]
    assert len(entry["layers"]) == 2
    assert len(entry["runs"]["fastact"]["seconds"]) == len(entry["runs"]["NumPy"]["seconds"]) == 2
    assert entry["time_ratio_median"] > 0.0
    assert content["settings"]["epochs"] == 2


def test_lessons_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    for name in ("DEEP_EPOCHS", "DEAD_EPOCHS"):
        monkeypatch.setattr(lessons, name, 1)
    monkeypatch.setattr(command, "USUAL", ("sigmoid", "relu", "selu"))
    monkeypatch.setattr(command, "SWITCHED_OFF", ("relu", "elu"))
    figures = tmp_path / "figures.json"
    small = ("--layers", "1", "--width", "16", "--epochs", "1", "--depth", "6")
    assert call(*small, "--json", str(figures)) == 0
    output = capsys.readouterr().out
    for text in ("Vanishing gradient:", "Self-normalising:", "Dead units:"):
        assert text in output
    content = json.loads(figures.read_text("utf-8"))
    assert [len(stack["layers"]) for stack in content["deep"]] == [6, 6, 6]
    assert [entry["activation"] for entry in content["switched_off"]] == ["relu", "elu"]


def test_divergence_is_reported_not_raised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    figures = tmp_path / "figures.json"
    arguments = ("--activation", "leaky_relu", "--learning-rate", "1e30", "--no-lessons")
    assert call(*arguments, "--epochs", "2", "--json", str(figures)) == 0
    assert "diverged: leaky_relu" in capsys.readouterr().out
    content = json.loads(figures.read_text("utf-8"))
    assert content["training"][0]["runs"]["fastact"]["losses"][-1] is None


def test_tables_without_rich(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    report.table("Title", ["name", "value"], [["gelu", "1"], ["binary_step", "12.50"]])
    assert capsys.readouterr().out.splitlines() == [
        "",
        "Title",
        "name         value",
        "-----------  -----",
        "gelu             1",
        "binary_step  12.50",
        "",
    ]


def test_the_summary_says_where_fastact_is_slower() -> None:
    def result(name: str, ours: float, theirs: float) -> report.Trained:
        runs = [
            nn.History(engine, [], [], [1.0], [0.5], [seconds])
            for engine, seconds in zip(ENGINES, (ours, theirs), strict=True)
        ]
        return report.Trained(name, "He", runs, [], [], [])

    line = report.summary([result("relu", 2.0, 1.0), result("gelu", 1.0, 4.0)])
    assert line.endswith("took 0.25 to 2.00 of plain NumPy's time (median), slower for relu (2.00).")
    assert report.summary([result("gelu", 1.0, 4.0)]).endswith("slower for none.")
    assert report.number(math.nan, ".2f") == "-"
