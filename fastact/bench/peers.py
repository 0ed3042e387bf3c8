"""How each peer computes each function: one table, one row a function.

A row holds, for each library that has the function, the idiom its users would be told to write: the
result goes into a given buffer where the library allows it, and nothing is computed that is not
asked for. `fastact.bench.libraries` turns an entry into a call.

* `numpy`, `scipy`: (forward, derivative), each a ufunc or a formula of `fastact.bench.formulas`;
* `numexpr`: (forward, derivative) as expressions; named constants, because a literal would make
  them double;
* `torch`: forward ``(torch, x, out)`` and backward ``(torch, g, x, y, out)``: PyTorch's own
  backward kernel, given the saved y;
* `jax`: the function to jit; JAX makes its own derivatives;
* `onnxruntime`: an operator with attributes, constant inputs and domain.

For functions along an axis, formulas take the axis by name, PyTorch's two take it last, JAX's
function takes ``axis=``, and ONNX Runtime's operator has it as an attribute, or as an input of axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from fastact.activation import Unfinished
from fastact.bench import formulas as f

__all__ = ["CONSTANTS", "PEERS", "PRELU", "Onnx", "Peers"]

PRELU = f.PRELU
Call = Callable[..., Any]
Formula = Call | f.Binary

CONSTANTS: dict[str, float] = {
    "zero": 0.0,
    "one": 1.0,
    "half": 0.5,
    "third": 1 / 3,
    "sixth": 1 / 6,
    "slope": f.SLOPE,
    "prelu": f.PRELU,
    "alpha": f.SELU_ALPHA,
    "scale": f.SELU_SCALE,
    "root": f.ROOT,
    "cubic": f.CUBIC * f.ROOT,
    "cubic3": 3 * f.CUBIC * f.ROOT,
}
"""What the numexpr expressions may name."""


@dataclass(frozen=True)
class Onnx:
    """One operator of ONNX."""

    op: str
    attributes: Mapping[str, int | float | str] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)
    domain: str = ""
    axes: bool = False
    """the axis is an input and not an attribute"""


@dataclass(frozen=True, kw_only=True)
class Peers:
    """One function in every library that has it.

    `rows` says that it works along an axis, `reduces` that it leaves one number of each row,
    `targets` that it also takes a class for each row; then the second of `torch` is the loss with its
    gradient, of x and the axis. `torch_saves` says that PyTorch's backward
    kernel gets more than x from the forward pass, such as y, and computes less than what
    starts from x.
    """

    numpy: tuple[Formula, Formula | None] | None = None
    scipy: tuple[Call, Call | None] | None = None
    numexpr: tuple[str, str | None] | None = None
    torch: tuple[Call, Call | None] | None = None
    jax: Callable[[Any], Call] | None = None
    onnxruntime: Onnx | None = None
    rows: bool = False
    reduces: bool = False
    targets: bool = False
    torch_saves: bool = False


def _special(name: str) -> Call:
    """The ufunc `name` of scipy.special, looked up when SciPy is there."""
    return lambda special, x, out, tmp: getattr(special, name)(x, out)


def _nn(name: str, *args: Any, **options: Any) -> Call:
    """What `torch.nn.functional` calls underneath, with ``out=``, which it does not pass on."""
    return lambda t, x, o: partial(getattr(t._C._nn, name), x, *args, out=o, **options)


def _backward(name: str, *args: Any, saved: str = "x", **options: Any) -> Call:
    """PyTorch's backward kernel into a given gradient; `saved` is what its forward keeps."""

    def call(t: Any, g: Any, x: Any, y: Any, o: Any) -> Call:
        kernel = getattr(t.ops.aten, f"{name}_backward").grad_input
        return partial(kernel, g, y if saved == "y" else x, *args, grad_input=o, **options)

    return call


def _elu_backward(alpha: float, scale: float) -> Call:
    return lambda t, g, x, y, o: partial(
        t.ops.aten.elu_backward.grad_input, g, alpha, scale, 1.0, False, x, grad_input=o
    )


def _torch_softsign(t: Any, x: Any, o: Any) -> Call:
    return lambda: t.div(x, t.abs(x, out=o).add_(1), out=o)


