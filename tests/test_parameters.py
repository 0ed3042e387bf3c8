"""Functions with parameters: products next to a zero, and parameters at the ends of the range."""

from __future__ import annotations

import numpy as np
import pytest

import fastact as fa
from fastact.accuracy.oracles import truth
from fastact.accuracy.reference import ROOTS, root_of
from fastact.accuracy.ulp import compare
from fastact.accuracy.varied import next_to

WIDE = ["float32", "float64"]


def errors(result: np.ndarray, name: str, form: str, x: np.ndarray, *parameters: np.ndarray) -> np.ndarray:
    """In ULP; infinite where a NaN, an infinity, a zero or a sign is wrong."""
    found = compare(result, *truth(name, form, x, *parameters))
    return np.where(found.wrong, np.inf, found.error)


@pytest.mark.parametrize("dtype", WIDE)
def test_swish_derivative_next_to_its_zero(dtype: str) -> None:
    """Products nearer to the zero than any float, of both signs of both factors."""
    x, beta = next_to(root_of(*ROOTS["swish", "derivative"]), dtype, 3000)
    found = errors(fa.swish_derivative(x, beta), "swish", "derivative", x, beta)
    worst = int(np.argmax(found))
    assert found[worst] < 0.8, (x[worst], beta[worst])


@pytest.mark.parametrize(
    ("dtype", "x", "beta"),
    [
        ("float32", -2.242583990097046, 0.5700854659080505),
        ("float64", -2.2496860208587104, 0.5682857656167863),
    ],
)
def test_swish_derivative_where_it_was_wrong(dtype: str, x: float, beta: float) -> None:
    at, factor = np.array([x], dtype), np.array([beta], dtype)
    assert errors(fa.swish_derivative(at, factor), "swish", "derivative", at, factor) < 0.51
