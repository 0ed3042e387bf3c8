"""From a kernel to the LLVM code of a loop over contiguous arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from llvmlite import ir

from .lanes import Builder, Lanes, Target, call_intrinsic, concatenate, shuffle, splat, split, suffix, vector
from .layout import EVERY_SECOND, LINE, PAST_CACHES

POINTER = ir.IntType(8).as_pointer()
INTP = ir.IntType(64)

AT_ONCE = 4
"""Native vectors that a group of lanes is at most; of more there are several groups, staggered by some instructions."""
STAGGER = 6

ITEMSIZE = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "bool": 1}


@dataclass(frozen=True)
class Block:
    """What makes one compiled loop: a kernel, the dtype of its arrays, its arity and how many lanes go at once.

    `scalars` is the number of trailing inputs that are one value for the whole loop (parameters), not arrays; `way` is
    one of those of `fastact.cpu.layout`, or 0.
    """

    name: str
    kernel: Callable[..., Any]
    dtype: str
    inputs: int
    outputs: int
    lanes: int
    scalars: int = 0
    way: int = 0

    @property
    def past_caches(self) -> bool:
        """Whether every output begins a cache line, and is written past the caches."""
        return self.way == PAST_CACHES

    @property
    def width(self) -> int:
        """Bits of the dtype of computation."""
        return 64 if self.dtype == "float64" else 32


def emit_block(builder: Builder, args: Any, n: Any, block: Block, target: Target) -> None:
    """Append ``for (i = 0; i < n; i += lanes) out[i:i+lanes] = kernel(in[i:i+lanes])`` at `builder`.

    `args` points at the pointers to the arrays, inputs first. What is left after the last whole group of lanes goes in
    native vectors, the last of them masked; with EVERY_SECOND it is left to the caller.
    """
    slots = builder.bitcast(args, POINTER.as_pointer())
    pointers = [builder.load(builder.gep(slots, [INTP(k)])) for k in range(block.inputs + block.outputs)]
    # the lanes beyond the end compute on the first element: harmless, and never slower
    fill = [load_at(builder, p, element(block.dtype)) for p in pointers[: block.inputs]]
    whole = builder.and_(n, INTP(-block.lanes))

    native = target.vector_bytes * 8 // block.width
    staggered = block.lanes > AT_ONCE * native and not _branches(replace(block, lanes=native), target)

    def group(i: Any) -> None:
        if block.past_caches:
            vectors = block.inputs - block.scalars
            for pointer in pointers[:vectors]:
                _prefetch_pages(builder, _at(builder, pointer, i, block.dtype), block, max(1, STREAMS // vectors))
        if staggered:
            each = native * (2 if block.dtype == "bfloat16" else 1)
            _staggered(builder, pointers, i, fill, replace(block, lanes=each), block.lanes // each, target)
        else:
            few = replace(block, lanes=min(block.lanes, AT_ONCE * native))
            for first in range(0, block.lanes, few.lanes):
                _group(builder, pointers, builder.add(i, INTP(first)), None, fill, few, target)

    def rest(i: Any) -> None:
        _group(builder, pointers, i, builder.sub(n, i), fill, narrow_block, target)

    counted(builder, INTP(0), whole, block.lanes, group)
    if block.lanes > 1 and block.way != EVERY_SECOND:
        narrow_block = replace(block, lanes=min(native, block.lanes))
        counted(builder, whole, n, narrow_block.lanes, rest)


def counted(builder: Builder, start: Any, stop: Any, step: int, body: Callable[[Any], None]) -> None:
    """Append ``for (i = start; i < stop; i += step) body(i)``."""
    before = builder.block
    inside, after = builder.append_basic_block("lanes"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", start, stop), inside, after)
    builder.position_at_end(inside)
    i = builder.phi(INTP)
    i.add_incoming(start, before)
    body(i)
    following = builder.add(i, INTP(step))
    i.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, stop), inside, after)
    builder.position_at_end(after)


def _branches(block: Block, target: Target) -> bool:
    """Whether the kernel may call what it needs rarely: found by trying it on a function that nobody needs."""
    kinds = [POINTER] * (block.inputs + block.outputs) + [element(block.dtype)] * block.inputs
    function = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), kinds), "trial")
    builder = ir.IRBuilder(function.append_basic_block())
    first, pointers = builder.block, function.args[: block.inputs + block.outputs]
    _group(builder, pointers, INTP(0), None, function.args[len(pointers) :], block, target)
    return builder.block is not first


def _staggered(
    builder: Builder, pointers: Sequence[Any], i: Any, fill: Sequence[Any], block: Block, count: int, target: Target
) -> None:
    """`count` groups that follow on each other, their instructions mixed: each group a little behind the one before.

    A CPU looks only so far ahead for instructions that need not wait; like this there are always some of other groups.
    """
    inside, parts = builder.block, []
    for k in range(count):
        before = len(inside.instructions)
        _group(builder, pointers, builder.add(i, INTP(k * block.lanes)), None, fill, block, target)
        parts.append(inside.instructions[before:])
    mixed = [(number + STAGGER * k, k, one) for k, part in enumerate(parts) for number, one in enumerate(part)]
    inside.instructions[-len(mixed) :] = [one for _, _, one in sorted(mixed, key=lambda entry: entry[:2])]


def _group(
    builder: Builder, pointers: Sequence[Any], i: Any, left: Any, fill: Sequence[Any], block: Block, target: Target
) -> None:
    """The elements from `i` on, as many as there are lanes, but not more than `left`."""
    vectors = block.inputs - block.scalars
    mask = None if left is None else _below(builder, left, block.lanes)
    apart = 2 if block.way == EVERY_SECOND else 1
    sources = [_at(builder, p, builder.mul(i, INTP(apart)), block.dtype) for p in pointers[: block.inputs]]
    places = [*sources, *(_at(builder, p, i, block.dtype) for p in pointers[block.inputs :])]
    if block.dtype == "bfloat16" and block.lanes > 1:
        widened, narrowed = _widen_pairs, _narrow_pairs
    else:
        widened, narrowed = partial(widen, dtype=block.dtype), partial(narrow, dtype=block.dtype)
    arguments = []
    for k in range(block.inputs):
        if k >= vectors:
            arguments.append(splat(widen(builder, fill[k], block.dtype, 1, target), block.lanes))
            continue
        if apart > 1:
            loaded = load_at(builder, places[k], vector(fill[k].type, apart * block.lanes))
            value = shuffle(builder, loaded, range(0, apart * block.lanes, apart))
        elif mask is None:
            value = load_at(builder, places[k], vector(fill[k].type, block.lanes))
        else:
            value = _load_masked(builder, places[k], mask, repeat(builder, fill[k], block.lanes))
        arguments.append(widened(builder, value, count=block.lanes, target=target))
    results = block.kernel(*arguments)
    results = results if isinstance(results, tuple) else (results,)
    for place, result in zip(places[block.inputs :], results, strict=True):
        value = narrowed(result)
        if mask is not None:
            store_masked(builder, place, mask, value)
        elif block.past_caches:
            store_past_caches(builder, place, value)
        else:
            lines = range(0, block.lanes * ITEMSIZE[block.dtype], LINE)
            _prefetch(builder, place, (WRITE_AHEAD + line for line in lines), write=True)
            store_at(builder, place, value)


@contextmanager
def loop(builder: Builder, count: Any, unroll: bool = False) -> Iterator[Any]:
    """A loop that is made `count` times, as it stands: the index.

    LLVM would unroll it, which takes longer to compile than all else, and seldom gains anything: what pays is emitted
    so, or asked for with `unroll`.
    """
    before, module = builder.block, builder.module
    check, inside, after = (builder.append_basic_block(name) for name in ("check", "inside", "after"))
    builder.branch(check)
    builder.position_at_end(check)
    index = builder.phi(INTP)
    index.add_incoming(INTP(0), before)
    builder.cbranch(builder.icmp_signed("<", index, count), inside, after)
    builder.position_at_end(inside)
    yield index
    index.add_incoming(builder.add(index, INTP(1), flags=["nsw"]), builder.block)
    back = builder.branch(check)
    if not unroll:
        hint = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
        hints = module.add_metadata([hint, INTP(0)])
        hints.operands = (hints, hint)  # which begin with themselves, so that they are of loops
        back.set_metadata("llvm.loop", hints)
    builder.position_at_end(after)


def _below(builder: Builder, left: Any, lanes: int) -> Any:
    """Which lanes hold an element when `left` elements are left."""
    number = ir.IntType(32)
    most = builder.select(builder.icmp_signed("<", left, INTP(lanes)), left, INTP(lanes))
    positions = ir.Constant(ir.VectorType(number, lanes), list(range(lanes)))
    return builder.icmp_signed("<", positions, repeat(builder, builder.trunc(most, number), lanes))


def _load_masked(builder: Builder, pointer: Any, mask: Any, others: Any) -> Any:
    kind = others.type
    arguments = [_pointer(builder, pointer, kind), ir.IntType(32)(1), mask, others]
    return call_intrinsic(builder, f"llvm.masked.load.{suffix(kind)}.p0", kind, arguments)


def store_masked(builder: Builder, pointer: Any, mask: Any, value: Any) -> None:
    """Write the lanes of `value` that `mask` names, and nothing else, at `pointer`, an address or a pointer."""
    place = _pointer(builder, pointer, value.type)
    name = f"llvm.masked.store.{suffix(value.type)}.p0"
    call_intrinsic(builder, name, ir.VoidType(), [value, place, ir.IntType(32)(1), mask])


def load_at(builder: Builder, pointer: Any, kind: ir.Type) -> Any:
    """What lies at `pointer`, an address or a pointer, of any alignment."""
    return builder.load(_pointer(builder, pointer, kind), align=1)


def store_at(builder: Builder, pointer: Any, value: Any) -> None:
    """Write `value` at `pointer`, an address or a pointer, of any alignment."""
    builder.store(value, _pointer(builder, pointer, value.type), align=1)


def store_past_caches(builder: Builder, pointer: Any, value: Any) -> None:
    """Write `value` at `pointer`, a multiple of its size or of a cache line, without a copy in the caches."""
    count = value.type.count if isinstance(value.type, ir.VectorType) else 1
    kind = value.type.element if count > 1 else value.type
    bits = kind.width if isinstance(kind, ir.IntType) else {"float": 32, "double": 64}[str(kind)]
    written = builder.store(value, _pointer(builder, pointer, value.type), align=min(LINE, count * bits // 8))
    written.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))


def _pointer(builder: Builder, place: Any, kind: ir.Type) -> Any:
    convert = builder.inttoptr if isinstance(place.type, ir.IntType) else builder.bitcast
    return convert(place, kind.as_pointer())


def _at(builder: Builder, pointer: Any, index: Any, dtype: str) -> Any:
    return builder.gep(pointer, [builder.mul(index, INTP(ITEMSIZE[dtype]))])


def element(dtype: str) -> ir.Type:
    """The LLVM type in memory."""
    return {1: ir.IntType(8), 4: ir.FloatType(), 8: ir.DoubleType()}.get(ITEMSIZE[dtype], ir.IntType(16))


def repeat(builder: Builder, value: Any, lanes: int) -> Any:
    """One number, in every lane."""
    if lanes == 1:
        return value
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, undefined, zeros)


def widen(builder: Builder, value: Any, dtype: str, count: int, target: Target) -> Lanes:
    """What was loaded, as lanes of the dtype of computation; exact."""
    if dtype in ("float32", "float64"):
        return Lanes(builder, value, "float", 32 if dtype == "float32" else 64, count, target)
    wide = vector(ir.IntType(32), count)
    if dtype == "float16" and target.has("f16c"):
        half = builder.bitcast(value, vector(ir.HalfType(), count))
        return Lanes(builder, builder.fpext(half, vector(ir.FloatType(), count)), "float", 32, count, target)
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
    builder, stored = value.builder, vector(ir.IntType(16), value.count)
    if dtype == "float16" and value.target.has("f16c") and value.count % _CONVERTED == 0:
        return _to_float16_at_once(value)
    rounded = _to_bfloat16(value) if dtype == "bfloat16" else _to_float16(value)
    return builder.trunc(rounded.value, stored)


WRITE_AHEAD = 512
"""Bytes ahead of a store that its cache line is asked for."""
PAGE = 4096
STREAMS = 4
"""Pages of main memory that are asked for side by side, where stores go past the caches; a power of two."""


def _prefetch(builder: Builder, pointer: Any, offsets: Iterable[int], write: bool) -> None:
    """Ask for cache lines; they may lie outside any array: prefetching does not fault."""
    number = ir.IntType(32)
    for offset in offsets:
        args = [builder.gep(pointer, [INTP(offset)]), number(int(write)), number(3), number(1)]
        call_intrinsic(builder, "llvm.prefetch.p0", ir.VoidType(), args)


def _prefetch_pages(builder: Builder, pointer: Any, block: Block, pages: int) -> None:
    """Ask for as many lines as one group reads, of the next `pages` pages: one of each page in turn.

    What a CPU fetches by itself ahead of the loads ends with a page of memory and begins anew, slowly, with the next.
    With several pages begun, some are always in full flow.
    """
    lines = max(1, block.lanes * ITEMSIZE[block.dtype] // LINE)
    span, bits = pages * PAGE, pages.bit_length() - 1
    place = builder.ptrtoint(pointer, INTP)
    # The lines of these pages are numbered as they are read; the same numbers, shuffled, are those of the next pages.
    first = builder.and_(builder.lshr(place, INTP(6)), INTP((span // LINE - 1) & -lines))
    page = builder.mul(builder.and_(first, INTP(pages - 1)), INTP(PAGE))
    start = builder.add(builder.and_(place, INTP(-span)), INTP(span))
    start = builder.add(builder.add(start, page), builder.mul(builder.lshr(first, INTP(bits)), INTP(LINE)))
    offsets = [(k % pages) * PAGE + k // pages * LINE for k in range(lines)]
    _prefetch(builder, builder.inttoptr(start, POINTER), offsets, write=False)


def _to_bfloat16(x: Lanes) -> Lanes:
    return _rounded_to_bfloat16(x) >> 16


def _rounded_to_bfloat16(x: Lanes) -> Lanes:
    """In the upper half of the bits; what is in the lower half does not count."""
    i = x.bits()
    return i.select(x != x, i | 0x400000, i + 0x7FFF + ((i >> 16) & 1))


# Where all lanes are treated alike their order does not matter. A word holds two bfloat16, each of which is a float32
# with the other bits cleared: those that come first are taken first, so that no instruction has to move them about.


def _widen_pairs(builder: Builder, value: Any, count: int, target: Target) -> Lanes:
    words = builder.bitcast(value, vector(ir.IntType(32), count // 2))
    i = Lanes(builder, words, "int", 32, count // 2, target)
    both = concatenate(builder, [(i << 16).value, (i & -0x10000).value])
    return i.like(both, count=count).from_bits()


def _narrow_pairs(value: Lanes) -> Any:
    builder, rounded = value.builder, _rounded_to_bfloat16(value)
    first, second = split(rounded)
    low = builder.lshr(first.value, repeat(builder, ir.IntType(32)(16), first.count))
    words = builder.or_(low, (second & -0x10000).value)
    return builder.bitcast(words, vector(ir.IntType(16), value.count))


_CONVERTED = 8  # float16 that one instruction of F16C makes


def _to_float16_at_once(x: Lanes) -> Any:
    """The instruction itself: LLVM would merge an fptrunc with a conversion the other way, signalling NaNs and all."""
    builder, half = x.builder, ir.VectorType(ir.IntType(16), _CONVERTED)
    nearest = ir.IntType(32)(0)
    parts = [shuffle(builder, x.value, range(k, k + _CONVERTED)) for k in range(0, x.count, _CONVERTED)]
    return concatenate(
        builder, [call_intrinsic(builder, "llvm.x86.vcvtps2ph.256", half, [part, nearest]) for part in parts]
    )


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