def _torch_softsign_backward(t: Any, g: Any, x: Any, y: Any, o: Any) -> Call:
    return lambda: t.div(g, t.abs(x, out=o).add_(1).square_(), out=o)


def _torch_log_sigmoid_backward(t: Any, g: Any, x: Any, y: Any, o: Any) -> Call:
    _, buffer = t.ops.aten.log_sigmoid_forward(x)
    return partial(t.ops.aten.log_sigmoid_backward.grad_input, g, x, buffer, grad_input=o)


def _torch_bipolar_backward(t: Any, g: Any, x: Any, y: Any, o: Any) -> Call:
    return lambda: t.ops.aten.tanh_backward.grad_input(g, y, grad_input=o).mul_(0.5)


def _torch_binary_step(t: Any, x: Any, o: Any) -> Call:
    return partial(t.gt, x, t.zeros((), dtype=x.dtype), out=o)


def _torch_softmax_backward(t: Any, g: Any, x: Any, y: Any, o: Any, axis: int) -> Call:
    return partial(t.ops.aten._softmax_backward_data.out, g, y, axis, x.dtype, grad_input=o)


def _torch_log_softmax_backward(t: Any, g: Any, x: Any, y: Any, o: Any, axis: int) -> Call:
    return partial(t.ops.aten._log_softmax_backward_data.out, g, y, axis, x.dtype, out=o)


def _torch_softmin_backward(t: Any, g: Any, x: Any, y: Any, o: Any, axis: int) -> Call:
    return lambda: t.ops.aten._softmax_backward_data.out(g, y, axis, x.dtype, grad_input=o).neg_()


def _torch_cross_entropy(t: Any, x: Any, o: Any, axis: int) -> Call:
    classes = t.from_numpy(f.targets(tuple(x.shape), axis))
    moved = x if x.ndim == 1 else t.movedim(x, axis, 1)
    return partial(t.nn.functional.cross_entropy, moved, classes, reduction="none")


def _torch_cross_entropy_with_gradient(t: Any, x: Any, axis: int) -> Call:
    """By its automatic differentiation, as everybody does it."""
    with t.inference_mode(False), t.enable_grad():
        x = t.from_numpy(x.numpy()).requires_grad_()  # one made in inference mode cannot be asked for it
        loss = _torch_cross_entropy(t, x, None, axis)
        ones = t.ones_like(loss()).detach()

    def run() -> Any:
        with t.inference_mode(False), t.enable_grad():
            value = loss()
            return value.detach(), t.autograd.grad(value, x, ones, retain_graph=True)[0]

    return run


def _jax_cross_entropy(jax: Any) -> Call:
    def cross_entropy(x: Any, axis: int) -> Any:
        classes = jax.numpy.expand_dims(jax.numpy.asarray(f.targets(x.shape, axis)), axis)
        picked = jax.numpy.take_along_axis(x, classes, axis=axis).squeeze(axis)
        return jax.nn.logsumexp(x, axis=axis) - picked

    return cross_entropy


def _jax_nn(name: str, **options: Any) -> Callable[[Any], Call]:
    return lambda jax: partial(getattr(jax.nn, name), **options)


_STEP = f.Binary(np.greater, 0.0)
_SIGMOID = "1/(1+exp(-x))"
_SILU = Peers(
    numpy=(f.silu, f.silu_derivative),
    scipy=(f.scipy_silu, f.scipy_silu_derivative),
    numexpr=("x/(1+exp(-x))", "(1+x/(1+exp(x)))/(1+exp(-x))"),
    torch=(
        _nn("silu"),
        lambda t, g, x, y, o: partial(t.ops.aten.silu_backward.grad_input, g, x, grad_input=o),
    ),
    jax=_jax_nn("silu"),
    onnxruntime=Onnx("QuickGelu", {"alpha": 1.0}, domain="com.microsoft"),
)


class _Table(dict[str, Peers]):
    def __missing__(self, name: str) -> Peers:
        raise Unfinished(name, "an entry, Peers() if no library has it,", "PEERS", "fastact/bench/peers.py")


