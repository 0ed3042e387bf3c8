"""The site documents every public name, its examples are true, and it builds without a warning."""

from __future__ import annotations

import csv
import doctest
import importlib.util
import io
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fastact as fa
from fastact.api import names

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NEEDED = ("matplotlib", "numpydoc", "sphinx")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_on_exactly_one_page(generate: ModuleType) -> None:
    listed = [name for page in generate.contents().values() for name in page]
    assert sorted(listed) == names(), "docs/generate.py: contents() must list every public name once"


def test_every_column_has_a_name_of_its_own(generate: ModuleType) -> None:
    tables = [generate.cuda_table(), *map(generate.accuracy_table, generate.KEPT)]
    heads = [next(csv.reader(io.StringIO(table))) for table in tables]
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    above = [head for head, line in itertools.pairwise(lines) if re.fullmatch(r"\|(-+\|)+", line)]
    heads += [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in above if line.strip("| ")]
    for head in heads:
        assert "" not in head, head
        assert len(set(head)) == len(head), head


def test_formulas_say_what_their_symbols_stand_for() -> None:
    """A word in a formula is a function or a parameter of the library, of mathematics, or stands left of an "="."""
    known = {"x", "y", "z", "exp", "log", "sqrt", "erfc", "max", "min", "if", "else", "with", "pi", *fa.CATALOGUE}
    for record in fa.CATALOGUE.values():
        parameters = {p.name for p in record.parameters}
        formulas = [record.formula, record.derivative_formula, record.output_formula]
        for formula in [*formulas, *record.parameter_formulas.values()]:
            said = set(re.findall(r"(\w+'?)(?:\(x\))? =", formula))
            used = set(re.findall(r"[A-Za-z_]\w*'?", formula))
            assert used <= known | parameters | said, f"{record.name}: {formula}: {used - known - parameters - said}"


def test_the_contents_need_neither_sphinx_nor_matplotlib() -> None:
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({NEEDED}))\n"  # None: importing it is an ImportError
        "import generate\n"
        "print(sum(map(len, generate.contents().values())), 'numba' in sys.modules)"
    )
    path = os.pathsep.join([str(DOCS), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == [str(len(names())), "False"]


@pytest.mark.parametrize("page", ["index.rst", "guide.rst"])
def test_the_examples_are_true(page: str) -> None:
    blocks = re.findall(r"code-block:: pycon\n\n((?:   .*\n|\n)+)", (DOCS / page).read_text(encoding="utf-8"))
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page, None, None)
    assert test.examples
    output: list[str] = []
    doctest.DocTestRunner().run(test, out=output.append)
    assert not output, "".join(output)


def test_the_site_builds_without_a_warning(generate: ModuleType, tmp_path: Path) -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install fastact[docs]")
    # In a copy, so that the checkout is not written to, and nothing of an earlier build is left.
    source = shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("_build", "_generated"))
    shutil.copytree(DOCS.parent / "benchmarks" / "results", tmp_path / "benchmarks" / "results")
    shutil.copytree(ROOT / "fastact" / "kernels", tmp_path / "fastact" / "kernels")  # a page shows a kernel
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", source, tmp_path / "html"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(tmp_path / "matplotlib")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page, listed in generate.contents().items():
        html = (tmp_path / "html" / "_generated" / f"{page}.html").read_text(encoding="utf-8")
        for name in listed:
            assert f'id="fastact.{name}"' in html, f"{page}.html does not document {name}"
        if page in generate.families():
            assert html.count("<img") == len(generate.families()[page]), f"{page}.html lacks a picture"
    gallery = (tmp_path / "html" / "_generated" / "api.html").read_text(encoding="utf-8")
    for record in fa.CATALOGUE.values():
        target = f"{record.family}.html#{generate.anchor(record.name)}"
        assert f'href="{target}"' in gallery, f"the gallery does not link to {target}"
        html = (tmp_path / "html" / "_generated" / f"{record.family}.html").read_text(encoding="utf-8")
        assert f'id="{generate.anchor(record.name)}"' in html, f"{target} does not exist"
