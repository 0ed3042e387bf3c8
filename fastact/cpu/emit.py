"""From a kernel to the LLVM code of a loop over contiguous arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from .lanes import Builder, Lanes, Target, call_intrinsic, splat

POINTER = ir.IntType(8).as_pointer()
INTP = ir.IntType(64)

ITEMSIZE = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


@dataclass(frozen=True)
class Block:
    """What makes one compiled loop: a kernel, the dtype of its arrays, its arity and how many lanes go at once.

    `scalars` is the number of trailing inputs that are one value for the whole loop (parameters), not arrays.
    """

    name: str
    kernel: Callable[..., Any]
    dtype: str
    inputs: int
    outputs: int
    lanes: int
    scalars: int = 0


def emit_block(builder: Builder, args: Any, n: Any, block: Block, target: Target) -> None:
    """Append ``for (i = 0; i < n; i += lanes) out[i:i+lanes] = kernel(in[i:i+lanes])`` at `builder`.

    `args` points at the pointers to the arrays, inputs first; `n` is a multiple of ``block.lanes``: the driver pads.
    """
    total = block.inputs + block.outputs
    vectors = block.inputs - block.scalars
    slots = builder.bitcast(args, POINTER.as_pointer())
    pointers = [builder.load(builder.gep(slots, [INTP(k)])) for k in range(total)]
    scalars = [_splat(builder, p, block, target) for p in pointers[vectors : block.inputs]]

    before = builder.block
    body, after = builder.append_basic_block("lanes"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed(">", n, INTP(0)), body, after)
    builder.position_at_end(body)
    i = builder.phi(INTP)
    i.add_incoming(INTP(0), before)
    inputs = [load(builder, _at(builder, p, i, block.dtype), block, target) for p in pointers[:vectors]]
    results = block.kernel(*inputs, *scalars)
    for pointer, value in zip(
        pointers[block.inputs :], results if isinstance(results, tuple) else (results,), strict=True
    ):
        store(builder, _at(builder, pointer, i, block.dtype), value, block.dtype)
    following = builder.add(i, INTP(block.lanes))
    i.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, n), body, after)
    builder.position_at_end(after)


def _at(builder: Builder, pointer: Any, index: Any, dtype: str) -> Any:
    return builder.gep(pointer, [builder.mul(index, INTP(ITEMSIZE[dtype]))])


def element(dtype: str) -> ir.Type:
    """The LLVM type in memory."""
    return {4: ir.FloatType(), 8: ir.DoubleType()}.get(ITEMSIZE[dtype], ir.IntType(16))


def load(builder: Builder, pointer: Any, block: Block, target: Target) -> Lanes:
    """``block.lanes`` consecutive elements at `pointer` (of any alignment), widened to the dtype of computation."""
    one = element(block.dtype)
    kind = ir.VectorType(one, block.lanes) if block.lanes > 1 else one
    value = builder.load(builder.bitcast(pointer, kind.as_pointer()), align=1)
    return widen(builder, value, block.dtype, block.lanes, target)


def _splat(builder: Builder, pointer: Any, block: Block, target: Target) -> Lanes:
    """One element at `pointer`, in every lane."""
    value = builder.load(builder.bitcast(pointer, element(block.dtype).as_pointer()), align=1)
    one = widen(builder, value, block.dtype, 1, target)
    return one if block.lanes == 1 else splat(one, block.lanes)


def widen(builder: Builder, value: Any, dtype: str, count: int, target: Target) -> Lanes:
    """What was loaded, as lanes of the dtype of computation; exact."""
    if dtype in ("float32", "float64"):
        return Lanes(builder, value, "float", 32 if dtype == "float32" else 64, count, target)
    wide = ir.VectorType(ir.IntType(32), count) if count > 1 else ir.IntType(32)
    i = Lanes(builder, builder.zext(value, wide), "int", 32, count, target)
    if dtype == "bfloat16":
        return (i << 16).from_bits()
    # float16: the exponent is moved by a multiplication, which also normalises subnormals; exact
    scaled = ((i & 0x7FFF) << 13).from_bits() * 2.0**112
    special = (i & 0x7C00) == 0x7C00
    magnitude = i.select(special, scaled.bits() | 0x7F800000, scaled.bits())
    return (magnitude | ((i & 0x8000) << 16)).from_bits()


def narrow(value: Lanes, dtype: str) -> Any:
    """The LLVM value to be stored: rounded to nearest even if `dtype` is narrower than the dtype of computation."""
    if dtype in ("float32", "float64"):
        return value.value
    rounded = _to_bfloat16(value) if dtype == "bfloat16" else _to_float16(value)
    half = ir.IntType(16)
    return value.builder.trunc(rounded.value, ir.VectorType(half, value.count) if value.count > 1 else half)


PREFETCH = 512
"""Bytes ahead of a store that its cache line is asked for: a fifth of relu's time in the second-level cache."""


def store(builder: Builder, pointer: Any, value: Lanes, dtype: str) -> None:
    """Write `value` to consecutive elements at `pointer`, of any alignment."""
    out = narrow(value, dtype)
    for line in range(0, value.count * ITEMSIZE[dtype], 64):
        _prefetch_for_writing(builder, builder.gep(pointer, [INTP(PREFETCH + line)]))
    builder.store(out, builder.bitcast(pointer, out.type.as_pointer()), align=1)


def _prefetch_for_writing(builder: Builder, pointer: Any) -> None:
    """Ask for the cache line at `pointer`, which may lie outside any array: prefetching does not fault."""
    number = ir.IntType(32)
    args = [pointer, number(1), number(3), number(1)]
    call_intrinsic(builder, "llvm.prefetch.p0", ir.VoidType(), args)


def _to_bfloat16(x: Lanes) -> Lanes:
    i = x.bits()
    rounded = (i + 0x7FFF + ((i >> 16) & 1)) >> 16
    return i.select(x != x, (i >> 16) | 0x40, rounded)


def _to_float16(x: Lanes) -> Lanes:
    i = x.bits()
    magnitude = i & 0x7FFFFFFF
    # normal results: move the exponent, round to nearest even; a carry out of the mantissa reaches infinity by itself
    normal = (magnitude - (112 << 23) + 0xFFF + ((magnitude >> 13) & 1)) >> 13
    # subnormal results: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits
    tiny = (magnitude.from_bits() + 0.5).bits() - 0x3F000000
    result = i.select(magnitude < (113 << 23), tiny, normal)
    result = i.select(magnitude >= 0x47800000, i.const(0x7C00), result)
    result = i.select(magnitude > 0x7F800000, 0x7E00 | ((magnitude >> 13) & 0x3FF), result)
    return result | ((i >> 16) & 0x8000)
