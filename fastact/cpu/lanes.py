"""Lanes: what a kernel's values are while it is traced into LLVM code.

A `Lanes` holds an LLVM value, one scalar or a vector of `count` of them, and its operators append instructions to the
function being built. LLVM splits a vector wider than the machine's registers into several, which is how more than one
vector gets in flight and how the same source runs on any instruction set.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NoReturn

from llvmlite import ir

Builder = Any  # llvmlite's IRBuilder has no usable annotations


@dataclass(frozen=True)
class Target:
    """What the tracer must know about the machine: which instructions a table lookup or a conversion may use."""

    features: frozenset[str]

    def has(self, *names: str) -> bool:
        return all(name in self.features for name in names)

    @property
    def vector_bytes(self) -> int:
        """The width of the widest vectors that pay."""
        return 64 if self.has("avx512f") else 32 if self.has("avx2") else 16


FLOAT = {32: ir.FloatType(), 64: ir.DoubleType()}


_AS_SET = 4  # how an instruction of AVX-512 rounds: as the thread has it set
_LEAST_MAGNITUDE = 0b0010  # of two numbers, with the sign of the first


def vector(element: ir.Type, count: int) -> ir.Type:
    return element if count == 1 else ir.VectorType(element, count)


def suffix(kind: ir.Type) -> str:
    """How LLVM spells `kind` in the name of an intrinsic: f32, v16f32, v8i64."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{suffix(kind.element)}"
    if isinstance(kind, ir.IntType):
        return f"i{kind.width}"
    return "f32" if isinstance(kind, ir.FloatType) else "f64" if isinstance(kind, ir.DoubleType) else "f16"


def call_intrinsic(builder: Builder, name: str, result: ir.Type, args: Sequence[Any]) -> Any:
    """Call the LLVM intrinsic `name`, declared on first use."""
    module = builder.module
    function = module.globals.get(name)
    if function is None:
        function = ir.Function(module, ir.FunctionType(result, [a.type for a in args]), name)
    return builder.call(function, args)


def inner_function(
    module: ir.Module, name: str, kinds: Sequence[ir.Type], body: Callable[..., None], *attributes: str
) -> ir.Function:
    """A function of the module's own that is not inlined, made on first use: `body(builder, *arguments)`."""
    function = module.globals.get(name)
    if function is None:
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
        function.linkage = "internal"
        for attribute in ("noinline", *attributes):
            function.attributes.add(attribute)
        inside = ir.IRBuilder(function.append_basic_block())
        body(inside, *function.args)
        inside.ret_void()
    return function


def _constant(kind: ir.Type, value: float) -> ir.Constant:
    """`value` as a constant of LLVM type `kind`, in every lane."""
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    if isinstance(element, ir.IntType) and element.width > 1:
        sign = 1 << (element.width - 1)
        value = ((int(value) + sign) & (2 * sign - 1)) - sign  # so that 0x80000000 may be written for the sign bit
    constant = ir.Constant(element, value)
    return ir.Constant(kind, [constant] * kind.count) if isinstance(kind, ir.VectorType) else constant


