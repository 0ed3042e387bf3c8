"""silu, x sigmoid(x), and swish, x sigmoid(beta x), with their derivatives."""

from __future__ import annotations

from typing import Any

from fastact.kernels.exp32 import (
    LIMIT,
    ROUND,
    SCALE,
    STEP_HIGH,
    STEP_LOW,
    STEPS_PER_LOG,
    TAIL_FINE,
    clamp_above,
    clamp_below,
    exp_parts,
    exp_parts_of_pair,
    power_of_steps,
)
from fastact.kernels.language import fabs, fma, kernel, select

Lanes = Any

# For x above this, x sigmoid(x) rounds to x, in float32.
IDENTITY_FROM = 30.0


@kernel
def _sigmoid_parts(power: Lanes, m: Lanes) -> tuple[Lanes, Lanes]:
    """(q, r) with 2^64 / (1 + e) = q (1 + r), for e = power (1 + m) of any size."""
    high = select(power > SCALE, power, SCALE)
    low = select(power > SCALE, SCALE, power)
    d = fma(power, m, high + low)
    d_low = fma(power, m, low - (d - high))
    q = 1.0 / d
    return q, fma(-q, d_low, fma(-q, d, 1.0))


@kernel
def _silu32(x: Lanes) -> Lanes:
    """x / (1 + e^-x)"""
    c = clamp_above(clamp_below(x, -LIMIT), IDENTITY_FROM)
    q, r = _sigmoid_parts(*exp_parts(-c))
    return select(x > IDENTITY_FROM, x, fma(c, q, c * (q * r)) * SCALE)


# The zero of silu' is at -(1 + w), w = e^-(1 + w). ROOT_W is w rounded to a multiple of 2^-23, of which it is only 1.3e-8 off,
# so that 1 + ROOT_W is a float32 too. e^a ROOT_W is 2^((k - ROOT_STEPS) / 16) e^r with
# r = a - k log(2)/16 + ROOT_SHIFT + ROOT_SHIFT_LOW, and the zero is at k = ROOT_STEPS, r = 0, where e^r - 1 is exact.
ROOT_W = 0.27846455574035645
ROOT_W_INVERSE = 3.591121196746826
ROOT_STEPS = 30.0
ROOT_SHIFT = 0.0211864672601223
ROOT_SHIFT_LOW = 1.388809484081932e-10


@kernel
def _silu_slope32(a: Lanes, a_low: Lanes | None) -> Lanes:
    """silu'(-a) = q (1 - a (1 - q)), q = 1 / (1 + e^a), for 0 <= a <= 130.

    The bracket cancels near its zero. With e^t = ROOT_W e^a and d = ROOT_W + e^t, so that q = ROOT_W / d, it is
    -(s + q (d - a)), s = a - (1 + ROOT_W), in which s is exact and more than four times the second term. Away from the
    zero, where s would not be exact and d - a not small, it is -(s - q a), s = a - 1.
    """
    shifted = fma(a + ROOT_SHIFT, STEPS_PER_LOG, ROUND - ROOT_STEPS)
    k = shifted - (ROUND - ROOT_STEPS)
    shift_low = ROOT_SHIFT_LOW if a_low is None else ROOT_SHIFT_LOW + a_low
    r = (fma(k, -STEP_HIGH, a) + ROOT_SHIFT) + fma(k, -STEP_LOW, shift_low)
    power, power_low = power_of_steps(shifted)
    m = fma(r * r, fma(r, fma(r, TAIL_FINE[2], TAIL_FINE[1]), TAIL_FINE[0]), r + power_low)
    # d = e^t + ROOT_W, as in exp32.reciprocal_of_one_plus_exp; scaled by 2^-64, and q by 2^64
    d = fma(power, m, power + ROOT_W * SCALE)
    d_low = fma(power, m, ROOT_W * SCALE - (d - power))
    q = ROOT_W / d
    error = fma(-q, d_low, fma(-q, d, ROOT_W)) * ROOT_W_INVERSE

    from_zero = a - (1.0 + ROOT_W)
    near = fabs(from_zero) < 0.75
    s = select(near, from_zero, a - 1.0)
    low = select(near, 0.0, a - (s + 1.0))
    if a_low is not None:
        low = low + a_low
    rest = fma(a, -SCALE, select(near, d, 0.0))
    rest = fma(q, select(near, rest + d_low, rest), low)
    # q (1 + error) in both places where q stands: (s + rest) (1 + error) + rest error
    rest = fma(error, (s + rest) + rest, rest)
    return fma(q, s, q * rest) * -SCALE


@kernel
def _silu32_derivative(x: Lanes) -> Lanes:
    """sigmoid(x) (1 + x sigmoid(-x)), computed at -|x| and reflected: silu'(x) = 1 - silu'(-x)."""
    a = clamp_above(fabs(x), LIMIT)
    slope = _silu_slope32(a, None)
    return select(x >= 0.0, 1.0 - slope, slope)
