"""Derivatives about their zeros, for float64 lanes.

silu', gelu', gelu_tanh' and mish' change sign at an irrational point r, where their usual formulas
cancel. About it f'(x) = u P(u), u = x - r, with r stored as a pair, is accurate down to the
floats next to the zero. tools/polynomials/roots64.py makes all numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastact.kernels.language import fabs, fma, kernel, select
from fastact.kernels.polynomials import polynomial

__all__ = ["with_gelu_root64", "with_gelu_tanh_root64", "with_mish_root64", "with_silu_root64"]

Lanes = Any

SILU_ROOT = (
    -1.2784645427610737,
    -1.0946994183093437e-16,
)
SILU_SLOPE = (
    0.2178117057198001,
    -3.974332795880862e-18,
)
SILU_TAIL = (
    0.14664879699694688,
    0.018874814223782302,
    -0.015222655223185095,
    -0.0066065891383549,
    0.00012662740992499218,
    0.0007985218817576299,
    0.00018570724734046713,
    -4.0905340709940684e-05,
    -2.9733589490222415e-05,
    -2.942649322512447e-06,
    2.3463704712645337e-06,
    8.600691296415923e-07,
    -3.191714933112091e-08,
    -9.297128591708002e-08,
    -1.57766699993781e-08,
    5.065869073413342e-09,
)
GELU_ROOT = (
    -0.7517915246935645,
    1.4956759177009883e-17,
)
GELU_SLOPE = (
    0.4314939923140469,
    2.7308688141129613e-17,
)
GELU_TAIL = (
    0.388284982990552,
    -0.01819967639867111,
    -0.11400823329721864,
    -0.014771522148239954,
    0.019421679838074954,
    0.004539228378907606,
    -0.0022395380663152785,
    -0.0007448268339226577,
    0.00018633973453353628,
    8.615942431608532e-05,
    -1.121436426147207e-05,
    -7.748112759045014e-06,
    4.330390822263005e-07,
    5.690135834352766e-07,
    -2.572351783598706e-09,
    -3.305084292840963e-08,
)
GELU_TANH_ROOT = (
    -0.7524614220710163,
    3.635560509207687e-17,
)
GELU_TANH_SLOPE = (
    0.4304000910248585,
    2.028254970529195e-17,
)
GELU_TANH_TAIL = (
    0.3875184461357889,
    -0.015782853521848744,
    -0.11394448308095267,
    -0.016619328342955993,
    0.019682309459452166,
    0.0052610592505311915,
    -0.002422731835595936,
    -0.0009274419269921035,
    0.0002639274923319808,
    0.00012425111809335324,
    -3.4954935274899056e-05,
    -1.594272298842242e-05,
    5.912492369921715e-06,
    2.39996028731214e-06,
    -9.723024529943377e-07,
    -3.55596405897931e-07,
    1.1483877889550097e-07,
)
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


def _with_root(
    x: Lanes, elsewhere: Lanes, data: tuple[Sequence[float], Sequence[float], Sequence[float]], lo: Lanes = None
) -> Lanes:
    root, slope, tail = data
    # Exact where it matters: x and r are within 1/2 of each other and |x| >= 1/4.
    d = x - root[0]
    offset = root[1] if lo is None else root[1] - lo
    u = d - offset
    u_lo = (d - u) - offset
    s = polynomial(u, tail)
    h = fma(u, s, slope[0])
    rest = fma(u, s, slope[0] - h) + slope[1]
    return select(fabs(d) < 0.49, fma(u, h, fma(u, rest, u_lo * h)), elsewhere)


@kernel
def with_silu_root64(x: Lanes, elsewhere: Lanes, lo: Lanes = None) -> Lanes:
    """silu'(x + lo) where x is within 0.49 of its zero, `elsewhere` elsewhere."""
    return _with_root(x, elsewhere, (SILU_ROOT, SILU_SLOPE, SILU_TAIL), lo)


@kernel
def with_gelu_root64(x: Lanes, elsewhere: Lanes) -> Lanes:
    """gelu'(x) where x is within 0.49 of its zero, `elsewhere` elsewhere."""
    return _with_root(x, elsewhere, (GELU_ROOT, GELU_SLOPE, GELU_TAIL))


@kernel
def with_gelu_tanh_root64(x: Lanes, elsewhere: Lanes) -> Lanes:
    """gelu_tanh'(x) where x is within 0.49 of its zero, `elsewhere` elsewhere."""
    return _with_root(x, elsewhere, (GELU_TANH_ROOT, GELU_TANH_SLOPE, GELU_TANH_TAIL))


@kernel
def with_mish_root64(x: Lanes, elsewhere: Lanes) -> Lanes:
    """mish'(x) where x is within 0.49 of its zero, `elsewhere` elsewhere."""
    return _with_root(x, elsewhere, (MISH_ROOT, MISH_SLOPE, MISH_TAIL))
