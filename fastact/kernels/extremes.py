"""softplus, softplus and swish by beta, and elu', for parameters next to an end of the range of floats.

There a result is far from what an exponential is: it is divided by beta, or multiplied by x^2 or alpha, and so it shows
for exponents of hundreds more than otherwise. All that is large or small here is kept as a number next to 1 and an
exponent, an integer, which are put together last. That takes long, and is for `rarely`.
"""

from __future__ import annotations

import math
from typing import Any

from fastact.kernels.exp32 import clamp_above, clamp_below
from fastact.kernels.language import bits, copysign, fabs, fma, kernel, select
from fastact.kernels.pairs import two_prod, two_square, two_sum
from fastact.kernels.scaled import (
    exp_scaled,
    format_of,
    log1p_exp_scaled,
    logistic_scaled,
    power_of_two,
    split_exponent,
    times_sign,
)

__all__ = [
    "at_infinity",
    "elu_derivative_of_extreme",
    "softplus_derivative_at_infinity",
    "softplus_derivative_beta_of_extreme",
    "softplus_of_extreme",
    "swish_at_infinity",
    "swish_derivative_at_infinity",
    "swish_derivative_beta_of_extreme",
    "times_exp",
]

Lanes = Any

# Of a smaller |beta| the product with the largest float is so small that it is no substitute for that with infinity.
SMALL = {32: 2.0**-120, 64: 2.0**-1013}
FAR = {32: 40.0, 64: 80.0}  # from here on log(1 + w) is w = e^-a and 1 + w is 1; w is 0 beside a
# The product |beta x| is kept within 2^LEAST and 2^MOST: whether it is less does not show, and e^-2^MOST divided by the
# smallest number's square is 0.
LEAST, MOST = -100, 14
ROUND = {32: 1.5 * 2.0**23, 64: 1.5 * 2.0**52}
ROUND_BITS = {32: 0x4B400000, 64: 0x4338000000000000}  # of that
PER_LOG = 1 / math.log(2)  # in float32, too, n is right but for 1, and that is enough
UP = 20  # what is added is multiplied by 2^UP


@kernel
def _split(v: Lanes) -> tuple[Lanes, Lanes]:
    """|v| as a mantissa and an exponent; that of infinity outweighs those of all numbers, that of 0 any other."""
    f = format_of(v)
    mantissa, exponent = split_exponent(v)
    exponent = select(fabs(v) > f.largest, 8 * f.bias, exponent)
    return mantissa, select(v == 0.0, -16 * f.bias, exponent)


@kernel
def _product(m: Lanes, e: Lanes, b: Lanes, g: Lanes) -> tuple[Lanes, Lanes]:
    """m b 2^(e + g) as a pair, within its bounds."""
    f = format_of(m)
    n = e + g
    n = select(n < LEAST, LEAST, select(n > MOST, MOST, n))
    p, p_low = two_prod(m, b)
    power = power_of_two(n, f)
    return p * power, p_low * power


@kernel
def _exp_of(a: Lanes, a_low: Lanes) -> tuple[Lanes, Lanes, Lanes, Lanes, Lanes]:
    """e^-(a + a_low): as a pair times 2^(UP - n), and again as scaled by `exp_scaled` if a is near."""
    f = format_of(a)
    n = bits(fma(a, PER_LOG, ROUND[a.width])) - ROUND_BITS[a.width]
    hi, lo = exp_scaled(-a, -a_low, n)
    down = 2.0 ** (UP - f.scale)
    near = a < FAR[a.width]
    w, w_low = exp_scaled(select(near, -a, 0.0), select(near, -a_low, 0.0))
    return hi * down, lo * down, n, w, w_low


@kernel
def _times_power(y: Lanes, exponent: Lanes) -> Lanes:
    """y 2^exponent, rounded once for a y next to 1, by two factors: one might be no float."""
    f = format_of(y)
    most = 2 * f.bias
    exponent = select(exponent < -most, -most, select(exponent > most, most, exponent))
    half = exponent >> 1
    return y * power_of_two(half, f) * power_of_two(exponent - half, f)


@kernel
def _reciprocal(b: Lanes) -> tuple[Lanes, Lanes]:
    y = 1.0 / b
    return y, fma(-y, b, 1.0) * y


@kernel
def softplus_of_extreme(x: Lanes, beta: Lanes) -> tuple[Lanes]:
    """log(1 + e^(beta x)) / beta, as (max(beta x, 0) + log(1 + e^-|beta x|)) / beta."""
    (m, e), (b, g) = _split(x), _split(beta)
    a, a_low = _product(m, e, b, g)
    near, positive = a < FAR[x.width], (bits(x) ^ bits(beta)) >= 0
    far, far_low, n, w, w_low = _exp_of(a, a_low)
    log, log_low = log1p_exp_scaled(w, w_low)
    down = 2.0 ** (UP - format_of(x).scale)
    both = near & positive
    s, rest = two_sum(select(near, log * down, far), select(both, a * 2.0**UP, 0.0))
    rest = rest + (select(near, log_low * down, far_low) + select(both, a_low * 2.0**UP, 0.0))
    y, y_low = _reciprocal(b)
    t, t_low = two_prod(s, y)
    y = _times_power(t + (t_low + fma(rest, y, s * y_low)), -UP - g - select(near, 0, n))
    y = times_sign(select(positive & ~near, fabs(x), y), beta)
    return (select(x == x, y, x),)


