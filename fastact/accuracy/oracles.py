"""What every elementwise function is, to hundreds of bits: the judge of the kernels, and independent of them.

`ORACLES` is the one table: for each function its forward formula, its derivative by x and by each parameter, a line or
a few each. The formulas are the definitions; precision, not cleverness, keeps them accurate (`arithmetic.evaluate`).
What a formula over real numbers cannot say is beside it: `ZERO_SIGNS` for the sign of an exact zero; a value at an
infinity is the limit, found by looking far outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastact.accuracy.arithmetic import Real, Scaled, evaluate, evaluate_all, namespaces, require, scaled
from fastact.activation import Unfinished

__all__ = ["FROM_OUTPUT", "ORACLES", "ZERO_SIGNS", "Truth", "formula_of", "truth", "truth_at", "truth_from_output"]

Formula = Callable[..., Real]


def _clip(x: Real, low: Real, high: Real) -> Real:
    return min(max(x, low), high)


def _sigmoid(m: Any, x: Real) -> Real:
    return 1 / (1 + m.exp(-x))


def _sigmoid_1(m: Any, x: Real) -> Real:
    return m.exp(-abs(x)) / (1 + m.exp(-abs(x))) ** 2


def _bipolar_sigmoid(m: Any, x: Real) -> Real:
    return m.expm1(x) / (m.expm1(x) + 2) if x < 0 else -m.expm1(-x) / (2 + m.expm1(-x))


def _swish(m: Any, x: Real, beta: Real) -> Real:
    return x * _sigmoid(m, beta * x)


def _swish_1(m: Any, x: Real, beta: Real) -> Real:
    return _sigmoid(m, beta * x) * (1 + beta * x * _sigmoid(m, -beta * x))


def _swish_beta(m: Any, x: Real, beta: Real) -> Real:
    return x * x * _sigmoid_1(m, beta * x)


def _normal_cdf(m: Any, x: Real) -> Real:
    return m.erfc(-x / m.sqrt(m.number(2))) / 2


def _gelu_1(m: Any, x: Real) -> Real:
    return _normal_cdf(m, x) + x * m.exp(-x * x / 2) / m.sqrt(2 * m.pi)


def _tanh_form(m: Any, x: Real) -> tuple[Real, Real]:
    """2u and its derivative, u = sqrt(2/pi) (x + 0.044715 x^3)."""
    root, cubic = 2 * m.sqrt(2 / m.pi), m.number("0.044715")
    return root * (x + cubic * x**3), root * (1 + 3 * cubic * x**2)


def _gelu_tanh(m: Any, x: Real) -> Real:
    return x * _sigmoid(m, _tanh_form(m, x)[0])


def _gelu_tanh_1(m: Any, x: Real) -> Real:
    u2, u2_1 = _tanh_form(m, x)
    return _sigmoid(m, u2) * (1 + x * u2_1 * _sigmoid(m, -u2))


def _softplus(m: Any, x: Real, beta: Real) -> Real:
    z = beta * x
    return (max(z, 0 * z) + m.log1p(m.exp(-abs(z)))) / beta


def _softplus_beta(m: Any, x: Real, beta: Real) -> Real:
    z = abs(beta * x)
    return -(m.log1p(m.exp(-z)) + z * _sigmoid(m, -z)) / beta**2


def _mish(m: Any, x: Real) -> Real:
    n = m.exp(x) * (m.exp(x) + 2)
    return x * n / (n + 2)


def _mish_1(m: Any, x: Real) -> Real:
    # tanh(s) + x sech(s)^2 sigmoid(x) with s = softplus(x), tanh(s) = n/(n+2) and sech(s)^2 = 4(1+e)^2/(n+2)^2.
    e = m.exp(x)
    n = e * (e + 2)
    return n / (n + 2) + 4 * x * e * (1 + e) / (n + 2) ** 2


def _celu_alpha(m: Any, x: Real, alpha: Real) -> Real:
    z = x / alpha
    return m.expm1(z) - z * m.exp(z)


def _elu(m: Any, x: Real, alpha: Real) -> Real:
    return x if x > 0 else alpha * m.expm1(x)


def _elu_1(m: Any, x: Real, alpha: Real) -> Real:
    return alpha**0 if x > 0 else alpha * m.exp(x)


def _selu_constants(m: Any) -> tuple[Real, Real]:
    return m.number("1.0507009873554804934193349852946"), m.number("1.6732632423543772848170429916717")


def _selu(m: Any, x: Real) -> Real:
    scale, alpha = _selu_constants(m)
    return scale * _elu(m, x, alpha)


def _selu_1(m: Any, x: Real) -> Real:
    scale, alpha = _selu_constants(m)
    return scale * _elu_1(m, x, alpha)


SIXTHS = (1 / 6, float(np.float32(1 / 6)))
"""The default slope of hard_sigmoid in float64 and float32: it stands for 1/6 exactly, so that the kinks are -3 and
3.
"""


def _slope(slope: Real) -> Real:
    return (0 * slope + 1) / 6 if slope in SIXTHS else slope


def _line(x: Real, slope: Real, offset: Real) -> Real:
    # x times a rounded 1/6 could be on the wrong side of a kink.
    return (x + 6 * offset) / 6 if slope in SIXTHS else slope * x + offset


def _if_inside(x: Real, slope: Real, offset: Real, value: Real) -> Real:
    return value if 0 < _line(x, slope, offset) < 1 else 0


def _hard_swish(m: Any, x: Real) -> Real:
    return x * _clip((x + 3) / 6, 0 * x, 0 * x + 1)


def _hard_swish_1(m: Any, x: Real) -> Real:
    if x <= -3:
        return 0 * x
    return (2 * x + 3) / 6 if x < 3 else 0 * x + 1


def _leaky(m: Any, x: Real, slope: Real) -> Real:
    return x if x > 0 else slope * x


def _leaky_1(m: Any, x: Real, slope: Real) -> Real:
    return 1 if x > 0 else slope


def _negative_part(m: Any, x: Real, slope: Real) -> Real:
    return x if x <= 0 else 0


ORACLES: Mapping[str, Mapping[str, Formula]] = {
    "binary_step": {
        "forward": lambda m, x, threshold: 1 if x > threshold else 0,
        "derivative": lambda m, x, threshold: 0,
        "derivative_threshold": lambda m, x, threshold: 0,
    },
    "sigmoid": {"forward": _sigmoid, "derivative": _sigmoid_1},
    "bipolar_sigmoid": {
        "forward": _bipolar_sigmoid,
        "derivative": lambda m, x: 2 * _sigmoid_1(m, x),
    },
    "tanh": {
        "forward": lambda m, x: _bipolar_sigmoid(m, 2 * x),
        "derivative": lambda m, x: 4 * _sigmoid_1(m, 2 * x),
    },
    "relu": {
        "forward": lambda m, x: max(x, 0 * x),
        "derivative": lambda m, x: 1 if x > 0 else 0,
    },
    "leaky_relu": {"forward": _leaky, "derivative": _leaky_1, "derivative_negative_slope": _negative_part},
    "prelu": {"forward": _leaky, "derivative": _leaky_1, "derivative_a": _negative_part},
    "elu": {
        "forward": _elu,
        "derivative": _elu_1,
        "derivative_alpha": lambda m, x, alpha: m.expm1(x) if x <= 0 else 0,
    },
    "selu": {"forward": _selu, "derivative": _selu_1},
    "celu": {
        "forward": lambda m, x, alpha: x if x > 0 else alpha * m.expm1(x / alpha),
        "derivative": lambda m, x, alpha: 1 if x > 0 else m.exp(x / alpha),
        "derivative_alpha": lambda m, x, alpha: 0 if x > 0 else _celu_alpha(m, x, alpha),
    },
    "swish": {"forward": _swish, "derivative": _swish_1, "derivative_beta": _swish_beta},
    "silu": {
        "forward": lambda m, x: _swish(m, x, 1),
        "derivative": lambda m, x: _swish_1(m, x, 1),
    },
    "gelu": {"forward": lambda m, x: x * _normal_cdf(m, x), "derivative": _gelu_1},
    "gelu_tanh": {"forward": _gelu_tanh, "derivative": _gelu_tanh_1},
    "log_sigmoid": {
        "forward": lambda m, x: -_softplus(m, -x, 1),
        "derivative": lambda m, x: _sigmoid(m, -x),
    },
    "softplus": {
        "forward": _softplus,
        "derivative": lambda m, x, beta: _sigmoid(m, beta * x),
        "derivative_beta": _softplus_beta,
    },
    "mish": {"forward": _mish, "derivative": _mish_1},
    "softsign": {
        "forward": lambda m, x: x / (1 + abs(x)),
        "derivative": lambda m, x: 1 / (1 + abs(x)) ** 2,
    },
    "hard_sigmoid": {
        "forward": lambda m, x, slope, offset: _clip(_line(x, slope, offset), 0 * x, 0 * x + 1),
        "derivative": lambda m, x, slope, offset: _if_inside(x, slope, offset, _slope(slope)),
        "derivative_slope": lambda m, x, slope, offset: _if_inside(x, slope, offset, x),
        "derivative_offset": lambda m, x, slope, offset: _if_inside(x, slope, offset, 1),
    },
    "hard_swish": {"forward": _hard_swish, "derivative": _hard_swish_1},
    "relu6": {
        "forward": lambda m, x: _clip(x, 0 * x, 0 * x + 6),
        "derivative": lambda m, x: 1 if 0 < x < 6 else 0,
    },
    "hard_tanh": {
        "forward": lambda m, x, low, high: _clip(x, low, high),
        "derivative": lambda m, x, low, high: 1 if low < x < high else 0,
        "derivative_min_val": lambda m, x, low, high: 1 if x <= low < high else 0,
        "derivative_max_val": lambda m, x, low, high: 1 if max(x, low) >= high else 0,
    },
}
"""name -> form -> formula(m, x, *parameters); `m` has exp, expm1, log1p, erfc, sqrt, pi and number."""

FROM_OUTPUT: Mapping[str, Formula] = {
    "sigmoid": lambda m, y: y * (1 - y),
    "bipolar_sigmoid": lambda m, y: (1 - y) * (1 + y) / 2,
    "tanh": lambda m, y: (1 - y) * (1 + y),
    "log_sigmoid": lambda m, y: -m.expm1(y),
}
"""name -> the derivative as a formula(m, y) of the function's result."""