class Lanes:
    """`count` floats, integers or truth values of `width` bits (a mask keeps the width of what was compared)."""

    __slots__ = ("builder", "compared", "count", "kind", "target", "value", "width")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, builder: Builder, value: Any, kind: str, width: int, count: int, target: Target) -> None:
        self.builder = builder
        self.value = value
        self.kind = kind  # "float", "int" or "mask"
        self.width = width
        self.count = count
        self.target = target
        self.compared: tuple[str, list[Lanes]] | None = None  # of a mask: how, and the values that were compared

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _type(self, kind: str) -> ir.Type:
        element = {"float": FLOAT[self.width], "int": ir.IntType(self.width), "mask": ir.IntType(1)}[kind]
        return vector(element, self.count)

    def like(self, value: Any, kind: str | None = None, count: int | None = None) -> Lanes:
        return Lanes(self.builder, value, kind or self.kind, self.width, count or self.count, self.target)

    def const(self, value: float, kind: str | None = None) -> Lanes:
        """`value`, rounded to the lanes' dtype, in every lane."""
        return self.like(_constant(self._type(kind or self.kind), value), kind)

    def _coerce(self, other: Any, kind: str | None = None) -> Any:
        kind = kind or self.kind
        if isinstance(other, Lanes):
            if (other.kind, other.width, other.count) != (kind, self.width, self.count):
                raise TypeError(f"lanes do not match: {self!r} and {other!r}")
            return other.value
        if kind == "int" and not isinstance(other, int):
            raise TypeError(f"integer lanes meet {other!r}; only an int goes with them")
        return _constant(self._type(kind), other)

    def __repr__(self) -> str:
        return f"<{self.count} {self.kind}{self.width} lanes>"

    def __bool__(self) -> NoReturn:
        raise TypeError("a kernel may not branch on the value of a lane: use select(mask, a, b)")

    # -- arithmetic --------------------------------------------------------------------------------------------------

    def _binary(self, other: Any, for_float: str | None, for_int: str | None, swap: bool = False) -> Lanes:
        operation = for_float if self.kind == "float" else for_int
        if operation is None:
            raise TypeError(f"that operation is not part of the kernel language on {self!r}")
        a, b = self.value, self._coerce(other)
        if swap:
            a, b = b, a
        return self.like(getattr(self.builder, operation)(a, b))

    def __add__(self, other: Any) -> Lanes:
        return self._binary(other, "fadd", "add")

    def __radd__(self, other: Any) -> Lanes:
        return self._binary(other, "fadd", "add", swap=True)

    def __sub__(self, other: Any) -> Lanes:
        return self._binary(other, "fsub", "sub")

    def __rsub__(self, other: Any) -> Lanes:
        return self._binary(other, "fsub", "sub", swap=True)

    def __mul__(self, other: Any) -> Lanes:
        return self._binary(other, "fmul", "mul")

    def __rmul__(self, other: Any) -> Lanes:
        return self._binary(other, "fmul", "mul", swap=True)

    def __truediv__(self, other: Any) -> Lanes:
        return self._binary(other, "fdiv", None)

    def __rtruediv__(self, other: Any) -> Lanes:
        return self._binary(other, "fdiv", None, swap=True)

    def __neg__(self) -> Lanes:
        return self.like(self.builder.fneg(self.value) if self.kind == "float" else self.builder.neg(self.value))

    def __and__(self, other: Any) -> Lanes:
        return self._binary(other, None, "and_")

    def __or__(self, other: Any) -> Lanes:
        return self._binary(other, None, "or_")

    def __xor__(self, other: Any) -> Lanes:
        return self._binary(other, None, "xor")

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self) -> Lanes:
        if self.kind == "float":
            raise TypeError("~ works on integer lanes and masks")
        return self.like(self.builder.not_(self.value))

    def __lshift__(self, other: Any) -> Lanes:
        return self._binary(other, None, "shl")

    def __rshift__(self, other: Any) -> Lanes:
        return self._binary(other, None, "ashr")

    # -- comparisons: false for NaN, except != -----------------------------------------------------------------------

    def compare(self, operation: str, other: Any) -> Lanes:
        """A mask."""
        if self.kind == "float":
            compare = self.builder.fcmp_unordered if operation == "!=" else self.builder.fcmp_ordered
        else:
            compare = self.builder.icmp_signed
        values = self.value, self._coerce(other)
        mask = self.like(compare(operation, *values), "mask")
        mask.compared = operation, [self.like(value) for value in values]
        return mask

    def __lt__(self, other: Any) -> Lanes:
        return self.compare("<", other)

    def __le__(self, other: Any) -> Lanes:
        return self.compare("<=", other)

    def __gt__(self, other: Any) -> Lanes:
        return self.compare(">", other)

    def __ge__(self, other: Any) -> Lanes:
        return self.compare(">=", other)

    def __eq__(self, other: Any) -> Lanes:  # type: ignore[override]
        return self.compare("==", other)

    def __ne__(self, other: Any) -> Lanes:  # type: ignore[override]
        return self.compare("!=", other)

    def any(self) -> Any:
        """Whether a mask is true in any lane, as one bit."""
        if self.count == 1:
            return self.value
        masks = self.parts(512 // self.width)
        packed = ir.IntType(masks[0].count)
        value = self.builder.bitcast(reduce(self.builder.or_, [mask.value for mask in masks]), packed)
        return self.builder.icmp_unsigned("!=", value, packed(0))

    def parts(self, native: int) -> list[Lanes]:
        """A mask in parts of at most `native` lanes."""
        if self.count <= native:
            return [self]
        if self.compared is None:
            return self.registers(native)
        # Compared again, register by register: LLVM would first make one of the masks of all of them.
        operation, operands = self.compared
        return [a.compare(operation, b) for a, b in zip(*(one.registers(native) for one in operands), strict=True)]

    def registers(self, native: int) -> list[Lanes]:
        """These lanes in parts of `native` each."""
        starts = range(0, self.count, native)
        return [self.like(shuffle(self.builder, self.value, range(k, k + native)), count=native) for k in starts]

    # -- the functions of fastact.kernels.language -------------------------------------------------------------------

    def _intrinsic(self, name: str, *args: Any) -> Lanes:
        kind = self._type("float")
        return self.like(call_intrinsic(self.builder, f"llvm.{name}.{suffix(kind)}", kind, args))

    def fma(self, a: Any, b: Any, c: Any) -> Lanes:
        return self._intrinsic("fma", *(self._coerce(v, "float") for v in (a, b, c)))

    def select(self, mask: Lanes, a: Any, b: Any) -> Lanes:
        return self.like(self.builder.select(self._coerce(mask, "mask"), self._coerce(a), self._coerce(b)))

    def sum_where(self, mask: Lanes, b: Lanes) -> Lanes:
        kept = self.select(mask, self + b, 0)
        if not self._wide("avx512f"):
            return kept
        # The instruction that adds can leave out lanes. But where the sum is taken for floats LLVM would select among
        # those, in an instruction of its own; it does not look through inline assembly, though there is none in it.
        parts = []
        for part in kept.registers(512 // self.width):
            kind = part.value.type
            parts.append(self.builder.asm(ir.FunctionType(kind, [kind]), "", "=v,0", [part.value], False))
        return self.like(concatenate(self.builder, parts))

    def fabs(self) -> Lanes:
        return self._intrinsic("fabs", self.value)

    def copysign(self, magnitude: Any, sign: Any) -> Lanes:
        return self._intrinsic("copysign", self._coerce(magnitude), self._coerce(sign))

    def sqrt(self) -> Lanes:
        return self._intrinsic("sqrt", self.value)

    def bits(self) -> Lanes:
        return self.like(self.builder.bitcast(self.value, self._type("int")), "int")

    def from_bits(self) -> Lanes:
        return self.like(self.builder.bitcast(self.value, self._type("float")), "float")

    def to_float(self) -> Lanes:
        return self.like(self.builder.sitofp(self.value, self._type("float")), "float")

    def lookup(self, table: Sequence[float], plus: Lanes | None = None) -> Lanes:
        native = 512 // self.width
        if self._wide("avx512f") and len(table) <= 2 * native:
            if plus is None or _is_splat(plus.value):  # one sum for the table, not one for every vector of indices
                return self._permute(table, native, plus)
            return self._permute(table, native) + plus
        entries = self._permute_and_blend(table) if self._eights() else self._gather(table)
        return entries if plus is None else entries + plus

    lookup_plus = lookup

    def lookups(self, tables: Sequence[Sequence[float]]) -> Iterator[Lanes]:
        """``self.lookup(table)`` for each: as they are asked for, or at once where rows of entries are loaded."""
        permuted = self._wide("avx512f") and len(tables[0]) <= 2 * (512 // self.width)
        # on AVX2 two registers hold a table of 16 floats, which costs less than rows; of 32 it costs more
        blended = self._eights() and len(tables[0]) <= 16
        pieces = self.count == 1 or self.count % (128 // self.width) == 0
        if permuted or blended or len(tables) == 1 or not pieces:
            return map(self.lookup, tables)
        from .lookups import in_rows

        return iter(in_rows(self, tables))

    def lookup_scaled(self, table: Sequence[float], n: Lanes) -> Lanes | None:
        """``table[self] * 2**floor(n)`` where an instruction does it, that of AVX-512; else None."""
        if not self._wide("avx512f"):
            return None
        return self._masked("scalef", self.lookup(table).value, n.value)

    def least_magnitude(self, y: Lanes) -> Lanes | None:
        """``copysign(min(|self|, |y|), self)`` where an instruction does it; else None."""
        if not self._wide("avx512f", "avx512dq"):
            return None
        return self._masked("range", self.value, y.value, ir.IntType(32)(_LEAST_MAGNITUDE))

    def add_product(self, total: tuple[Lanes, Lanes], factor: Lanes) -> list[Lanes]:
        from .products import added_product

        return added_product(total, self, factor)

    def in_words(self, high: Lanes) -> list[Lanes]:
        from .products import in_words

        return in_words(self, high)

    def add_words(self, lower: Lanes, other: tuple[Lanes, Lanes]) -> list[Lanes]:
        from .products import added

        return added((self, lower), other)

    def in_parts(self, lower: Lanes, count: int) -> list[Lanes]:
        from .products import in_parts

        return in_parts((self, lower), count)

    def in_double(self, kernel: Callable[..., Any], operands: Sequence[Any], grown: bool) -> list[Sequence[Lanes]]:
        from .products import in_double

        return in_double(kernel, operands, grown)

    def _wide(self, *features: str) -> bool:
        """Whether these lanes fill registers of 512 bits, and the CPU has such instructions."""
        return self.count % (512 // self.width) == 0 and self.target.has(*features)

    def _eights(self) -> bool:
        """Whether these are floats that fill registers of AVX2, and the CPU has its instructions."""
        return self.width == 32 and self.count % 8 == 0 and self.target.has("avx2")

    def _masked(self, name: str, a: Any, b: Any, *immediate: Any) -> Lanes:
        """An instruction of AVX-512 on every lane of a and b, for which LLVM has an intrinsic only with a mask."""
        builder, native, letter = self.builder, 512 // self.width, "s" if self.width == 32 else "d"
        kind, parts = ir.VectorType(FLOAT[self.width], native), []
        rest = [*immediate, ir.Constant(kind, ir.Undefined), ir.IntType(native)(-1), ir.IntType(32)(_AS_SET)]
        for start in range(0, self.count, native):
            pair = (shuffle(builder, x, range(start, start + native)) for x in (a, b))
            parts.append(call_intrinsic(builder, f"llvm.x86.avx512.mask.{name}.p{letter}.512", kind, [*pair, *rest]))
        return self.like(concatenate(builder, parts), "float")

    def lookup_made(
        self, kernel: Callable[..., Sequence[Lanes]], tables: Sequence[Sequence[float]], numbers: Sequence[Lanes]
    ) -> list[Lanes]:
        """On AVX-512 the kernel makes tables that stay in registers, if the numbers are the same for all lanes."""
        native, size = 512 // self.width, len(tables[0])
        fits = self._wide("avx512f") and native <= size <= 2 * native
        if not (fits and all(_is_splat(number.value) for number in numbers)):
            return list(kernel(*self.lookups(tables), self & (size - 1), *numbers))
        ones = [number.like(shuffle(self.builder, number.value, range(native)), count=native) for number in numbers]
        made = []
        for start in range(0, size, native):
            floats, integers = (ir.VectorType(kind, native) for kind in (FLOAT[self.width], ir.IntType(self.width)))
            entries = [
                self.like(ir.Constant(floats, list(table[start : start + native])), "float", native) for table in tables
            ]
            places = self.like(ir.Constant(integers, list(range(start, start + native))), count=native)
            made.append([result.value for result in kernel(*entries, places, *ones)])
        return [self._permuted(list(halves), native) for halves in zip(*made, strict=True)]

    def rarely(
        self, kernel: Callable[..., Sequence[Lanes]], operands: Sequence[Lanes], otherwise: Sequence[Lanes]
    ) -> list[Lanes]:
        """On a mask: the kernel is a function of its own, called if need be."""
        from .rare import rarely

        return rarely(self, kernel, operands, otherwise)

    def _permute(self, table: Sequence[float], native: int, plus: Lanes | None = None) -> Lanes:
        """AVX-512: the table lives in one or two registers and each register of indices costs one instruction."""
        builder, chunk = self.builder, ir.VectorType(FLOAT[self.width], native)
        # The instruction reads as many bits of an index as it needs: a shorter table is repeated.
        padded = list(table) * max(native // len(table), 1)
        halves = [ir.Constant(chunk, padded[k : k + native]) for k in range(0, len(padded), native)]
        if plus is not None:
            halves = [builder.fadd(half, shuffle(builder, plus.value, range(native))) for half in halves]
        return self._permuted(halves, native)

    def _permuted(self, halves: Sequence[Any], native: int) -> Lanes:
        """Entries of a table in one or two registers."""
        builder, letter = self.builder, "s" if self.width == 32 else "d"
        chunk, parts = halves[0].type, []
        for index in (part.value for part in self.registers(native)):
            if len(halves) == 1:
                name = f"llvm.x86.avx512.permvar.{letter}f.512"
                parts.append(call_intrinsic(builder, name, chunk, [halves[0], index]))
            else:
                name = f"llvm.x86.avx512.vpermi2var.p{letter}.512"
                parts.append(call_intrinsic(builder, name, chunk, [halves[0], index, halves[1]]))
        return self.like(concatenate(builder, parts), "float")

    def _permute_and_blend(self, table: Sequence[float]) -> Lanes:
        """AVX2: one instruction looks up 8 floats in a register; the bits of the index above choose among registers.

        Four doubles at a time gain nothing over loads.
        """
        builder, floats = self.builder, ir.VectorType(FLOAT[32], 8)
        padded = list(table) * max(8 // len(table), 1)
        registers = [ir.Constant(floats, padded[k : k + 8]) for k in range(0, len(padded), 8)]
        parts = []
        for index in self.registers(8):
            found = [call_intrinsic(builder, "llvm.x86.avx2.permps", floats, [r, index.value]) for r in registers]
            entries, bit = [index.like(f, "float") for f in found], 8
            while len(entries) > 1:
                upper = (index & bit) != 0
                entries = [low.select(upper, high, low) for low, high in zip(entries[::2], entries[1::2], strict=True)]
                bit *= 2
            parts.append(entries[0].value)
        return self.like(concatenate(builder, parts), "float")

    def _gather(self, table: Sequence[float]) -> Lanes:
        """Anywhere else: loads from a constant array."""
        builder, element = self.builder, FLOAT[self.width]
        index = self & (len(table) - 1)
        array = ir.ArrayType(element, len(table))
        content = struct.pack(f"{len(table)}d", *table).hex()
        name = f"fastact.table.{self.width}.{content}"
        stored = builder.module.globals.get(name)
        if stored is None:
            stored = ir.GlobalVariable(builder.module, array, name)
            stored.initializer = ir.Constant(array, list(table))
            stored.global_constant, stored.linkage = True, "internal"
        zero = ir.Constant(ir.IntType(32), 0)
        if self.count == 1:
            return self.like(builder.load(builder.gep(stored, [zero, index.value])), "float")
        result = ir.Constant(self._type("float"), ir.Undefined)
        for lane in range(self.count):
            position = ir.Constant(ir.IntType(32), lane)
            entry = builder.load(builder.gep(stored, [zero, builder.extract_element(index.value, position)]))
            result = builder.insert_element(result, entry, position)
        return self.like(result, "float")


def shuffle(builder: Builder, value: Any, positions: Sequence[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(positions)), list(positions))
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), mask)


def _is_splat(value: Any) -> bool:
    """Whether every lane is the same, as far as the tracer has made it so."""
    if not isinstance(value, ir.instructions.ShuffleVector):
        return False
    return all(lane.constant == 0 for lane in value.operands[2].constant)


def concatenate(builder: Builder, parts: Sequence[Any]) -> Any:
    """Vectors of one type, end to end; their number is a power of two."""
    while len(parts) > 1:
        count = parts[0].type.count
        mask = ir.Constant(ir.VectorType(ir.IntType(32), 2 * count), list(range(2 * count)))
        parts = [builder.shuffle_vector(a, b, mask) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def splat(number: Lanes, count: int) -> Lanes:
    """One lane, copied to `count` lanes."""
    if count == 1:
        return number
    builder = number.builder
    undefined = ir.Constant(vector(number.value.type, count), ir.Undefined)
    first = builder.insert_element(undefined, number.value, ir.IntType(32)(0))
    return number.like(shuffle(builder, first, [0] * count), count=count)


def split(lanes: Lanes) -> tuple[Lanes, Lanes]:
    """The lower and the upper half of the lanes."""
    half, builder = lanes.count // 2, lanes.builder
    if half == 1:
        low, high = (builder.extract_element(lanes.value, ir.IntType(32)(k)) for k in range(2))
    else:
        low, high = (shuffle(builder, lanes.value, range(k, k + half)) for k in (0, half))
    return lanes.like(low, count=half), lanes.like(high, count=half)
