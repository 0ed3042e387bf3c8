"""Kernels for 16-bit arrays without the operations that no result shows.

A kernel computes in float32, to more digits than float16 or bfloat16 keep. A function of one such array has 65,536
inputs: whatever is left out of its graph, all results can be compared with those of the whole. So operations are left
out one at a time, or made cheaper, wherever no result changes: what is left is right by exhaustion. It takes some
tenths of a second, when a kernel is compiled. `seen` in what follows makes of a result what is compared.

On a GPU a reciprocal may then be the approximation that there is an instruction for, if no result shows that either:
not if it is one unit in the last place up, nor down, which is what NVIDIA promises at most. That takes longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from .evaluate import Array, as_bits, evaluate, from_pattern, operation
from .trace import COMPARISONS, Graph, Node, Value

# What an operation costs in instructions; all others cost one.
_FREE = ("input", "const", "neg", "fabs", "bits", "from_bits")
_COST = {**dict.fromkeys(_FREE, 0.0), "lookup": 2.0, "div": 8.0}
_PAYLOADS = (0x7FFFFFFF, 0x7FC00000, 0xFFC00000)  # of a NaN: NVIDIA's, ARM's and x86's, which is negative
_SAMPLE = 1024  # inputs tried first
_ERRORS = (0, 1, -1)  # of an approximate reciprocal, in units in the last place
_RECIPROCAL = (2.0**-126, 2.0**126)  # where it has no larger ones
_APPROXIMATIONS = 2  # in a graph at most; the `value` of each says which it is

Outputs = tuple[int, ...]


def inputs(dtype: str) -> Array:
    """All numbers of a 16-bit dtype, in float32."""
    bits = np.arange(65536, dtype=np.uint32)
    if dtype == "bfloat16":
        return (bits << 16).view(np.float32)
    return bits.astype(np.uint16).view(np.float16).astype(np.float32)


def usual_inputs(graph: Graph, dtype: str) -> Array:
    """Those for which nothing is rare: what decides about it is one of the graph's inputs."""
    x = inputs(dtype)
    if graph.rare is None:
        return x
    positions = [node.value for node in graph.nodes if node.op == "input"]
    (rare,) = evaluate(graph, [x] * (1 + max(positions)), outputs=(graph.rare.number,))
    return x[~rare]


def rounded(values: Array, dtype: str) -> Array:
    """Results as 16-bit patterns, with one for every NaN."""
    if dtype == "bfloat16":
        i = values.view(np.uint32)
        bits = ((i + 0x7FFF + (i >> 16 & 1)) >> 16).astype(np.uint16)
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            bits = values.astype(np.float16).view(np.uint16)
    return np.where(np.isnan(values), np.uint16(0xFFFF), bits)


class _Values:
    """The values of a graph's nodes for some inputs, each computed once."""

    def __init__(self, graph: Graph, x: Array, nan: Array, errors: Array) -> None:
        self.graph, self.x, self.nan, self.errors = graph, x, nan, errors
        self.known: dict[int, Array] = {}

    def of(self, number: int) -> Array:
        found = self.known.get(number)
        if found is None:
            found = self.known[number] = self._computed(self.graph.nodes[number])
        return found

    def part(self, which: Array) -> _Values:
        """The same for some of the inputs."""
        return _Values(self.graph, self.x[which], self.nan[which], self.errors[:, which])

    def _computed(self, node: Node) -> Array:
        if node.op == "input":
            return self.x
        if node.op == "const":
            return np.full(self.x.shape, from_pattern(node.value, node.kind, 32))
        operands = [self.of(k) for k in node.operands]
        if node.op == "rcp":
            result = approximate_reciprocal(operands[0], self.errors[node.value])
        else:
            result = operation(node.op, 32, node.value, operands, [self.graph.nodes[k].kind for k in node.operands])
        if node.kind == "float" and node.op not in ("select", "neg", "fabs", "copysign", "from_bits", "lookup"):
            result = np.where(np.isnan(result), self.nan, result)
        return result


def approximate_reciprocal(d: Array, error: Array) -> Array:
    """1 / d as a GPU may approximate it, `error` units in the last place off."""
    with np.errstate(all="ignore"):
        r = (1.0 / d.astype(np.float64)).astype(np.float32)
        r = np.where(error == 0, r, np.nextafter(r, np.where(error > 0, np.float32(np.inf), np.float32(-np.inf))))
        # elsewhere a NaN, which is seen wherever it matters
        return np.where((np.abs(d) >= _RECIPROCAL[0]) & (np.abs(d) <= _RECIPROCAL[1]), r, np.float32(np.nan))


def cost(graph: Graph, outputs: Outputs) -> float:
    """About how many instructions it takes."""
    total = 0.0
    for k in graph.used(outputs):
        node = graph.nodes[k]
        total += 3.0 if node.op == "div" and _constant(graph, node.operands[0]) == 1 else _COST.get(node.op, 1.0)
    return total


def _constant(graph: Graph, number: int) -> float | None:
    node = graph.nodes[number]
    return float(from_pattern(node.value, node.kind, 32)) if node.op == "const" else None


