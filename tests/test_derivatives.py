"""Derivatives by x and by each parameter, to the standard of the functions themselves; and the forms made of them."""

from __future__ import annotations

import numpy as np
import pytest

import fastact as fa
from fastact.accuracy.cases import Case, cases
from fastact.accuracy.reference import ROOTS, reference64
from fastact.accuracy.samples import neighbours, samples, walk
from fastact.accuracy.sweep import measure, sweep

RECORDS = list(fa.CATALOGUE.values())
FORMS = ["derivative", *{f"derivative_{p.name}" for r in RECORDS for p in r.parameters}]
DEFAULTS = list(cases(RECORDS, FORMS))
GRID = list(cases(RECORDS, FORMS, grid=True))
FUSED = list(cases(RECORDS, ["with_derivative"]))
VJP = list(cases(RECORDS, ["vjp"]))
WIDE = ["float32", "float64"]
DENSE = 1_000_000


def holds(case: Case, dtype: str, x: np.ndarray, precise: bool | None = None) -> None:
    """Fail with what was found unless the case keeps its bound on `x`."""
    found = measure(case.function(dtype), case.name, case.form, x, case.parameters(dtype), precise=precise)
    bound = case.bound(dtype)
    message = f"{case.title} {dtype}: {found.max_ulp:.4g} ULP at {found.at!r} (bound {bound}); {found.wrong}"
    assert found.holds(bound), f"{message} {found.examples or ''}"


def stratified(case: Case, dtype: str, count: int) -> np.ndarray:
    return samples(case.name, dtype, count, case.parameters(dtype), case.record.kinks)


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("case", DEFAULTS, ids=lambda case: case.title)
def test_against_multi_precision(case: Case, dtype: str) -> None:
    # test_a_million_float32 looks at more, with the reference that test_ulp.py holds against multi-precision
    holds(case, dtype, stratified(case, dtype, 1000)[:: 3 if dtype == "float32" else 1], precise=True)


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("case", [c for c in GRID if c.given], ids=lambda case: case.title)
def test_at_other_parameters(case: Case, dtype: str) -> None:
    holds(case, dtype, stratified(case, dtype, 300)[:: 4 if dtype == "float64" else 1])


@pytest.mark.parametrize("case", DEFAULTS, ids=lambda case: case.title)
def test_a_million_float32(case: Case) -> None:
    holds(case, "float32", walk("float32", DENSE))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", DEFAULTS, ids=lambda case: case.title)
def test_all_65536(case: Case, dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    found = sweep(case.function(dtype), case.name, case.form, dtype, case.parameters(dtype), threads=1)
    assert found.inputs == 65536
    assert found.holds(case.bound(dtype)), found


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


@pytest.mark.parametrize("case", [c for c in DEFAULTS if not c.given and c.record.parameters], ids=lambda c: c.title)
def test_the_defaults_given_are_the_defaults(case: Case) -> None:
    """A default that is built in and the same number passed along give the same bits."""
    for dtype in WIDE:
        x = stratified(case, dtype, 2000)
        built_in = case.function(dtype)(x)
        passed = getattr(fa, case.public)(x, *case.values)
        assert np.array_equal(built_in.view(f"u{x.itemsize}"), passed.view(f"u{x.itemsize}"))
