"""Piecewise linear and quadratic functions: the rectifiers and the "hard" copies of smooth functions.

All of them are generic: one source for float32 and float64. They are bounded by memory, not by
arithmetic, so the few extra operations that make the error half an ULP and keep the limits and
signs right cost little.

One habit holds throughout: a comparison with NaN is false, so the value returned when every test
fails is `x` itself or something computed from it. NaN in, NaN out.
"""

from __future__ import annotations

from math import inf
from typing import Any

from fastact.kernels.exp32 import clamp_above, clamp_below
from fastact.kernels.language import bits, copysign, fabs, fma, kernel, select
from fastact.kernels.pairs import fast_two_sum, two_diff, two_prod, two_sum

from ..activation import Activation, Parameter

Lanes = Any

INFINITY = float("inf")

# 1/6 and 1/3, and what their rounding to float32 and to float64 leaves out.
SIXTH = 1 / 6
SIXTH_LOW = {32: float.fromhex("-0x1.555556p-28"), 64: float.fromhex("0x1.5555555555555p-57")}
SCALE = 2.0**64
THIRD = 1 / 3
THIRD_LOW = {32: float.fromhex("-0x1.555556p-27"), 64: float.fromhex("0x1.5555555555555p-56")}


@kernel
def _finite_if_flat(x: Lanes, slope: Lanes) -> Lanes:
    """x, but +-1 for any larger x where slope is 0: then slope * x tends to 0 at +-inf, like the flat line.

    One minimum and one maximum instruction; the bound is the same for all lanes where the slope is.
    """
    bound = select(slope == 0.0, 1.0, slope.const(INFINITY))
    below = select(bound < x, bound, x)
    return select(-bound > below, -bound, below)


@kernel
def _zero_or_nan(x: Lanes) -> Lanes:
    """0, or NaN where x is NaN."""
    return select(fabs(x) <= INFINITY, 0.0, x)


# --- binary step


@kernel
def binary_step(x: Lanes, threshold: Lanes) -> Lanes:
    """1 if x > threshold else 0."""
    return select(x > threshold, 1.0, _zero_or_nan(x))


@kernel
def binary_step_derivative(x: Lanes, threshold: Lanes) -> Lanes:
    """0 everywhere, at the step too (NaN for NaN)."""
    return _zero_or_nan(x)


@kernel
def binary_step_derivative_threshold(x: Lanes, threshold: Lanes) -> Lanes:
    """0 everywhere, at the step too (NaN for NaN)."""
    return _zero_or_nan(x)


# --- relu


@kernel
def relu(x: Lanes) -> Lanes:
    """max(x, 0), exact; relu(-0.0) = 0.0."""
    return select(x <= 0.0, 0.0, x)


@kernel
def relu_derivative(x: Lanes) -> Lanes:
    """1 if x > 0 else 0."""
    return select(x > 0.0, 1.0, _zero_or_nan(x))


# --- leaky relu and prelu


@kernel
def leaky_relu(x: Lanes, negative_slope: Lanes) -> Lanes:
    """x if x > 0 else negative_slope * x, correctly rounded.

    With a slope of 0 the limit at -inf is the -0.0 of every other negative x, not the NaN of 0 * -inf.
    """
    return select(x > 0.0, x, negative_slope * _finite_if_flat(x, negative_slope))


@kernel
def leaky_relu_derivative(x: Lanes, negative_slope: Lanes) -> Lanes:
    """1 if x > 0 else negative_slope."""
    return select(x > 0.0, 1.0, select(x <= 0.0, negative_slope, x))


@kernel
def leaky_relu_derivative_negative_slope(x: Lanes, negative_slope: Lanes) -> Lanes:
    """The derivative by the slope: x if x <= 0 else 0."""
    return select(x > 0.0, 0.0, x)


@kernel
def prelu(x: Lanes, a: Lanes) -> Lanes:
    """leaky_relu with a slope that is learned."""
    return leaky_relu(x, a)


@kernel
def prelu_derivative(x: Lanes, a: Lanes) -> Lanes:
    """1 if x > 0 else a."""
    return leaky_relu_derivative(x, a)


@kernel
def prelu_derivative_a(x: Lanes, a: Lanes) -> Lanes:
    """The derivative by the slope: x if x <= 0 else 0."""
    return leaky_relu_derivative_negative_slope(x, a)