PEERS = _Table()
PEERS |= {
    "binary_step": Peers(
        numpy=(_STEP, None),
        numexpr=("where(x>0,one,zero)", None),
        torch=(_torch_binary_step, None),
        jax=lambda jax: lambda x: (x > 0).astype(x.dtype),
    ),
    "sigmoid": Peers(
        numpy=(f.sigmoid, f.sigmoid_derivative),
        scipy=(_special("expit"), f.scipy_sigmoid_derivative),
        numexpr=(_SIGMOID, "1/((1+exp(-x))*(1+exp(x)))"),
        torch=(lambda t, x, o: partial(t.sigmoid, x, out=o), _backward("sigmoid", saved="y")),
        torch_saves=True,
        jax=_jax_nn("sigmoid"),
        onnxruntime=Onnx("Sigmoid"),
    ),
    "bipolar_sigmoid": Peers(
        numpy=(f.bipolar_sigmoid, f.bipolar_sigmoid_derivative),
        numexpr=("2/(1+exp(-x))-1", "2/((1+exp(-x))*(1+exp(x)))"),
        torch=(lambda t, x, o: lambda: t.mul(x, 0.5, out=o).tanh_(), _torch_bipolar_backward),
        torch_saves=True,
        jax=lambda jax: lambda x: jax.numpy.tanh(x * 0.5),
    ),
    "tanh": Peers(
        numpy=(np.tanh, f.tanh_derivative),
        numexpr=("tanh(x)", "1-tanh(x)**2"),
        torch=(lambda t, x, o: partial(t.tanh, x, out=o), _backward("tanh", saved="y")),
        torch_saves=True,
        jax=lambda jax: jax.numpy.tanh,
        onnxruntime=Onnx("Tanh"),
    ),
    "relu": Peers(
        numpy=(f.Binary(np.maximum, 0.0), _STEP),
        numexpr=("where(x>0,x,zero)", "where(x>0,one,zero)"),
        torch=(lambda t, x, o: partial(t.clamp_min, x, 0, out=o), _backward("threshold", 0)),
        jax=_jax_nn("relu"),
        onnxruntime=Onnx("Relu"),
    ),
    "leaky_relu": Peers(
        numpy=(f.leaky_relu, f.leaky_relu_derivative),
        numexpr=("where(x>0,x,slope*x)", "where(x>0,one,slope)"),
        torch=(_nn("leaky_relu", f.SLOPE), _backward("leaky_relu", f.SLOPE, False)),
        jax=_jax_nn("leaky_relu", negative_slope=f.SLOPE),
        onnxruntime=Onnx("LeakyRelu", {"alpha": f.SLOPE}),
    ),
    "prelu": Peers(
        numpy=(f.prelu, f.prelu_derivative),
        numexpr=("where(x>0,x,prelu*x)", "where(x>0,one,prelu)"),
        # a learned slope is a tensor, which torch.prelu takes without out=; its backward for x is
        # leaky_relu's
        torch=(
            lambda t, x, o: partial(t.prelu, x, t.full((1,), f.PRELU, dtype=x.dtype)),
            _backward("leaky_relu", f.PRELU, False),
        ),
        jax=_jax_nn("leaky_relu", negative_slope=f.PRELU),
        onnxruntime=Onnx("PRelu", constants={"slope": f.PRELU}),
    ),
    "elu": Peers(
        numpy=(f.elu, f.elu_derivative),
        scipy=(f.scipy_elu, None),
        numexpr=("where(x>0,x,expm1(x))", "where(x>0,one,exp(x))"),
        torch=(_nn("elu"), _elu_backward(1.0, 1.0)),
        jax=_jax_nn("elu"),
        onnxruntime=Onnx("Elu"),
    ),
    "selu": Peers(
        numpy=(f.selu, f.selu_derivative),
        numexpr=("scale*where(x>0,x,alpha*expm1(x))", "scale*where(x>0,one,alpha*exp(x))"),
        # what torch.selu calls, with out=
        torch=(_nn("elu", f.SELU_ALPHA, f.SELU_SCALE), _elu_backward(f.SELU_ALPHA, f.SELU_SCALE)),
        jax=_jax_nn("selu"),
        onnxruntime=Onnx("Selu"),
    ),
    "celu": Peers(
        numpy=(f.elu, f.elu_derivative),
        scipy=(f.scipy_elu, None),
        numexpr=("where(x>0,x,expm1(x))", "where(x>0,one,exp(x))"),
        # what torch.celu calls for alpha = 1, with out=
        torch=(_nn("elu"), _elu_backward(1.0, 1.0)),
        jax=_jax_nn("celu"),
        onnxruntime=Onnx("Celu"),
    ),
    "swish": _SILU,
    "silu": _SILU,
    "gelu": Peers(
        scipy=(f.scipy_gelu, f.scipy_gelu_derivative),
        torch=(_nn("gelu"), _backward("gelu", approximate="none")),
        jax=_jax_nn("gelu", approximate=False),
        onnxruntime=Onnx("Gelu"),
    ),
    "gelu_tanh": Peers(
        numpy=(f.gelu_tanh, f.gelu_tanh_derivative),
        numexpr=(
            "half*x*(1+tanh(x*(root+cubic*x*x)))",
            "half*(1+tanh(x*(root+cubic*x*x)))*(1+x*(root+cubic3*x*x)*(1-tanh(x*(root+cubic*x*x))))",
        ),
        torch=(_nn("gelu", approximate="tanh"), _backward("gelu", approximate="tanh")),
        jax=_jax_nn("gelu", approximate=True),
        onnxruntime=Onnx("Gelu", {"approximate": "tanh"}),
    ),
    "softplus": Peers(
        numpy=(f.softplus, f.sigmoid),
        scipy=(f.scipy_softplus, _special("expit")),
        numexpr=("where(x>0,x,zero)+log1p(exp(-abs(x)))", _SIGMOID),
        torch=(_nn("softplus"), _backward("softplus", 1.0, 20.0)),
        jax=_jax_nn("softplus"),
        onnxruntime=Onnx("Softplus"),
    ),
    "log_sigmoid": Peers(
        numpy=(f.log_sigmoid, f.log_sigmoid_derivative),
        scipy=(_special("log_expit"), f.scipy_log_sigmoid_derivative),
        numexpr=("where(x<0,x,zero)-log1p(exp(-abs(x)))", "1/(1+exp(x))"),
        torch=(_nn("log_sigmoid"), _torch_log_sigmoid_backward),
        torch_saves=True,
        jax=_jax_nn("log_sigmoid"),
    ),
    "mish": Peers(
        numpy=(f.mish, f.mish_derivative),
        scipy=(f.scipy_mish, None),
        numexpr=("x*tanh(where(x>0,x,zero)+log1p(exp(-abs(x))))", None),
        torch=(_nn("mish"), lambda t, g, x, y, o: partial(t.ops.aten.mish_backward, g, x)),
        jax=_jax_nn("mish"),
        onnxruntime=Onnx("Mish"),
    ),
    "softsign": Peers(
        numpy=(f.softsign, f.softsign_derivative),
        numexpr=("x/(1+abs(x))", "1/(1+abs(x))**2"),
        torch=(_torch_softsign, _torch_softsign_backward),
        jax=_jax_nn("soft_sign"),
        onnxruntime=Onnx("Softsign"),
    ),
    "hard_sigmoid": Peers(
        numpy=(f.hard_sigmoid, f.hard_sigmoid_derivative),
        numexpr=("where(x<=-3,zero,where(x>=3,one,x*sixth+half))", "where(abs(x)<3,sixth,zero)"),
        torch=(_nn("hardsigmoid"), _backward("hardsigmoid")),
        jax=_jax_nn("hard_sigmoid"),
        onnxruntime=Onnx("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    ),
    "hard_swish": Peers(
        numpy=(f.hard_swish, f.hard_swish_derivative),
        numexpr=(
            "x*where(x<=-3,zero,where(x>=3,one,x*sixth+half))",
            "where(x<=-3,zero,where(x>=3,one,x*third+half))",
        ),
        torch=(
            _nn("hardswish"),
            lambda t, g, x, y, o: partial(t.ops.aten.hardswish_backward, g, x),
        ),
        jax=_jax_nn("hard_swish"),
        onnxruntime=Onnx("HardSwish"),
    ),
    "relu6": Peers(
        numpy=(f.relu6, f.relu6_derivative),
        numexpr=("where(x<=0,zero,where(x>=6,6*one,x))", "where((x>0)&(x<6),one,zero)"),
        torch=(_nn("hardtanh", 0.0, 6.0), _backward("hardtanh", 0.0, 6.0)),
        jax=_jax_nn("relu6"),
        onnxruntime=Onnx("Clip", constants={"min": 0.0, "max": 6.0}),
    ),
    "hard_tanh": Peers(
        numpy=(f.hard_tanh, f.hard_tanh_derivative),
        numexpr=("where(x<=-1,-one,where(x>=1,one,x))", "where(abs(x)<1,one,zero)"),
        torch=(_nn("hardtanh"), _backward("hardtanh", -1.0, 1.0)),
        jax=_jax_nn("hard_tanh"),
        onnxruntime=Onnx("Clip", constants={"min": -1.0, "max": 1.0}),
    ),
    "softmax": Peers(
        rows=True,
        numpy=(f.softmax, None),
        scipy=(f.scipy_softmax, None),
        torch=(lambda t, x, o, axis: partial(t.softmax, x, axis, out=o), _torch_softmax_backward),
        jax=_jax_nn("softmax"),
        onnxruntime=Onnx("Softmax"),
    ),
    "log_softmax": Peers(
        rows=True,
        numpy=(f.log_softmax, None),
        scipy=(f.scipy_log_softmax, None),
        # what torch.log_softmax calls, with out=
        torch=(
            lambda t, x, o, axis: partial(t.ops.aten._log_softmax.out, x, axis, False, out=o),
            _torch_log_softmax_backward,
        ),
        jax=_jax_nn("log_softmax"),
        onnxruntime=Onnx("LogSoftmax"),
    ),
    "logsumexp": Peers(
        rows=True,
        reduces=True,
        numpy=(f.logsumexp, None),
        scipy=(f.scipy_logsumexp, None),
        torch=(lambda t, x, o, axis: partial(t.logsumexp, x, axis, out=o), None),
        jax=_jax_nn("logsumexp"),
        onnxruntime=Onnx("ReduceLogSumExp", {"keepdims": 0}, axes=True),
    ),
    "softmin": Peers(
        rows=True,
        numpy=(f.softmin, None),
        torch=(lambda t, x, o, axis: partial(t.nn.functional.softmin, x, axis), _torch_softmin_backward),
        jax=lambda jax: lambda x, axis: jax.nn.softmax(-x, axis=axis),
    ),
    "logmeanexp": Peers(
        rows=True,
        reduces=True,
        numpy=(f.logmeanexp, None),
        scipy=(f.scipy_logmeanexp, None),
        torch=(lambda t, x, o, axis: lambda: t.logsumexp(x, axis, out=o).sub_(math.log(x.shape[axis])), None),
        jax=lambda jax: lambda x, axis: jax.nn.logsumexp(x, axis=axis) - math.log(x.shape[axis]),
    ),
    "sparsemax": Peers(rows=True, numpy=(f.sparsemax, None)),
    "entmax15": Peers(rows=True, numpy=(f.entmax15, None)),
    "hardmax": Peers(
        rows=True,
        numpy=(f.hardmax, None),
        torch=(
            lambda t, x, o, axis: lambda: o.zero_().scatter_(axis, x.argmax(axis, keepdim=True), 1.0),
            None,
        ),
        jax=lambda jax: (
            lambda x, axis: jax.nn.one_hot(jax.numpy.argmax(x, axis), x.shape[axis], dtype=x.dtype, axis=axis)
        ),
        onnxruntime=Onnx("Hardmax"),
    ),
    "cross_entropy_with_logits": Peers(
        rows=True,
        reduces=True,
        targets=True,
        numpy=(f.cross_entropy, None),
        torch=(_torch_cross_entropy, _torch_cross_entropy_with_gradient),
        jax=_jax_cross_entropy,
    ),
}
