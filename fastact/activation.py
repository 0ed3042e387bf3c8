"""The record of an activation: everything that tests, benchmarks, docs and stubs need to know about it, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Kernel = Callable[..., Any]


class Unfinished(LookupError):
    """A function is in the catalogue, and something is not yet that belongs to it: the message says what, and where."""

    def __init__(self, name: str, what: str, table: str, file: str) -> None:
        super().__init__(
            f"{name} is not finished: add {what} to {table} in {file} (docs/contributing.rst has the steps)"
        )


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of an activation, after the array it is applied to."""

    name: str
    default: float | None
    doc: str
    nonzero: bool = False  # 0 is an error


@dataclass(frozen=True, slots=True)
class Contract:
    """The largest error promised, in ULP of the true value, for the function and its derivatives."""

    float32: float = 1.0
    float64: float = 2.0
    float16: float = 0.501
    bfloat16: float = 0.501


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """An elementwise activation: kernels, mathematics and promises.

    `limits`, `derivative_limits` and, for each parameter, `parameter_limits` are the values at -inf and +inf at default
    parameters (0.25 for one without), `parity` is "odd", "even" or None, `monotone` says whether the function never
    decreases, `range` is the smallest interval that holds every value at default parameters,
    `at_defaults`, `derivative_at_defaults` and `parameter_derivatives_at_defaults` are cheaper kernels that give the
    bits of the others when every parameter has its default, if there are such; `derivative_from_output` is the
    derivative as a function of the result, where that is cheaper than from x; `kinks` are the points where the
    derivative jumps, `vectors` is how many native vectors are in flight, more than four where registers are many.
    """

    name: str
    family: str
    summary: str
    formula: str
    derivative_formula: str
    forward: Kernel
    derivative: Kernel
    parameters: tuple[Parameter, ...] = ()
    at_defaults: Kernel | None = None
    derivative_at_defaults: Kernel | None = None
    derivative_from_output: Kernel | None = None
    output_formula: str = ""
    parameter_derivatives: Mapping[str, Kernel] = field(default_factory=dict)
    parameter_derivatives_at_defaults: Mapping[str, Kernel] = field(default_factory=dict)
    parameter_formulas: Mapping[str, str] = field(default_factory=dict)
    parameter_limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    limits: tuple[float, float]
    derivative_limits: tuple[float, float]
    range: tuple[float, float]
    kinks: tuple[float, ...] = ()
    monotone: bool = False
    parity: str | None = None
    smoothness: str = "infinitely differentiable"
    at_kinks: str = ""
    contract: Contract = Contract()
    paper: str = ""
    see_also: tuple[str, ...] = ()
    founding: bool = False
    vectors: int = 2


@dataclass(frozen=True, slots=True)
class Form:
    """One public function of an activation: its name, its kernel and its operands (parameters come last)."""

    kind: str
    name: str
    kernel: Kernel
    arrays: tuple[str, ...]
    outputs: tuple[str, ...]


def times_g(derivative: Kernel) -> Kernel:
    def vjp(g: Any, *arguments: Any) -> Any:
        return g * derivative(*arguments)

    return vjp


def both(forward: Kernel, derivative: Kernel) -> Kernel:
    """The kernel of both results."""

    # what the two have in common, LLVM merges: tracing leaves it the same instructions twice
    def with_derivative(*arguments: Any) -> tuple[Any, Any]:
        return forward(*arguments), derivative(*arguments)

    return with_derivative


def forms(record: Activation) -> Iterator[tuple[str, str]]:
    """The kinds of function an activation has, with their public names, such as ("vjp", "gelu_vjp")."""
    for form in all_forms(record):
        yield form.kind, form.name


def all_forms(record: Activation) -> Iterator[Form]:
    """Every public function of an activation, in the order of the documentation."""
    name = record.name
    yield Form("forward", name, record.forward, ("x",), ("y",))
    yield Form("derivative", f"{name}_derivative", record.derivative, ("x",), ("dy",))
    yield Form("vjp", f"{name}_vjp", times_g(record.derivative), ("g", "x"), ("gx",))
    both_at_once = both(record.forward, record.derivative)
    yield Form("with_derivative", f"{name}_with_derivative", both_at_once, ("x",), ("y", "dy"))
    if record.derivative_from_output is not None:
        from_output = times_g(record.derivative_from_output)
        yield Form("vjp_from_output", f"{name}_vjp_from_output", from_output, ("g", "y"), ("gx",))
    for parameter, kernel in record.parameter_derivatives.items():
        yield Form(f"derivative_{parameter}", f"{name}_derivative_{parameter}", kernel, ("x",), ("dy",))


__all__ = [
    "Activation",
    "Contract",
    "Form",
    "Kernel",
    "Parameter",
    "Unfinished",
    "all_forms",
    "both",
    "forms",
    "times_g",
]
