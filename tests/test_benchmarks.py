"""Every benchmark of ``benchmarks/cases.py`` runs; with ``--benchmark-enable`` they are timed,
peers side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from benchmarks import contents
from benchmarks.cases import (
    BARS_OF_ROWS,
    FORMS,
    IN_CACHE,
    LAYOUTS,
    REPRESENTATIVES,
    Setting,
    functions,
    parse_shape,
    prepare,
    prepare_on,
)
from fastact.bench.cases import inputs, installed, peers_of
from fastact.bench.limits import copies
from fastact.bench.peers import PEERS

ROWS = tuple(name for name in functions() if PEERS[name].rows)
CALLS = [(name, form) for name in functions() if name not in ROWS for form in FORMS]
CALLS += [(name, "forward") for name in ROWS]
SHAPES = [text for text in BARS_OF_ROWS.split(",") if parse_shape(text).elements <= 1 << 21]
"""The larger ones take seconds each; ``fastact bench --rows`` has them."""
PEER_CALLS = [(name, form, peer) for name, form in CALLS for peer in peers_of(name, form)]


def named(calls: Iterable[tuple[str, ...]]) -> list[Any]:
    return [pytest.param(*call, id="-".join(call)) for call in calls]


@pytest.mark.parametrize(("name", "form"), named(CALLS))
def test_fastact(benchmark: Any, name: str, form: str) -> None:
    benchmark.group = f"{name} {form}"
    benchmark(prepare(name, form, "fastact", "float32", IN_CACHE))


@pytest.mark.parametrize(("name", "form", "library"), named(c for c in PEER_CALLS if c[1] == "forward"))
def test_peer(benchmark: Any, name: str, form: str, library: str) -> None:
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    benchmark.group = f"{name} {form}"
    benchmark(prepare(name, form, library, "float32", IN_CACHE))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("name", REPRESENTATIVES)
@pytest.mark.parametrize("library", ["fastact", "torch"])
def test_dtype(benchmark: Any, name: str, dtype: str, library: str) -> None:
    pytest.importorskip("ml_dtypes")
    _in_setting(benchmark, name, library, dtype, Setting(IN_CACHE))


@pytest.mark.parametrize(
    ("library", "layout"),
    [*(("fastact", layout) for layout in LAYOUTS), *(("torch", layout) for layout in LAYOUTS if layout != "reversed")],
)
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_layout(benchmark: Any, name: str, layout: str, library: str) -> None:
    _in_setting(benchmark, name, library, "float32", Setting(IN_CACHE, layout))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("name", "library"),
    [(name, peer) for name in ROWS for peer in ("fastact", "torch") if peer in ("fastact", *peers_of(name))],
)
def test_rows(benchmark: Any, name: str, shape: str, library: str) -> None:
    _in_setting(benchmark, name, library, "float32", parse_shape(shape))


def _in_setting(benchmark: Any, name: str, library: str, dtype: str, setting: Setting) -> None:
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    benchmark.group = f"{name} {dtype} {setting.name}"
    benchmark(prepare(name, "forward", library, dtype, setting))


@pytest.mark.parametrize("way", copies(8, ("fastact",)))
def test_copy(benchmark: Any, way: str) -> None:
    """What every function in cache is measured against."""
    benchmark.group = "relu forward"
    benchmark(copies(2 * 4 * IN_CACHE, ("fastact",))[way])


@pytest.mark.parametrize(("name", "form", "library"), named(PEER_CALLS))
def test_peers_compute_the_same_function(name: str, form: str, library: str) -> None:
    """A ratio means something only if both sides compute the same thing."""
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    x, g = inputs(name, "float32", 4096)
    theirs = prepare_on(name, form, library, x, g).outputs()
    ours = prepare_on(name, form, "fastact", x, g).outputs()
    assert len(ours) == len(theirs)
    for own, other in zip(ours, theirs, strict=True):
        assert own.dtype == other.dtype == np.float32
        # formulas lose relative accuracy next to a derivative's zero
        np.testing.assert_allclose(other.reshape(own.shape), own, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("function", contents.FUNCTIONS)
def test_contents_of_rows(benchmark: Any, function: str) -> None:
    calls = [contents.prepare(function, kind) for kind in contents.CONTENTS]
    benchmark.group = "rows of every kind"
    benchmark(lambda: [call() for call in calls])
