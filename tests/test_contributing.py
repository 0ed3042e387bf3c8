"""A function that is added by half says what is missing, and where; what follows from a whole one is written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from fastact.__main__ import main
from fastact.accuracy.bits import ROW_CALLS, belongs_to, subjects
from fastact.accuracy.cases import cases
from fastact.accuracy.formulas import REFERENCES
from fastact.accuracy.oracles import FROM_OUTPUT, ORACLES, formula_of, truth_from_output
from fastact.accuracy.reference import filler
from fastact.accuracy.row_cases import FUNCTIONS
from fastact.accuracy.rows import ROWS as ROW_FORMULAS
from fastact.accuracy.rows import row_truth
from fastact.accuracy.samples import PARAMETERS
from fastact.activation import Unfinished
from fastact.api import CATALOGUE, LOSSES, ROWS
from fastact.bench.libraries import REQUIRED, required
from fastact.bench.peers import PEERS
from fastact.documentation_rows import ROW_DOCS, row_doc
from tools import follow
from tools.stub import shared

ROOT = Path(__file__).parents[1]
FILES = "fastact/accuracy/", "fastact/bench/", "fastact/documentation_rows.py"

MISSING: dict[str, tuple[Any, str, Callable[[], Any]]] = {
    "oracles": (ORACLES, "mish", lambda: formula_of("mish", "forward")),
    "from the output": (FROM_OUTPUT, "tanh", lambda: truth_from_output("tanh", 0.5)),
    "formulas": (REFERENCES, "mish", lambda: filler.__wrapped__("mish", "forward", ())),
    "parameters, digests": (PARAMETERS, "swish", lambda: list(subjects())),
    "parameters, sweep": (PARAMETERS, "swish", lambda: list(cases([CATALOGUE["swish"]], grid=True))),
    "parameters without default": (PARAMETERS, "prelu", lambda: list(cases([CATALOGUE["prelu"]]))),
    "peers": (PEERS, "mish", lambda: PEERS["mish"]),
    "values for the benchmark": (REQUIRED, "prelu", lambda: required("prelu")),
    "rows": (ROW_FORMULAS, "softmax", lambda: row_truth("softmax", [1.0, 2.0])),
    "docstring of rows": (ROW_DOCS, "softmax", lambda: row_doc("softmax")),
}


@pytest.mark.parametrize(("table", "name", "use"), MISSING.values(), ids=MISSING)
def test_what_is_missing_is_named_with_its_file(
    table: MutableMapping[str, Any], name: str, use: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    use()
    monkeypatch.delitem(table, name)
    with pytest.raises(Unfinished, match=f"^{name} is not finished: add ") as error:
        use()
    assert any(file in str(error.value) for file in FILES)
    named = next(word for word in str(error.value).split() if word.startswith("fastact/"))
    assert (ROOT / named).exists()


COMMANDS: dict[str, tuple[Any, str, list[str]]] = {
    "accuracy": (REFERENCES, "mish", ["accuracy", "mish", "--quiet"]),
    "accuracy of rows": (FUNCTIONS, "softmin", ["accuracy", "softmin", "--quiet"]),
    "bench": (PEERS, "mish", ["bench", "--functions", "mish", "--sizes", "1", "--quick", "--libraries", "numpy"]),
    "bench of rows": (PEERS, "softmin", ["bench", "--functions", "softmin", "--rows", "2x2", "--libraries", "numpy"]),
}


@pytest.mark.parametrize(("table", "name", "arguments"), COMMANDS.values(), ids=COMMANDS)
def test_commands_end_with_that_message(
    table: MutableMapping[str, Any],
    name: str,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filler.cache_clear()
    monkeypatch.delitem(table, name)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert f"{name} is not finished" in error
    assert "fastact/" in error
    assert "Traceback" not in error


def test_every_function_along_an_axis_is_benchmarked() -> None:
    measured = {name for name in (*ROWS, *LOSSES) if not name.endswith(("_vjp", "_gradient"))}
    assert measured == {name for name, peers in PEERS.items() if peers.rows}, "see PEERS in fastact/bench/peers.py"


def test_all_steps_are_done_whatever_one_finds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "made"
    assert follow.run([["-c", "raise SystemExit(3)"], ["-c", f"open({str(made)!r}, 'w').close()"]]) == 1
    assert made.exists()
    assert "raise SystemExit(3): exit status 3" in capfd.readouterr().err
    assert follow.run([["-c", "pass"]]) == 0


def test_steps_follow_from_the_names() -> None:
    assert ["tools/cuda_budget.py", "relu", "relu_derivative", "relu_vjp", "relu_with_derivative"] in follow.steps(
        ["relu"]
    )
    assert not [step for step in follow.steps(["softmax"]) if "tools/cuda_budget.py" in step]
    assert not [step for step in follow.steps(["relu"], cuda=False) if "tools/cuda_budget.py" in step]
    for step in follow.steps(["relu"]):
        assert step[0] == "-m" or (ROOT / step[0]).exists()


def test_digests_of_row_calls_belong_to_their_functions() -> None:
    """So that ``tools/bits.py softmax`` writes those with a mask anew as well."""
    assert {call for call in ROW_CALLS if belongs_to(call, "softmax")} == {
        "softmax with temperatures",
        "softmax with a mask",
        "softmax with extreme temperatures",
    }
    assert all(any(belongs_to(call, name) for name in (*ROWS, *LOSSES)) for call in ROW_CALLS)
    assert belongs_to("swish_vjp", "swish")
    assert not belongs_to("softmax", "soft")


def test_two_defaults_of_one_name_are_two_classes_of_the_stub() -> None:
    """Say, `threshold`, which is 0 in one function and has no default in another."""
    usual = ("_x_threshold", "class _x_threshold(Protocol): threshold = 0.0")
    other = ("_x_threshold", "class _x_threshold(Protocol): threshold")
    found, classes = shared({"step": usual, "step_vjp": usual, "shrink": other})
    assert [kind for kind, _ in found.values()] == ["_x_threshold", "_x_threshold", "_shrink"]
    assert classes == {"_x_threshold": usual[1], "_shrink": "class _shrink(Protocol): threshold"}


# --- the guide


def _steps() -> list[tuple[Path, str, str, str]]:
    """The code of the guide: file, "in" or "above", the start of a line there, and what is to be put in."""
    text = (ROOT / "docs" / "contributing.rst").read_text("utf-8")
    found = re.findall(r"   :caption: (\S+), (in|above) (.*)\n\n((?:   .*\n|\n(?=\n*   ))+)", text)
    return [(Path(file), how, line, textwrap.dedent(code)) for file, how, line, code in found]


def _put(lines: list[str], how: str, start: str, code: str) -> list[str]:
    """`lines` with `code` above the one that starts so, or within what begins there, as far indented as that needs."""
    (at,) = [
        k for k, line in enumerate(lines) if re.match(rf"\s*{re.escape(start)}(?!\w)", line) and line[-1:] in "({[:"
    ]
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())] + (how == "in") * "    "
    put = textwrap.indent(code, indent).splitlines()
    return [*lines[: at + 1], *put, *lines[at + 1 :]] if how == "in" else [*lines[:at], *put, "", *lines[at:]]


def test_the_guide_can_be_followed(tmp_path: Path) -> None:
    """Every step of both functions, from a blank tree: then they can be called and are right."""
    shutil.copytree(ROOT / "fastact", tmp_path / "fastact", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    steps = _steps()
    assert len(steps) == code_blocks(), "each block of Python in the guide has a caption that says where it goes"
    for file, how, start, code in steps:
        lines = (tmp_path / file).read_text("utf-8").splitlines()
        (tmp_path / file).write_text("\n".join([*_put(lines, how, start, code), ""]), "utf-8")
    code = """
import numpy as np, fastact as fa
from fastact.__main__ import main
from fastact.accuracy.bits import bit_digest
from tests.test_special_values import AT_LIMITS_AND_ZEROS, bits_equal
x = np.float64([-np.inf, -0.0, 0.0, np.inf])
for name in ("relu_squared", "relu_squared_derivative"):
    assert bits_equal(getattr(fa, name)(x), np.float64(AT_LIMITS_AND_ZEROS[name])), name
    bit_digest(name, (), "float16")
assert main(["accuracy", "relu_squared", "--dtype", "float16", "--quiet"]) == 0
assert main(["accuracy", "log_softmin", "--quiet"]) == 0
for name in ("relu_squared", "log_softmin"):
    assert main(["bench", "--functions", name, "--sizes", "1", "--quick", "--libraries", "numpy"]) == 0
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "FASTACT_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("all within their bounds") == 2


def code_blocks() -> int:
    return (ROOT / "docs" / "contributing.rst").read_text("utf-8").count(".. code-block:: python")
