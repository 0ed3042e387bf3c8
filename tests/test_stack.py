"""Compiled code gets along with the little stack that some threads have."""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import fastact as fa
from fastact.api import ROWS
from fastact.cpu import cache, compiler
from fastact.cpu.threads import pool
from fastact.cpu.ufunc import load_rows, load_views
from fastact.kernels import cross_entropy, row_options
from fastact.kernels.rows import RowFunction
from fastact.kernels.sparse import Projection

from .functions import SHAPES, arrays, call, same_bits, sample
from .test_row_threads import CALLS

ROOT = Path(__file__).parents[1]
FRAME = 64 << 10
STACK = 128 << 10
RESERVE = re.compile(rb"\x48\x81\xec(....)", re.DOTALL)  # sub rsp, as all functions with more than 127 bytes begin

FUNCTIONS: dict[str, RowFunction | Projection] = {
    found.name: found
    for found in (*ROWS.values(), *vars(cross_entropy).values(), *vars(row_options).values())
    if isinstance(found, RowFunction | Projection)
}
x86 = pytest.mark.skipif(
    not llvm.get_default_triple().startswith("x86_64") or sys.platform == "win32", reason="frames are read in x86 code"
)


def frame(code: bytes) -> int:
    """Bytes of the largest frame in some object code."""
    return max((int.from_bytes(found[1], "little") for found in RESERVE.finditer(code)), default=0)


def compiled(function: RowFunction | Projection, dtype: str, length: int | None = None, beside: bool = False) -> bytes:
    label = f"{function.name}-{dtype}" + (f"-{length}" if length else "") + "-beside" * beside
    return cache.load_or_compile(label, lambda: compiler.compile_rows(label, function, dtype, length, beside))[1]


# in 16 bits those of each kind with the largest frames: the others are looked at where a test has compiled them
SIXTEEN = ("logsumexp", "log_softmax_masked", "smooth_cross_entropy_with_gradient", "entmax15")


@x86
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *itertools.product(FUNCTIONS, ["float32", "float64"]),
        *itertools.product(SIXTEEN, ["float16", "bfloat16"]),
    ],
)
def test_frames_of_rows(name: str, dtype: str) -> None:
    assert 0 < frame(compiled(FUNCTIONS[name], dtype)) <= FRAME
    if isinstance(FUNCTIONS[name], RowFunction):
        assert 0 < frame(compiled(FUNCTIONS[name], dtype, beside=True)) <= FRAME


@x86
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["softmax_masked", "smooth_cross_entropy_with_gradient"])
@pytest.mark.parametrize("length", [2, 3, 4, 5, 8, 12, 31, 32])
def test_frames_of_short_rows(name: str, dtype: str, length: int) -> None:
    if not llvm.get_host_cpu_features().get("avx512f", False):
        pytest.skip("no loops for rows of one length on this CPU")
    assert 0 < frame(compiled(FUNCTIONS[name], dtype, length)) <= FRAME


@x86
def test_frames_of_everything_else() -> None:
    """The drivers, and whatever else has been compiled so far."""
    for name in SHAPES:
        call(name, *[sample(5)] * arrays(name))
    load_rows()
    load_views()
    files = list((cache.root() / cache.key()).glob("*.bin"))
    frames = {file.stem: frame(file.read_bytes()) for file in files}
    assert {"piece", "walk_chunk", "rows"} <= frames.keys()
    assert {name: size for name, size in frames.items() if size > FRAME} == {}


# --- rows without an arena