def _sign(*values: float) -> float:
    return math.prod(math.copysign(1.0, v) for v in values)


def _sign_of_x(x: float, *parameters: float) -> float:
    return _sign(x)


def _sign_at_zero(x: float, *parameters: float) -> float:
    """The sign of x where x itself comes back, + where the function is constantly 0."""
    return _sign(x) if x == 0 else 1.0


ZERO_SIGNS: Mapping[tuple[str, str], Callable[..., float]] = {
    **{(name, "forward"): _sign_of_x for name in ("bipolar_sigmoid", "tanh", "softsign", "selu", "celu", "hard_swish")},
    **{(name, "forward"): _sign_of_x for name in ("swish", "silu", "gelu", "gelu_tanh", "mish")},
    ("leaky_relu", "forward"): _sign,
    ("prelu", "forward"): _sign,
    ("elu", "forward"): _sign,
    ("hard_tanh", "forward"): lambda x, low, high: _sign(low if x < low else high if x > high else x),
    ("leaky_relu", "derivative"): lambda x, slope: _sign(slope),
    ("prelu", "derivative"): lambda x, slope: _sign(slope),
    ("elu", "derivative"): lambda x, alpha: _sign(alpha),
    ("leaky_relu", "derivative_negative_slope"): _sign_at_zero,
    ("prelu", "derivative_a"): _sign_at_zero,
    ("elu", "derivative_alpha"): _sign_at_zero,
    ("hard_sigmoid", "derivative_slope"): lambda x, slope, offset: _sign(x) if 0 < offset < 1 and x == 0 else 1.0,
}
"""The sign of the result where the true value is exactly zero: that of the product in the formula; 0.0 where not
listed.
"""