# --- clips


@kernel
def _nan_if(x: Lanes, low: Lanes, high: Lanes) -> Lanes:
    """x, or NaN where one of the limits is."""
    return select((low <= high) | (low > high), x, low + high)


@kernel
def relu6(x: Lanes) -> Lanes:
    """clip(x, 0, 6), exact; relu6(-0.0) = 0.0."""
    return select(x <= 0.0, 0.0, select(x >= 6.0, 6.0, x))


@kernel
def relu6_derivative(x: Lanes) -> Lanes:
    """1 if 0 < x < 6 else 0."""
    return select((x > 0.0) & (x < 6.0), 1.0, _zero_or_nan(x))


@kernel
def hard_tanh(x: Lanes, min_val: Lanes, max_val: Lanes) -> Lanes:
    """clip(x, min_val, max_val), exact; as in numpy.clip, max_val wins where min_val > max_val."""
    x = _nan_if(x, min_val, max_val)
    raised = select(x < min_val, min_val, x)
    return select(raised > max_val, max_val, raised)


@kernel
def hard_tanh_derivative(x: Lanes, min_val: Lanes, max_val: Lanes) -> Lanes:
    """1 if min_val < x < max_val else 0."""
    x = _nan_if(x, min_val, max_val)
    return select((x > min_val) & (x < max_val), 1.0, _zero_or_nan(x))


@kernel
def hard_tanh_derivative_min_val(x: Lanes, min_val: Lanes, max_val: Lanes) -> Lanes:
    """The derivative by min_val: 1 where that bound is active, x <= min_val < max_val, else 0."""
    x = _nan_if(x, min_val, max_val)
    return select((x <= min_val) & (min_val < max_val), 1.0, _zero_or_nan(x))


@kernel
def hard_tanh_derivative_max_val(x: Lanes, min_val: Lanes, max_val: Lanes) -> Lanes:
    """The derivative by max_val: 1 where that bound is active, max_val <= max(x, min_val), else 0."""
    x = _nan_if(x, min_val, max_val)
    active = (x >= max_val) | ((min_val >= max_val) & (fabs(x) <= INFINITY))
    return select(active, 1.0, _zero_or_nan(x))


# --- hard sigmoid


@kernel
def _line(x: Lanes, slope: Lanes, offset: Lanes) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    """(a, b, c, unit) of which ``(a b + c) / unit`` is the line, without a rounding.

    That is slope x + offset, or (6 offset + x) / 6 for the slope that stands for 1/6.
    """
    sixth = slope == SIXTH
    x = _finite_if_flat(x, slope)
    six = slope.const(6.0)
    return select(sixth, six, slope), select(sixth, offset, x), select(sixth, x, offset), select(sixth, six, 1.0)


@kernel
def _times(t: Lanes, t_low: Lanes, c: float, c_low: float) -> Lanes:
    """(t + t_low) (c + c_low), rounded once."""
    return fma(t, c, fma(t, c_low, t_low * c))


@kernel
def hard_sigmoid_at_defaults(x: Lanes) -> Lanes:
    """(x + 3)/6 of x kept in [-3, 3], where the remainder of the sum is exact. Error 0.501 ULP."""
    x = clamp_above(clamp_below(x, -3.0), 3.0)
    t = x + 3.0
    return _times(t, x - (t - 3.0), SIXTH, SIXTH_LOW[x.width])


@kernel
def hard_sigmoid(x: Lanes, slope: Lanes, offset: Lanes) -> Lanes:
    """clip(slope * x + offset, 0, 1), rounded once for the slope and the offset as given.

    The default slope, the float nearest to 1/6, stands for 1/6 itself: the kinks are at -3 and 3. Then the sum that is
    divided by 6 is a pair, and the error 0.501 ULP, or 0.75 where the result is subnormal. Outside of 0 and 6 the pair
    may overflow, but is not looked at.
    """
    a, b, c, _ = _line(x, slope, offset)
    line = fma(a, b, c)
    p, p_low = two_prod(x.const(6.0), offset)
    t, t_low = two_sum(p, x)
    inside = (slope == SIXTH) & (line > 0.0) & (line <= 6.0)
    # SCALE, so that the low part of 1/6 times a small sum is no underflow
    y = _times(*fast_two_sum(t, p_low + t_low), SCALE * SIXTH, SCALE * SIXTH_LOW[x.width]) * (1 / SCALE)
    line = select(inside, y, line)
    return select(line <= 0.0, 0.0, select(line > 1.0, 1.0, line))


