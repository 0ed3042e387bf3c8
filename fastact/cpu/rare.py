"""What a kernel does rarely: a function of its own, called where a mask is true in some lane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

from llvmlite import ir

from .lanes import FLOAT, Builder, Lanes, concatenate, inner_function, vector


def rarely(
    mask: Lanes, kernel: Callable[..., Any], operands: Sequence[Lanes], otherwise: Sequence[Lanes]
) -> list[Lanes]:
    """`kernel` of the operands where the mask is true, called if it is anywhere.

    Of several registers it is called for the only one in which it is true, or else for all together, which overlap.
    """
    masks = mask.parts(512 // mask.width)
    if len(masks) == 1:
        return _where(mask, otherwise, lambda: _chosen(mask, kernel, operands, otherwise))
    return _where(mask, otherwise, lambda: _one_or_all(mask, masks, kernel, operands, otherwise))


def _where(mask: Lanes, otherwise: Sequence[Lanes], chosen: Callable[[], Sequence[Lanes]]) -> list[Lanes]:
    """What is `chosen` if the mask is true anywhere."""
    builder = mask.builder
    usual = builder.block
    with builder.if_then(mask.any(), likely=False):
        new = chosen()
        rare = builder.block
    return [_either(old, usual, one, rare) for old, one in zip(otherwise, new, strict=True)]


def _one_or_all(
    mask: Lanes,
    masks: Sequence[Lanes],
    kernel: Callable[..., Any],
    operands: Sequence[Lanes],
    otherwise: Sequence[Lanes],
) -> list[Lanes]:
    """The results of one register, or those of all; the masks are those of the registers."""
    builder, count, lanes = mask.builder, ir.IntType(32), masks[0].count
    many = reduce(builder.add, [builder.zext(one.any(), count) for one in masks])
    with builder.if_else(builder.icmp_unsigned(">", many, count(1))) as (several, single):
        with several:
            together = _chosen(mask, kernel, operands, otherwise)
            after_several = builder.block
        with single:
            parts = []
            for one, *part in zip(masks, *(all_.registers(lanes) for all_ in (*operands, *otherwise)), strict=True):
                given, old = part[: len(operands)], part[len(operands) :]
                parts.append(_where(one, old, partial(_chosen, one, kernel, given, old)))
            apart = [concatenate(builder, [one.value for one in result]) for result in zip(*parts, strict=True)]
            after_single = builder.block
    return [
        _either(new, after_several, new.like(value), after_single) for new, value in zip(together, apart, strict=True)
    ]


def _chosen(
    mask: Lanes, kernel: Callable[..., Any], operands: Sequence[Lanes], otherwise: Sequence[Lanes]
) -> list[Lanes]:
    new = _called(kernel, operands, len(otherwise))
    return [old.select(mask, one, old) for one, old in zip(new, otherwise, strict=True)]


def _either(one: Lanes, before: Any, other: Lanes, otherwise: Any) -> Lanes:
    """`one` in what comes from the block `before`, `other` in what comes from the other."""
    phi = one.builder.phi(one.value.type)
    phi.add_incoming(one.value, before)
    phi.add_incoming(other.value, otherwise)
    return one.like(phi)


def _called(kernel: Callable[..., Any], operands: Sequence[Lanes], results: int) -> list[Lanes]:
    """Call a function whose body is `kernel`; operands and results go through memory."""
    one = operands[0]
    builder, module, count = one.builder, one.builder.module, one.count
    cells, align = max(len(operands), results), one.count * one.width // 8
    room_type = ir.ArrayType(vector(FLOAT[one.width], count), cells)
    name = f"fastact.{kernel.__module__}.{kernel.__qualname__}.{one.width}.{count}"
    if "<" in name:
        raise TypeError(f"{kernel.__qualname__} is not a function of a module, so its name says nothing")

    def body(inside: Builder, cells: Any) -> None:
        given = []
        for k, operand in enumerate(operands):
            place = _cell(inside, cells, k, operand.value.type)
            value = Lanes(inside, inside.load(place, align=align), operand.kind, one.width, count, one.target)
            given.append(value)
        for k, result in enumerate(kernel(*given)):
            inside.store(result.value, _cell(inside, cells, k, result.value.type), align=align)

    function = inner_function(module, name, [room_type.as_pointer()], body, "cold")
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
