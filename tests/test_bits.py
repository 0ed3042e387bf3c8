"""One result for one input, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import fastact as fa

from .functions import ELEMENTWISE, arrays, call, outputs, same_bits, sample

X = sample(64)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_same_input_anywhere(name: str) -> None:
    """Alone, in the middle of many, strided, misaligned, with one thread and with two."""
    count = arrays(name)
    alone = [outputs(call(name, *[X[k : k + 1]] * count)) for k in range(len(X))]
    expected = tuple(np.concatenate(parts) for parts in zip(*alone, strict=True))

    def check(view: np.ndarray[Any, Any], start: int) -> None:
        view[start : start + len(X)] = X
        for threads in (1, 2):
            with fa.threads(threads):
                result = outputs(call(name, *[view] * count))
            assert same_bits(tuple(r[start : start + len(X)] for r in result), expected)

    check(np.ones(len(X), np.float32), 0)
    check(np.full(1_000_000, 0.5, np.float32), 499_999)
    check(np.ones(3 * 200_000, np.float32)[::-3], 100_001)
    check(np.zeros(4 * 200_000 + 1, np.uint8)[1:].view(np.float32), 77_777)


@pytest.mark.parametrize("name", [r.name for r in fa.CATALOGUE.values() if r.at_defaults is not None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_kernel_for_the_defaults_gives_the_same_bits(name: str, dtype: Any) -> None:
    record = fa.CATALOGUE[name]
    patterns = np.random.default_rng(3).integers(0, 1 << 32, 2_000_000, dtype=np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):  # signalling NaNs are quieted
        x = np.concatenate([patterns, np.linspace(-20, 20, 1_000_000)]).astype(dtype)
    function = getattr(fa, name)
    defaults = [np.dtype(dtype).type(p.default) for p in record.parameters]
    assert same_bits(function(x), function.ufunc(x, *defaults))


@pytest.mark.parametrize("function", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("n", [1, 2, 10, 31, 32, 33, 1000])
def test_a_row_alone_or_in_a_batch(function: str, n: int) -> None:
    x = np.random.default_rng(n).normal(size=(300, n)).astype(np.float32) * 5
    ufunc = getattr(fa, function)
    batch = ufunc(x)
    assert same_bits(batch, np.stack([ufunc(row) for row in x]))
    by_column = ufunc(np.asfortranarray(x))
    assert same_bits(by_column, batch)
    across = ufunc(x.T, axis=0)
    assert same_bits(across.T, batch)
    out = np.empty((300, 2 * n), np.float32)[:, ::2]
    if ufunc.signature == "(n)->(n)":
        assert same_bits(ufunc(x, out=out), batch)
        copy = x.copy()
        assert same_bits(ufunc(copy, out=copy), batch)


DIGESTS = """
import hashlib, json, sys
import numpy as np
sys.path.insert(0, {root!r})
from tests.functions import ELEMENTWISE, arrays, call, outputs
import fastact as fa
x = np.random.default_rng(7).integers(0, 1 << 32, 4099, dtype=np.uint32).view(np.float32)
x = np.concatenate([x, np.linspace(-20, 20, 4096, dtype=np.float32)])
found = {{}}
def digest(results):
    bits = [np.where(np.isnan(r), np.float64(np.nan), r).tobytes() for r in results]
    return hashlib.sha256(b"".join(bits)).hexdigest()
for name in ELEMENTWISE:
    for dtype in (np.float32, np.float64):
        found[name + str(dtype)] = digest(outputs(call(name, *[x.astype(dtype)] * arrays(name))))
rows = np.linspace(-20, 20, 8190, dtype=np.float32).reshape(90, 91)
for name in ("softmax", "log_softmax", "logsumexp"):
    for dtype in (np.float32, np.float64):
        found[name + str(dtype)] = digest(outputs(getattr(fa, name)(rows.astype(dtype))))
print(json.dumps(found))
"""


def digests(**environment: str) -> dict[str, str]:
    code = DIGESTS.format(root=str(Path(__file__).parents[1]))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def native() -> dict[str, str]:
    return digests()


X86 = {
    "SSE2 and FMA": ("x86-64", "+sse2,+fma,+avx,-avx2,-avx512f"),
    "AVX2": ("haswell", "+avx2,+fma,-avx512f"),
    "AVX-512": ("skylake-avx512", ""),
}


@pytest.mark.parametrize("level", X86)
def test_every_vector_width(native: dict[str, str], level: str) -> None:
    features = llvm.get_host_cpu_features()
    needed = {"SSE2 and FMA": "fma", "AVX2": "avx2", "AVX-512": "avx512f"}[level]
    if not features.get(needed, False):
        pytest.skip(f"this CPU has no {needed}")
    name, listed = X86[level]
    narrowed = digests(NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=listed or features.flatten())
    different = sorted(k for k in native if narrowed[k] != native[k])
    assert not different
