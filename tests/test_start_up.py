"""Importing costs nothing that was not asked for."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterable, Iterator

import pytest

import fastact
import fastact.kernels
from fastact.api import aliases, elementwise_forms


def fresh(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_import_compiles_nothing_and_starts_no_thread() -> None:
    out = fresh(
        "import sys, threading\n"
        "before = set(sys.modules)\n"  # numba-cuda, where it is installed, has a module of its own in every process
        "import fastact\n"
        "heavy = [m for m in ('numba', 'llvmlite', 'torch', 'mpmath', 'rich', 'ml_dtypes') if m in sys.modules]\n"
        "print(heavy, threading.active_count(), any('cuda' in m for m in set(sys.modules) - before))"
    )
    assert out.split("\n")[0] == "[] 1 False"


def test_the_catalogue_needs_no_compiler() -> None:
    out = fresh(
        "import sys, fastact as fa\n"
        "print(fa.CATALOGUE['gelu'].formula, len(dir(fa)) > 80, 'numba' in sys.modules, 'llvmlite' in sys.modules)"
    )
    assert out.strip() == "x * Phi(x) = x * erfc(-x / sqrt(2)) / 2 True False False"


def test_the_packages_need_no_import_of_their_own() -> None:
    """``fa.kernels`` and ``fa.cuda`` are there at once, whatever was or was not imported before."""
    for use in ("fa.kernels.silu.__name__", "fa.cuda.silu.__name__"):
        for order in ("import fastact as fa", "import numba, fastact as fa", "import fastact as fa, numba"):
            assert fresh(f"{order}\nprint({use}, {{'kernels', 'cuda'}} <= set(dir(fa)))").strip() == "silu True"
    dynamic = "import sys, fastact as fa\nfa.cuda\nprint('numba' in sys.modules, 'fastact.kernels' in sys.modules)"
    assert fresh(dynamic).strip() == "False False"


def test_numba_may_come_first_or_last() -> None:
    decorate = "print(type(numba.vectorize(['float32(float32)'], target='fastact')(lambda x: x * x)).__name__)"
    for order in ("import fastact, numba", "import numba, fastact"):
        assert fresh(f"{order}\n{decorate}").strip() == "ufunc"


def modules(path: Iterable[str], prefix: str) -> Iterator[str]:
    for found in pkgutil.iter_modules(path, prefix):
        yield found.name
        if found.ispkg:
            yield from modules([os.path.join(p, found.name.rpartition(".")[2]) for p in path], found.name + ".")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process for each module needs fork to be quick")
def test_every_module_may_be_the_first_that_is_imported() -> None:
    """And needs no other package than numba and numpy for that."""
    code = f"""
import importlib, os, sys, warnings, numba
warnings.simplefilter("ignore")
sys.modules |= dict.fromkeys({EXTRAS})
for name in {list(modules(fastact.__path__, "fastact."))}:
    assert "fastact" not in sys.modules
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(name, repr(error), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
    assert fresh(code) == ""


EXTRAS = [
    *("cuda", "cupy", "gmpy2", "jax", "matplotlib", "ml_dtypes", "mpmath", "numexpr", "onnx", "onnxruntime", "pandas"),
    *("rich", "scipy", "sklearn", "torch", "xarray"),
]


def test_no_module_hides_a_function() -> None:
    assert not {module.name for module in pkgutil.iter_modules(fastact.__path__)} & set(fastact.__all__)
    kernels = {*elementwise_forms(), *aliases()}
    assert not {module.name for module in pkgutil.iter_modules(fastact.kernels.__path__)} & kernels
