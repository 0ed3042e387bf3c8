"""The measurements that are kept: of the kernels as they are now, complete, and within the contract.

`benchmarks/results/accuracy.json` holds a row for each form of each function and dtype. A row is good for the kernel
whose fingerprint it bears; this test computes the fingerprints anew, so a kernel cannot change and keep its old claim.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import fastact as fa
from fastact.accuracy.cases import Case, cases
from fastact.accuracy.command import GRID_STRIDE
from fastact.accuracy.digest import elementwise_digest, kernel_digest, row_digest
from fastact.accuracy.judges import Measurement
from fastact.accuracy.results import DTYPES, Key, Results
from fastact.accuracy.row_cases import FUNCTIONS, ROW_ULP, RowCase
from fastact.accuracy.sweep import count
from fastact.accuracy.varied import VariedCase, varied_cases
from fastact.api import LOSSES, ROWS
from fastact.kernels.language import copysign, fabs, fma, from_bits, lookup, select, to_float
from fastact.kernels.sparse import SPARSEMAX

FILE = Path(__file__).parents[1] / "benchmarks" / "results" / "accuracy.json"
RESULTS = Results(FILE)
CASES = [case for case in cases(fa.CATALOGUE.values()) if case.form != "vjp"]
GRID = [case for case in cases(fa.CATALOGUE.values(), grid=True) if case.form != "vjp" and case.given]
VARIED = list(varied_cases(fa.CATALOGUE.values()))
INPUTS = {"float32": 1 << 32, "float64": 1_000_000, "float16": 1 << 16, "bfloat16": 1 << 16}


def key(case: Case, dtype: str) -> Key:
    return Key(case.name, case.form, dtype, case.given, case.parameters(dtype))


def command(case: Case) -> str:
    return f"fastact accuracy {case.name} --proof --save benchmarks/results/accuracy.json"


def check(case: Case, dtype: str, inputs: int) -> None:
    row = RESULTS.rows.get(key(case, dtype))
    assert row is not None, f"{case.title} {dtype} was never measured: run\n{command(case)}"
    now = case.digest(dtype)
    assert row.digest == now, f"the kernel of {case.title} {dtype} was changed: measure it again with\n{command(case)}"
    assert row.found.inputs >= inputs, f"{case.title} {dtype}: only {row.found.inputs:,} inputs; run\n{command(case)}"
    assert row.found.holds(case.bound(dtype)), row
    assert row.exhaustive == (dtype != "float64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_every_kernel_was_measured_as_it_is(case: Case, dtype: str) -> None:
    check(case, dtype, INPUTS[dtype])


def test_other_parameters_were_measured() -> None:
    """A grid of values for each function that has parameters, in float32; less dense, so that it stays quick."""
    for case in GRID:
        row = RESULTS.rows.get(key(case, "float32"))
        how = command(case)
        assert row is not None, f"{case.title} was never measured: run\n{how}"
        assert row.digest == case.digest("float32"), f"the kernel of {case.title} was changed: run\n{how}"
        assert row.found.inputs >= count("float32", GRID_STRIDE), f"{case.title}: too few inputs; run\n{how}"
        assert row.found.holds(case.bound("float32")), row


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_along_an_axis_were_measured(name: str, dtype: str) -> None:
    case = RowCase(name)
    row = RESULTS.rows.get(Key(name, "rows", dtype, False, ()))
    how = f"fastact accuracy {name} --dtype {dtype} --save benchmarks/results/accuracy.json"
    assert row is not None, f"{name} {dtype} was never measured: run\n{how}"
    assert row.digest == case.digest(dtype), f"the kernel of {name} {dtype} was changed: run\n{how}"
    assert row.found.inputs >= case.inputs(dtype), f"{name} {dtype}: only {row.found.inputs:,} results; run\n{how}"
    assert row.found.holds(ROW_ULP), row


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", VARIED, ids=lambda case: case.title)
def test_parameters_of_every_size_were_measured(case: VariedCase, dtype: str) -> None:
    row = RESULTS.rows.get(Key(case.name, case.form, dtype, True, ()))
    how = f"fastact accuracy {case.name} --proof --save benchmarks/results/accuracy.json"
    assert row is not None, f"{case.title} {dtype} was never measured: run\n{how}"
    assert row.digest == case.digest(dtype), f"the kernel of {case.title} {dtype} was changed: run\n{how}"
    assert row.found.holds(case.bound(dtype)), row


def test_every_function_along_an_axis_is_measured() -> None:
    assert set(FUNCTIONS) == {*ROWS, *LOSSES}, "add it to FUNCTIONS in fastact/accuracy/row_cases.py"


@pytest.mark.parametrize("name", ["sums", "advance", "exact", "merge_exact", "settle", "write"])
def test_a_fingerprint_changes_with_any_step_of_a_projection(name: str) -> None:
    def nearly(*operands):  # type: ignore[no-untyped-def]
        found = old(*operands)
        return (*found[:-1], found[-1] + 0.0) if isinstance(found, tuple) else found + 0.0

    old = getattr(SPARSEMAX, name)
    assert row_digest(replace(SPARSEMAX, **{name: nearly}), "float32") != row_digest(SPARSEMAX, "float32")


def test_nothing_is_kept_that_does_not_exist() -> None:
    known = {key(case, dtype) for case in [*CASES, *GRID] for dtype in DTYPES}
    known |= {Key(name, "rows", dtype, False, ()) for name in FUNCTIONS for dtype in ("float32", "float64")}
    known |= {Key(case.name, case.form, dtype, True, ()) for case in VARIED for dtype in ("float32", "float64")}
    assert not [k for k in RESULTS.rows if k not in known]


def test_what_joins_two_functions_is_no_better_than_they_are() -> None:
    for row in RESULTS.rows.values():
        if row.same_bits_as:
            parts = [RESULTS.rows[row.key._replace(form=form)] for form in row.same_bits_as]
            assert row.found.max_ulp == max(part.found.max_ulp for part in parts)
            assert all(part.found.inputs >= row.found.inputs for part in parts)


# --- the fingerprint


def poly(x, c=0.25):  # type: ignore[no-untyped-def]
    return fma(x, fma(x, c, 0.5), 1.0)


def test_a_fingerprint_ignores_what_does_not_matter() -> None:
    def otherwise(y):  # type: ignore[no-untyped-def]
        unused = y * 3.0  # noqa: F841
        inner = fma(y, 0.25, 0.5)
        return fma(y, inner, 1)

    assert kernel_digest(poly, 1, "float32") == kernel_digest(otherwise, 1, "float32")


@pytest.mark.parametrize(
    "other",
    [
        lambda x: fma(x, x * 0.25 + 0.5, 1.0),
        lambda x: fma(x, fma(0.25, x, 0.5), 1.0),
        lambda x: poly(x, 0.25000003),
        lambda x: poly(-x),
        lambda x: poly(fabs(x)),
        lambda x: poly(copysign(x, x)),
        lambda x: select(x < 0, poly(x), x),
        lambda x: select(x <= 0, poly(x), x),
        lambda x: (poly(x), x),
        lambda x: lookup((1.0, 2.0, 3.0, 4.0), x.bits() & 3),
        lambda x: lookup((1.0, 2.0, 3.0, 5.0), x.bits() & 3),
        lambda x: from_bits(x.bits() + 1),
        lambda x: from_bits(x.bits() << 1),
        lambda x: to_float(x.bits()),
    ],
)
def test_a_fingerprint_changes_with_any_operation(other) -> None:  # type: ignore[no-untyped-def]
    seen = {kernel_digest(kernel, 1, dtype) for kernel in (poly, other) for dtype in DTYPES}
    assert len(seen) == 2 * len(DTYPES)


def test_a_constant_is_that_of_the_dtype() -> None:
    """0.1 is one number in float32 and another in float64; what rounds to the same float32 is the same kernel there."""
    near = 0.1 + 2.0**-50
    kernels = [lambda x: x * 0.1, lambda x: x * near]
    assert len({kernel_digest(k, 1, "float32") for k in kernels}) == 1
    assert len({kernel_digest(k, 1, "float64") for k in kernels}) == 2


def test_defaults_are_part_of_the_fingerprint() -> None:
    swish = fa.CATALOGUE["swish"]
    assert elementwise_digest(swish, "derivative", "float32") != elementwise_digest(
        swish, "derivative", "float32", True
    )


# --- the file


def test_a_row_survives_the_file(tmp_path: Path) -> None:
    results = Results(tmp_path / "kept.json")
    found = Measurement("swish", "derivative", "float32", (0.5,), 10, 0.75, float("nan"), 9, {"zero": 1}, {"zero": 2.0})
    results.put(found, given=True, exhaustive=False, digest="abc")
    results.put(Measurement("relu", "forward", "float16", (), 65536, 0.0, 1.0, 65536), False, True, "def", ["a", "b"])
    again = Results(tmp_path / "kept.json")
    assert repr(list(again.rows.values())) == repr(
        sorted(results.rows.values(), key=lambda row: row.found.name == "relu")
    )
    assert again.current(Key("swish", "derivative", "float32", True, (0.5,)), "abc") is not None
    assert again.current(Key("swish", "derivative", "float32", True, (0.5,)), "abd") is None
    assert [row.found.examples for row in again.rows.values()] == [{}, {}]
    (tmp_path / "other.json").write_text("{}", "utf-8")
    with pytest.raises(ValueError, match="fastact-accuracy"):
        Results(tmp_path / "other.json")
