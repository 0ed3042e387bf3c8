"""The machine level for Numba code: memory at an address, atomics, calls through a pointer, the floating-point state.

Addresses are plain integers (``intp``). Used by the modules of the driver, and only while they are compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import types as numba_types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from .emit import INTP, POINTER, load_at, store_at
from .lanes import call_intrinsic
from .machine import target
from .strides import emit_copy_rows, emit_fill_rows, emit_gather, emit_pack_rows, emit_scatter
from .transpose import SHUFFLED, emit_matrices, turned_in_registers

types: Any = numba_types  # its names are made at run time
_FLAGS, _INEXACT = 0x3F, 0x20  # of the MXCSR register
_DEFAULT_MXCSR = 0x1F80  # every exception masked, round to nearest, subnormals kept
_ARCH = llvm.get_default_triple().split("-")[0]


def _instruction(result: Any, emit: Callable[..., Any]) -> Any:
    """A function for Numba code that takes integers and whose LLVM code `emit(builder, *values)` appends."""

    def instruction(*arguments: int) -> Any:
        raise TypeError("only compiled code can do that")

    class Typing(AbstractTemplate):  # type: ignore[misc]
        key = instruction

        def generic(self, arguments: Any, keywords: Any) -> Any:
            return signature(result, *[types.intp] * len(arguments))

    infer_global(instruction, types.Function(Typing))

    @lower_builtin(instruction, types.VarArg(types.intp))  # type: ignore[untyped-decorator]
    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        out = emit(builder, *values)
        return context.get_dummy_value() if out is None else out

    return instruction


def _pointer(builder: Any, address: Any, kind: ir.Type) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _load(kind: ir.Type) -> Callable[..., Any]:
    def emit(builder: Any, address: Any) -> Any:
        return builder.load(_pointer(builder, address, kind), align=1)

    return emit


def _store(builder: Any, address: Any, value: Any) -> None:
    builder.store(value, _pointer(builder, address, INTP))


def _copy_rows(builder: Any, to: Any, to_step: Any, source: Any, source_step: Any, size: Any, rows: Any) -> None:
    emit_copy_rows(builder, (to, to_step), (source, source_step), size, rows)


def _pack_rows(builder: Any, to: Any, source: Any, step: Any, size: Any, rows: Any) -> None:
    emit_pack_rows(builder, to, (source, step), size, rows)


def _fill_rows(
    builder: Any, to: Any, to_step: Any, source: Any, source_step: Any, n: Any, rows: Any, itemsize: Any
) -> None:
    emit_fill_rows(builder, (to, to_step), (source, source_step), n, rows, itemsize)


def _transpose(builder: Any, to: Any, source: Any, step: Any, n: Any, rows: Any, itemsize: Any) -> None:
    """Write `rows` rows of `n` elements to `to`, one after the other, from as many columns `step` bytes apart.

    Rows and columns have 16 bytes at least.
    """
    columns, results = (_pointer(builder, p, POINTER.pointee) for p in (source, to))
    sides = (columns, step), (results, builder.mul(n, itemsize))
    for size in (4, 8, 2):
        least = SHUFFLED // size
        side, tall = turned_in_registers(size, target())
        with builder.if_then(builder.icmp_signed("==", itemsize, INTP(size))):
            fits = builder.icmp_signed(">=", n, INTP(tall)), builder.icmp_signed(">=", rows, INTP(side))
            with builder.if_else(builder.and_(*fits)) as (then, otherwise):
                for branch, shape in (then, (side, tall)), (otherwise, (least, least)):
                    with branch:
                        emit_matrices(builder, ir.IntType(8 * size), shape, n, rows, *sides)


def _gather(builder: Any, to: Any, source: Any, stride: Any, n: Any, itemsize: Any) -> None:
    emit_gather(builder, to, source, stride, n, itemsize, target())


def _scatter(builder: Any, to: Any, stride: Any, source: Any, n: Any, itemsize: Any) -> None:
    emit_scatter(builder, to, stride, source, n, itemsize, target())


def _atomic(operation: str) -> Callable[..., Any]:
    def emit(builder: Any, address: Any, value: Any) -> Any:
        return builder.atomic_rmw(operation, _pointer(builder, address, INTP), value, "seq_cst")

    return emit


def _atomic_load(builder: Any, address: Any) -> Any:
    return builder.load_atomic(_pointer(builder, address, INTP), "seq_cst", 8)


def _compare_and_swap(builder: Any, address: Any, expected: Any, new: Any) -> Any:
    pointer = _pointer(builder, address, INTP)
    return builder.extract_value(builder.cmpxchg(pointer, expected, new, "seq_cst", "seq_cst"), 0)


def _call(builder: Any, function: Any, *arguments: Any) -> Any:
    kind = ir.FunctionType(INTP, [INTP] * len(arguments))
    return builder.call(_pointer(builder, function, kind), arguments)


def _call_int(builder: Any, function: Any, *arguments: Any) -> Any:
    """As `_call`, for a C function that returns a 32-bit int."""
    kind = ir.FunctionType(ir.IntType(32), [INTP] * len(arguments))
    return builder.sext(builder.call(_pointer(builder, function, kind), arguments), INTP)


def _call_void(builder: Any, function: Any, *arguments: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [INTP] * len(arguments))
    builder.call(_pointer(builder, function, kind), arguments)


def stack(count: int) -> Any:
    """A function that returns the address of `count` bytes of the caller's stack, 64-byte aligned."""

    def emit(builder: Any) -> Any:
        with builder.goto_entry_block():
            room = builder.alloca(ir.ArrayType(ir.IntType(8), count))
            room.align = 64
        return builder.ptrtoint(room, INTP)

    return _instruction(types.intp, emit)


