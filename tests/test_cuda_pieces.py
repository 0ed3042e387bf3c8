"""float16 kernels of `fastact.cuda` that are tables of parabolas: the same bits for all 65,536 inputs."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact import cuda
from fastact.cuda import half_pieces
from fastact.cuda.functions import source, variant
from fastact.cuda.half_fit import Roots
from fastact.graph import halves
from fastact.graph.evaluate import evaluate
from fastact.graph.trace import Graph, trace
from fastact.kernels.language import bits, fabs, from_bits, select

from .cuda_host import Array, HostDriver, needs_compiler, same

EVERY = np.arange(65536, dtype=np.uint16).view(np.float16)


def graph_of(name: str) -> Graph:
    return trace(variant(name, "float16", "").function, ["float"], 32)


@pytest.mark.parametrize("name", sorted(half_pieces.FORMS))
def test_each_form_has_pieces(name: str) -> None:
    """`pieced` compares with the graph; here, the results of the CPU's kernels."""
    graph = half_pieces.pieced(graph_of(name))
    assert graph is not None
    nodes = [graph.nodes[k] for k in graph.used()]
    tables = [node.value for node in nodes if node.op == "entry"]
    assert len(tables) == 2 * len(graph.outputs)
    assert sum(map(len, tables)) <= 8192  # 32 KB
    assert not {"div", "lookup", "rarely"} & {node.op for node in nodes}
    want = getattr(fa, name)(EVERY)
    want = want if isinstance(want, tuple) else (want,)
    for a, b in zip(evaluate(graph, [EVERY.astype(np.float32)]), want, strict=True):
        assert np.array_equal(halves.rounded(a, "float16"), halves.rounded(b.astype(np.float32), "float16"))


def scrambled(x: Any) -> Any:
    """A number between 1 and 2 that no parabola has anything to do with."""
    return from_bits(((bits(select(fabs(x) < 2.0, x, 2.0)) * 1103515245) >> 9 & 0x7FFFFF) | 0x3F800000)


def test_what_has_no_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that is nothing simple towards infinity, and one that no neighbours help."""
    assert half_pieces.pieced(trace(lambda x: x * x * x, ["float"], 32)) is None
    monkeypatch.setattr(half_pieces, "_STEPS", (2.0**-5,))
    monkeypatch.setattr(half_pieces, "_SHIFTS", (0.0,))
    monkeypatch.setattr(half_pieces, "_BITS", (9,))
    assert half_pieces.pieced(trace(scrambled, ["float"], 32)) is None


def test_pieces_with_a_wrong_result_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = half_pieces.fitted

    def wrong(*arguments: Any) -> Any:
        found = fitted(*arguments)
        if found is None:
            return None
        starts = found.starts.copy()
        starts[starts.size // 3] *= 1.001
        return replace(found, starts=starts)

    graph = graph_of("selu_with_derivative")
    assert half_pieces.pieced(graph) is not None
    monkeypatch.setattr(half_pieces, "fitted", wrong)
    assert half_pieces.pieced(graph) is None


def test_a_slope_has_the_root_for_its_last_bits() -> None:
    rng = np.random.default_rng(0)
    roots = Roots(9, 2.0**-10)
    slope, root = rng.standard_normal(1000), roots.limited(rng.standard_normal(1000) * 100)
    found = roots.within(slope, root)
    assert np.array_equal(found.view(np.int32) & 511, root.astype(np.int64) & 511)
    assert (np.abs(found / slope - 1) < 2.0 ** (9 - 23)).all()
    assert (np.abs(roots.within(slope, root, 1)) > np.abs(found)).all()


def test_only_the_usual_call_has_pieces() -> None:
    """What belongs together is read at once, and more elements share a table."""
    assert "const float2 " in source("sigmoid", "float16", "", "contiguous")
    assert "const float4 " in source("selu_with_derivative", "float16", "", "contiguous")
    assert variant("sigmoid", "float16", "").per_thread > variant("sigmoid_vjp", "float16", "").per_thread
    for places, layout in (("s", "contiguous"), ("", "strided")):
        text = source("swish_with_derivative", "float16", places, layout)
        assert int(re.findall(r"#define TABLE_ENTRIES (\d+)", text)[0]) <= 512  # the pieces have 7,716


@needs_compiler
@pytest.mark.parametrize("name", ["gelu_tanh_derivative", "softplus_derivative", "selu_with_derivative", "mish"])
def test_the_bits_of_the_cpu_for_every_input(gpu: HostDriver, name: str) -> None:
    assert same(getattr(cuda, name)(Array(EVERY)), getattr(fa, name)(EVERY))
