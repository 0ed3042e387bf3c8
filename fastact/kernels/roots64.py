"""The derivative of mish about its zero, for float64 lanes.

mish' changes sign at an irrational point r, where its usual formula cancels. About it mish'(x) = u P(u), u = x - r,
with r stored as a pair, is accurate down to the floats next to the zero. All numbers come from
tools/polynomials/roots64.py.
"""

from __future__ import annotations

from typing import Any

from fastact.kernels.language import fabs, fma, kernel, select
from fastact.kernels.polynomials import polynomial

__all__ = ["with_mish_root64"]

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
def with_mish_root64(x: Lanes, elsewhere: Lanes) -> Lanes:
    """mish'(x) where x is within 0.49 of its zero, `elsewhere` elsewhere."""
    # Exact where it matters: x and the root are within 1/2 of each other and |x| >= 1/2.
    d = x - MISH_ROOT[0]
    u = d - MISH_ROOT[1]
    u_lo = (d - u) - MISH_ROOT[1]
    s = polynomial(u, MISH_TAIL)
    h = fma(u, s, MISH_SLOPE[0])
    rest = fma(u, s, MISH_SLOPE[0] - h) + MISH_SLOPE[1]
    return select(fabs(d) < 0.49, fma(u, h, fma(u, rest, u_lo * h)), elsewhere)