def _fence(builder: Any) -> None:
    """Order streaming stores before whatever tells another thread that they are done."""
    if _ARCH == "x86_64":
        call_intrinsic(builder, "llvm.x86.sse.sfence", ir.VoidType(), [])
    else:
        builder.fence("seq_cst")


def _pause(builder: Any) -> None:
    """Tell the core that this is a loop that waits."""
    if _ARCH == "x86_64":
        call_intrinsic(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
    elif _ARCH in ("aarch64", "arm64"):
        call_intrinsic(builder, "llvm.aarch64.hint", ir.VoidType(), [ir.IntType(32)(1)])


def _enter(builder: Any) -> Any:
    """Set the IEEE default floating-point environment; return the one before, flags included.

    A host process may have switched flush-to-zero on, and a lane whose result is not selected may raise a flag that
    NumPy would report as a warning the user did not cause.
    """
    if _ARCH == "x86_64":
        before = _store_mxcsr(builder)
        flags = ir.IntType(32)(~_FLAGS)
        other = builder.icmp_unsigned("!=", builder.and_(before, flags), ir.IntType(32)(_DEFAULT_MXCSR))
        with builder.if_then(other, likely=False):
            _load_mxcsr(builder, ir.IntType(32)(_DEFAULT_MXCSR))
        return builder.zext(before, INTP)
    if _ARCH in ("aarch64", "arm64"):
        control = call_intrinsic(builder, "llvm.aarch64.get.fpcr", INTP, [])
        status = call_intrinsic(builder, "llvm.aarch64.get.fpsr", INTP, [])
        call_intrinsic(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), [INTP(0)])
        return builder.or_(builder.shl(control, INTP(32)), status)
    return INTP(0)


def _leave(builder: Any, before: Any) -> None:
    """Put back the floating-point environment that `_enter` returned."""
    if _ARCH == "x86_64":
        wanted = builder.trunc(before, ir.IntType(32))
        # that a result was rounded is no news: nobody looks at that flag, and writing the register takes time
        changed = builder.and_(builder.xor(_store_mxcsr(builder), wanted), ir.IntType(32)(~_INEXACT))
        with builder.if_then(builder.icmp_unsigned("!=", changed, ir.IntType(32)(0)), likely=False):
            _load_mxcsr(builder, wanted)
    elif _ARCH in ("aarch64", "arm64"):
        call_intrinsic(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), [builder.lshr(before, INTP(32))])
        low = builder.and_(before, INTP(0xFFFFFFFF))
        call_intrinsic(builder, "llvm.aarch64.set.fpsr", ir.VoidType(), [low])


def _mxcsr_room(builder: Any) -> Any:
    with builder.goto_entry_block():
        return builder.alloca(ir.IntType(32))


def _store_mxcsr(builder: Any) -> Any:
    room = _mxcsr_room(builder)
    call_intrinsic(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), [builder.bitcast(room, POINTER)])
    return builder.load(room)


def _load_mxcsr(builder: Any, value: Any) -> None:
    room = _mxcsr_room(builder)
    builder.store(value, room)
    call_intrinsic(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [builder.bitcast(room, POINTER)])


def _store_rounded(builder: Any, to: Any, source: Any, itemsize: Any) -> Any:
    """Write the double at `source` to `to` as a float of `itemsize` bytes; 0 if that cannot be."""
    value = load_at(builder, source, ir.DoubleType())
    with builder.if_then(builder.icmp_signed("==", itemsize, INTP(8))):
        store_at(builder, to, value)
    single = builder.fptrunc(value, ir.FloatType())
    with builder.if_then(builder.icmp_signed("==", itemsize, INTP(4))):
        store_at(builder, to, single)
    # what is lost by rounding is infinite only if the result is and the number was not
    lost = builder.fsub(value, builder.fpext(single, ir.DoubleType()))
    infinite = [builder.fcmp_ordered("==", lost, ir.Constant(ir.DoubleType(), x)) for x in (inf, -inf)]
    fits = builder.not_(builder.or_(*infinite))
    single_only = builder.and_(builder.icmp_signed("==", itemsize, INTP(4)), fits)
    return builder.zext(builder.or_(single_only, builder.icmp_signed("==", itemsize, INTP(8))), INTP)


def _integer_as_double(builder: Any, value: Any) -> Any:
    """The bits of the double that `value` is."""
    return builder.bitcast(builder.sitofp(value, ir.DoubleType()), INTP)


peek: Callable[..., int] = _instruction(types.intp, _load(INTP))
poke = _instruction(types.void, _store)
copy_rows = _instruction(types.void, _copy_rows)
pack_rows = _instruction(types.void, _pack_rows)
fill_rows = _instruction(types.void, _fill_rows)
transpose = _instruction(types.void, _transpose)
gather = _instruction(types.void, _gather)
scatter = _instruction(types.void, _scatter)
atomic_add: Callable[..., int] = _instruction(types.intp, _atomic("add"))
atomic_and: Callable[..., int] = _instruction(types.intp, _atomic("and"))
atomic_swap: Callable[..., int] = _instruction(types.intp, _atomic("xchg"))
atomic_load: Callable[..., int] = _instruction(types.intp, _atomic_load)
compare_and_swap: Callable[..., int] = _instruction(types.intp, _compare_and_swap)
call: Callable[..., int] = _instruction(types.intp, _call)
call_int: Callable[..., int] = _instruction(types.intp, _call_int)
call_void = _instruction(types.void, _call_void)
fence = _instruction(types.void, _fence)
pause = _instruction(types.void, _pause)
enter: Callable[..., int] = _instruction(types.intp, _enter)
leave = _instruction(types.void, _leave)
store_rounded: Callable[..., int] = _instruction(types.intp, _store_rounded)
integer_as_double: Callable[..., int] = _instruction(types.intp, _integer_as_double)
