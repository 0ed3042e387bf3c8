"""Divisions of float32 kernels that need fewer corrections, found and checked ahead of time.

The general sequence refines the approximate reciprocal before it is used. Whether the quotient is right without that
depends on numerator and divisor, and a kernel of one array has no more than 2^32 of them: ``tools/cuda_divisions.py``
compares them all, with every approximation that NVIDIA allows, and writes to ``quotients.json`` by what operations the
operands of such divisions come about. A kernel that has changed since is not found there and has the general sequence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ..graph.trace import Graph

FILE = Path(__file__).with_name("quotients.json")


def digest(graph: Graph, number: int) -> str:
    """What a result is called in the file: it follows from the operations it depends on, the result's own included."""
    place: dict[int, int] = {}
    left = [number]
    while left:  # every operand before what it is for, in an order that does not depend on what else the graph has
        waiting = [k for k in graph.nodes[left[-1]].operands if k not in place]
        if waiting:
            left.append(waiting[0])
        else:
            place.setdefault(left.pop(), len(place))
    lines = []
    for k in place:
        node = graph.nodes[k]
        lines.append([node.op, node.kind, [place[o] for o in node.operands], 0 if node.op == "input" else node.value])
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:32]


@cache
def recorded() -> dict[str, str]:
    """The divisions that are right with fewer corrections, and where each was found."""
    found: dict[str, str] = json.loads(FILE.read_text("utf-8"))
    return found


def short(graph: Graph, numbers: Iterable[int]) -> list[int]:
    """Those of some divisions of a float32 kernel that need fewer corrections."""
    return [k for k in numbers if one_input(graph, k) and digest(graph, k) in recorded()]


def one_input(graph: Graph, number: int) -> bool:
    nodes = [graph.nodes[k] for k in graph.used((number,))]
    return sum(n.op == "input" for n in nodes) == 1 and all(n.width == 32 and n.op not in ("rarely",) for n in nodes)
