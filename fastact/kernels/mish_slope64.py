"""The derivative of mish for float64 lanes.

mish' changes sign at an irrational point r, where its usual formula cancels. About it mish'(x) = u P(u), u = x - r,
with r stored as a pair, is accurate down to the floats next to the zero. All numbers come from
tools/polynomials/mish_slope64.py.
"""

from __future__ import annotations

from typing import Any

from fastact.kernels.language import copysign, fabs, fma, kernel, select
from fastact.kernels.pairs import two_sum
from fastact.kernels.polynomials import polynomial
from fastact.kernels.scaled import clamp_minus_fabs, exp_scaled, format_of

__all__ = ["mish_derivative64"]

Lanes = Any

MISH_ROOT = (
    -1.1924312145154952,
    -4.8484829848031044e-17,
)
MISH_SLOPE = (
    0.2669479140495345,
    1.5332816617135587e-17,
)
MISH_TAIL = (
    0.20473126408010586,
    0.04190782104360987,
    -0.020271822716683922,
    -0.015821126561733748,
    -0.0033606849270238757,
    0.001092405540989364,
    0.000989818101732414,
    0.0002541293623142593,
    -4.196148473853554e-05,
    -5.5828890221555775e-05,
    -1.7299413767716428e-05,
    9.42505786413452e-07,
    2.909804655253857e-06,
    1.0728781565171343e-06,
    2.3062573782159335e-08,
    -1.4472918953569246e-07,
    -5.394585411576121e-08,
)


@kernel
def _mish_parts(x: Lanes) -> tuple[Lanes, ...]:
    """-|x| clamped; w = e^-|x| scaled and not, as pairs; N and D as pairs.

    tanh(softplus(x)) = 2^-scale N/D. x > 0: N = 2^scale (1/2 + w), D = 1/2 + w (1 + w).
    Else N = 2^scale w (2 + w), D = 2 + w (2 + w).
    """
    f = format_of(x)
    a = clamp_minus_fabs(x)
    w, w_low = exp_scaled(a, x.const(0.0))
    v = w * f.down
    v_low = w_low * f.down
    positive = x > 0.0
    k = select(positive, 1.0, x.const(2.0))
    h = select(positive, 0.5, x.const(2.0))
    g = k + v
    g_low = ((k - g) + v) + v_low
    b = w * g
    b_low = fma(w, g_low, fma(w_low, g, fma(w, g, -b)))
    d = fma(b, f.down, h)
    d_low = fma(b_low, f.down, fma(b, f.down, h - d))
    half = 0.5 * f.up
    n = w + half
    n_low = ((half - n) + w) + w_low
    return a, w, w_low, v, v_low, select(positive, n, b), select(positive, n_low, b_low), d, d_low


@kernel
def _with_mish_root(x: Lanes, elsewhere: Lanes) -> Lanes:
    """mish'(x) where x is within 0.49 of its zero, `elsewhere` elsewhere."""
    # Exact where it matters: x and the root are within 1/2 of each other and |x| >= 1/2.
    d = x - MISH_ROOT[0]
    u = d - MISH_ROOT[1]
    u_lo = (d - u) - MISH_ROOT[1]
    s = polynomial(u, MISH_TAIL)
    h = fma(u, s, MISH_SLOPE[0])
    rest = fma(u, s, MISH_SLOPE[0] - h) + MISH_SLOPE[1]
    return select(fabs(d) < 0.49, fma(u, h, fma(u, rest, u_lo * h)), elsewhere)


@kernel
def mish_derivative64(x: Lanes) -> Lanes:
    """T + x T' with T = tanh(softplus(x)) = N/D: (N + x C/D)/D.

    x > 0: C = w^2 (1 + w). Else C = 4 w (1 + w). By the zero, where the terms cancel, a polynomial
    about it. Error 0.94 ULP.
    """
    a, w, w_low, v, v_low, n, n_low, d, d_low = _mish_parts(x)
    positive = x > 0.0
    # C as a pair, scaled like N
    f = 1.0 + v
    f_low = ((1.0 - f) + v) + v_low
    t = f * w
    t_low = fma(f, w_low, fma(f_low, w, fma(f, w, -t)))
    s = select(positive, v, 4.0)
    c = t * s
    c_low = fma(t, select(positive, v_low, 0.0), fma(t_low, s, fma(t, s, -c)))
    inverse = 1.0 / d
    r = c * inverse
    r_low = fma(-r, d_low, fma(-r, d, c) + c_low) * inverse
    z = copysign(a, x)
    p = z * r
    p_low = fma(z, r_low, fma(z, r, -p))
    m, e = two_sum(n, p)
    e = e + (p_low + n_low)
    q = m * inverse
    rest = fma(-q, d_low, fma(-q, d, m) + e)
    return _with_mish_root(x, fma(rest, inverse, q) * format_of(x).down)
