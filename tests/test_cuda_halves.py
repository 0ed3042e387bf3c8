"""16-bit kernels of `fastact.cuda`, which leave out what no result shows: the same bits for all 65,536 inputs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastact as fa
from fastact import cuda
from fastact.cuda import half_tables
from fastact.cuda.functions import variant
from fastact.cuda.ranges import cheap_forms_for
from fastact.cuda.source import Tables, device_function
from fastact.graph import halves
from fastact.graph.evaluate import evaluate
from fastact.graph.trace import trace
from fastact.kernels.language import bits, fabs, fma, select
from fastact.kernels.pairs import two_sum

from .cuda_host import DTYPES, Array, HostDriver, needs_compiler, same

F = np.float32
EVERY = np.arange(65536, dtype=np.uint16)


def operations(function: Callable[..., Any], dtype: str = "bfloat16") -> list[str]:
    graph = halves.reduced(trace(function, ["float"], 32), dtype)
    return [graph.nodes[k].op for k in graph.used() if graph.nodes[k].op not in ("input", "const")]


def test_every_number_is_tried() -> None:
    assert np.array_equal(halves.inputs("float16"), EVERY.view(np.float16).astype(F), equal_nan=True)
    assert np.array_equal(halves.inputs("bfloat16"), EVERY.view(ml_dtypes.bfloat16).astype(F), equal_nan=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding(dtype: str) -> None:
    x = np.random.default_rng(0).integers(-(2**31), 2**31, 100_000).astype(np.int32).view(F)
    with np.errstate(all="ignore"):
        want = x.astype(DTYPES[dtype])
    got, nan = halves.rounded(x, dtype), x != x
    assert np.array_equal(got[~nan], want[~nan].view(np.uint16))
    assert (got[nan] == 0xFFFF).all()


def test_a_nan_may_have_either_sign() -> None:
    """That of x86 is negative: no test for NaN may be left out because the sign of another one says the same."""

    def negative(x: Any) -> Any:
        y = x * 1.5
        return select((bits(y) < 0) & (y == y), 1.0, select(y == y, 0.0, y))

    for dtype in ("float16", "bfloat16"):
        graph = halves.reduced(trace(negative, ["float"], 32), dtype)
        (found,) = evaluate(graph, [np.array([0xFFC00000, 0x7FC00000, 0xBF800000], np.uint32).view(F)])
        assert np.array_equal(found, [np.nan, np.nan, 1.0], equal_nan=True)


def finite(x: Any) -> Any:
    return select(x * x < 81.0, x, 9.0)


@pytest.mark.parametrize("width", [32, 64])
def test_tables_are_whole_words_of_16_bytes(width: int) -> None:
    """They are copied so: as much is read and written."""
    for count in (0, 1, 2, 256, 1001, 1002):
        tables = Tables(width)
        if count:
            tables.offset(tuple(range(1, count + 1)))
        entries = int(re.findall(r"#define TABLE_ENTRIES (\d+)", tables.definition())[0])
        assert count <= entries < count + 128 // width
        assert entries * width % 128 == 0


def test_what_no_result_shows_is_left_out() -> None:
    def exact(x: Any) -> Any:
        hi, lo = two_sum(finite(x), 0.25 * finite(x))
        return fabs(hi + lo)  # without the sign of 0

    assert len(operations(exact)) <= 6
    assert operations(lambda x: fma(finite(x), 1.0, finite(x) * 0.0)) == operations(finite)
    assert "fma" in operations(lambda x: fma(x, 1.0, x * 0.0))  # infinity
    assert operations(lambda x: select(x == x, x, 2.0 * x)) == []
    assert operations(lambda x: select(x > 0.0, x, 0.0 * x)) == ["gt", "mul", "select"]  # -0 and NaN
    assert operations(lambda x: (x * 0.5) * 0.5) == ["mul"]


def test_reciprocals_are_approximate_only_where_nobody_sees_it() -> None:
    assert "rcp" not in operations(lambda x: 1.0 / (x * x + 2.5))  # infinity
    assert "rcp" in operations(lambda x: 1.0 / (finite(x) * finite(x) + 2.5))
    # powers of two: the error would break ties, here all of them
    assert "rcp" not in operations(lambda x: (1.0 + 3 * 2.0**-8) * (1.0 / select(x > 1.0, finite(x).const(2.0), 4.0)))


@pytest.mark.parametrize("error", [0, 1, -1])
def test_an_approximate_reciprocal_is_a_unit_off(error: int) -> None:
    d = F([3, -7, 2.0**-100, 2.0**126, 2.0**-127, 0, np.inf, np.nan])
    got = halves.approximate_reciprocal(d, np.full(d.shape, error))
    exact = (1 / d[:4].astype(np.float64)).astype(F)
    assert np.array_equal(got[:4].view(np.int32) - exact.view(np.int32), error * np.sign(d[:4]).astype(np.int32))
    assert np.isnan(got[4:]).all()


def test_a_product_keeps_all_digits_of_its_second_factor() -> None:
    def product(g: Any, x: Any) -> Any:
        hi, lo = two_sum(finite(x), 0.25 * finite(x))
        return g * (hi + lo)

    whole = trace(product, ["float", "float"], 32)
    outputs = whole.outputs
    graph = halves.reduced_product(whole, "bfloat16")
    assert halves.cost(graph, graph.outputs) < halves.cost(whole, outputs)
    x = halves.inputs("bfloat16")
    g = np.resize(F([1.7, -3.1, 2.0**-30]), x.shape)
    with np.errstate(all="ignore"):
        y = np.where(x * x < 81, x, F(9))
        assert np.array_equal(evaluate(graph, [g, x])[0], g * (y + F(0.25) * y), equal_nan=True)
    other = trace(lambda g, x: g * (x + g), ["float", "float"], 32)
    assert halves.reduced_product(other, "bfloat16") is other


def test_divisions_in_range_for_these_inputs() -> None:
    graph = trace(lambda x: 1.0 / x, ["float"], 32)
    assert cheap_forms_for(graph, F([1, 3, 2.0**100])) != {}
    assert cheap_forms_for(graph, F([1, 3, 2.0**127])) == {}
    assert "reciprocal_in_range" in device_function("f", graph, Tables(32), cheap_forms_for(graph, F([1, 2])))


@pytest.mark.parametrize("name", ["sigmoid", "mish_derivative"])
def test_they_cost_less(name: str) -> None:
    for dtype in ("float16", "bfloat16"):
        whole = trace(variant(name, dtype, "").function, ["float"], 32)
        before = halves.cost(whole, whole.outputs)
        after = halves.reduced(whole, dtype)
        assert halves.cost(after, after.outputs) < 0.95 * before


CASES = ("sigmoid", "silu_with_derivative", "softplus", "gelu")


@needs_compiler
@pytest.mark.parametrize("name", CASES)
def test_the_bits_of_the_cpu_for_every_input(gpu: HostDriver, name: str) -> None:
    for dtype in ("float16", "bfloat16"):
        x = EVERY.view(DTYPES[dtype])
        assert same(getattr(cuda, name)(Array(x)), getattr(fa, name)(x)), dtype


@needs_compiler
@pytest.mark.parametrize("name", ["sigmoid_vjp"])
def test_the_bits_of_the_cpu_for_products(gpu: HostDriver, name: str) -> None:
    x = np.resize(EVERY, 1 << 18)
    g = np.random.default_rng(1).integers(0, 65536, x.size).astype(np.uint16)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        assert same(
            getattr(cuda, name)(Array(g.view(dtype)), Array(x.view(dtype))),
            getattr(fa, name)(g.view(dtype), x.view(dtype)),
        )


# --- results looked up


@pytest.mark.parametrize(
    "name", ["gelu", "softplus_derivative_beta", "celu_derivative_alpha", "log_sigmoid_with_derivative", "gelu_vjp"]
)
def test_tables(name: str) -> None:
    """`tabulated` compares all results; here, that it finds a table, and that nothing is left of the arithmetic."""
    kernel = variant(name, "bfloat16", "")
    graph = half_tables.tabulated(trace(kernel.function, ["float"] * kernel.arrays, 32), kernel.arrays)
    assert graph is not None
    ops = [graph.nodes[k].op for k in graph.used()]
    assert ops.count("entry") == kernel.outputs
    assert not {"div", "lookup"} & set(ops)
    x = halves.inputs("bfloat16")
    g = np.resize(F([1.7, -3.1, 2.0**-30]), x.shape)
    given = [g, x][-kernel.arrays :]
    want = evaluate(trace(kernel.function, ["float"] * kernel.arrays, 32), given)
    for a, b in zip(evaluate(graph, given), want, strict=True):
        assert np.array_equal(halves.rounded(a, "bfloat16"), halves.rounded(b, "bfloat16"))


def test_what_has_no_table() -> None:
    """A function that is nothing simple towards 0 or infinity, and a product of another form."""
    assert half_tables.tabulated(trace(lambda x: x * x * x, ["float"], 32), 1) is None
    assert half_tables.tabulated(trace(lambda g, x: g + x, ["float", "float"], 32), 2) is None


@needs_compiler
@pytest.mark.parametrize("name", ["softplus", "log_sigmoid", "mish_derivative"])
def test_what_is_rare_in_float16_for_every_input(gpu: HostDriver, name: str) -> None:
    """In order, so that all of a thread's elements are rare or none, and shuffled, so that few are."""
    for x in (EVERY.view(np.float16), np.random.default_rng(0).permutation(EVERY).view(np.float16)):
        assert same(getattr(cuda, name)(Array(x)), getattr(fa, name)(x))


@needs_compiler
@pytest.mark.parametrize("name", ["mish", "silu_derivative", "tanh_with_derivative"])
def test_tables_give_the_bits_of_the_cpu_for_every_input(gpu: HostDriver, name: str) -> None:
    x = EVERY.view(DTYPES["bfloat16"])
    assert same(getattr(cuda, name)(Array(x)), getattr(fa, name)(x))


@needs_compiler
@pytest.mark.parametrize("name", ["gelu_vjp", "mish_vjp"])
def test_tables_give_the_bits_of_the_cpu_for_products(gpu: HostDriver, name: str) -> None:
    x = np.resize(EVERY, 1 << 18).view(DTYPES["bfloat16"])
    g = np.random.default_rng(1).integers(0, 65536, x.size).astype(np.uint16).view(DTYPES["bfloat16"])
    assert same(getattr(cuda, name)(Array(g), Array(x)), getattr(fa, name)(g, x))
