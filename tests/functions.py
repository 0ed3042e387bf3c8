"""Every public function with operands to call it on, from the records."""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import fastact as fa
from fastact.api import elementwise_forms

ELEMENTWISE = tuple(elementwise_forms())
# One function of every shape: no parameter, one, two; one and two inputs; one and two outputs.
SHAPES = (
    "relu",
    "hard_swish",
    "leaky_relu",
    "prelu",
    "hard_tanh",
    "relu_derivative",
    "relu_vjp",
    "leaky_relu_vjp",
    "relu_with_derivative",
    "hard_tanh_with_derivative",
)


def parameters(name: str) -> tuple[float, ...]:
    """A value for every parameter that has no default."""
    record, _ = elementwise_forms()[name]
    return tuple(0.25 for p in record.parameters if p.default is None)


def arrays(name: str) -> int:
    """The number of array operands."""
    return len(elementwise_forms()[name][1].arrays)


def call(name: str, *operands: Any, **options: Any) -> Any:
    """Call a public function with its array operands and whatever parameters it needs."""
    return getattr(fa, name)(*operands, *parameters(name), **options)


def outputs(result: Any) -> tuple[np.ndarray[Any, Any], ...]:
    """The results of a call, always as a tuple of arrays."""
    return tuple(np.asarray(r) for r in (result if isinstance(result, tuple) else (result,)))


def same_bits(a: Any, b: Any) -> bool:
    """Whether two results are equal bit for bit (any NaN equals any NaN)."""
    pairs = list(zip(outputs(a), outputs(b), strict=True))
    return all(
        x.dtype == y.dtype
        and x.shape == y.shape
        and bool(np.all((x == y) & (np.signbit(x) == np.signbit(y)) | (x != x) & (y != y)))
        for x, y in pairs
    )


def sample(n: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray[Any, Any]:
    """Numbers of every magnitude, with special values among them."""
    generator = np.random.default_rng(seed)
    x = (generator.normal(size=n) * 10.0 ** generator.integers(-3, 3, n)).astype(dtype)
    specials = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 6.0, -3.0, 3.0], dtype)
    x[:: max(n // len(specials), 1)][: len(specials)] = specials[: len(x[:: max(n // len(specials), 1)])]
    return x


# Older CPUs, by their name for LLVM and the features to have or not to have. Few, because each has its own driver.
X86 = {
    "SSE2 and FMA": ("x86-64", "+sse2,+fma,+avx,-f16c,-avx2,-avx512f"),
    "AVX2 without F16C": ("haswell", "+avx2,+fma,-f16c,-avx512f"),
    "AVX2": ("haswell", "+avx2,+fma,+f16c,-avx512f"),
}


def as_cpu(level: str) -> dict[str, str]:
    """The environment that makes a process compile for an older CPU; skips the test where this one is older still."""
    name, features = X86[level]
    present = llvm.get_host_cpu_features()
    for feature in features.split(","):
        if feature.startswith("+") and not present.get(feature[1:], False):
            pytest.skip(f"this CPU has no {feature[1:]}")
    return {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
