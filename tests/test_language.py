"""The language of kernels: what it says of backends is what it asks of them."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

from fastact.accuracy.digest import Recorded
from fastact.cpu.lanes import Lanes
from fastact.graph.trace import Value
from fastact.kernels import language

SOURCE = ast.parse(Path(language.__file__).read_text("utf-8"))
FUNCTIONS = [node for node in SOURCE.body if isinstance(node, ast.FunctionDef)]


def operations(protocol: type) -> set[str]:
    return {name for name, value in vars(protocol).items() if inspect.isfunction(value) and not name.startswith("_")}


def asked_for() -> set[str]:
    """The methods of lanes that the functions of the language call: of what they are given, or of what is made so."""
    found = set()
    for function in FUNCTIONS:
        given = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
        for node in ast.walk(function):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            base = node.func.value
            while isinstance(base, ast.Subscript):
                base = base.value
            made = isinstance(base, ast.Call) and isinstance(base.func, ast.Name) and base.func.id == "_backend"
            if made or (isinstance(base, ast.Name) and base.id in given):
                found.add(node.func.attr)
    return found


def looked_for() -> set[str]:
    """The methods that need not be there."""
    calls = [node for function in FUNCTIONS for node in ast.walk(function) if isinstance(node, ast.Call)]
    probes = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "hasattr"]
    return {call.args[1].value for call in probes if isinstance(call.args[1], ast.Constant)} - {"width"}


def test_the_lists_of_operations_are_complete() -> None:
    must, may, sums = (operations(p) for p in (language.Backend, language.Shortcuts, language.Sums))
    assert looked_for() == may
    assert asked_for() | {"const"} == must | may | sums


@pytest.mark.parametrize("lanes", [Lanes, Value, Recorded])
def test_backends_have_what_they_must(lanes: Any) -> None:
    assert operations(language.Backend) <= set(dir(lanes))
    assert "width" in lanes.__slots__
    with pytest.raises(TypeError, match="use select"):
        bool(lanes.__new__(lanes))


@pytest.mark.parametrize("lanes", [Lanes, Recorded])
def test_lanes_of_a_cpu_have_sums(lanes: Any) -> None:
    assert operations(language.Sums) <= set(dir(lanes))


def test_what_is_public_is_listed() -> None:
    functions = {node.name for node in FUNCTIONS if not node.name.startswith("_")}
    assert functions <= set(language.__all__)
    assert all(hasattr(language, name) for name in language.__all__)