def layouts(x: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Rows as they follow on each other, side by side, and with gaps."""
    gaps = np.zeros((x.shape[0], 2 * x.shape[1]), x.dtype)
    gaps[:, ::2] = x
    wide = np.zeros((x.shape[1], 2 * x.shape[0]), x.dtype)
    wide[:, ::2] = x.T
    return [x, np.asfortranarray(x), gaps[:, ::2], wide[:, ::2].T]


def every_call(x: np.ndarray[Any, Any]) -> dict[str, Callable[..., Any]]:
    """Those of `CALLS` that can be made with these rows, and a few more; fewer for dtypes that differ little."""
    calls = {name: function for name, function in CALLS.items() if "class" not in name}
    if x.shape[1] < 6:
        del calls["logsumexp_vjp"]
    calls["a class"] = lambda y: fa.cross_entropy_with_logits_with_gradient(y, np.zeros(y.shape[:-1], int))
    calls["entmax15"] = fa.entmax15
    calls["sparsemax_vjp"] = lambda y: fa.sparsemax_vjp(fa.sparsemax(y), y)
    few = ("softmax", "logsumexp", "with a mask", "entmax15")
    return {name: calls[name] for name in few} if x.dtype.itemsize == 2 else calls


def without_arena(use: Callable[[], Any]) -> tuple[Any, int]:
    """What comes of `use` where no memory is to be had, and how often some was asked for."""
    asked = []
    none = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_ssize_t)(lambda size: asked.append(size) or 0)
    usual = pool.raw_malloc
    pool.raw_malloc = ctypes.cast(none, ctypes.c_void_p).value
    try:
        return use(), len(asked)
    finally:
        pool.raw_malloc = usual


SIZES = [(3, 60), (4, 1), (40, 7), (600, 7), (40, 22), (700, 30), (40, 31), (130, 70), (60, 300), (50, 1500)]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_same_bits_without_an_arena(dtype: Any) -> None:
    asked = 0
    for shape in SIZES:
        x = (np.random.default_rng(3).normal(size=shape) * 4).astype(dtype)
        for name, function in every_call(x).items():
            expected = function(x)
            for y in layouts(x):
                for threads in (1, 3):
                    with fa.threads(threads):
                        result, count = without_arena(lambda f=function, y=y: f(y))
                    asked += count
                    assert same_bits(result, expected), (name, shape)
                    assert same_bits(function(y), expected), (name, shape)
    assert asked > 0


def test_threads_have_an_arena_each() -> None:
    x = (np.random.default_rng(4).normal(size=(700, 1200)) * 4).astype(np.float32)
    for axis in (0, 1):
        for function in (fa.softmax, fa.log_softmax, fa.sparsemax):
            with fa.threads(1):
                alone = function(x, axis=axis)
            y = np.asfortranarray(x)
            for threads in (2, 3, 7):
                with fa.threads(threads):
                    assert same_bits(function(x, axis=axis), alone)
                    assert same_bits(function(y, axis=axis), alone)
                    result, count = without_arena(lambda f=function, a=axis: f(x, axis=a))
                    assert same_bits(result, alone)
                    assert count <= 2


# --- threads with small stacks


def everything() -> list[Any]:
    """Calls of every kind of loop and of driver."""
    results = []
    for dtype in (np.float32, np.float64):
        for shape in ((1, 10), (300, 7), (40, 20), (700, 130), (60, 300), (5, 3000)):
            x = (np.random.default_rng(5).normal(size=shape) * 4).astype(dtype)
            results += [function(y) for function in every_call(x).values() for y in layouts(x)]
            results += [fa.softmax(x, axis=0), fa.log_softmax(x, axis=0), fa.entmax15(x, axis=0)]
            y = layouts(x)
            for operands in ([x] * 2, y[1:3], [y[3], x], [y[2], y[3]]):
                for name in SHAPES:
                    results.append(call(name, *operands[: arrays(name)]))
    for n in (100_000, 1_000_000):
        x = sample(3 * n)
        results += [fa.silu(x[::3]), fa.prelu(x[::-3], x[::3]), fa.softmax(x[: n // 1000 * 1000].reshape(-1, 1000))]
        results += [fa.silu(x[: n // 1000 * 1000].reshape(-1, 1000).T), fa.softmax(x)]
    return results


def in_a_small_thread() -> None:
    expected = everything()  # compiles it, which takes more stack
    found: list[Any] = []
    usual = threading.stack_size(STACK)
    try:
        thread = threading.Thread(target=lambda: found.extend(everything()))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(usual)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert same_bits(a, b)


def test_a_thread_with_a_small_stack() -> None:
    """In a process of its own, for it ends where there is too little."""
    code = "from tests.test_stack import in_a_small_thread; in_a_small_thread()"
    for number in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", code],
            env={**os.environ, "FASTACT_NUM_THREADS": number},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