@kernel
def _if_inside(x: Lanes, slope: Lanes, offset: Lanes, value: Lanes | float) -> Lanes:
    """`value` where 0 < slope * x + offset < 1, decided exactly; else 0, and NaN for NaN.

    A sum of one rounding has the sign of the true sum, also where it underflows to a zero. A sum that is 0 is +0, if
    what is added to the product is no -0. So a sign bit says that the sum is below 0, and the sums have that sign.
    """
    a, b, c, unit = _line(x, slope, offset)
    above = fma(-a, b, 0.0 - c)
    # The rest of unit - c is 0 wherever the product may underflow, and then a +0, which leaves the sign of a zero.
    t, t_low = two_diff(unit, c)
    below = fma(a, b, 0.0 - t) - t_low
    inside = ((bits(above) & bits(below)) < 0) & (below == below)  # it is NaN at infinities, where nothing is inside
    return select(inside, value, _zero_or_nan(select(x == x, above, x)))


@kernel
def hard_sigmoid_derivative(x: Lanes, slope: Lanes, offset: Lanes) -> Lanes:
    """slope inside the open interval, else 0."""
    return _if_inside(x, slope, offset, slope)


@kernel
def hard_sigmoid_derivative_at_defaults(x: Lanes) -> Lanes:
    """1/6 for |x| < 3, else 0."""
    return select(fabs(x) < 3.0, SIXTH, _zero_or_nan(x))


@kernel
def _inside_at_defaults(x: Lanes) -> Lanes:
    """x for |x| < 3, else 0: the derivative by slope."""
    return select(fabs(x) < 3.0, x, _zero_or_nan(x))


@kernel
def _one_inside_at_defaults(x: Lanes) -> Lanes:
    """1 for |x| < 3, else 0: the derivative by offset."""
    return select(fabs(x) < 3.0, 1.0, _zero_or_nan(x))


@kernel
def hard_sigmoid_derivative_slope(x: Lanes, slope: Lanes, offset: Lanes) -> Lanes:
    """The derivative by slope: x inside the open interval, else 0."""
    return _if_inside(x, slope, offset, x)


@kernel
def hard_sigmoid_derivative_offset(x: Lanes, slope: Lanes, offset: Lanes) -> Lanes:
    """The derivative by offset: 1 inside the open interval, else 0."""
    return _if_inside(x, slope, offset, 1.0)


# --- hard swish


@kernel
def _over6(t: Lanes, t_low: Lanes) -> tuple[Lanes, Lanes]:
    """(t + t_low) / 6 as a pair."""
    s = t * SIXTH
    return s, fma(t_low, SIXTH, fma(t, SIXTH_LOW[t.width], fma(t, SIXTH, -s)))


@kernel
def hard_swish(x: Lanes) -> Lanes:
    """x * clip(x + 3, 0, 6) / 6, within 0.501 ULP; -0.0 from -3 down, and the sign of zero is kept.

    x + 3 and 1/6 are pairs, each with its rounding error beside it, and so is their product s.
    Multiplying by x comes last: for a subnormal x, s is exactly 0.5 and x * s is rounded once.
    """
    above = clamp_below(x, -3.0)
    inside = clamp_above(above, 3.0)
    t = inside + 3.0
    s, s_low = _over6(t, inside - (t - 3.0))  # the remainder of the sum is exact
    # s is 0 at -3 and 1 from 3 on, with an s_low that nobody sees
    return copysign(fma(above, s, inside * s_low), x)


@kernel
def hard_swish_derivative(x: Lanes) -> Lanes:
    """(2x + 3)/6 = (x + 1.5)/3 for -3 < x < 3, within 0.501 ULP; 0 up to -3 and 1 from 3."""
    t = x + 1.5
    y = _times(t, x - (t - 1.5), THIRD, THIRD_LOW[x.width])  # the remainder of the sum is exact for |x| <= 3
    return select(x >= 3.0, 1.0, select(x <= -3.0, 0.0, y))


