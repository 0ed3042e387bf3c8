"""What a kernel does rarely: a function of its own, called where a mask is true in some lane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from .lanes import FLOAT, Builder, Lanes, vector


def called(kernel: Callable[..., Any], operands: Sequence[Lanes], results: int) -> list[Lanes]:
    """Call a function whose body is `kernel`; operands and results go through memory."""
    one = operands[0]
    builder, module, count = one.builder, one.builder.module, one.count
    cells, align = max(len(operands), results), one.count * one.width // 8
    room_type = ir.ArrayType(vector(FLOAT[one.width], count), cells)
    name = f"fastact.{kernel.__module__}.{kernel.__qualname__}.{one.width}.{count}"
    if "<" in name:
        raise TypeError(f"{kernel.__qualname__} is not a function of a module, so its name says nothing")
    function = module.globals.get(name)
    if function is None:
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [room_type.as_pointer()]), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        function.attributes.add("cold")
        inside = ir.IRBuilder(function.append_basic_block())
        given = []
        for k, operand in enumerate(operands):
            place = _cell(inside, function.args[0], k, operand.value.type)
            value = Lanes(inside, inside.load(place, align=align), operand.kind, one.width, count, one.target)
            given.append(value)
        for k, result in enumerate(kernel(*given)):
            inside.store(result.value, _cell(inside, function.args[0], k, result.value.type), align=align)
        inside.ret_void()
    with builder.goto_entry_block():
        room = builder.alloca(room_type)
        room.align = align
    for k, operand in enumerate(operands):
        builder.store(operand.value, _cell(builder, room, k, operand.value.type), align=align)
    builder.call(function, [room])
    kind = vector(FLOAT[one.width], count)
    return [
        Lanes(builder, builder.load(_cell(builder, room, k, kind), align=align), "float", one.width, count, one.target)
        for k in range(results)
    ]


def _cell(builder: Builder, room: Any, k: int, kind: ir.Type) -> Any:
    number = ir.IntType(32)
    return builder.bitcast(builder.gep(room, [number(0), number(k)]), kind.as_pointer())
