"""Numba's vectorize and guvectorize with target="fastact", and kernels in anyone's compiled code."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
import textwrap
from typing import Any

import numba
import numpy as np
import pytest

import fastact as fa
from fastact import kernels
from fastact.api import aliases, elementwise_forms

from .functions import ELEMENTWISE, call, outputs, same_bits, sample

X = sample(3001)


def test_a_formula_in_the_kernel_language() -> None:
    @numba.vectorize(["float32(float32)", "float64(float64)"], target="fastact")
    def cubic(x: Any) -> Any:
        """x^3 + 1."""
        return x * x * x + 1.0

    assert type(cubic) is np.ufunc
    assert cubic.__name__ == "cubic"
    assert cubic.__doc__.endswith("x^3 + 1.")
    with np.errstate(over="ignore", invalid="ignore"):
        assert same_bits(cubic(X), X * X * X + np.float32(1))
        large = np.resize(X, 300_000)
        assert same_bits(cubic(large[::-3]), cubic(large)[::-3])
    out = np.zeros_like(X)
    cubic(X, where=X > 0, out=out)
    assert (out[~(X > 0)] == 0).all()


def test_a_formula_built_on_kernels() -> None:
    @numba.vectorize(["float32(float32, float32)"], target="fastact")
    def gated(gate: Any, up: Any) -> Any:
        return kernels.hard_swish(gate) * up

    assert type(gated) is np.ufunc
    assert same_bits(gated(X, np.float32(2)), fa.hard_swish(X) * np.float32(2))


def test_a_formula_that_branches_and_calls_libraries() -> None:
    @numba.vectorize(["float32(float32)", "int64(int64)", "boolean(float64)"], target="fastact")
    def odd_job(x: Any) -> Any:
        if x > 0:
            return math.sqrt(x)
        return -x

    assert type(odd_job) is np.ufunc
    whole = np.dtype(np.int64).char  # Windows has another than Linux
    assert odd_job.types == ["f->f", f"{whole}->{whole}", "d->?"]
    x = X[X > 0]
    assert same_bits(odd_job(np.resize(x, 300_000)), np.sqrt(np.resize(x, 300_000)))
    assert odd_job(np.array([-4, 9])).tolist() == [4, 3]
    assert odd_job(np.float64([0, 4])).tolist() == [False, True]
    out = np.full(3, 7, np.float32)
    odd_job(np.float32([4, 4, 4]), where=[True, False, True], out=out)
    assert out.tolist() == [2, 7, 2]


def add(a: Any, b: Any) -> Any:
    return a + b


def add_with_a_branch(a: Any, b: Any) -> Any:
    if a != a:
        return b
    return a + b


@pytest.mark.parametrize("formula", [add, add_with_a_branch])
def test_a_binary_formula_is_folded_in_order(formula: Any) -> None:
    """Each sum needs the one before, so threads must keep off; on SIMD vectors and on the scalar path."""
    plus = numba.vectorize(["float64(float64, float64)"], target="fastact", identity=0)(formula)
    x = np.random.default_rng(0).normal(size=1_000_000)
    assert plus.identity == 0
    with fa.threads(4):
        for _ in range(5):
            assert same_bits(plus.accumulate(x), np.add.accumulate(x))


def test_guvectorize() -> None:
    @numba.guvectorize(["void(float64[:], float64[:], float64[:])"], "(n),(n)->()", target="fastact")
    def dot(a: Any, b: Any, out: Any) -> None:
        total = 0.0
        for i in range(a.shape[0]):
            total += a[i] * b[i]
        out[0] = total

    assert type(dot) is np.ufunc
    assert dot.signature == "(n),(n)->()"
    a = np.arange(60_000.0).reshape(10_000, 6)
    for threads in (1, 3):
        with fa.threads(threads):
            assert np.array_equal(dot(a, a), (a * a).sum(axis=1))
    assert np.array_equal(dot(a, a, axis=0), (a * a).sum(axis=0))


def test_what_the_targets_refuse() -> None:
    with pytest.raises(TypeError, match=r'vectorize\(target="fastact"\) needs a signature for f'):
        numba.vectorize([], target="fastact")(f)
    with pytest.raises(ValueError, match="takes no writable_args"):
        numba.guvectorize(["void(float64[:], float64[:])"], "(n)->(n)", target="fastact", writable_args=(0,))(_copy)
    with pytest.raises(TypeError, match="needs an input, and _one has none"):
        numba.vectorize(["float32()"], target="fastact")(_one)
    date = numba.types.NPDatetime("D")
    with pytest.raises(TypeError, match="takes numbers only, no dates"):
        numba.vectorize([date(date)], target="fastact")(f)
    with pytest.raises(numba.TypingError):
        numba.vectorize(["float32(float32)"], target="fastact")(_not_defined)


def f(x: Any) -> Any:
    return x


def _one() -> float:
    return 1.0


def _copy(a: Any, b: Any) -> None:
    b[:] = a


def _not_defined(x: Any) -> Any:
    return x + undefined_name  # type: ignore[name-defined]  # noqa: F821


def test_a_long_loop_is_not_unrolled() -> None:
    """LLVM would take minutes, and then the machine's memory."""

    @numba.vectorize(["float32(float32)"], target="fastact")
    def settled(x: Any) -> Any:
        for _ in range(10_000_000):
            x = x * 0.5
        return x

    few = X[np.isfinite(X)][:32]
    assert (settled(few) == 0).all()


