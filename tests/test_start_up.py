"""Importing costs nothing that was not asked for."""

from __future__ import annotations

import subprocess
import sys


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


def test_numba_may_come_first_or_last() -> None:
    decorate = "print(type(numba.vectorize(['float32(float32)'], target='fastact')(lambda x: x * x)).__name__)"
    for order in ("import fastact, numba", "import numba, fastact"):
        assert fresh(f"{order}\n{decorate}").strip() == "ufunc"