class Truth(NamedTuple):
    """True values (hi + lo) * 2^exponent, element by element: what `ulp.compare` takes."""

    hi: npt.NDArray[np.float64]
    lo: npt.NDArray[np.float64]
    exponent: npt.NDArray[np.int64]

    def rounded(self) -> npt.NDArray[np.float64]:
        """The nearest float64 (twice rounded where it is subnormal)."""
        with np.errstate(all="ignore"):
            nearest = np.ldexp(self.hi + self.lo, self.exponent.astype(np.intp))
        return np.where(self.hi == 0, self.hi, nearest)


def formula_of(name: str, form: str) -> Formula:
    """The oracle of one form of one function; `Unfinished` where there is none."""
    try:
        return ORACLES[name][form]
    except KeyError:
        raise Unfinished(name, form, "ORACLES", "fastact/accuracy/oracles.py") from None


FAR = 2400
"""2^FAR stands for infinity: there every function is within 2^-NEAR of its limit or above 2^NEAR, whatever float64 a
parameter is. Its cube, as large as any factor gets, is far below e^`CUT`."""
NEAR = 1200


@lru_cache(maxsize=1024)
def _limit(name: str, form: str, x: float, *parameters: float) -> Scaled:
    """The limit at an infinity `x`; a zero that is only approached has a sign, and exponent 1 to tell it."""
    formula, sign = formula_of(name, form), int(math.copysign(1, x))
    result = scaled(evaluate(lambda m, *p: formula(m, sign * m.number(2) ** FAR, *p), *parameters))
    if result.hi == 0:
        return result
    if result.exponent > NEAR:
        return Scaled(math.copysign(math.inf, result.hi), 0.0, 0)
    if result.exponent < -NEAR:
        return Scaled(math.copysign(0.0, result.hi), 0.0, 1)
    return Scaled(result.hi, 0.0, result.exponent)


