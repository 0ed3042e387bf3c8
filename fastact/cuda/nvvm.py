"""A graph as the LLVM code that numba-cuda hands to NVIDIA's compiler, for kernels inside anyone's ``@cuda.jit``.

Sums and products are the intrinsics that the compiler never contracts to an fma, and what NVVM may not know as an
intrinsic (absolute value, sign) is done on bits. Tables are constants in global memory: 128 bytes, one cache line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from ..graph.evaluate import from_pattern
from ..graph.trace import Graph, Node, trace

Builder = Any

_FLOAT = {32: ir.FloatType(), 64: ir.DoubleType()}
_LETTER = {32: "f", 64: "d"}
_GLOBAL_MEMORY = 1
_COMPARE = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


def _type(kind: str, width: int) -> ir.Type:
    return {"float": _FLOAT[width], "int": ir.IntType(width), "mask": ir.IntType(1)}[kind]


def _call(builder: Builder, name: str, result: ir.Type, arguments: Sequence[Any]) -> Any:
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(result, [a.type for a in arguments]), name)
    return builder.call(function, arguments)


def _table(builder: Builder, node: Node, index: Any) -> Any:
    kind = ir.ArrayType(_FLOAT[node.width], len(node.value))
    name = f"fastact_table_{hashlib.sha256(repr((node.width, node.value)).encode()).hexdigest()[:16]}"
    stored = builder.module.globals.get(name)
    if stored is None:
        stored = ir.GlobalVariable(builder.module, kind, name, addrspace=_GLOBAL_MEMORY)
        stored.initializer = ir.Constant(kind, [float(from_pattern(e, "float", node.width)) for e in node.value])
        stored.global_constant, stored.linkage, stored.align = True, "internal", 128
    whole = ir.IntType(node.width)
    position = builder.and_(index, whole(len(node.value) - 1))
    return builder.load(builder.gep(stored, [ir.IntType(32)(0), position]))


def _float(builder: Builder, node: Node, a: Sequence[Any]) -> Any:
    """An operation whose result is a float, but for select and lookup."""
    kind, whole, letter = _FLOAT[node.width], ir.IntType(node.width), _LETTER[node.width]
    sign = 1 << (node.width - 1)

    def negated(x: Any) -> Any:  # NVVM for older GPUs has no fneg
        return builder.fsub(ir.Constant(kind, -0.0), x)

    if node.op in ("add", "mul", "div", "sqrt"):
        return _call(builder, f"llvm.nvvm.{node.op}.rn.{letter}", kind, a)
    if node.op == "sub":
        return _call(builder, f"llvm.nvvm.add.rn.{letter}", kind, [a[0], negated(a[1])])
    if node.op == "fma":
        return _call(builder, f"llvm.fma.f{node.width}", kind, a)
    if node.op == "neg":
        return negated(a[0])
    if node.op == "from_bits":
        return builder.bitcast(a[0], kind)
    if node.op == "to_float":
        return builder.sitofp(a[0], kind)
    magnitude = builder.and_(builder.bitcast(a[0], whole), whole(sign - 1))
    if node.op == "copysign":
        magnitude = builder.or_(magnitude, builder.and_(builder.bitcast(a[1], whole), whole(-sign)))
    return builder.bitcast(magnitude, kind)


def _operation(builder: Builder, graph: Graph, node: Node, a: Sequence[Any]) -> Any:
    if node.op == "select":
        return builder.select(*a)
    if node.op == "lookup":
        return _table(builder, node, a[0])
    if node.op in _COMPARE:
        if graph.nodes[node.operands[0]].kind != "float":
            return builder.icmp_signed(_COMPARE[node.op], *a)
        compare = builder.fcmp_unordered if node.op == "ne" else builder.fcmp_ordered
        return compare(_COMPARE[node.op], *a)
    if node.kind == "float":
        return _float(builder, node, a)
    if node.op == "bits":
        return builder.bitcast(a[0], ir.IntType(node.width))
    named = {"and": "and_", "or": "or_", "xor": "xor", "shr": "ashr", "not": "not_"}
    return getattr(builder, named.get(node.op, node.op))(*a)


def emit(builder: Builder, kernel: Callable[..., Any], values: Sequence[Any], width: int) -> list[Any]:
    """Append the operations of `kernel` on float values at `builder`; the values of its results."""
    graph = trace(kernel, ["float"] * len(values), width)
    done: dict[int, Any] = {}
    for number in graph.used():
        node = graph.nodes[number]
        if node.op == "input":
            done[number] = values[node.value]
        elif node.op == "const":
            constant = from_pattern(node.value, node.kind, node.width)
            done[number] = ir.Constant(_type(node.kind, node.width), constant.item())
        else:
            done[number] = _operation(builder, graph, node, [done[k] for k in node.operands])
    return [done[k] for k in graph.outputs]
