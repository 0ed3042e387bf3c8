"""``python -m fastact.cuda.precompile``: what the check on a GPU needs is compiled, by processes that have none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastact.cuda import check, check_corners, check_rows, compiler, driver, functions, precompile, rows

from .cuda_host import needs_compiler

NAMES = ("relu", "silu_with_derivative", "softmax", "logsumexp", "cross_entropy_with_logits_with_gradient")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The kernels that are asked for in this process, which is one of those that compile until the test ends."""
    labels: set[str] = set()

    def cubin(label: str, source: object, capability: tuple[int, int]) -> bytes:
        labels.add(f"{label}-{capability}")
        return b""

    for module, names in (
        (driver, ("capability", "device_of", "load", "launch")),
        (functions, ("cubin",)),
        (rows, ("cubin",)),
        (check, ("fastact", "patterns")),
        (check_corners, ("fastact",)),
        (check_rows, ("fastact",)),
    ):
        for name in names:  # to be undone
            monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(compiler, "cubin", cubin)
    yield labels
    for module in (functions, rows):
        module._kernel.cache_clear()


def test_every_case_of_the_check_is_gone_through(asked: set[str]) -> None:
    precompile._begin((9, 0), (), False)
    groups = precompile.tasks((), False, precompile.SECTIONS, ("kernels",))["kernels"]
    sections = {precompile._cases[n][0] for group in groups for n in group}
    assert sections == set(precompile.SECTIONS)
    assert set(check.SECTIONS) - sections == {"speed"}
    numbers = [n for group in groups for n in group if precompile._cases[n][0] != "row-speed"]  # which fill memory
    assert precompile._do("kernels", numbers) == []
    assert len(asked) > 1000
    assert all(label.endswith("-(9, 0)") for label in asked)


def test_the_same_kernels_as_the_check_asks_for(asked: set[str]) -> None:
    precompile._begin((8, 0), NAMES, True)
    numbers = [n for group in precompile.tasks(NAMES, True, check.SECTIONS, ["kernels"])["kernels"] for n in group]
    assert precompile._do("kernels", numbers) == []
    made = set(asked)
    asked.clear()
    precompile._prepare("kernels")
    for module in (check, check_corners, check_rows):
        vars(module)["fastact"] = precompile.fastact
    vars(check)["patterns"] = precompile.patterns
    for section, _, _, case in check.cases(precompile.NoGpu(), NAMES, True, alone=True):
        if section not in ("bits", "speed", "row-speed"):
            found = case()
            list([found] if isinstance(found, check.Result) else found)
    check.bandwidth(precompile.NoGpu(), "relu", "float32", 1 << 20, None)
    assert asked <= made
    assert len(asked) > 100


def test_loops_are_compiled_once_each() -> None:
    """Processes that compiled the same one at the same time would do it several times."""
    groups = precompile.tasks((), True, check.SECTIONS, ("loops",))["loops"]
    cases = list(check.cases(precompile.NoGpu(), (), True, alone=True))
    about = [{cases[n][:3] for n in group} for group in groups]
    once = [next(iter(found)) for found in about if len(found) == 1]
    assert len(once) == len(set(once))
    assert all({section for section, _, _ in found} == {"corners"} for found in about if len(found) > 1)


def test_results_without_a_cpu_have_the_shapes() -> None:
    none, x = precompile.NoCpu(), np.zeros((3, 4), np.float32)
    assert none.softmax(x).shape == (3, 4)
    assert none.logsumexp(x).shape == (3,)
    assert [r.shape for r in none.silu_with_derivative(x)] == [(3, 4)] * 2
    value, gradient = none.cross_entropy_with_logits_with_gradient(x, np.zeros(4, np.int64), axis=0)
    assert value.shape == (4,)
    assert gradient.shape == (3, 4)


@needs_compiler
def test_kernels_lie_in_the_cache(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fastact.cuda.precompile", "relu", "--only", "bits", "--quick", "--kernels"]
    environment = {**os.environ, "FASTACT_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([*command, "--jobs", "2"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = sorted(file.name for file in (tmp_path / compiler.directory()).iterdir())
    assert found == sorted(f"relu-{dtype}-default-contiguous-sm_90.bin" for dtype in check.dtypes())
    assert str(tmp_path / compiler.directory()) in done.stdout