def truth_at(name: str, form: str, x: float, *parameters: float, library: str | None = None) -> Scaled:
    """The true value at one point, special values included."""
    formula = formula_of(name, form)
    if math.isnan(x) or any(math.isnan(p) for p in parameters):
        return Scaled(math.nan, 0.0, 0)
    if not math.isinf(x):
        result = scaled(evaluate(formula, x, *parameters, library=library))
    else:
        result = _limit(name, form, x, *parameters)
    return _signed(result, name, form, x, *parameters)


def _signed(result: Scaled, name: str, form: str, x: float, *parameters: float) -> Scaled:
    """`result`, or if that is exactly zero, a zero of the right sign."""
    if result.hi != 0 or result.exponent != 0:
        return result
    sign = ZERO_SIGNS.get((name, form))
    return Scaled(math.copysign(0.0, sign(x, *parameters) if sign else 1.0), 0.0, 0)


def truth(name: str, form: str, x: npt.ArrayLike, *parameters: npt.ArrayLike, library: str | None = None) -> Truth:
    """True values for the elements of `x`, to a relative 2^-80.

    Parameters are exact: round them first to what the function sees. `form` is "forward", "derivative",
    "derivative_PARAMETER" or "vjp", whose arguments are (g, x, *parameters).
    """
    require("mpmath")
    x = np.asarray(x)
    arrays = np.broadcast_arrays(x, *map(np.asarray, parameters))
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        points = zip(*[a.astype(np.float64).ravel().tolist() for a in arrays], strict=True)
    if form == "vjp":
        values = [_vjp_at(name, *point) for point in points]
    elif library is None and namespaces()[0] is not None and all(np.ndim(p) == 0 for p in parameters):
        exact = tuple(np.asarray(p).astype(np.float64).item() for p in parameters)
        values = _many(name, form, [point[0] for point in points], exact)
    else:
        values = [truth_at(name, form, *point, library=library) for point in points]
    shape = arrays[0].shape
    return Truth(
        np.array([v.hi for v in values], np.float64).reshape(shape),
        np.array([v.lo for v in values], np.float64).reshape(shape),
        np.array([v.exponent for v in values], np.int64).reshape(shape),
    )


def _many(name: str, form: str, points: Sequence[float], parameters: tuple[float, ...]) -> list[Scaled]:
    """`truth_at` for many points at one set of parameters, the ordinary ones all at once."""
    finite = [x for x in points if math.isfinite(x)] if all(map(math.isfinite, parameters)) else []
    known = dict(zip(finite, evaluate_all(formula_of(name, form), finite, parameters), strict=True))
    return [
        truth_at(name, form, x, *parameters) if found is None else _signed(found, name, form, x, *parameters)
        for x, found in zip(points, map(known.get, points), strict=True)
    ]


def truth_from_output(name: str, y: npt.ArrayLike) -> Truth:
    """The derivative where the function's result is `y`, whatever x that came from."""
    if name not in FROM_OUTPUT:
        raise Unfinished(name, "the derivative as a function of y", "FROM_OUTPUT", "fastact/accuracy/oracles.py")
    values = [scaled(evaluate(FROM_OUTPUT[name], point)) for point in np.asarray(y, np.float64).ravel().tolist()]
    hi, lo, exponent = zip(*values, strict=True)
    return Truth(np.array(hi), np.array(lo), np.array(exponent, np.int64))


def _vjp_at(name: str, g: float, x: float, *parameters: float) -> Scaled:
    """g * f'(x), exactly but for the last of 106 bits."""
    slope = truth_at(name, "derivative", x, *parameters)
    if slope.hi == 0 or not math.isfinite(slope.hi) or g == 0 or not math.isfinite(g):
        return Scaled(g * slope.hi, 0.0, 0)
    mantissa, exponent = math.frexp(g)
    product = evaluate(lambda m, a, b, c: a * (b + c), mantissa, slope.hi, slope.lo)
    value = scaled(product)
    return Scaled(value.hi, value.lo, value.exponent + slope.exponent + exponent)