def _simpler(graph: Graph, node: Node) -> int:
    """The number of a node, or of what it comes to if an operand is 0, 1 or a known mask. Signs of zeros may change."""
    op, a = node.op, node.operands
    if node.kind == "int" or op in COMPARISONS:
        return graph.add(node)
    known = [_constant(graph, k) for k in a]
    if op == "fma":
        if 0 in known[:2]:
            return a[2]
        if known[2] == 0:
            return _simpler(graph, Node("mul", a[:2], "float", 32))
        if 1 in known[:2]:
            return _simpler(graph, Node("add", (a[known.index(1) ^ 1], a[2]), "float", 32))
    if op == "mul" and (0 in known or 1 in known):
        return a[known.index(0)] if 0 in known else a[known.index(1) ^ 1]
    if op == "mul" and -1 in known:
        return graph.add(Node("neg", (a[known.index(-1) ^ 1],), "float", 32))
    if op in ("add", "or", "xor") and 0 in known:
        return a[known.index(0) ^ 1]
    if op == "sub" and known[1] == 0:
        return a[0]
    if op == "sub" and known[0] == 0:
        return graph.add(Node("neg", a[1:], "float", 32))
    if op == "select" and (known[0] is not None or a[1] == a[2]):
        return a[1] if known[0] != 0 else a[2]
    if op == "and" and node.kind == "mask" and (0 in known or 1 in known):
        return a[known.index(0)] if 0 in known else a[known.index(1) ^ 1]
    return graph.add(node)


def changed(graph: Graph, outputs: Outputs, number: int, by: int) -> Outputs:
    """The outputs once node `number` is replaced by another."""
    now = {number: by}
    for k in graph.used(outputs):
        node = graph.nodes[k]
        if k > number and any(o in now for o in node.operands):
            operands = tuple(now.get(o, o) for o in node.operands)
            new = _simpler(graph, Node(node.op, operands, node.kind, node.width, node.value))
            if new != k:
                now[k] = new
    return tuple(now.get(k, k) for k in outputs)


def _candidates(graph: Graph, number: int) -> Iterator[int]:
    """What might take the place of a node."""
    node = graph.nodes[number]
    if node.op in ("input", "const"):
        return
    for value in (0, 1) if node.kind == "mask" else (0,):
        yield graph.add(Node("const", (), node.kind, 32, as_bits(value, node.kind, 32)))
    for k in node.operands:
        if graph.nodes[k].kind == node.kind and graph.nodes[k].op != "const":
            yield k
    if node.op == "fma":
        a, b, c = node.operands
        yield graph.add(Node("mul", (a, b), "float", 32))
        for k in (a, b):
            yield graph.add(Node("add", (k, c), "float", 32))
    if node.op in ("add", "sub"):
        yield from _fused(graph, node)
    if node.op == "div" and _constant(graph, node.operands[0]) != 1:
        one = graph.add(Node("const", (), "float", 32, as_bits(1.0, "float", 32)))
        reciprocal = graph.add(Node("div", (one, node.operands[1]), "float", 32))
        yield graph.add(Node("mul", (node.operands[0], reciprocal), "float", 32))
    if node.op == "mul":
        yield _simpler(graph, node)
        # factors one after the other
        for k, other in (node.operands, node.operands[::-1]):
            inner, factor = graph.nodes[k], _constant(graph, other)
            if factor is not None and inner.op == "mul":
                for a, b in (inner.operands, inner.operands[::-1]):
                    if (own := _constant(graph, b)) is not None:
                        product = Node("const", (), "float", 32, as_bits(own * factor, "float", 32))
                        yield graph.add(Node("mul", (a, graph.add(product)), "float", 32))


def _fused(graph: Graph, node: Node) -> Iterator[int]:
    """A sum or difference with a product among its operands as one operation."""

    def negated(k: int) -> int:
        return graph.add(Node("neg", (k,), "float", 32)) if node.op == "sub" else k

    for place, k in enumerate(node.operands):
        if graph.nodes[k].op == "mul":
            (a, b), other = graph.nodes[k].operands, node.operands[1 - place]
            operands = (a, b, negated(other)) if place == 0 else (negated(a), b, other)
            yield graph.add(Node("fma", operands, "float", 32))


