"""A graph as a kernel again: its operations on the lanes of any backend."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from ..kernels.language import copysign, fma, lookups, rarely, select
from .evaluate import from_pattern
from .halves import cost, reduced
from .trace import Graph, trace

Lanes = Any
Kernel = Callable[..., tuple[Lanes, ...]]

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "not": operator.invert,
    "shl": operator.lshift,
    "shr": operator.rshift,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
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


def for_halves(kernel: Callable[..., Any], dtype: str) -> Callable[[Lanes], Any]:
    """A kernel of one array, without the operations that no result shows in arrays of a 16-bit dtype.

    They are looked for when it is first used, which takes some tenths of a second.
    """

    @cache
    def graphs() -> tuple[Graph, Graph] | None:
        usual = trace(kernel, ["float"], 32, without_rare=True)
        less = reduced(usual, dtype, approximations=0)
        if cost(less, less.outputs) > _WORTH_WHILE * cost(usual, usual.outputs):
            return None
        return less, trace(kernel, ["float"], 32)

    def everywhere(x: Lanes) -> tuple[Lanes, ...]:
        made = graphs()
        assert made is not None
        return tuple(replay(made[1], x))

    everywhere.__qualname__ = "everywhere"  # of one kernel of one module

    def smaller(x: Lanes) -> Any:
        made = graphs()
        if made is None:
            return kernel(x)
        results = tuple(replay(made[0], x))
        if made[0].rare is not None:
            results = rarely(results[-1], everywhere, (x,), results[:-1])
        return results if len(results) > 1 else results[0]

    return smaller
