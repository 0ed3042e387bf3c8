"""The examples in docstrings and in the README are true."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import fastact as fa
from fastact.api import LOSSES, ROWS

from .functions import ELEMENTWISE

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