class _Search:
    """Outputs of a graph that give what the first ones gave, as far as `seen` can see, at a lower and lower cost."""

    def __init__(self, graph: Graph, x: Array, seen: Callable[[Array], Array], approximations: int) -> None:
        self.graph, self.outputs, self.seen, self.approximations = graph, graph.outputs, seen, approximations
        # every input with every error
        combinations = list(product(_ERRORS, repeat=approximations))
        errors = np.array(combinations, np.float64).T.reshape(approximations, len(combinations))
        times = len(combinations)
        # where there may be a NaN, any of them may come up
        special = x[~np.isfinite(x)]
        nan = np.repeat(np.array(_PAYLOADS, np.uint32).view(np.float32), [x.size, special.size, special.size])
        x = np.concatenate([x, special, special])
        exact = _Values(graph, x, nan, errors)
        self.all = _Values(graph, np.tile(x, times), np.tile(nan, times), np.repeat(errors, x.size, axis=1))
        self.want = [np.tile(seen(exact.of(k)), times) for k in graph.outputs]
        self.sample = np.arange(0, self.all.x.size, self.all.x.size // _SAMPLE | 1)
        self.few = self.all.part(self.sample)

    def agrees(self, outputs: Outputs) -> bool:
        """Whether all results are the same; inputs for which they are not join the sample."""
        for k, want in zip(outputs, self.want, strict=True):
            if (self.seen(self.few.of(k)) != want[self.sample]).any():
                return False
        values = _Values(self.graph, self.all.x, self.all.nan, self.all.errors)
        values.known = {k: self.all.known[k] for k in self.graph.used(outputs) if k in self.all.known}
        wrong = np.zeros(self.all.x.shape, bool)
        for k, want in zip(outputs, self.want, strict=True):
            wrong |= self.seen(values.of(k)) != want
        if wrong.any():
            self.sample = np.append(self.sample, np.flatnonzero(wrong)[:: max(1, np.count_nonzero(wrong) // 16)])
            self.few = self.all.part(self.sample)
            return False
        self.all = values
        return True

    def improve(self) -> bool:
        """Go over all operations once, from the last; whether anything was left out."""
        started = best = cost(self.graph, self.outputs)
        for number in reversed(self.graph.used(self.outputs)):
            if number not in self.graph.used(self.outputs):
                continue
            tried = {
                changed(self.graph, self.outputs, number, by)
                for by in (*_candidates(self.graph, number), *self._approximations(number))
            }
            for price, outputs in sorted((cost(self.graph, o), o) for o in tried):
                if price < best and self.agrees(outputs):
                    best, self.outputs = price, outputs
                    break
        return best < started

    def _approximations(self, number: int) -> Iterator[int]:
        """A division with an approximate reciprocal, if there are not too many already."""
        graph, node = self.graph, self.graph.nodes[number]
        if node.op == "div":
            taken = {graph.nodes[k].value for k in graph.used(self.outputs) if graph.nodes[k].op == "rcp"}
            for free in [k for k in range(self.approximations) if k not in taken][:1]:
                reciprocal = graph.add(Node("rcp", node.operands[1:], "float", 32, free))
                yield _simpler(graph, Node("mul", (node.operands[0], reciprocal), "float", 32))


def reduced(graph: Graph, dtype: str, approximations: int = _APPROXIMATIONS) -> Graph:
    """A graph of one input with the same results for every number of a 16-bit dtype, at the least cost found.

    Of a graph without what is rare, only where its mask says that nothing is. Of approximate reciprocals, which a GPU
    has, it may have as many as are said.
    """
    return _reduced(graph, usual_inputs(graph, dtype), lambda values: rounded(values, dtype), approximations)


def factor(graph: Graph) -> Outputs:
    """Of a graph whose result is the product of its first input with a function of its second: that function."""
    g = graph.input(0, "float", 32)
    last = graph.nodes[graph.outputs[0]]
    factors = tuple(k for k in last.operands if k != g.number)
    return factors if last.op == "mul" and len(factors) == 1 and g.number not in graph.used(factors) else ()


def reduced_product(graph: Graph, dtype: str) -> Graph:
    """The same for a graph whose result is the product of its first input with a function of its second.

    That function keeps all digits for every number of the dtype: the product is rounded, not the function. Any other
    graph of two inputs stays as it is.
    """
    factors = factor(graph)
    if not factors:
        return graph
    graph.outputs = factors
    found = _reduced(
        graph, usual_inputs(graph, dtype), lambda values: np.where(np.isnan(values), -1, values.view(np.int32))
    )
    g = found.input(0, "float", 32)
    found.outputs = (found.add(Node("mul", (g.number, *found.outputs), "float", 32)),)
    return compact(found, found.outputs)


def _reduced(graph: Graph, x: Array, seen: Callable[[Array], Array], most: int = _APPROXIMATIONS) -> Graph:
    divisions = min(most, sum(graph.nodes[k].op == "div" for k in graph.used()))
    found = [graph]
    # what is left out first decides what can be left out later: two ways, of which the better one counts
    for way in ((0, divisions), (divisions,)) if divisions else ((0,),):
        left = graph
        for approximations in way:
            with np.errstate(all="ignore"):
                search = _Search(left, x, seen, approximations)
                while search.improve():
                    pass
            left = compact(left, search.outputs)
        found.append(left)
    return min(found, key=lambda g: cost(g, g.outputs))


def compact(graph: Graph, outputs: Outputs) -> Graph:
    """A graph of nothing but what outputs, and the mask of what is rare, depend on."""
    made, place, rare = Graph(), dict[int, int](), graph.rare
    for k in graph.used(graph.ends(outputs)):
        node = graph.nodes[k]
        operands = tuple(place[o] for o in node.operands)
        place[k] = made.add(Node(node.op, operands, node.kind, node.width, node.value))
    made.outputs = tuple(place[k] for k in outputs)
    made.rare = None if rare is None else Value(made, place[rare.number], rare.kind, rare.width)
    return made