def with_arity(kernel: Any, arity: int) -> Any:
    """A function of `arity` scalars that calls `kernel`, for Numba to compile."""
    return {
        1: lambda a: kernel(a),
        2: lambda a, b: kernel(a, b),
        3: lambda a, b, c: kernel(a, b, c),
        4: lambda a, b, c, d: kernel(a, b, c, d),
    }[arity]


def operands(name: str, dtype: str, n: int = 200) -> list[np.ndarray[Any, Any]]:
    """Arrays for every operand of a public function, parameters at their defaults."""
    record, form = elementwise_forms()[name]
    x = sample(n, dtype)
    values = [0.25 if p.default is None else p.default for p in record.parameters]
    return [x] * len(form.arrays) + [np.full(n, value, dtype) for value in values]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_kernels_in_njit_give_the_bits_of_the_ufunc(name: str) -> None:
    columns = operands(name, "float32")
    compiled = numba.njit(with_arity(getattr(kernels, name), len(columns)))
    rows = [compiled(*row) for row in zip(*columns, strict=True)]
    got = tuple(
        np.array(column, np.float32) for column in (zip(*rows, strict=True) if isinstance(rows[0], tuple) else [rows])
    )
    form = elementwise_forms()[name][1]
    assert same_bits(got, outputs(call(name, *columns[: len(form.arrays)])))


@pytest.mark.parametrize("target", ["cpu", "parallel"])
@pytest.mark.parametrize("name", [r.name for r in fa.CATALOGUE.values()])
def test_kernels_under_numbas_own_targets(name: str, target: str) -> None:
    columns = operands(name, "float64")
    types = f"float64({', '.join(['float64'] * len(columns))})"
    stock = numba.vectorize([types], target=target)(with_arity(getattr(kernels, name), len(columns)))
    with np.errstate(all="ignore"):
        got = stock(*columns)
    assert same_bits(got, call(name, columns[0]))


def test_kernels_need_no_import_of_the_target() -> None:
    """Numba finds the kernels and the target by itself, through the entry point, or when fastact.kernels is used."""
    code = """
        import numba, numpy as np, fastact as fa
        @numba.njit
        def f(x):
            return fa.kernels.hard_swish(x) + fa.kernels.relu(x)
        print(f(3.0), f(np.float32(-1)))
        @numba.vectorize(["float32(float32)"], target="fastact")
        def g(x):
            return fa.kernels.relu(x) + 1.0
        print(g(np.float32([-1, 2])))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout == "6.0 -0.3333333432674408\n[1. 3.]\n"


@pytest.mark.parametrize("name", [*ELEMENTWISE, *aliases()])
@pytest.mark.parametrize("value", [1.0, 2, True, np.float32(1), X])
def test_kernels_outside_compiled_code(name: str, value: Any) -> None:
    record, form = elementwise_forms()[aliases().get(name, name)]
    arguments = [value] * (len(form.arrays) + len(record.parameters))
    with pytest.raises(TypeError, match=f"call it from code compiled by numba .*; got {type(value).__name__}"):
        getattr(kernels, name)(*arguments)


def test_kernels_are_listed_and_have_their_names() -> None:
    public = {*ELEMENTWISE, *aliases()}
    assert public <= set(dir(kernels))
    for name in public:
        kernel = getattr(kernels, name)
        assert kernel is getattr(kernels, name)
        assert kernel.__name__ == aliases().get(name, name)
        assert pickle.loads(pickle.dumps(kernel)) is kernel  # Numba and joblib do so
    with pytest.raises(TypeError, match="got nothing"):
        kernels.relu()
    with pytest.raises(AttributeError, match="no kernel 'gelo'"):
        kernels.gelo  # noqa: B018
