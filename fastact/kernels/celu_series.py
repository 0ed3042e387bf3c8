"""e^t (1 - t) - 1, celu by alpha, next to t = 0, where its terms cancel."""

from __future__ import annotations

from typing import Any

from fastact.kernels.language import fma, kernel
from fastact.kernels.polynomials import polynomial

__all__ = ["CELU_TAIL", "THIRD", "celu_slope_series"]

Lanes = Any

# t is multiplied by this, so that t^2 is normal.
SERIES_SCALE = {32: 2.0**48, 64: 2.0**400}

# 1/3, and ((1 - e^t (1 - t)) / t^2 - 1/2 - t/3) / t^2 on |t| <= 1, to 2^-32.4 and 2^-61.7 relative;
# tools/polynomials/expm1_32.py.
THIRD = {32: (0.3333333432674408, -9.934107758624577e-09), 64: (1 / 3, 1.850371707708594e-17)}
CELU_TAIL = {
    32: (
        0.125,
        0.03333333507180214,
        0.00694445101544261,
        0.0011904671555384994,
        0.0001735787227516994,
        2.205874989158474e-05,
        2.528979848648305e-06,
        2.467965600772004e-07,
    ),
    64: (
        0.125,
        0.033333333333333326,
        0.006944444444444387,
        0.001190476190476334,
        0.00017361111111193422,
        2.2045855378302802e-05,
        2.4801587258356586e-06,
        2.5052108631880993e-07,
        2.2964443730596293e-08,
        1.927081901590008e-09,
        1.491049159314481e-10,
        1.0708084751964509e-11,
        7.268750373796762e-13,
        4.4720369868850285e-14,
    ),
}


@kernel
def celu_slope_series(t: Lanes, t_low: Lanes) -> Lanes:
    """-t^2 (1/2 + t/3 + t^2 P(t)), for |t| < 1."""
    third, third_low = THIRD[t.width]
    tail = polynomial(t, CELU_TAIL[t.width])
    r = fma(t, tail, third)
    r_low = fma(t, tail, third - r) + third_low
    p = t * r
    p_low = fma(t, r, -p) + fma(t, r_low, t_low * fma(t, tail, r))
    q = 0.5 + p
    q_low = ((0.5 - q) + p) + p_low
    scale = SERIES_SCALE[t.width]
    t, t_low = t * scale, t_low * scale
    square = t * t
    square_low = fma(t + t, t_low, fma(t, t, -square))
    return -fma(square, q, fma(square, q_low, square_low * q)) * scale**-2
