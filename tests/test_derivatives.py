"""Derivatives by x and by each parameter, to the standard of the functions themselves; and the forms made of them."""

from __future__ import annotations

import numpy as np
import pytest

import fastact as fa
from fastact.accuracy.cases import Case, cases
from fastact.accuracy.oracles import truth_from_output
from fastact.accuracy.reference import ROOTS, reference64
from fastact.accuracy.samples import neighbours
from fastact.accuracy.ulp import compare
from fastact.activation import Activation

from .functions import same_bits
from .test_accuracy import DERIVATIVES, WIDE, holds, stratified

RECORDS = list(fa.CATALOGUE.values())
DEFAULTS = list(cases(RECORDS, DERIVATIVES))
FUSED = list(cases(RECORDS, ["with_derivative"]))
VJP = list(cases(RECORDS, ["vjp"]))
FROM_OUTPUT = [record for record in fa.CATALOGUE.values() if record.derivative_from_output is not None]


@pytest.mark.parametrize("case", [c for c in DEFAULTS if (c.name, c.form) in ROOTS], ids=lambda case: case.title)
def test_next_to_the_zero_of_a_derivative(case: Case) -> None:
    """Every float32 within 4096 of the root, where one rounded intermediate result would leave no correct bit."""
    _, about = ROOTS[case.name, case.form]
    nearest = float(np.float32(about))
    x = neighbours([nearest], "float32", 4096)
    slope = reference64(case.name, case.form, x, *case.parameters("float32"))
    assert slope.min() < 0 < slope.max()
    holds(case, "float32", x)
    coarse = np.linspace(nearest - 2e-3, nearest + 2e-3, 201)
    holds(case, "float64", np.concatenate([coarse, neighbours([nearest], "float64", 20)]))
    # The float64 next to the root too: that is where the sign changes.
    low, high = nearest - 1e-3, nearest + 1e-3
    function = case.function("float64")
    while np.nextafter(low, 1) < high and (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if (function(middle) < 0) == (function(low) < 0) else (low, middle)
    holds(case, "float64", neighbours([low], "float64", 50))


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("case", FUSED, ids=lambda case: case.title)
def test_with_derivative_gives_both(case: Case, dtype: str) -> None:
    x = stratified(case, dtype, 1000)[:: 8 if dtype == "float64" else 1]
    holds(case, dtype, x)
    y, dy = case.function(dtype)(x)
    assert y.dtype == dy.dtype == x.dtype


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("case", VJP, ids=lambda case: case.title)
def test_vjp_is_g_times_the_derivative(case: Case, dtype: str) -> None:
    x = stratified(case, dtype, 2000)
    derivative = next(c for c in cases([case.record], ["derivative"]) if c.given == case.given).function(dtype)
    rng = np.random.default_rng(11)
    for g in (np.ones_like(x), rng.normal(size=x.size).astype(dtype), np.full_like(x, -0.5)):
        with np.errstate(all="ignore"):
            expected = g * derivative(x)
        found = case.function(dtype)(g, x)
        numbers = ~np.isnan(expected)
        assert np.array_equal(np.isnan(found), ~numbers)
        unsigned = f"u{x.itemsize}"
        assert np.array_equal(found[numbers].view(unsigned), expected[numbers].view(unsigned))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_narrow_vjps_are_rounded_once(record: Activation) -> None:
    """The derivative and the product are float32, in the 16-bit types too."""
    narrow = [np.float16, pytest.importorskip("ml_dtypes").bfloat16]
    generator = np.random.default_rng(13)
    x, g = generator.normal(scale=3, size=2000), generator.normal(size=2000)
    given = [0.25 for p in record.parameters if p.default is None]
    names = [f"{record.name}_vjp", *(f"{r.name}_vjp_from_output" for r in FROM_OUTPUT if r is record)]
    for name in names:
        for dtype in narrow:
            operands = [a.astype(dtype) for a in (g, getattr(fa, record.name)(x) if "output" in name else x)]
            wide = getattr(fa, name)(*(a.astype(np.float32) for a in operands), *given)
            found = getattr(fa, name)(*operands, *map(dtype, given))
            assert np.array_equal(found.view(np.uint16), wide.astype(dtype).view(np.uint16))


@pytest.mark.parametrize("case", [c for c in DEFAULTS if not c.given and c.record.parameters], ids=lambda c: c.title)
def test_the_defaults_given_are_the_defaults(case: Case) -> None:
    """A default that is built in and the same number passed along give the same bits."""
    for dtype in WIDE:
        x = stratified(case, dtype, 2000)
        built_in = case.function(dtype)(x)
        passed = getattr(fa, case.public)(x, *case.values)
        assert np.array_equal(built_in.view(f"u{x.itemsize}"), passed.view(f"u{x.itemsize}"))


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("record", FROM_OUTPUT, ids=lambda record: record.name)
def test_vjp_from_output(record: Activation, dtype: str) -> None:
    """Right for the y that is given, whatever x it came from, next to both limits as well."""
    low, high = (max(limit, -800.0) for limit in record.limits)
    generator = np.random.default_rng(5)
    away = np.exp2(-generator.uniform(0, 60, 600))
    y = np.concatenate([low + (high - low) * away, high - (high - low) * away, np.linspace(low, high, 300)])
    y = np.unique(np.clip(y, low, high).astype(dtype))
    true = truth_from_output(record.name, y)
    found = getattr(fa, f"{record.name}_vjp_from_output")(np.ones_like(y), y)
    judged = compare(found, *true)
    assert not judged.wrong.any()
    assert judged.error.max() < 0.54
    # times g, rounded once more
    g = generator.normal(size=y.size).astype(dtype)
    again = getattr(fa, f"{record.name}_vjp_from_output")(g, y)
    assert np.array_equal(again, g * found)
    # and it is the derivative: of a y that came from x
    x = np.linspace(-2, 2, 41).astype(dtype)
    from_output = getattr(fa, f"{record.name}_vjp_from_output")(np.ones_like(x), getattr(fa, record.name)(x))
    np.testing.assert_allclose(from_output, getattr(fa, f"{record.name}_derivative")(x), rtol=1e-5)


@pytest.mark.parametrize("record", FROM_OUTPUT, ids=lambda record: record.name)
def test_vjp_from_output_beyond_numbers(record: Activation) -> None:
    function = getattr(fa, f"{record.name}_vjp_from_output")
    for limit, slope in zip(record.limits, record.derivative_limits, strict=True):
        assert same_bits(function(np.float32(1), np.float32(limit)), np.float32(slope))
    assert np.isnan(function(np.float32(1), np.float32(np.nan)))
    assert np.isnan(function(np.float32(np.nan), np.float32(0)))
    anything = np.arange(1 << 16, dtype=np.uint16).view(np.float16)  # pytest turns a warning into an error
    assert function(np.float16(1), anything).shape == anything.shape
