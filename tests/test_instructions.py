"""What a single instruction does on some CPUs has the bits of the operations it stands for, on every other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastact.cpu.ufunc import elementwise
from fastact.kernels.erf32 import LIFT, LOG2_E, ROUND
from fastact.kernels.exp32 import LOG2_E as LOG2_E_PARTS
from fastact.kernels.exp32 import POWERS_LOW, ROOTS, ROUND_PARTS
from fastact.kernels.language import (
    bits,
    copysign,
    fabs,
    fabs_up_to,
    fma,
    from_bits,
    least_magnitude,
    lookup,
    lookup_power,
    lookup_times_power,
    select,
)

from .functions import same_bits

Lanes = Any
VALUES = POWERS_LOW[1:] + ROOTS + (0.3,)  # 32 numbers of any size


def power(x: Lanes) -> Lanes:
    shifted = fma(x, LOG2_E_PARTS, ROUND_PARTS)
    return lookup_power(ROOTS, bits(shifted), shifted - ROUND_PARTS)


def power_by_bits(x: Lanes) -> Lanes:
    return lookup_power(ROOTS, bits(fma(x, LOG2_E_PARTS, ROUND_PARTS)), None)


def times_power(x: Lanes) -> Lanes:
    shifted = fma(x, LOG2_E, ROUND)
    return lookup_times_power(VALUES, bits(x), shifted - ROUND, bits(shifted), LIFT)


def times_power_by_product(x: Lanes) -> Lanes:
    return from_bits(bits(fma(x, LOG2_E, ROUND)) << 23) * lookup(VALUES, bits(x))


def least(x: Lanes) -> Lanes:
    return fabs_up_to(x, 15.5)


def least_by_comparison(x: Lanes) -> Lanes:
    magnitude = fabs(x)
    return select(magnitude < 15.5, magnitude, 15.5)


def of_two(x: Lanes) -> Lanes:
    return least_magnitude(x, fma(x, 1.5, 2.0))


def of_two_by_comparison(x: Lanes) -> Lanes:
    a, b = fabs(x), fabs(fma(x, 1.5, 2.0))
    return copysign(select(b < a, b, a), x)


@pytest.mark.parametrize(
    ("one", "several", "lowest", "highest"),
    [
        (power, power_by_bits, -40.0, 130.0),
        (times_power, times_power_by_product, -120.0, 0.0),
        (least, least_by_comparison, -np.inf, np.inf),
        (of_two, of_two_by_comparison, -3e38, 3e38),
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
