"""The command line: subcommands, exit statuses, messages that name what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastact
from fastact.__main__ import main


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
    ],
)
def test_what_is_wrong_is_named(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stdout + done.stderr


def test_warmup_fills_the_cache(with_driver: Path) -> None:
    directory = {"FASTACT_CACHE_DIR": str(with_driver)}
    done = run("warmup", "--functions", "relu,leaky_relu,softmax", "--dtypes", "float32", **directory)
    assert done.returncode == 0, done.stderr
    assert "3 functions, 1 dtypes" in done.stdout
    code = (
        "import sys, numpy as np, fastact as fa\n"
        "x = np.float32([-1, 2])\n"
        "print(fa.relu(x), fa.leaky_relu(x), fa.leaky_relu(x, 0.5), fa.leaky_relu(x, x), fa.softmax(x))\n"
        "print('numba' in sys.modules)"
    )
    environment = {**os.environ, **directory}
    used = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert used.stdout.strip().endswith("False")
