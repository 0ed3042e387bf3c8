"""From an entry of the table of peers to a call that can be timed, library by library.

A builder gets the name of the function, the form and the arrays, does everything that may be done
once (imports, buffers, compilation, saved outputs), and returns a `Case`, or None where the library
does not have the function in that form. All libraries work on the same input memory wherever they
can.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.activation import Unfinished
from fastact.bench.arrays import aligned
from fastact.bench.formulas import Binary, targets
from fastact.bench.onnx_model import DTYPE_CODES, one_node_model
from fastact.bench.peers import CONSTANTS, PEERS, PRELU, Formula
from fastact.cpu.threads import available_cpus

__all__ = ["BUILDERS", "Case", "installed", "measuring", "public_name", "required", "set_threads"]

Array = NDArray[Any]
Call = Callable[..., Any]

REQUIRED = {"prelu": (PRELU,)}
"""What fastact's functions get for parameters that have no default; the peers' rows use the same
values."""


def required(name: str) -> tuple[float, ...]:
    """Values for the parameters of a function, none where all have defaults."""
    import fastact as fa

    lacking = [p.name for p in fa.CATALOGUE[name].parameters if p.default is None] if name in fa.CATALOGUE else []
    if lacking and name not in REQUIRED:
        raise Unfinished(name, f"values for {', '.join(lacking)}", "REQUIRED", "fastact/bench/libraries.py")
    return REQUIRED.get(name, ())


@dataclass(frozen=True, slots=True)
class Case:
    """`run` is what is timed; `outputs` runs it once and returns its results as NumPy arrays.

    `from_x` is set where `run` starts from what an earlier pass saved: it makes the saved part as
    well, as fastact, which starts from x, has to.
    """

    run: Call
    outputs: Callable[[], tuple[Array, ...]]
    from_x: Call | None = None


def _import(name: str) -> Any:
    return importlib.import_module(name)  # as Any: the peers are optional, and mypy need not read PyTorch


def installed(library: str) -> bool:
    return library in ("fastact", "numpy") or importlib.util.find_spec(library) is not None


def _into(run: Call, *results: Array) -> Case:
    """A call that leaves its results in `results`."""

    def outputs() -> tuple[Array, ...]:
        run()
        return tuple(result.copy() for result in results)

    return Case(run, outputs)


def _returning(run: Call) -> Case:
    """A call that returns its result or a tuple of results."""

    def outputs() -> tuple[Array, ...]:
        result = run()
        return tuple(_as_array(part).copy() for part in (result if isinstance(result, tuple | list) else (result,)))

    return Case(run, outputs)


def _as_array(result: Any) -> Array:
    """A library's array as NumPy's; PyTorch gives no bfloat16 away, but its bits."""
    if str(result.dtype) == "torch.bfloat16":
        import ml_dtypes

        bits: Array = result.view(_import("torch").int16).numpy()
        return bits.view(ml_dtypes.bfloat16)
    return np.asarray(result)


def _result(name: str, x: Array, axis: int) -> Array:
    """Room for the result of the function on `x`."""
    return aligned(tuple(np.delete(x.shape, axis)) if PEERS[name].reduces else x.shape, x.dtype.name)


def _both(first: Call, second: Call) -> Call:
    def run() -> tuple[Any, Any]:
        return first(), second()

    return run


# --- fastact, NumPy, SciPy ------------------------------------------------------------------------


GRADIENTS = ("vjp", "backward")


def public_name(name: str, form: str) -> str:
    """The name of fastact's function for a form of the benchmark."""
    if form == "backward":
        import fastact as fa

        from_output = f"{name}_vjp_from_output"
        return from_output if hasattr(fa, from_output) else f"{name}_vjp"
    if form == "with_derivative" and PEERS[name].targets:
        return f"{name}_with_gradient"
    return name if form == "forward" else f"{name}_{form}"


def _fastact(name: str, form: str, x: Array, g: Array, axis: int = -1) -> Case | None:
    import fastact as fa

    public = public_name(name, form)
    function = getattr(fa, public, None)
    if function is None:
        return None
    parameters = required(name)
    if PEERS[name].rows and axis != -1:
        function = partial(function, axis=axis)
    if PEERS[name].targets:  # a loss checks its classes and allocates its result
        return _returning(partial(function, x, targets(x.shape, axis)))
    out = _result(name, x, axis)
    if PEERS[name].rows:
        # a vjp is from the saved output, as the frameworks do it
        rows = (g, getattr(fa, name)(x, axis=axis, out=_result(name, x, axis))) if form in GRADIENTS else (x,)
        return _into(partial(function, *rows, out=out), out)
    if form in GRADIENTS:
        saved = getattr(fa, name)(x, out=_result(name, x, axis)) if public.endswith("_from_output") else x
        operands = (g, saved, *parameters)
    else:
        operands = (x, *parameters)
    results = (out, _result(name, x, axis)) if form == "with_derivative" else (out,)
    if isinstance(function, np.ufunc):  # results by position: a keyword costs tens of nanoseconds
        return _into(partial(function, *operands, *results), *results)
    keyword = results if len(results) > 1 else out
    return _into(partial(function, *operands, out=keyword), *results)


