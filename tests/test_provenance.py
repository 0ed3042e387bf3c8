"""Where the numbers in the kernels come from: the script of each polynomial confirms the error it reached."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastact.api  # noqa: F401 - the families are imported through it

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "tools" / "polynomials"
HELPERS = "remez.py", "gelu_parts.py"  # what scripts share
SCRIPTS = sorted(file.name for file in TOOLS.glob("*.py") if file.name not in HELPERS)
KERNELS = sorted(file.stem for file in (ROOT / "fastact" / "kernels").glob("*.py") if file.stem != "__init__")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(TOOLS)])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_coefficients_reach_the_error_they_claim(script: str) -> None:
    done = run(str(TOOLS / script), "--check")
    assert done.returncode == 0, done.stdout + done.stderr


WRONG = """
import runpy, sys
from fastact.kernels import {module}
number = {module}.{name}[0]
{module}.{name} = (number * (1 + 2.0**-{bits}), *{module}.{name}[1:])
sys.argv = ["{script}", "--check"]
runpy.run_path({path!r}, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("module", "name", "bits"),
    [("exp64", "EXP_TAIL", 44), ("log64", "LOG_TAIL", 44), ("gelu32", "GELU_LEFT", 12), ("gelu_tanh32", "EXPM1", 12)],
)
def test_a_wrong_coefficient_is_noticed(module: str, name: str, bits: int) -> None:
    script = f"{module}.py"
    done = run("-c", WRONG.format(module=module, name=name, bits=bits, script=script, path=str(TOOLS / script)))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def coefficients(value: object) -> int:
    """The number of floats in a tuple or dictionary, however deep."""
    if isinstance(value, dict):
        return max(map(coefficients, value.values()), default=0)
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return sum(isinstance(part, float) for part in value) + sum(map(coefficients, value))
    return 0


@pytest.mark.parametrize("name", KERNELS)
def test_every_table_names_its_script(name: str) -> None:
    module = importlib.import_module(f"fastact.kernels.{name}")
    source = (ROOT / "fastact" / "kernels" / f"{name}.py").read_text("utf-8")
    own = {n for n, value in vars(module).items() if coefficients(value) > 2 and re.search(rf"(?m)^{n}\b.* = ", source)}
    cited = set(re.findall(r"tools/polynomials/(\w+\.py)", source))
    assert cited <= set(SCRIPTS)
    assert cited or not own, f"say in fastact/kernels/{name}.py which script of tools/polynomials makes {sorted(own)}"
