"""The same bits on a GPU: what its kernels compute, operation by operation, and their cheap divisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastact.api import default_kernel, elementwise_forms
from fastact.cuda.ranges import cheap_forms
from fastact.cuda.source import ROUNDED
from fastact.graph.evaluate import evaluate, fma32, fma64
from fastact.graph.trace import Graph, Node, trace
from fastact.kernels.language import fma, kernel, lookup, rarely, select, sqrt

from .functions import ELEMENTWISE, call, outputs, parameters, same_bits, sample

F = np.float32


def graph_of(name: str, width: int) -> tuple[Graph, int]:
    record, form = elementwise_forms()[name]
    function = default_kernel(record, form)
    count = len(form.arrays)
    if function is None:
        function, count = form.kernel, count + len(record.parameters)
    return trace(function, ["float"] * count, width), len(form.arrays)


# --- the operations give the ufunc's bits


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_operations_of_a_kernel_give_the_bits_of_the_ufunc(name: str) -> None:
    graph, arrays = graph_of(name, 32)
    xs = [sample(3000, seed=k) for k in range(arrays)]
    values = [np.full(3000, p, np.float32) for p in parameters(name)]
    assert same_bits(tuple(evaluate(graph, [*xs, *values])), outputs(call(name, *xs)))


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "gelu", "softplus_derivative", "silu", "elu_vjp", "mish"])
def test_the_same_in_float64(name: str) -> None:
    graph, arrays = graph_of(name, 64)
    xs = [sample(150, np.float64, seed=k) for k in range(arrays)]
    assert same_bits(tuple(evaluate(graph, xs)), outputs(call(name, *xs)))


def test_every_operation_is_one_of_ieee_754_or_on_bits() -> None:
    """What CUDA C is made of: operations rounded to nearest, never contracted, and exact ones."""
    exact = {"fabs", "copysign", "bits", "from_bits"}
    for (op, _), name in ROUNDED.items():
        assert op in exact or "_rn" in name or name == "__fmaf_rn"
    known = exact | {op for op, _ in ROUNDED}
    known |= {"and", "or", "xor", "not", "neg", "shl", "shr", "select", "lookup", "input", "const"}
    known |= {"lt", "le", "gt", "ge", "eq", "ne"}
    for name in ELEMENTWISE:
        graph, _ = graph_of(name, 32)
        assert {node.op for node in graph.nodes} <= known


def test_fma_is_rounded_once() -> None:
    rng = np.random.default_rng(0)
    multiply_add: Any = fma
    import numba

    @numba.vectorize(["float32(float32,float32,float32)", "float64(float64,float64,float64)"], target="fastact")
    def reference(a: Any, b: Any, c: Any) -> Any:
        return multiply_add(a, b, c)

    for own, dtype, n in ((fma32, np.float32, 200_000), (fma64, np.float64, 3_000)):
        a, b = ((rng.normal(size=n) * 2.0 ** rng.integers(-70, 60, n)).astype(dtype) for _ in range(2))
        c = (-a * b * (1 + rng.integers(-2, 3, n) * np.finfo(dtype).eps)).astype(dtype)
        c[::3] = rng.normal(size=c[::3].size)
        with np.errstate(all="ignore"):
            assert same_bits(own(a, b, c), reference(a, b, c))


# --- tracing


def test_a_parameter_that_is_known_leaves_no_operation() -> None:
    graph = trace(lambda x: fma(x, 1.0 / x.const(3.0), x.const(2.0) * 2.0), ["float"], 32)
    assert [graph.nodes[k].op for k in graph.used()] == ["input", "const", "const", "fma"]


def test_equal_operations_are_noted_once() -> None:
    graph = trace(lambda x: (x * x + 1.0, x * x - 1.0), ["float"], 32)
    assert sum(node.op == "mul" for node in graph.nodes) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: x if x > 0 else -x, "may not branch"),
        (lambda x: x & 1, "not part of the kernel language"),
        (lambda x: -(x > 0.0), "- works on floats and integers"),
        (lambda x: "x", "returns 'x', not lanes"),
    ],
)
def test_what_a_kernel_cannot_do(wrong: Callable[..., Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        trace(wrong, ["float"], 32)


# --- divisions: NVIDIA's documents promise its approximations to one unit in the last place


def within_a_unit(exact: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """The floats that are a unit in the last place from the exact values, in float64, at most."""
    near = exact.astype(np.float32)
    found = [near]
    for other in (np.nextafter(near, F(np.inf)), np.nextafter(near, F(-np.inf))):
        found.append(np.where(np.abs(other - exact) <= np.spacing(near), other, near))
    return found


def reciprocal_seeds(d: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    # 1/2 for the float below 1 would stay: NVIDIA's own division relies on its not being the approximation, too
    return [np.where((s == F(0.5)) & (d != 2), F(0.50000006), s) for s in within_a_unit(1.0 / d.astype(np.float64))]


def reciprocal_in_range(d: np.ndarray[Any, Any], seed: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return fma32(seed, fma32(-d, seed, np.ones_like(d)), seed)


def divide_in_range(
    n: np.ndarray[Any, Any], d: np.ndarray[Any, Any], seed: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    r = reciprocal_in_range(d, seed)
    q = n * r
    q = fma32(fma32(d, q, -n), -r, q)
    return fma32(fma32(d, q, -n), -r, q)


def test_reciprocals_are_right_for_every_mantissa() -> None:
    for start in range(0, 1 << 23, 1 << 21):
        d = (np.arange(start, start + (1 << 21), dtype=np.int32) + (127 << 23)).view(np.float32)
        for seed in reciprocal_seeds(d):
            assert (reciprocal_in_range(d, seed) == F(1) / d).all()


@pytest.mark.parametrize("scale", [2.0**-126, 2.0**-1, 2.0**124])
def test_reciprocals_at_the_ends_of_the_range(scale: float) -> None:
    d = (np.arange(0, 1 << 23, 97, dtype=np.int32) + (127 << 23)).view(np.float32)
    for seed in reciprocal_seeds(d):
        assert (reciprocal_in_range(d * F(scale), seed / F(scale)) == F(1) / (d * F(scale))).all()


def hard_quotients(n: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Numerators and divisors, half of them with quotients next to the middle between two floats."""
    rng = np.random.default_rng(2)
    d = rng.integers(1 << 23, 1 << 24, n).astype(np.float64)
    q = rng.integers(1 << 23, 1 << 24, n).astype(np.float64) + 0.5
    near = np.rint(q * d / 2.0**24)
    any_ = rng.integers(1 << 23, 1 << 24, n)
    numerator = np.where((np.arange(n) % 2 == 0) & (near >= 1 << 23) & (near < 1 << 24), near, any_)
    return numerator.astype(np.float32), d.astype(np.float32)


