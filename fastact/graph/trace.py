"""A kernel's operations as a graph: what every form of a kernel for a GPU is made from.

A kernel is run once with `Value` objects, one lane each, which note every operation in a `Graph`. Operations on the
same operands are noted once, and those on constants are done at once, so a parameter that has its default leaves no
division behind. `fastact.cuda.source` writes a graph as CUDA C, `fastact.cuda.nvvm` as the LLVM code that numba-cuda
compiles, and `fastact.graph.evaluate` computes it on the CPU with NumPy, operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from .evaluate import as_bits, fold

COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")


@dataclass(frozen=True, slots=True)
class Node:
    """One operation: its name, the numbers of its operands, and the kind of its result ("float", "int" or "mask").

    `width` is that of the result; a mask has the width of what was compared. `value` is the bit pattern of a constant,
    the position of an input, the entries of a table, or the graph and the number of a result of what is rare.
    """

    op: str
    operands: tuple[int, ...]
    kind: str
    width: int
    value: Any = None


class Graph:
    """The operations of a kernel in the order they were noted: operands come before their use."""

    def __init__(self, functions: bool = False, without_rare: bool = False) -> None:
        self.functions = functions  # what is rare becomes a function of its own
        self.without_rare = without_rare  # what is rare is left out
        self.rare: Value | None = None  # and this mask says where that is wrong
        self.nodes: list[Node] = []
        self.outputs: tuple[int, ...] = ()
        self._known: dict[Node, int] = {}

    def add(self, node: Node) -> int:
        """The number of `node`, which is noted if it is new."""
        found = self._known.get(node)
        if found is None:
            if node.operands and node.op not in ("lookup", "entry", "rcp", "rarely"):
                operands = [self.nodes[k] for k in node.operands]
                if all(o.op == "const" for o in operands):
                    result = fold(node, [o.value for o in operands], [o.kind for o in operands])
                    if result is not None:
                        return self.add(Node("const", (), node.kind, node.width, result))
            found = self._known[node] = len(self.nodes)
            self.nodes.append(node)
        return found

    def input(self, position: int, kind: str, width: int) -> Value:
        """The lane that stands for operand `position`."""
        return Value(self, self.add(Node("input", (), kind, width, position)), kind, width)

    def ends(self, outputs: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """The outputs, these or those of the graph, and the mask of what is rare."""
        outputs = self.outputs if outputs is None else outputs
        return outputs if self.rare is None else (*outputs, self.rare.number)

    def used(self, outputs: tuple[int, ...] | None = None) -> list[int]:
        """The numbers of the nodes that `outputs`, or those of the graph and its mask, depend on, in order."""
        left = list(self.ends() if outputs is None else outputs)
        needed = set(left)
        while left:
            for k in self.nodes[left.pop()].operands:
                if k not in needed:
                    needed.add(k)
                    left.append(k)
        return sorted(needed)


class Value:
    """One lane while its kernel is traced: the operators of the kernel language, each noted in the graph."""

    __slots__ = ("graph", "kind", "number", "width")
    __hash__ = None  # type: ignore[assignment]
    count = 1

    def __init__(self, graph: Graph, number: int, kind: str, width: int) -> None:
        self.graph, self.number, self.kind, self.width = graph, number, kind, width

    def __repr__(self) -> str:
        return f"<{self.kind}{self.width} lane>"

    def __bool__(self) -> NoReturn:
        raise TypeError("a kernel may not branch on the value of a lane: use select(mask, a, b)")

    # -- helpers -----------------------------------------------------------------------------------------------------

    def const(self, value: float, kind: str | None = None) -> Value:
        """`value`, rounded to the lane's dtype."""
        kind = kind or self.kind
        node = Node("const", (), kind, self.width, as_bits(value, kind, self.width))
        return Value(self.graph, self.graph.add(node), kind, self.width)

    def _coerce(self, other: Any, kind: str) -> int:
        if isinstance(other, Value):
            if (other.kind, other.width) != (kind, self.width):
                raise TypeError(f"lanes do not match: {self!r} and {other!r}")
            return other.number
        if kind == "int" and not isinstance(other, int):
            raise TypeError(f"integer lanes meet {other!r}; only an int goes with them")
        return self.const(other, kind).number

    def _note(self, op: str, operands: Sequence[int], kind: str | None = None, value: Any = None) -> Value:
        kind = kind or self.kind
        return Value(self.graph, self.graph.add(Node(op, tuple(operands), kind, self.width, value)), kind, self.width)

    def _binary(self, op: str, other: Any, kinds: tuple[str, ...], swap: bool = False) -> Value:
        if self.kind not in kinds:
            raise TypeError(f"that operation is not part of the kernel language on {self!r}")
        a, b = self.number, self._coerce(other, self.kind)
        return self._note(op, (b, a) if swap else (a, b))

    # -- arithmetic --------------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Value:
        return self._binary("add", other, ("float", "int"))

    def __radd__(self, other: Any) -> Value:
        return self._binary("add", other, ("float", "int"), swap=True)

    def __sub__(self, other: Any) -> Value:
        return self._binary("sub", other, ("float", "int"))

    def __rsub__(self, other: Any) -> Value:
        return self._binary("sub", other, ("float", "int"), swap=True)

    def __mul__(self, other: Any) -> Value:
        return self._binary("mul", other, ("float", "int"))

    def __rmul__(self, other: Any) -> Value:
        return self._binary("mul", other, ("float", "int"), swap=True)

    def __truediv__(self, other: Any) -> Value:
        return self._binary("div", other, ("float",))

    def __rtruediv__(self, other: Any) -> Value:
        return self._binary("div", other, ("float",), swap=True)

    def __neg__(self) -> Value:
        if self.kind == "mask":
            raise TypeError("- works on floats and integers")
        return self._note("neg", (self.number,))

    def __and__(self, other: Any) -> Value:
        return self._binary("and", other, ("int", "mask"))

    def __or__(self, other: Any) -> Value:
        return self._binary("or", other, ("int", "mask"))

    def __xor__(self, other: Any) -> Value:
        return self._binary("xor", other, ("int", "mask"))

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self) -> Value:
        if self.kind == "float":
            raise TypeError("~ works on integer lanes and masks")
        return self._note("not", (self.number,))

    def __lshift__(self, other: Any) -> Value:
        return self._binary("shl", other, ("int",))

    def __rshift__(self, other: Any) -> Value:
        return self._binary("shr", other, ("int",))

    # -- comparisons: false for NaN, except != -----------------------------------------------------------------------

    def _compare(self, op: str, other: Any) -> Value:
        return self._note(op, (self.number, self._coerce(other, self.kind)), "mask")

    def __lt__(self, other: Any) -> Value:
        return self._compare("lt", other)

    def __le__(self, other: Any) -> Value:
        return self._compare("le", other)

    def __gt__(self, other: Any) -> Value:
        return self._compare("gt", other)

    def __ge__(self, other: Any) -> Value:
        return self._compare("ge", other)

    def __eq__(self, other: Any) -> Value:  # type: ignore[override]
        return self._compare("eq", other)

    def __ne__(self, other: Any) -> Value:  # type: ignore[override]
        return self._compare("ne", other)

    # -- the functions of fastact.kernels.language -------------------------------------------------------------------

    def fma(self, a: Any, b: Any, c: Any) -> Value:
        return self._note("fma", [self._coerce(v, "float") for v in (a, b, c)], "float")

    def select(self, mask: Value, a: Any, b: Any) -> Value:
        operands = (self._coerce(mask, "mask"), self._coerce(a, self.kind), self._coerce(b, self.kind))
        chosen = self.graph.nodes[operands[0]]
        if chosen.op == "const" or operands[1] == operands[2]:
            return Value(self.graph, operands[1 if chosen.op != "const" or chosen.value else 2], self.kind, self.width)
        return self._note("select", operands)

    def fabs(self) -> Value:
        return self._note("fabs", (self.number,))

    def copysign(self, magnitude: Any, sign: Any) -> Value:
        return self._note("copysign", (self._coerce(magnitude, "float"), self._coerce(sign, "float")))

    def sqrt(self) -> Value:
        return self._note("sqrt", (self.number,))

    def bits(self) -> Value:
        return self._note("bits", (self.number,), "int")

    def from_bits(self) -> Value:
        return self._note("from_bits", (self.number,), "float")

    def to_float(self) -> Value:
        return self._note("to_float", (self.number,), "float")

    def rarely(self, kernel: Callable[..., Any], operands: Sequence[Value], otherwise: Sequence[Value]) -> list[Value]:
        """On a mask: one operation a result, with the graph of `kernel`; what they have in common is done once.

        Where the graph has no functions, the kernel is done everywhere and its results are chosen from, or is left out.
        """
        if self.graph.without_rare and self.graph.nodes[self.number].op != "const":
            before = self.graph.rare
            self.graph.rare = self if before is None else before | self
            return list(otherwise)
        if not self.graph.functions:
            found = kernel(*operands)
            return [old.select(self, new, old) for new, old in zip(found, otherwise, strict=True)]
        inside = trace(kernel, [operand.kind for operand in operands], self.width)
        numbers = [self.number, *(value.number for value in (*operands, *otherwise))]
        return [self._note("rarely", numbers, "float", (inside, k)) for k in range(len(otherwise))]

    def lookup(self, table: Sequence[float]) -> Value:
        entries = tuple(as_bits(entry, "float", self.width) for entry in table)
        return self._note("lookup", (self.number,), "float", entries)

    def entry(self, table: Sequence[float]) -> Value:
        """`lookup` in a table of any length, for what is an index already."""
        entries = tuple(as_bits(entry, "float", self.width) for entry in table)
        return self._note("entry", (self.number,), "float", entries)


def trace(function: Callable[..., Any], kinds: Sequence[str], width: int, without_rare: bool = False) -> Graph:
    """The graph of `function` called with one lane for every entry of `kinds` ("float" or "int")."""
    return trace_with(lambda lanes: function(*lanes), kinds, width, without_rare=without_rare)


def trace_with(
    function: Callable[[list[Value]], Any],
    kinds: Sequence[str],
    width: int,
    functions: bool = False,
    without_rare: bool = False,
) -> Graph:
    """The same for a function that takes the lanes as one list; its results are one lane or a tuple of them.

    With `functions`, what is rare becomes a function of its own; `without_rare` it is left out, and a mask says where.
    """
    graph = Graph(functions, without_rare)
    results = function([graph.input(k, kind, width) for k, kind in enumerate(kinds)])
    results = results if isinstance(results, tuple) else (results,)
    first = graph.input(0, kinds[0], width) if kinds else None
    outputs = []
    for result in results:
        if isinstance(result, Value):
            outputs.append(result.number)
        elif first is not None and isinstance(result, int | float):
            outputs.append(first.const(result, "float").number)
        else:
            raise TypeError(f"{getattr(function, '__name__', function)} returns {result!r}, not lanes")
    graph.outputs = tuple(outputs)
    return graph