@kernel
def softplus_derivative_beta_of_extreme(x: Lanes, beta: Lanes) -> tuple[Lanes]:
    """-(log(1 + w) + a w / (1 + w)) / beta^2 with w = e^-a, a = |beta x|."""
    (m, e), (b, g) = _split(x), _split(beta)
    a, a_low = _product(m, e, b, g)
    near = a < FAR[x.width]
    far, far_low, n, w, w_low = _exp_of(a, a_low)
    log, log_low = log1p_exp_scaled(w, w_low)
    q, q_low = logistic_scaled(a < 0.0, w, w_low)
    down = 2.0 ** (UP - format_of(x).scale)
    # a q + log, or (a + 1) e^-a
    q, q_low = select(near, q * down, far), select(near, q_low * down, far_low)
    log, log_low = select(near, log * down, far), select(near, log_low * down, far_low)
    p, p_low = two_prod(a, q)
    s, rest = two_sum(p, log)
    rest = rest + (fma(a, q_low, fma(a_low, q, p_low)) + log_low)
    y, y_low = _reciprocal(b)
    c, c_low = two_square(y)
    c_low = fma(y + y, y_low, c_low)
    t, t_low = two_prod(s, c)
    y = _times_power(t + (t_low + fma(rest, c, s * c_low)), -UP - g - g - select(near, 0, n))
    return (select(x == x, -y, x),)


@kernel
def swish_derivative_beta_of_extreme(x: Lanes, beta: Lanes) -> tuple[Lanes]:
    """x^2 q (1 - q), q = w / (1 + w), w = e^-|beta x|."""
    f = format_of(x)
    (m, e), (b, g) = _split(x), _split(beta)
    a, a_low = _product(m, e, b, g)
    near = a < FAR[x.width]
    far, far_low, n, w, w_low = _exp_of(a, a_low)
    q, q_low = logistic_scaled(a < 0.0, w, w_low)
    u = 1.0 - q * f.down
    u_low = ((1.0 - u) - q * f.down) - q_low * f.down
    down = 2.0 ** (UP - f.scale)
    q, q_low = select(near, q * down, far), select(near, q_low * down, far_low)
    u, u_low = select(near, u, 1.0), select(near, u_low, 0.0)
    s, s_low = two_prod(q, u)
    s_low = s_low + fma(q, u_low, q_low * u)
    c, c_low = two_square(m)
    t, t_low = two_prod(s, c)
    y = _times_power(t + (t_low + fma(s_low, c, s * c_low)), e + e - UP - select(near, 0, n))
    return (select(x == x, y, x),)


@kernel
def times_exp(alpha: Lanes, t: Lanes, t_low: Lanes) -> Lanes:
    """alpha e^(t + t_low) for |t| <= 2^MOST."""
    m, e = _split(alpha)
    f = format_of(t)
    n = bits(fma(t, PER_LOG, ROUND[t.width])) - ROUND_BITS[t.width]
    hi, lo = exp_scaled(t, t_low, -n)
    y, y_low = two_prod(hi * f.down, m)
    return times_sign(_times_power(y + fma(lo * f.down, m, y_low), e + n), alpha)


@kernel
def elu_derivative_of_extreme(x: Lanes, alpha: Lanes) -> tuple[Lanes]:
    """1 if x > 0 else alpha e^x: that of an infinite alpha is infinite, that of 0 has its sign."""
    y = times_exp(alpha, clamp_above(clamp_below(x, -(2.0**MOST)), 0.0), x.const(0.0))
    y = select(fabs(alpha) > format_of(x).largest, alpha, y)
    return (select(x > 0.0, 1.0, select(x == x, y, x)),)


@kernel
def at_infinity(beta: Lanes) -> Lanes:
    """Whether the limits below may be wanted: |beta| is `SMALL`, or infinite."""
    steepness = fabs(beta)
    return (steepness < SMALL[beta.width]) | (steepness > format_of(beta).largest)


@kernel
def _at_infinity(x: Lanes, beta: Lanes, right: Any, left: Any, y: Lanes) -> tuple[Lanes]:
    """y, but for the limits where beta x is infinite: `right`, and `left` where -beta x is."""
    largest, c, steepness = format_of(x).largest, fabs(x), fabs(beta)
    infinite = ((c > largest) & (steepness > 0.0)) | ((steepness > largest) & (c > 0.0))
    return (select(infinite, select((bits(x) ^ bits(beta)) >= 0, right, left), y),)


@kernel
def swish_at_infinity(x: Lanes, beta: Lanes, y: Lanes) -> tuple[Lanes]:
    return _at_infinity(x, beta, x, copysign(x.const(0.0), x), y)


@kernel
def swish_derivative_at_infinity(x: Lanes, beta: Lanes, y: Lanes) -> tuple[Lanes]:
    return _at_infinity(x, beta, x.const(1.0), -0.0, y)


@kernel
def softplus_derivative_at_infinity(x: Lanes, beta: Lanes, y: Lanes) -> tuple[Lanes]:
    """Here y is NaN where beta is infinite."""
    return _at_infinity(x, beta, x.const(1.0), 0.0, select(x == 0.0, 0.5, y))
