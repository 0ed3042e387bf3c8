"""Every benchmark of ``benchmarks/cases.py`` runs; with ``--benchmark-enable`` they are timed,
peers side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.cases import FORMS, IN_CACHE, LIBRARIES, functions, prepare, prepare_on
from fastact.bench.cases import Missing, inputs, installed
from fastact.bench.peers import PEERS

ELEMENTWISE = tuple(name for name in functions() if not PEERS[name].rows)
ROWS = tuple(name for name in functions() if PEERS[name].rows)
CALLS = [(name, form) for name in ELEMENTWISE for form in FORMS]
CALLS += [(name, "forward") for name in ROWS]
CALL_NAMES = [f"{name}-{form}" for name, form in CALLS]


@pytest.mark.parametrize(("name", "form"), CALLS, ids=CALL_NAMES)
def test_fastact(benchmark: Any, name: str, form: str) -> None:
    benchmark.group = f"{name} {form}"
    benchmark(prepare(name, form, "fastact", "float32", IN_CACHE))


@pytest.mark.parametrize("library", LIBRARIES[1:])
@pytest.mark.parametrize("name", functions())
def test_peer(benchmark: Any, name: str, library: str) -> None:
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    benchmark.group = f"{name} forward"
    try:
        call = prepare(name, "forward", library, "float32", IN_CACHE)
    except Missing as reason:
        pytest.skip(str(reason))
    benchmark(call)


@pytest.mark.parametrize("library", LIBRARIES[1:])
@pytest.mark.parametrize(("name", "form"), CALLS, ids=CALL_NAMES)
def test_peers_compute_the_same_function(name: str, form: str, library: str) -> None:
    """A ratio means something only if both sides compute the same thing."""
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    x, g = inputs(name, "float32", 4096)
    try:
        theirs = prepare_on(name, form, library, x, g).outputs()
    except Missing as reason:
        pytest.skip(str(reason))
    ours = prepare_on(name, form, "fastact", x, g).outputs()
    assert len(ours) == len(theirs)
    for own, other in zip(ours, theirs, strict=True):
        assert own.dtype == other.dtype == np.float32
        # one step in x off a derivative's zero is allowed for: formulas there lose relative
        # accuracy
        np.testing.assert_allclose(other.reshape(own.shape), own, rtol=2e-4, atol=2e-6)
