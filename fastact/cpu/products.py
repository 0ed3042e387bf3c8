"""Sums of float32 that are kept in float64.

A product of two float32 is a float64, exactly, so a step rounds once in 2^-53. It takes a conversion of each factor and
one operation; with float32 alone two parts take ten operations, and three 22.

While a sum grows it lies in two vectors of float32: one holds the bits of the float64 of the lower half of the lanes,
the other those of the upper half. Then one has the upper words of all lanes, and the other the lower ones: so lanes can
be moved about like those of any float. LLVM leaves out the shuffles between two sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from .lanes import Lanes, call_intrinsic, concatenate, shuffle, split, suffix, vector

_DOUBLE = ir.DoubleType()


def added_product(total: Sequence[Lanes], a: Lanes, b: Lanes) -> list[Lanes]:
    """A growing sum and a b."""
    return [_added(part, *factors) for part, *factors in zip(total, split(a), split(b), strict=True)]


def _added(part: Lanes, *factors: Lanes) -> Lanes:
    builder, kind = part.builder, ir.VectorType(_DOUBLE, part.count // 2)
    a, b = (builder.fpext(factor.value, kind) for factor in factors)
    total = builder.bitcast(part.value, kind)
    if part.target.has("fma") or part.target.has("neon"):
        total = call_intrinsic(builder, f"llvm.fma.{suffix(kind)}", kind, [a, b, total])
    else:  # the same, for the product is exact
        total = builder.fadd(builder.fmul(a, b), total)
    return part.like(builder.bitcast(total, part.value.type))


def in_words(low: Lanes, high: Lanes) -> list[Lanes]:
    """A sum that has grown as its words."""
    return _words(low, [low.value, high.value])


def _words(like: Lanes, parts: Sequence[Any]) -> list[Lanes]:
    both = concatenate(like.builder, parts)
    if like.count > 1:
        return [like.like(shuffle(like.builder, both, range(first, 2 * like.count, 2))) for first in (1, 0)]
    return [like.like(like.builder.extract_element(both, ir.IntType(32)(word))) for word in (1, 0)]


def _doubles(words: Sequence[Lanes]) -> list[Any]:
    """The float64 of both halves of the lanes, or that of the only one, from their words."""
    upper, lower = words
    builder, count = upper.builder, upper.count
    if count == 1:
        pair = ir.Constant(ir.VectorType(ir.FloatType(), 2), ir.Undefined)
        for place, word in enumerate((lower, upper)):
            pair = builder.insert_element(pair, word.value, ir.IntType(32)(place))
        return [builder.bitcast(pair, ir.VectorType(_DOUBLE, 1))]
    both, half = concatenate(builder, [lower.value, upper.value]), count // 2
    in_turn = [word for lane in range(count) for word in (lane, lane + count)]
    halves = (shuffle(builder, both, in_turn[start : start + count]) for start in (0, count))
    return [builder.bitcast(x, ir.VectorType(_DOUBLE, half)) for x in halves]


def added(a: Sequence[Lanes], b: Sequence[Lanes]) -> list[Lanes]:
    """The sum of two sums, all as words."""
    like = a[0]
    sums = [like.builder.fadd(x, y) for x, y in zip(_doubles(a), _doubles(b), strict=True)]
    singles = ir.VectorType(ir.FloatType(), 2 * sums[0].type.count)
    return _words(like, [like.builder.bitcast(x, singles) for x in sums])


def in_parts(words: Sequence[Lanes], count: int) -> list[Lanes]:
    """A sum as so many float32: it rounded, what is left of it rounded, and so on."""
    like, left, found = words[0], _doubles(words), []
    builder, single = like.builder, ir.VectorType(ir.FloatType(), left[0].type.count)
    for _ in range(count):
        parts = [builder.fptrunc(x, single) for x in left]
        left = [builder.fsub(x, builder.fpext(part, x.type)) for x, part in zip(left, parts, strict=True)]
        together = concatenate(builder, parts)
        found.append(like.like(together if like.count > 1 else builder.extract_element(together, ir.IntType(32)(0))))
    return found


def in_double(
    kernel: Callable[..., Sequence[Lanes]], operands: Sequence[Sequence[Lanes]], grown: bool
) -> list[Sequence[Lanes]]:
    """`kernel` on the float64 of each half of the lanes, or on that of the only one."""
    first = operands[0][0]
    halves = [_in_halves(operand, grown) for operand in operands]
    made = [[result.value for result in kernel(*half)] for half in zip(*halves, strict=True)]
    singles = ir.VectorType(ir.FloatType(), max(first.count, 2))
    found = [[first.builder.bitcast(part, singles) for part in parts] for parts in zip(*made, strict=True)]
    return [_words(first, parts) if grown else [first.like(part) for part in parts] for parts in found]


def _in_halves(operand: Sequence[Lanes], grown: bool) -> list[Lanes]:
    """A float, or a sum that has grown or still grows, as float64."""
    one = operand[0]
    builder, count = one.builder, max(one.count // 2, 1)
    if len(operand) == 1:
        parts = [one] if one.count == 1 else split(one)
        wide = [builder.fpext(part.value, vector(_DOUBLE, count)) for part in parts]
    else:
        kind = ir.VectorType(_DOUBLE, count)
        wide = _doubles(operand) if grown else [builder.bitcast(part.value, kind) for part in operand]
        if count == 1:
            wide = [builder.extract_element(part, ir.IntType(32)(0)) for part in wide]
    return [Lanes(builder, part, "float", 64, count, one.target) for part in wide]
