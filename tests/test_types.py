"""What a type checker says of calls: what works passes, with the type of its result, and a mistake is found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAD = """
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import fastact as fa

x = np.ones((2, 3), np.float32)
mask = x > 0
whole = np.arange(1, 4)
"""
RIGHT = """
assert_type(fa.gelu(x), NDArray[np.float32])
assert_type(fa.gelu(x, x), NDArray[np.float32])
assert_type(fa.gelu(x, out=x, where=mask, casting="same_kind", order="C", subok=False), NDArray[np.float32])
assert_type(fa.gelu(x, out=(x,)), NDArray[np.float32])
assert_type(fa.gelu(x, dtype=np.float64), NDArray[Any])
assert_type(fa.gelu(x, signature="d->d"), NDArray[Any])
assert_type(fa.gelu(whole), NDArray[Any])
assert_type(fa.gelu(1.0), Any)
assert_type(fa.gelu([1.0, 2.0], out=np.empty(2)), Any)
assert_type(fa.gelu_vjp(x, x), NDArray[np.float32])
assert_type(fa.gelu_vjp(1.0, x), Any)
assert_type(fa.sigmoid_vjp_from_output(x, x), NDArray[np.float32])
assert_type(fa.silu_with_derivative(x), tuple[NDArray[np.float32], NDArray[np.float32]])
assert_type(fa.silu_with_derivative(x, None, x), tuple[NDArray[np.float32], NDArray[np.float32]])
assert_type(fa.silu_with_derivative([[1, 2, 3]] * 2, out=(None, x), casting="same_kind"), tuple[Any, Any])
assert_type(fa.leaky_relu(x, 0.5), NDArray[np.float32])
assert_type(fa.leaky_relu(x, negative_slope=1, out=x, where=mask), NDArray[np.float32])
assert_type(fa.leaky_relu(x, negative_slope=whole), NDArray[Any])
assert_type(fa.leaky_relu([1.0], negative_slope=[1.0]), Any)
assert_type(fa.prelu(x, whole), NDArray[Any])
assert_type(fa.hard_tanh_with_derivative(x, max_val=2), tuple[NDArray[np.float32], NDArray[np.float32]])
assert_type(fa.softmax(x), NDArray[np.float32])
assert_type(fa.softmax(x, x), NDArray[np.float32])
assert_type(fa.softmax(x, 2.0, where=mask, causal=True, axis=0, out=x), NDArray[np.float32])
assert_type(fa.log_softmax(x.T, temperature=whole), NDArray[Any])
assert_type(fa.softmin(x, axes=[-1, -1], dtype="float64"), NDArray[Any])
assert_type(fa.softmax_vjp(x, x, axis=0), NDArray[np.float32])
assert_type(fa.logsumexp(x, axis=0, keepdims=True), Any)
assert_type(fa.logsumexp_vjp(x, x[:, 0]), NDArray[np.float32])
assert_type(fa.sparsemax(x, axes=[(0,), (0,)]), NDArray[np.float32])
assert_type(fa.gelu.nin, int)
ufunc: np.ufunc = fa.gelu
ufunc = fa.leaky_relu.ufunc
fa.relu.at(x, 0)
attributes = (fa.relu.reduce, fa.relu.accumulate, fa.relu.outer, fa.relu.types, fa.softmax.signature, fa.prelu.__name__)
elsewhere = (fa.kernels.silu, fa.cuda.tanh)
for function in (fa.relu, fa.leaky_relu, fa.softmax):
    function(x)
with fa.threads(1):
    fa.cross_entropy_with_logits(x, [0, 1])
"""
WRONG = """
fa.gelu()
fa.gelu(x, negative_slope=1)
fa.gelu(x, axis=0)
fa.gelu(x, casting="same")
fa.gelu(x, x, x)
fa.gelu_vjp(x)
fa.silu_with_derivative(x, out=x)
fa.leaky_relu(x, slope=1.0)
fa.leaky_relu(x, 0.1, x)
fa.prelu(x)
fa.softmax(x, caussal=True)
fa.softmax(x, keepdims=True)
fa.softmax_vjp(x)
fa.softmax_vjp(x, x, where=mask)
fa.sparsemax(x, temperature=2.0)
fa.logsumexp(x, keepdim=True)
fa.leaky_relu.nin
fa.gelo(x)
"""


def mypy(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mypy")
    file = folder / "program.py"
    file.write_text(text, "utf-8")
    # strict by a flag and not by the project's settings, which are for the package itself
    command = [sys.executable, "-m", "mypy", "--config-file=", "--strict", "--cache-dir", str(folder), str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_what_works_is_accepted(tmp_path: Path) -> None:
    done = mypy(HEAD + RIGHT, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_program_runs() -> None:
    """So that the stub promises nothing that does not work."""
    done = subprocess.run([sys.executable, "-c", HEAD + RIGHT], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_every_mistake_is_found(tmp_path: Path) -> None:
    done = mypy(HEAD + WRONG, tmp_path)
    found = {int(number) for number in re.findall(r"program\.py:(\d+): error", done.stdout)}
    first = HEAD.count("\n") + 2
    lines = WRONG.strip().splitlines()
    missed = [line for number, line in enumerate(lines, first) if number not in found]
    assert not missed, done.stdout + done.stderr
