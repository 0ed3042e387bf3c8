"""selu and its derivative for x <= 0 in float32: exponentials of which the tables of powers have lambda alpha in them.

tools/polynomials/expm1_32.py computes those.
"""

from __future__ import annotations

from typing import Any

from fastact.kernels.exp32 import EXPM1_LOWEST, EXPM1_TAIL, clamp_below, reduced
from fastact.kernels.language import fma, kernel, with_places
from fastact.kernels.polynomials import horner
from fastact.kernels.scaled import FORMATS, exp_scaled32

__all__ = ["selu_below32", "selu_slope_below32"]

Lanes = Any


# selu of x <= 0 in float32 is c (e^x - 1) (1 + SELU_REST), c the float32 of lambda alpha: c 2^(j/16) rounded, and of it
# what that lacks, and the share of SELU_REST that c (e^x - 1) has there from -log(2) on; see `selu_below32`.
SELU_REST = 1.325108200944669e-08
# fmt: off
SELU_POWERS = (
    1.7580993175506592, 1.8359370231628418, 1.917220950126648, 2.002103567123413,
    2.0907442569732666, 2.183309316635132, 2.279972791671753, 2.380915641784668,
    2.486327886581421, 2.596406936645508, 2.711359739303589, 2.831402063369751,
    2.956758737564087, 3.0876657962799072, 3.2243683338165283, 3.3671233654022217,
)
SELU_SLOPE_LOW = (
    1.325108200944669e-08, 1.382781178449477e-08, -1.2590563258640941e-08, -9.486616825427063e-09,
    -5.7185243207413805e-09, 3.856413144376347e-08, -1.1164609681202364e-08, 5.990300167013629e-08,
    1.8197173545786427e-08, 5.279484227571629e-08, 3.5514947427373045e-08, -2.5545187298803285e-08,
    4.369408657112217e-08, -9.96410509657153e-09, 2.2952866274295047e-08, 8.249378069535851e-09,
)
SELU_POWERS_LOW = (
    0.0, -1.1550747025523833e-08, -3.68931551975038e-08, -3.275885873676998e-08,
    -2.8004098595602045e-08, 1.7223390713638764e-08, -3.160057104878433e-08, 4.03334539100797e-08,
    -5.42686728888242e-10, 3.48494921809106e-08, 1.833042162502352e-08, -4.200114389618648e-08,
    2.7935804780554463e-08, -2.5054285757164507e-08, 8.502459181158883e-09, -5.588379092813511e-09,
)
# fmt: on
SELU_POWERS_SCALED = with_places(tuple(FORMATS[32].up * power for power in SELU_POWERS), 32, -1)


@kernel
def selu_below32(x: Lanes) -> Lanes:
    """lambda alpha (e^x - 1), as `fastact.kernels.exponential.expm1_negative`, with c where that has 1.

    That times lambda alpha, pair times pair, would cost three products more.

    c alone is off by a fifth of an ULP, by SELU_REST. Of s (1 + r + q) - c that share is SELU_REST (s r + s - c), but
    for r^2: the first makes up for it where s = c, next to 0, and the second is in the table down to s = c/2. Farther
    to the left more than half of that fifth stays.
    """
    c = SELU_POWERS[0]
    s, _, r, rest = reduced(clamp_below(x, EXPM1_LOWEST), SELU_POWERS, SELU_POWERS_LOW, False)
    q = fma(r, fma(r, horner(r, EXPM1_TAIL), SELU_REST), rest)
    a = s - c
    lost = s - (a + c)
    h = fma(s, r, a)
    return h + fma(s, q, fma(s, r, a - h) + lost)


@kernel
def selu_slope_below32(x: Lanes) -> Lanes:
    """lambda alpha e^x for x >= -120."""
    return exp_scaled32(x, x.const(0.0), 0, SELU_POWERS_SCALED, SELU_SLOPE_LOW)[0] * FORMATS[32].down
