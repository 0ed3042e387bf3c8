"""What a single instruction does on some CPUs has the bits of the operations it stands for, on every other."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastact.cpu import compiler, machine
from fastact.cpu.emit import Block
from fastact.cpu.lanes import Target
from fastact.cpu.ufunc import elementwise
from fastact.kernels.exp32 import LOG2_E as LOG2_E_PARTS
from fastact.kernels.exp32 import ROOTS, ROUND_PARTS
from fastact.kernels.language import (
    add_product,
    add_sums,
    bits,
    copysign,
    fabs,
    fma,
    grown,
    in_double,
    in_two,
    least_magnitude,
    lookup,
    lookup_power,
    lookups,
    select,
    sum_where,
    to_float,
)

from .functions import same_bits

Lanes = Any


def power(x: Lanes) -> Lanes:
    shifted = fma(x, LOG2_E_PARTS, ROUND_PARTS)
    return lookup_power(ROOTS, bits(shifted), shifted - ROUND_PARTS)


def power_by_bits(x: Lanes) -> Lanes:
    return lookup_power(ROOTS, bits(fma(x, LOG2_E_PARTS, ROUND_PARTS)), None)


def of_two(x: Lanes) -> Lanes:
    return least_magnitude(x, fma(x, 1.5, 2.0))


def of_two_by_comparison(x: Lanes) -> Lanes:
    a, b = fabs(x), fabs(fma(x, 1.5, 2.0))
    return copysign(select(b < a, b, a), x)


def sum_of_some(x: Lanes) -> Lanes:
    return to_float(sum_where(~(x <= 1.5), bits(x), bits(x) >> 3))


def sum_of_some_by_choice(x: Lanes) -> Lanes:
    return to_float(select(~(x <= 1.5), bits(x) + (bits(x) >> 3), 0))


@pytest.mark.parametrize(
    ("one", "several", "lowest", "highest"),
    [
        (power, power_by_bits, -40.0, 130.0),
        (of_two, of_two_by_comparison, -3e38, 3e38),
        (sum_of_some, sum_of_some_by_choice, -3e38, np.inf),
    ],
)
def test_an_instruction_has_the_bits_of_the_operations(
    one: Callable[..., Any], several: Callable[..., Any], lowest: float, highest: float
) -> None:
    every = np.arange(-(2**31), 2**31, 9973, dtype=np.int64).astype(np.int32).view(np.float32)
    spread = np.linspace(max(lowest, -1e3), min(highest, 1e3), 100_003, dtype=np.float32)
    x = np.concatenate([every, spread, np.float32([0.0, -0.0, 15.5, -15.5, 1e-45, -1e-45, lowest, highest])])
    quiet = np.isinf(highest) & np.isnan(x) & ((x.view(np.int32) & 1 << 22) != 0)  # the others keep any NaN
    x = x[quiet | ((x >= lowest) & (x <= highest))]
    found, expected = (elementwise(f"test_{f.__name__}", f, (1, 1), "", vectors=4)(x) for f in (one, several))
    assert np.isfinite(expected).all()
    assert same_bits(found, expected)


# lanes -> how many tables have one index; few in many lanes, which take long to compile
TOGETHER = {1: (2, 3, 9), 4: (2, 3, 4, 5, 9), 8: (2, 3, 4, 5, 7, 8, 9, 12), 16: (2, 7, 9), 32: (3,), 64: (5,)}


def together(tables: list[list[float]], numbers: tuple[int, ...]) -> Callable[..., Any]:
    """The entries of two tables, one by one, and those of the first few together, for every one of `numbers`."""

    def kernel(x: Lanes) -> tuple[Lanes, ...]:
        alone = [lookup(table, bits(x)) for table in tables[:2]]
        return (*alone, *(entry for many in numbers for entry in lookups(tables[:many], bits(x))))

    return kernel


@pytest.mark.parametrize("lacking", [(), ("avx512f",), ("avx512f", "avx2")], ids=lambda names: "-".join(names) or "all")
@pytest.mark.parametrize("entries", [4, 8, 16, 32])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tables_looked_up_together_have_the_entries_of_each(
    dtype: str, entries: int, lacking: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    features = machine.target().features - {*lacking}
    monkeypatch.setattr(compiler, "target", lambda: Target(features))
    generator = np.random.default_rng(entries)
    tables = generator.normal(size=(12, entries)).astype(dtype)
    tables[:, 1], tables[0, 2:] = -0.0, np.inf
    i = generator.integers(-(2**63), 2**63, 203).astype(f"i{tables.itemsize}")  # no whole number of vectors
    i[:2] = -1, np.iinfo(i.dtype).min
    of_each = tables[:, i & (entries - 1)]
    for lanes, numbers in TOGETHER.items():
        expected = np.concatenate([of_each[:many] for many in (2, *numbers)])
        name = "-".join(["together", dtype, str(entries), str(lanes), *lacking])
        block = Block(name, together(tables.tolist(), numbers), dtype, 1, len(expected), lanes)
        symbol, code = compiler.compile_block(block)
        loop = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_ssize_t)(machine.load(symbol, code))
        found = np.empty(expected.shape, dtype)
        loop((ctypes.c_void_p * (1 + len(found)))(*(array.ctypes.data for array in (i, *found))), i.size)
        assert same_bits(found, expected)


def products(x: Lanes) -> tuple[Lanes, ...]:
    """x 1.1 + x 1.3 - x x 0.7, with float32 factors, as a pair."""
    zero = x.const(0.0), x.const(0.0)
    first = add_product(add_product(zero, x, x.const(1.1)), x.const(1.3), x)
    return in_two(add_sums(grown(first), grown(add_product(zero, x, x * -0.7))))


def square_more(x: Lanes, total: Lanes) -> tuple[Lanes, Lanes]:
    return fma(x, x, total), total - x


def third_less(total: Lanes, other: Lanes, x: Lanes) -> tuple[Lanes]:
    return (select(x > 0.5, total, other) - x / 3.0,)


def doubles(x: Lanes) -> tuple[Lanes, ...]:
    """1.1^2 + x^2 or 1.1 - x, less x / 3, as a pair."""
    zero = x.const(0.0), x.const(0.0)
    once, _ = in_double(square_more, ((x.const(1.1),), zero), grown=False)
    total, other = in_double(square_more, ((x,), once), grown=False)
    (result,) = in_double(third_less, (grown(total), grown(other), (x,)), grown=True)
    return in_two(result)


def doubles_in_numpy(x: Any) -> Any:
    once = np.float64(np.float32(1.1)) ** 2
    return np.where(x > 0.5, once + x * x, once - x) - x / 3.0


def products_in_numpy(x: Any) -> Any:
    a, b, c = np.float32([1.1, 1.3, -0.7]).astype(np.float64)
    return (x * a + x * b) + x * (x * c).astype(np.float32)


@pytest.mark.parametrize("lanes", [4, 8, 16, 32, 64])
@pytest.mark.parametrize("lacking", [(), ("avx512f", "fma", "neon")], ids=["all", "no-fma"])
@pytest.mark.parametrize(("sums", "of_numpy"), [(products, products_in_numpy), (doubles, doubles_in_numpy)])
def test_sums_are_those_of_float64(
    lanes: int,
    lacking: tuple[str, ...],
    sums: Callable[..., Any],
    of_numpy: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features = machine.target().features - {*lacking}
    monkeypatch.setattr(compiler, "target", lambda: Target(features))
    x = np.random.default_rng(lanes).normal(size=203).astype(np.float32)
    x *= np.float32(2.0) ** np.arange(-101, 102, dtype=np.float32).clip(-60, 60)
    true = of_numpy(x.astype(np.float64))
    hi = true.astype(np.float32)
    block = Block(f"{sums.__name__}-{lanes}-{len(lacking)}", sums, "float32", 1, 2, lanes)
    symbol, code = compiler.compile_block(block)
    loop = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_ssize_t)(machine.load(symbol, code))
    found = np.empty((2, x.size), np.float32)
    loop((ctypes.c_void_p * 3)(x.ctypes.data, *(array.ctypes.data for array in found)), x.size)
    assert same_bits(found, np.stack([hi, (true - hi).astype(np.float32)]))
