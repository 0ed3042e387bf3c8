"""The examples in docstrings and in the README are true."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import fastact as fa
from fastact.api import LOSSES, ROWS, elementwise_forms

from .functions import ELEMENTWISE, call, outputs

README = Path(__file__).parents[1] / "README.md"


def run(text: str, name: str) -> None:
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    assert test.examples, f"{name} has no example"
    output: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=output.append)
    assert not output, "".join(output)


@pytest.mark.parametrize("name", [*ELEMENTWISE, *ROWS, *LOSSES, "threads", "get_num_threads"])
def test_docstring(name: str) -> None:
    run(getattr(fa, name).__doc__, name)


def test_readme() -> None:
    blocks = re.findall(r"```pycon\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert blocks
    run("\n".join(blocks), "README.md")


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_limits_stated_are_what_is_returned(name: str) -> None:
    _, form = elementwise_forms()[name]
    sentence = re.search(
        r"At -inf and \+inf(?: |, [^;]*, )((?:it|y) is [^;]*);", " ".join(getattr(fa, name).__doc__.split())
    )
    if "y" in form.arrays:  # a function of the result has no limits at infinite x
        assert sentence is None
        return
    assert sentence is not None, f"{name}: the docstring has no limits"
    stated = [float(n) for n in re.findall(r"(?<![\w.])-?(?:inf|\d[\d.]*)", sentence[1])]
    g = [np.float64([3, 3])] if "g" in form.arrays else []
    found = [
        end / 3 if g else end for result in outputs(call(name, *g, np.float64([-np.inf, np.inf]))) for end in result
    ]
    assert [f"{end:g}" for end in found] == [f"{end:g}" for end in stated]


@pytest.mark.parametrize("name", [*ELEMENTWISE, *ROWS, *LOSSES])
def test_lines_of_docstrings_are_short(name: str) -> None:
    lines = inspect.getdoc(getattr(fa, name)).split("\n")  # type: ignore[union-attr]
    assert not [line for line in lines if len(line) > 96 and "subok=True[" not in line]  # NumPy writes the signature
