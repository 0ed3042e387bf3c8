"""The command line: subcommands, exit statuses, messages that name what is wrong."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import fastact
from fastact.__main__ import main

ROOT = Path(__file__).parents[1]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastact", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_and_version() -> None:
    done = run("--help")
    assert done.returncode == 0
    for command in ("bench", "accuracy", "demo", "warmup"):
        assert command in done.stdout
    assert run("--version").stdout.strip() == f"fastact {fastact.__version__}"


@pytest.mark.parametrize("command", ["bench", "accuracy", "demo", "warmup"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    assert command in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["benhc"], "benhc"),
        (["warmup", "--functions", "gelo"], "unknown 'gelo'"),
        (["warmup", "--dtypes", "int8"], "unknown 'int8'"),
        (["warmup", "--jobs", "0"], "at least 1, not 0"),
        (["warmup", "--lengths", "2-33"], "from 2 to 32"),
        (["warmup", "--lengths", "few"], "from 2 to 32"),
    ],
)
def test_what_is_wrong_is_named(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stdout + done.stderr


def test_warmup_leaves_nothing_to_compile(with_driver: Path) -> None:
    directory = {"FASTACT_CACHE_DIR": str(with_driver)}
    names = "relu,leaky_relu,softmax,cross_entropy_with_logits"
    done = run("warmup", "--functions", names, "--dtypes", "float32", "--lengths", "3", **directory)
    assert done.returncode == 0, done.stderr
    assert "4 functions, 1 dtypes" in done.stdout
    code = """
import sys, numpy as np, fastact as fa
x = np.zeros((64, 64), np.float32)
large = np.zeros(1 << 23, np.float32)
by_number, by_array = (lambda x, **out: fa.leaky_relu(x, 0.5, **out)), (lambda x, **out: fa.leaky_relu(x, x, **out))
for f in (fa.relu, fa.leaky_relu, by_number, by_array):
    f(x), f(x[:, ::2]), f(x.T), f(large, out=np.zeros_like(large))
for axis in (0, 1):
    fa.softmax(x, axis=axis), fa.softmax(x, 2.0, axis=axis), fa.softmax(x, where=x == 0, causal=True, axis=axis)
fa.softmax(np.zeros((1000, 3), np.float32))
classes = np.zeros(64, int)
fa.cross_entropy_with_logits(x, classes), fa.cross_entropy_with_logits(x, x, axis=0)
fa.cross_entropy_with_logits(x, classes, label_smoothing=0.1)
print("numba" in sys.modules)
"""
    environment = {**os.environ, **directory}
    used = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert used.stdout.strip() == "False"


@pytest.mark.parametrize("option", ["--dtype", "--dtypes"])
@pytest.mark.parametrize(
    "command",
    ["fastact accuracy", "fastact bench", "fastact warmup", "tools/bits.py", "tools/cuda_budget.py"],
)
def test_dtypes_are_given_alike(command: str, option: str) -> None:
    """Under both names, with commas or again."""
    if command.startswith("fastact"):
        module = {"accuracy": "accuracy.command", "bench": "bench.command", "warmup": "warmup"}[command.split()[1]]
        parser = argparse.ArgumentParser()
        import_module(f"fastact.{module}").add_arguments(parser)
        seen = vars(parser.parse_args([option, "float64,float16", option, "float32"]))
        assert seen["dtype"] == ("float64", "float16", "float32")
        return
    arguments = [sys.executable, command, "relu", option, "float64,int8"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "invalid choice: 'int8' (choose from float" in done.stderr


def test_the_place_of_the_largest_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a function along an axis it is an entry of a row, and where there is no error there is no place."""
    assert main(["accuracy", "softmax", "relu", "--stride", "100003", "--quiet"]) == 0
    head, relu, *_, row, _ = capsys.readouterr().out.splitlines()
    place = head.index("  at") + 2
    assert re.fullmatch(r"entry \d+ of '[a-z0-9/, ]+'", row[place:])
    assert len(relu) < place