RECORDS = (
    Activation(
        name="binary_step",
        family="rectified",
        summary="The step function: 1 above a threshold, 0 elsewhere.",
        formula="1 if x > threshold else 0",
        derivative_formula="0",
        forward=binary_step,
        derivative=binary_step_derivative,
        parameters=(Parameter("threshold", 0.0, "The largest x that gives 0."),),
        parameter_derivatives={"threshold": binary_step_derivative_threshold},
        parameter_formulas={"threshold": "0"},
        parameter_limits={"threshold": (0.0, 0.0)},
        limits=(0.0, 1.0),
        derivative_limits=(0.0, 0.0),
        range=(0.0, 1.0),
        kinks=(0.0,),
        monotone=True,
        smoothness="not continuous at the threshold",
        at_kinks="The derivative is 0 at the threshold too.",
        paper="McCulloch & Pitts (1943), A logical calculus of the ideas immanent in nervous activity.",
        see_also=("sigmoid", "hard_sigmoid"),
        founding=True,
        vectors=2,
    ),
    Activation(
        name="relu",
        family="rectified",
        summary="The rectified linear unit.",
        formula="max(x, 0)",
        derivative_formula="1 if x > 0 else 0",
        forward=relu,
        derivative=relu_derivative,
        limits=(0.0, inf),
        derivative_limits=(0.0, 1.0),
        range=(0.0, inf),
        kinks=(0.0,),
        monotone=True,
        smoothness="continuous, not differentiable at 0",
        at_kinks="The derivative at 0 is 0; relu(-0.0) is 0.0.",
        paper="Nair & Hinton (2010), Rectified linear units improve restricted Boltzmann machines.",
        see_also=("leaky_relu", "prelu", "relu6"),
        founding=True,
        vectors=4,
    ),
    Activation(
        name="leaky_relu",
        family="rectified",
        summary="The leaky rectified linear unit.",
        formula="x if x > 0 else negative_slope * x",
        derivative_formula="1 if x > 0 else negative_slope",
        forward=leaky_relu,
        derivative=leaky_relu_derivative,
        parameters=(Parameter("negative_slope", 0.01, "The slope for x <= 0."),),
        parameter_derivatives={"negative_slope": leaky_relu_derivative_negative_slope},
        parameter_formulas={"negative_slope": "x if x <= 0 else 0"},
        parameter_limits={"negative_slope": (-inf, 0.0)},
        limits=(-inf, inf),
        derivative_limits=(0.01, 1.0),
        range=(-inf, inf),
        kinks=(0.0,),
        monotone=True,
        smoothness="continuous, not differentiable at 0",
        at_kinks="The derivative at 0 is negative_slope.",
        paper="Maas, Hannun & Ng (2013), Rectifier nonlinearities improve neural network acoustic models.",
        see_also=("relu", "prelu", "elu"),
        founding=True,
        vectors=4,
    ),
    Activation(
        name="prelu",
        family="rectified",
        summary="The parametric rectified linear unit: leaky_relu with a slope that is learned.",
        formula="x if x > 0 else a * x",
        derivative_formula="1 if x > 0 else a",
        forward=prelu,
        derivative=prelu_derivative,
        parameters=(Parameter("a", None, "The slope for x <= 0, one value or one per channel."),),
        parameter_derivatives={"a": prelu_derivative_a},
        parameter_formulas={"a": "x if x <= 0 else 0"},
        parameter_limits={"a": (-inf, 0.0)},
        limits=(-inf, inf),
        derivative_limits=(0.25, 1.0),
        range=(-inf, inf),
        kinks=(0.0,),
        monotone=True,
        smoothness="continuous, not differentiable at 0",
        at_kinks="The derivative at 0 is a.",
        paper="He, Zhang, Ren & Sun (2015), Delving deep into rectifiers.",
        see_also=("leaky_relu", "relu"),
        founding=True,
        vectors=4,
    ),
    Activation(
        name="relu6",
        family="rectified",
        summary="The rectified linear unit capped at 6.",
        formula="min(max(x, 0), 6)",
        derivative_formula="1 if 0 < x < 6 else 0",
        forward=relu6,
        derivative=relu6_derivative,
        limits=(0.0, 6.0),
        derivative_limits=(0.0, 0.0),
        range=(0.0, 6.0),
        kinks=(0.0, 6.0),
        monotone=True,
        smoothness="continuous, not differentiable at 0 and 6",
        at_kinks="The derivative at 0 and at 6 is 0.",
        paper="Krizhevsky (2010), Convolutional deep belief networks on CIFAR-10.",
        see_also=("relu", "hard_tanh"),
        vectors=4,
    ),
    Activation(
        name="hard_tanh",
        family="rectified",
        summary="The identity between two bounds, constant outside.",
        formula="min(max(x, min_val), max_val)",
        derivative_formula="1 if min_val < x < max_val else 0",
        forward=hard_tanh,
        derivative=hard_tanh_derivative,
        parameters=(
            Parameter("min_val", -1.0, "The smallest value."),
            Parameter("max_val", 1.0, "The largest value, and the only one where min_val >= max_val."),
        ),
        parameter_derivatives={"min_val": hard_tanh_derivative_min_val, "max_val": hard_tanh_derivative_max_val},
        parameter_formulas={
            "min_val": "1 if x <= min_val < max_val else 0",
            "max_val": "1 if max(x, min_val) >= max_val else 0",
        },
        parameter_limits={"min_val": (1.0, 0.0), "max_val": (0.0, 1.0)},
        limits=(-1.0, 1.0),
        derivative_limits=(0.0, 0.0),
        range=(-1.0, 1.0),
        kinks=(-1.0, 1.0),
        monotone=True,
        parity="odd",
        smoothness="continuous, not differentiable at the bounds",
        at_kinks="The derivative at the bounds is 0.",
        paper="Collobert (2004), Large scale machine learning.",
        see_also=("tanh", "relu6", "hard_sigmoid"),
        vectors=4,
    ),
    Activation(
        name="hard_sigmoid",
        family="rectified",
        summary="The piecewise linear sigmoid.",
        formula="min(max(slope * x + offset, 0), 1)",
        derivative_formula="slope if 0 < slope * x + offset < 1 else 0",
        forward=hard_sigmoid,
        derivative=hard_sigmoid_derivative,
        at_defaults=hard_sigmoid_at_defaults,
        derivative_at_defaults=hard_sigmoid_derivative_at_defaults,
        parameters=(
            Parameter("slope", 1 / 6, "The slope between the bounds; the float nearest to 1/6 means exactly 1/6."),
            Parameter("offset", 0.5, "The value at 0."),
        ),
        parameter_derivatives={"slope": hard_sigmoid_derivative_slope, "offset": hard_sigmoid_derivative_offset},
        parameter_derivatives_at_defaults={"slope": _inside_at_defaults, "offset": _one_inside_at_defaults},
        parameter_formulas={
            "slope": "x if 0 < slope * x + offset < 1 else 0",
            "offset": "1 if 0 < slope * x + offset < 1 else 0",
        },
        parameter_limits={"slope": (0.0, 0.0), "offset": (0.0, 0.0)},
        limits=(0.0, 1.0),
        derivative_limits=(0.0, 0.0),
        range=(0.0, 1.0),
        kinks=(-3.0, 3.0),
        monotone=True,
        smoothness="continuous, not differentiable at -3 and 3",
        at_kinks="The derivative at -3 and 3 is 0.",
        paper="Courbariaux, Bengio & David (2015), BinaryConnect.",
        see_also=("sigmoid", "hard_swish", "hard_tanh"),
        vectors=4,
    ),
    Activation(
        name="hard_swish",
        family="rectified",
        summary="The piecewise quadratic swish, x times hard_sigmoid(x).",
        formula="x * min(max(x + 3, 0), 6) / 6",
        derivative_formula="0 if x <= -3 else (2 x + 3) / 6 if x < 3 else 1",
        forward=hard_swish,
        derivative=hard_swish_derivative,
        aliases=("hard_silu",),
        limits=(-0.0, inf),
        derivative_limits=(0.0, 1.0),
        range=(-0.375, inf),
        kinks=(-3.0, 3.0),
        smoothness="continuous, not differentiable at -3 and 3",
        at_kinks="The derivative at -3 is 0 and at 3 it is 1.",
        paper="Howard et al. (2019), Searching for MobileNetV3.",
        see_also=("swish", "silu", "hard_sigmoid"),
        vectors=4,
    ),
)