def test_quotients() -> None:
    n, d = hard_quotients(300_000)
    for up, down in ((1.0, 1.0), (2.0**-123, 2.0**-24), (2.0**100, 2.0**60), (2.0**-90, 2.0**-80), (2.0**20, 2.0**-80)):
        a, b = n * F(up), d * F(down)
        for seed in within_a_unit(1.0 / b.astype(np.float64)):
            assert (divide_in_range(a, b, seed) == a / b).all()


def test_quotients_of_tiny_numerators() -> None:
    """`divide_scaled`: subnormal numerators and zeros, if the quotient is normal."""
    n, d = hard_quotients(200_000)
    n = np.concatenate([n * F(2.0**-160), F([0.0, -0.0, 1e-45, -1e-45])])
    d = np.concatenate([d * F(2.0**-88), F([2.0**-64] * 4)])
    for seed in within_a_unit(1.0 / d.astype(np.float64)):
        scaled = divide_in_range(n * F(2.0**64), d, seed) * F(2.0**-64)
        assert same_bits(scaled, n / d)


def test_square_roots() -> None:
    for exponent in (127, 128, 30, 250):
        x = (np.arange(0, 1 << 23, 31, dtype=np.int32) + (exponent << 23)).view(np.float32)
        for seed in within_a_unit(1.0 / np.sqrt(x.astype(np.float64))):
            s = x * seed
            assert (fma32(fma32(-s, s, x), seed * F(0.5), s) == np.sqrt(x)).all()


