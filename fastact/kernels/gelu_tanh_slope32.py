"""What the derivative of gelu_tanh is made of in float32.

It is made of one function F(a), a = |x|, that falls like e^-m(a), m a polynomial like 2u: of its own values at -a,
divided by (root - a) so that it has no zero. The exponential takes care of the tail, with m as an exact pair; the
slowly varying rest G(a) = F(a) e^m(a) comes from a table of 32 intervals, as G = C e^(c1 d + c2 d^2 + c3 d^3 + c4 d^4),
d = a - A.

Keeping the *logarithm* of G lets one exponential do both, and gives F = 2^n C e^(r + log(G/C)), r exact, so that F is
known as a pair and is right to a small part of an ULP before the last rounding. There is no division.
"""

from __future__ import annotations

from typing import Any

from fastact.kernels.language import bits, fma, kernel, lookup_times_power, lookups

__all__ = [
    "CUBIC",
    "DOWN",
    "GELU_TANH_ROOT",
    "GELU_TANH_SLOPE",
    "GELU_TANH_SLOPE_INTERVALS",
    "LINEAR",
    "minus_cubic",
    "tail",
]

Lanes = Any
Table = tuple[tuple[float, ...], ...]
Intervals = tuple[float, float, float]

# Results are held multiplied by 2^90, so that nothing is subnormal before the last operation.
LIFT = 90
DOWN = 2.0**-LIFT

LOG2_E = 1.4426950408889634
# Rounded to float32, times n it is exact enough to leave r exact; what it lacks is part of the tables.
LOG_2 = 0.6931472
# Adding this to |v| < 2^22 rounds v to an integer; the low bits of the sum are that integer + 127 + LIFT.
ROUND = 1.5 * 2.0**23 + 127 + LIFT

# m(a) = a (LINEAR + CUBIC a^2). It differs from 2u, and the tables make up for it: coefficients of few
# bits make m(a) cheap, and a small LINEAR keeps rounding errors small where F(a) is near 1/2.
LINEAR = 5 / 4
CUBIC = 73 / 1024

# tools/polynomials/gelu_tanh_slope32.py computes everything below.
# e^r - 1 - r = r^2 (EXP_TAIL[0] + EXP_TAIL[1] r + ...) for |r| < 0.5, error 2^-29.8 of e^r
EXP_TAIL = (0.50000006, 0.16666661, 0.041665092, 0.008333903, 0.0014003773, 0.00019763272)
# The zero of gelu_tanh'(-a) as a pair.
GELU_TANH_ROOT = (0.75246143, -1.1339628e-08)


@kernel
def minus_cubic(a: Lanes) -> tuple[Lanes, Lanes]:
    """-a (LINEAR + CUBIC a^2) as a pair."""
    s = a * a
    s_low = fma(a, a, -s)
    # -(LINEAR + CUBIC a^2): LINEAR has so few bits that its sum with p is exact.
    p = fma(s, -CUBIC, -LINEAR)
    p_low = fma(s_low, -CUBIC, fma(s, -CUBIC, -LINEAR - p))
    q = a * p
    return q, fma(a, p_low, fma(a, p, -q))


@kernel
def tail(a: Lanes, q: Lanes, q_low: Lanes, table: Table, intervals: Intervals) -> tuple[Lanes, Lanes, Lanes]:
    """(H, r, w) with 2^90 F(a) = H (1 + r + w), for 0 <= a <= top and q + q_low = -m(a).

    H has the bits of the table and r is exact, so nothing but w is rounded: |w| < 0.3, error 2^-26.
    """
    start, slope, _ = intervals
    points, values, c1, c2, c3, c4 = table
    # The last bit of the exponent of D = start + slope a, which is in [start, 4 start], and four of its fraction.
    i = bits(fma(a, slope, start)) >> 19
    entries = lookups((points, c4, c3, c2, c1, values), i)
    d = a - next(entries)
    p = fma(next(entries), d, next(entries))
    p = fma(fma(p, d, next(entries)), d, next(entries))
    shifted = fma(q, LOG2_E, ROUND)
    n = shifted - ROUND
    r = fma(n, -LOG_2, q)
    v = fma(p, d, q_low)
    # The exponential of r + v; only its part of second order sees the rounding of the sum.
    rho = r + v
    p = EXP_TAIL[5]
    for c in reversed(EXP_TAIL[:5]):
        p = fma(p, rho, c)
    w = fma(p, rho * rho, v)
    return lookup_times_power(values, i, n, bits(shifted), LIFT, entries), r, w


