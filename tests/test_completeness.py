"""What follows from a record is there for every record; each failure says what to add."""

from __future__ import annotations

import ast
import inspect
import math
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact.accuracy.oracles import FROM_OUTPUT, ORACLES, truth
from fastact.accuracy.samples import PARAMETERS
from fastact.activation import Activation, all_forms
from fastact.api import ROWS, names
from fastact.bench.peers import PEERS
from fastact.documentation_examples import EXAMPLES

from .functions import ELEMENTWISE

ROOT = Path(__file__).parents[1]
RECORDS = list(fa.CATALOGUE.values())
every = pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.name)
FOUNDING = [
    "binary_step",
    "sigmoid",
    "bipolar_sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "swish",
    "silu",
    "gelu",
    "gelu_tanh",
    "softmax",
    "cross_entropy_with_logits",
]


def test_the_founding_functions_are_there() -> None:
    for name in FOUNDING:
        assert name in names(), f"add {name}: it is one of the founding functions"
    for record in RECORDS:
        assert record.founding == (record.name in FOUNDING), f"{record.name}: set founding={record.name in FOUNDING}"


@every
def test_the_record_is_complete(record: Activation) -> None:
    for field in ("summary", "formula", "derivative_formula", "smoothness"):
        assert getattr(record, field), f"add {field} to the record of {record.name}"
    module = import_module(f"fastact.kernels.{record.family}")
    assert record in module.RECORDS, f"{record.name}: family must be the file its record is in"
    for parameter in record.parameters:
        assert parameter.doc, f"add a doc to the parameter {parameter.name} of {record.name}"
        assert parameter.name in record.parameter_derivatives, (
            f"add {record.name}_derivative_{parameter.name} to parameter_derivatives of {record.name}"
        )
        assert parameter.name in record.parameter_formulas, (
            f"add {parameter.name} to parameter_formulas of {record.name}"
        )
        assert parameter.name in record.parameter_limits, f"add {parameter.name} to parameter_limits of {record.name}"
    for form in all_forms(record):
        assert form.name in EXAMPLES, "run python tools/examples.py"
    for kernel in (record.forward, record.derivative, *record.parameter_derivatives.values()):
        assert kernel.__doc__, f"add a docstring to the kernel {kernel.__name__} of {record.name}"
    for name in record.see_also:
        assert name in names(), f"{record.name}: see_also names {name}, which does not exist"


@every
def test_every_form_has_an_oracle(record: Activation) -> None:
    for form in all_forms(record):
        if form.kind in ("forward", "derivative") or form.kind.startswith("derivative_"):
            assert form.kind in ORACLES.get(record.name, {}), (
                f"add {form.kind} of {record.name} to ORACLES in fastact/accuracy/oracles.py"
            )
    assert (record.name in FROM_OUTPUT) == (record.derivative_from_output is not None)


@every
def test_parameters_have_other_values_to_be_tested(record: Activation) -> None:
    assert (record.name in PARAMETERS) == bool(record.parameters), (
        f"add values of the parameters of {record.name} to PARAMETERS in fastact/accuracy/samples.py"
    )


@every
def test_the_oracle_knows_the_sign_of_zero(record: Activation) -> None:
    pytest.importorskip("mpmath")
    parameters = [p.default for p in record.parameters]
    if None in parameters:
        return
    for form in all_forms(record):
        if form.kind in ORACLES[record.name]:
            for x in (-0.0, 0.0):
                found, true = getattr(fa, form.name)(x), truth(record.name, form.kind, [x], *parameters).rounded()[0]
                assert math.copysign(1, found) == math.copysign(1, true) or true != 0, (
                    f"{form.name}({x}) is {found}: if that is right, add a line to ZERO_SIGNS in "
                    "fastact/accuracy/oracles.py"
                )


@every
def test_every_function_is_benchmarked(record: Activation) -> None:
    assert record.name in PEERS, f"add {record.name} to PEERS in fastact/bench/peers.py (with no peer if there is none)"


def up_to_date(tool: str) -> bool:
    command = [sys.executable, str(ROOT / "tools" / tool), "--check"]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False).returncode == 0


def test_the_stub_is_up_to_date() -> None:
    assert up_to_date("stub.py"), "run python tools/stub.py"


def test_the_readme_is_up_to_date() -> None:
    assert up_to_date("measured.py"), "run python tools/measured.py"


def test_all_and_dir() -> None:
    listed = fa.__all__
    assert listed == sorted(set(listed))
    assert set(listed) <= set(dir(fa))
    space: dict[str, Any] = {}
    exec("from fastact import *", space)
    assert set(listed) <= set(space)
    stub = ast.parse((ROOT / "fastact" / "__init__.pyi").read_text("utf-8"))
    declared = {n.target.id for n in stub.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    declared |= {n.name for n in stub.body if isinstance(n, ast.FunctionDef)}
    assert set(listed) == declared - {"__version__"}


@pytest.mark.parametrize("name", [*ELEMENTWISE, *ROWS])
def test_docstrings_have_the_sections_of_numpydoc(name: str) -> None:
    text = inspect.getdoc(getattr(fa, name)) or ""
    for section in ("Parameters", "Returns", "Raises", "Notes", "Examples"):
        assert re.search(rf"^{section}\n-{{{len(section)}}}$", text, re.MULTILINE), f"{name} has no section {section}"
    assert "ULP" in text


@every
def test_aliases_are_the_same_object(record: Activation) -> None:
    for alias in record.aliases:
        for form in all_forms(record):
            assert getattr(fa, alias + form.name.removeprefix(record.name)) is getattr(fa, form.name)


@every
def test_limits_and_range_are_what_the_kernels_give(record: Activation) -> None:
    parameters = [0.25 for p in record.parameters if p.default is None]
    ends = np.float64([-np.inf, np.inf])
    stated = {record.name: record.limits, f"{record.name}_derivative": record.derivative_limits}
    stated |= {f"{record.name}_derivative_{p}": limits for p, limits in record.parameter_limits.items()}
    for name, expected in stated.items():
        got = getattr(fa, name)(ends, *parameters)
        assert got.tolist() == list(expected), f"{name}: the record says {expected} at -inf and inf, the kernel {got}"
        assert np.signbit(got).tolist() == np.signbit(expected).tolist()
    x = np.linspace(-50, 50, 100_001)
    y = getattr(fa, record.name)(x, *parameters)
    low, high = record.range
    assert (y >= low - 1e-8).all()
    assert (y <= high).all()


@pytest.mark.parametrize("file", sorted(ROOT.glob("fastact/**/*.py")), ids=lambda f: str(f.relative_to(ROOT)))
def test_files_stay_readable(file: Path) -> None:
    assert len(file.read_text("utf-8").splitlines()) <= 520, f"split {file.name}: it has grown past 500 lines"


TEXT = {"read_text": 1, "write_text": 2}  # and the place of the encoding
SOURCES = sorted(f for folder in ("fastact", "benchmarks", "tools", "tests") for f in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: str(f.relative_to(ROOT)))
def test_text_has_an_encoding(file: Path) -> None:
    """Without one it is read and written in that of the system, which is not UTF-8 on Windows."""
    calls = [n for n in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(n, ast.Call)]
    for call in calls:
        if isinstance(call.func, ast.Attribute) and call.func.attr in TEXT:
            named = any(k.arg == "encoding" for k in call.keywords)
            assert named or len(call.args) == TEXT[call.func.attr], f"line {call.lineno}"