def _formulas(
    pair: tuple[Formula, Formula | None] | None,
    name: str,
    form: str,
    x: Array,
    g: Array,
    axis: int,
    *before: Any,
) -> Case | None:
    """NumPy's and SciPy's cases; `before` is what their formulas take first."""
    if pair is None or (form != "forward" and pair[1] is None):
        return None
    forward, derivative = pair
    out, tmp = _result(name, x, axis), aligned(x.shape, x.dtype.name)

    def bind(formula: Formula, result: Array) -> Call:
        if isinstance(formula, Binary):
            return partial(formula.ufunc, x, np.array(formula.number, x.dtype), out=result)
        if isinstance(formula, np.ufunc):
            return partial(formula, x, result)
        along = {"axis": axis} if PEERS[name].rows else {}
        return partial(formula, *before, x, result, tmp, **along)

    if form == "forward":
        run = bind(forward, out)
        # scipy.special's row functions allocate their result; everything else fills `out`
        return _returning(run) if before and PEERS[name].rows else _into(run, out)
    assert derivative is not None
    if form == "derivative":
        return _into(bind(derivative, out), out)
    if form in GRADIENTS:
        return _into(_both(bind(derivative, out), partial(np.multiply, out, g, out)), out)
    slope = _result(name, x, axis)
    return _into(_both(bind(forward, out), bind(derivative, slope)), out, slope)


def _numpy(name: str, form: str, x: Array, g: Array, axis: int = -1) -> Case | None:
    return _formulas(PEERS[name].numpy, name, form, x, g, axis)


def _scipy(name: str, form: str, x: Array, g: Array, axis: int = -1) -> Case | None:
    if PEERS[name].scipy is None or x.dtype.name == "bfloat16":  # it has no loops for bfloat16
        return None
    return _formulas(PEERS[name].scipy, name, form, x, g, axis, _import("scipy.special"))


# --- numexpr --------------------------------------------------------------------------------------


def _numexpr(name: str, form: str, x: Array, g: Array, axis: int = -1) -> Case | None:
    row = PEERS[name].numexpr
    if row is None or x.itemsize == 2 or (form != "forward" and row[1] is None):  # it has no 16-bit floats
        return None
    numexpr = _import("numexpr")
    kind = float if x.dtype.name == "float32" else np.double  # numexpr's names for its float and double

    def bind(expression: str, result: Array) -> Call:
        used = compile(expression, "<numexpr>", "eval").co_names
        values = {
            "x": x,
            "g": g,
            **{key: np.array(value, x.dtype) for key, value in CONSTANTS.items()},
        }
        names = [key for key in values if key in used]
        compiled = numexpr.NumExpr(expression, [(key, kind) for key in names])
        return partial(compiled, *(values[key] for key in names), out=result, ex_uses_vml=False)

    out = _result(name, x, axis)
    if form == "forward":
        return _into(bind(row[0], out), out)
    if form == "derivative":
        return _into(bind(str(row[1]), out), out)
    if form in GRADIENTS:
        return _into(bind(f"g*({row[1]})", out), out)
    slope = _result(name, x, axis)
    return _into(_both(bind(row[0], out), bind(str(row[1]), slope)), out, slope)


# --- PyTorch, JAX, ONNX Runtime -------------------------------------------------------------------