# fmt: off
GELU_TANH_SLOPE_INTERVALS = (1.75, 0.4707370698451996, 11.15)
GELU_TANH_SLOPE = (
    (
        0.66385883, 0.9293914, 1.1949303, 1.4604795, 1.7260252, 1.9915513, 2.257099, 2.5226367, 2.7882524,
        3.0537038, 3.319244, 3.5848272, 3.8503668, 4.115927, 4.381432, 4.6469507, 5.0452533, 5.576379, 6.1074567,
        6.6384764, 7.169624, 7.7006392, 8.231064, 8.762842, 9.293986, 9.825013, 10.356054, 10.885757, 0.06638501,
        0.19915462, 0.33192798, 0.46469736,
    ),
    (
        1.0875787, 1.2247422, 1.3317335, 1.4081124, 1.4577092, 1.4865379, 1.5008458, 1.5058357, 1.5051705,
        1.5010275, 1.4944351, 1.4856972, 1.4747529, 1.4614153, 1.445521, 1.4269736, 1.3941828, 1.3416975, 1.2804768,
        1.2122815, 1.1389756, 1.06244, 0.98444045, 0.906182, 0.82922196, 0.75451505, 0.68285185, 0.6150069,
        0.70809215, 0.7960266, 0.88337404, 0.9683058,
    ),
    (
        0.5219229, 0.3769698, 0.2582859, 0.16606161, 0.09852142, 0.05215256, 0.022341656, 0.004213229, -0.006651454,
        -0.013713504, -0.019338781, -0.024875123, -0.030918896, -0.037607163, -0.044847455, -0.05247666,
        -0.06430109, -0.080164224, -0.09561756, -0.11038074, -0.12435148, -0.13750787, -0.14987262, -0.16154478,
        -0.17254382, -0.18294808, -0.19282423, -0.2022086, 0.9318608, 0.8321683, 0.7369537, 0.6467631,
    ),
    (
        -0.29669222, -0.2485741, -0.1983137, -0.14954944, -0.10591928, -0.07018303, -0.043634422, -0.026036918,
        -0.015960861, -0.011378744, -0.010220556, -0.010803809, -0.011991593, -0.0131608285, -0.014055048,
        -0.014626236, -0.014972899, -0.014804255, -0.014251998, -0.013533953, -0.012767288, -0.012014084,
        -0.011305794, -0.010653757, -0.010064904, -0.009537852, -0.009069248, -0.008655589, -0.3831383, -0.3673548,
        -0.34942684, -0.32957357,
    ),
    (
        0.05768687, 0.062389668, 0.06287544, 0.0586252, 0.05021249, 0.039188523, 0.027530305, 0.017016787,
        0.008790424, 0.0032381034, 9.1389105e-05, -0.0012745535, -0.0015564981, -0.0013186742, -0.0009170768,
        -0.0005280565, -8.8797475e-05, 0.00025338636, 0.0004134739, 0.0004737607, 0.00048104988, 0.0004609861,
        0.00042781545, 0.00038934316, 0.00034984655, 0.0003121217, 0.00027679888, 0.0002445638, 0.036741063,
        0.042400993, 0.04751815, 0.052064866,
    ),
    (
        0.006083834, 0.0025935015, -0.0017710159, -0.0061441506, -0.0094533535, -0.010993997, -0.010678258,
        -0.008942273, -0.006489477, -0.004015141, -0.0020100342, -0.00067009917, 5.1645635e-05, 0.0003419438,
        0.00038661933, 0.00033588934, 0.00022179833, 0.00010962548, 4.725765e-05, 1.3353911e-05, -4.4900944e-06,
        -1.3429545e-05, -1.7478098e-05, -1.8613886e-05, -1.82937e-05, -1.7406948e-05, -1.5780055e-05,
        -1.4522732e-05, 0.011234854, 0.010126749, 0.009095279, 0.008056583,
    ),
)