# --- the proof that a division is in range


def forms_of(function: Callable[..., Any]) -> list[str]:
    return list(cheap_forms(trace(function, ["float"], 32), ["float"], 0).values())


@kernel
def clamped(x: Any) -> Any:
    return select(x > 80.0, 80.0, select(x < -80.0, -80.0, x))


@kernel
def power(x: Any) -> Any:
    return (((clamped(x) + 1.5 * 2.0**23).bits() + 127) << 23).from_bits()


def test_what_says_where_something_is_rare_is_looked_at() -> None:
    def function(x: Any) -> Any:
        return rarely(1.0 / x > 2.0**100, lambda x: (x + 1.0,), (x,), (x,))[0]

    graph = trace(function, ["float"], 32, without_rare=True)
    assert [graph.nodes[k].op for k in graph.used()].count("div") == 1
    assert cheap_forms(graph, ["float"], 0) == {}  # x may be 0


def test_ranges() -> None:
    assert forms_of(lambda x: 1.0 / (1.0 + clamped(x) * clamped(x))) == ["in_range"]
    assert forms_of(lambda x: clamped(x) / (2.0 + clamped(x) * clamped(x))) == []  # subnormal for a tiny x
    assert forms_of(lambda x: clamped(x) / (1.0 + clamped(x) * clamped(x))) == ["scaled"]  # divided by 1 there
    assert forms_of(lambda x: clamped(x) / ((1.0 + clamped(x) * clamped(x)) * 2.0**-64)) == ["scaled"]
    assert forms_of(lambda x: 1.0 / x) == []
    assert forms_of(lambda x: 1.0 / clamped(x)) == []
    assert forms_of(lambda x: select(x > 0.5, 1.0 / x, x)) == []  # infinity
    assert forms_of(lambda x: select((x > 0.5) & (x < 9.0), 1.0 / x, x)) == ["in_range"]  # nobody looks at the others
    assert forms_of(lambda x: sqrt(1.0 + clamped(x) * clamped(x))) == ["in_range"]
    assert forms_of(lambda x: sqrt(x)) == []
    table = (1.0, 2.0, 3.0, 4.0)
    assert forms_of(lambda x: 1.0 / lookup(table, clamped(x).bits() >> 3)) == ["in_range"]
    # 2^k put together from its bits: anything for NaN, unless NaN is made to reach the divisor
    assert forms_of(lambda x: 1.0 / power(x)) == []
    assert forms_of(lambda x: 1.0 / (power(x) + 0.0 * clamped(x))) == ["in_range"]


@pytest.mark.parametrize("name", ["sigmoid", "silu", "softplus", "softsign", "mish", "silu_derivative", "sigmoid_vjp"])
def test_the_divisions_of_kernels_are_in_range(name: str) -> None:
    """So that they need no call; and for a sample of inputs they are."""
    graph, arrays = graph_of(name, 32)
    divisions = [k for k in graph.used() if graph.nodes[k].op == "div"]
    found = cheap_forms(graph, ["float"] * arrays, arrays - 1)
    assert sorted(found) == divisions

    def cheap(node: Node, operands: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any] | None:
        if node.op != "div":
            return None
        n, d = operands
        form = found[graph.nodes.index(node)]
        seed = np.nextafter(F(1) / d, F(0))
        if (n == 1).all():
            return reciprocal_in_range(d, seed)
        tiny = (np.abs(n) < F(2.0**-40)) & (form == "scaled")
        q = divide_in_range(np.where(tiny, n * F(2.0**64), n), d, seed)
        return np.where(tiny, q * F(2.0**-64), q)

    x = np.arange(-(2**31), 2**31, 2**14 + 1, dtype=np.int64).astype(np.int32).view(np.float32)
    xs = [np.ones_like(x)] * (arrays - 1) + [x]
    assert same_bits(tuple(evaluate(graph, xs, cheap)), outputs(call(name, *xs)))
