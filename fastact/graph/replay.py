"""A graph as a kernel again: its operations on the lanes of any backend."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from ..kernels.language import copysign, fma, lookups, rarely, select
from .evaluate import OPERATORS, from_pattern
from .halves import cost, reduced
from .trace import Graph, trace

Lanes = Any
_OPERATIONS: dict[str, Callable[..., Any]] = {
    **OPERATORS,
    "fma": fma,
    "select": select,
    "copysign": copysign,
    **{op: operator.methodcaller(op) for op in ("fabs", "sqrt", "bits", "from_bits", "to_float")},
}

# Of what a whole kernel costs, what is left must be less: operations that a CPU has in one instruction
# (`fastact.kernels.language.Shortcuts`) are several in a graph.
_WORTH_WHILE = 0.9


def replay(graph: Graph, x: Lanes) -> Iterator[Lanes]:
    """The results of a graph of one float, then its mask if something rare was left out."""
    done: dict[int, Any] = {}
    for number in graph.used():
        node = graph.nodes[number]
        if node.op == "input":
            done[number] = x
        elif node.op == "const":
            constant = from_pattern(node.value, node.kind, node.width).item()
            done[number] = x.const(constant) if node.kind == "float" else constant
        elif node.op == "lookup":
            if number not in done:
                same = _with_index(graph, number)
                tables = [tuple(from_pattern(e, "float", 32).item() for e in graph.nodes[k].value) for k in same]
                done.update(zip(same, lookups(tables, done[node.operands[0]]), strict=True))
        else:
            done[number] = _OPERATIONS[node.op](*(done[k] for k in node.operands))
    yield from (done[k] for k in graph.outputs)
    if graph.rare is not None:
        yield done[graph.rare.number]


def _with_index(graph: Graph, number: int) -> list[int]:
    """The lookups in tables of this one's length that have its index: they are best made together."""
    one = graph.nodes[number]
    nodes = ((k, graph.nodes[k]) for k in graph.used())
    return [k for k, n in nodes if n.op == "lookup" and n.operands == one.operands and len(n.value) == len(one.value)]


@cache
def _least(kernel: Callable[..., Any], dtype: str) -> Graph | None:
    """The graph of a kernel of one array without what no result shows, if that is much."""
    usual = trace(kernel, ["float"], 32, without_rare=True)
    less = reduced(usual, dtype, approximations=0)
    return None if cost(less, less.outputs) > _WORTH_WHILE * cost(usual, usual.outputs) else less


def in_halves(kernel: Callable[..., Any], dtype: str, x: Lanes) -> Any:
    """A kernel of one array, without the operations that no result shows in arrays of a 16-bit dtype."""
    graph = _least(kernel, dtype)
    if graph is None:
        return kernel(x)
    results = tuple(replay(graph, x))
    if graph.rare is not None:

        def everywhere(x: Lanes) -> tuple[Lanes, ...]:
            return tuple(replay(trace(kernel, ["float"], 32), x))

        everywhere.__qualname__ = "everywhere"  # of the one kernel that a module has
        results = rarely(results[-1], everywhere, (x,), results[:-1])
    return results if len(results) > 1 else results[0]