def _tensor(torch: Any, array: Array) -> Any:
    """The same memory as a tensor."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _torch(name: str, form: str, x: Array, g: Array, axis: int = -1) -> Case | None:
    row = PEERS[name]
    if row.torch is None or (form != "forward" and row.torch[1] is None):
        return None
    if any(step < 0 for step in x.strides):  # it has no tensors that run backwards
        return None
    torch = _import("torch")
    forward, backward = row.torch
    if row.targets and form == "with_derivative":
        assert backward is not None
        return _returning(backward(torch, _tensor(torch, x), axis))
    along = (axis,) if row.rows else ()
    tx, out = _tensor(torch, x), _tensor(torch, _result(name, x, axis))
    run = forward(torch, tx, out, *along)
    if form == "forward":
        return _returning(run)
    y = run()
    # f'(x) is the backward kernel with a gradient of ones
    gradient = _tensor(torch, g) if form in GRADIENTS else torch.ones_like(tx)
    assert backward is not None
    back = backward(torch, gradient, tx, y, _tensor(torch, aligned(x.shape, x.dtype.name)), *along)
    if form == "with_derivative":
        return _returning(_both(run, back))
    case = _returning(back)
    return Case(case.run, case.outputs, _both(run, back)) if row.torch_saves and form != "backward" else case


def _jax(name: str, form: str, x: Array, g: Array, axis: int = -1) -> Case | None:
    row = PEERS[name]
    if row.jax is None or not x.flags.c_contiguous:  # it would copy a view
        return None
    jax = _import("jax")
    if x.dtype.name == "float64":
        jax.config.update("jax_enable_x64", True)
    function = partial(row.jax(jax), axis=axis) if row.rows else row.jax(jax)
    jx, jg = jax.numpy.asarray(x), jax.numpy.asarray(g)
    if form == "backward" or (form == "vjp" and row.rows):  # from what its forward pass saves, as fastact does
        pull = jax.vjp(jax.jit(function), jx)[1]
        back = jax.jit(lambda pull, g: pull(g)[0])
        return _returning(lambda: back(pull, jg).block_until_ready())

    def vjp(g: Any, x: Any) -> Any:
        y, back = jax.vjp(function, x)
        return y, back(jax.numpy.ones_like(y) if g is None else g)[0]

    operands = (jg, jx) if form == "vjp" else (jx,)
    compiled = jax.jit(
        {
            "forward": function,
            "derivative": lambda x: vjp(None, x)[1],
            "vjp": lambda g, x: vjp(g, x)[1],
            "with_derivative": lambda x: vjp(None, x),
        }[form]
    )
    if form == "with_derivative":
        wait = jax.block_until_ready
        return _returning(lambda: wait(compiled(jx)))
    return _returning(lambda: compiled(*operands).block_until_ready())


def _onnxruntime(name: str, form: str, x: Array, g: Array, axis: int = -1) -> Case | None:
    row = PEERS[name].onnxruntime
    if row is None or form != "forward" or x.dtype.name not in DTYPE_CODES or not x.flags.c_contiguous:
        return None
    ort = _import("onnxruntime")
    out = _result(name, x, axis)
    attributes = {**row.attributes, "axis": axis} if PEERS[name].rows and not row.axes else row.attributes
    model = one_node_model(
        row.op,
        attributes,
        row.constants,
        x.dtype.name,
        x.shape,
        domain=row.domain,
        axes=(axis,) if row.axes else (),
        result=out.shape,
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = _threads()
    # its threads would go on spinning into the next library's turn
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 4  # an operator that is missing for a dtype is an exception, and reported as such
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, x.dtype.type, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, out.dtype.type, out.shape, out.ctypes.data)

    def run() -> tuple[Array, Array]:
        session.run_with_iobinding(binding)
        return x, out  # the binding knows addresses only: this keeps the arrays alive

    return _into(run, out)


BUILDERS: dict[str, Callable[..., Case | None]] = {
    "fastact": _fastact,
    "numpy": _numpy,
    "scipy": _scipy,
    "numexpr": _numexpr,
    "torch": _torch,
    "jax": _jax,
    "onnxruntime": _onnxruntime,
}
"""library -> builder(name, form, x, g, axis); the axis is for functions along one."""


# --- threads and modes ----------------------------------------------------------------------------

_chosen_threads: list[int] = []


available_cores = cache(available_cpus)
"""The cores this process may use, asked once: with OMP_PROC_BIND PyTorch leaves this thread one of them."""


def _threads() -> int:
    return _chosen_threads[-1] if _chosen_threads else available_cores()


def set_threads(threads: int, libraries: list[str]) -> None:
    """Give every library `threads` threads. JAX reads its number when it is imported, so call this
    first."""
    _chosen_threads[:] = [threads]
    if "jax" in libraries and "jax" not in sys.modules:
        if threads == 1:
            flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
        os.environ["NPROC"] = str(threads)
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if "fastact" in libraries:
        import fastact as fa

        fa.set_num_threads(threads)
    if "torch" in libraries:
        _import("torch").set_num_threads(threads)
    if "numexpr" in libraries:
        os.environ.setdefault("NUMEXPR_MAX_THREADS", str(max(threads, available_cores())))
        _import("numexpr").set_num_threads(threads)


@contextmanager
def measuring(libraries: list[str]) -> Iterator[None]:
    """What each library offers for running without bookkeeping: no warnings, no autograd."""
    with ExitStack() as stack:
        stack.enter_context(np.errstate(all="ignore"))
        if "torch" in libraries:
            stack.enter_context(_import("torch").inference_mode())
        yield
