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
HELPERS = "remez.py", "gelu_parts.py", "kept.py"  # what scripts share
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
import importlib, json, math, runpy, sys
import kept

def nudged(value):
    "With the last number in it one unit in the last place off."
    if isinstance(value, dict):
        last = list(value)[-1]
        return {**value, last: nudged(value[last])}
    return (*value[:-1], nudged(value[-1])) if isinstance(value, tuple) else math.nextafter(value, math.inf)

def says(script):
    try:
        runpy.run_path(f"{kept.HERE}/{script}", run_name="__main__")
    except SystemExit as done:
        return done.code

sys.argv = ["script", "--check"]
for script, names in json.loads(kept.FILE.read_text("utf-8")).items():
    assert kept.agrees(script), script
    for k, path in enumerate(names):
        module, name = path.split(".")
        module = importlib.import_module(f"fastact.kernels.{module}")
        value = getattr(module, name)
        setattr(module, name, nudged(value))
        assert not kept.agrees(script), path
        assert k or says(script) == 1, script
        setattr(module, name, value)
    print(script)
"""


def test_a_wrong_coefficient_is_noticed() -> None:
    """Of every constant that a script derives, one unit in the last place; by the script itself as well."""
    done = run("-c", WRONG)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.split("\n") if line in SCRIPTS] == SCRIPTS


def test_a_full_run_with_another_result_is_noticed() -> None:
    """A number that is in no kernel; what is kept stays as it is."""
    code = "import kept; before = kept.FILE.read_bytes(); print(kept.keep('exp32.py', 'TAIL = (0.5000001, 0.25)'))"
    done = run("-c", code + "; assert kept.FILE.read_bytes() == before")
    assert done.stdout.strip() == "[0.5000001]", done.stdout + done.stderr


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
