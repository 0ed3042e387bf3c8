"""The machine level for Numba code: memory at an address, atomics, calls through a pointer, the floating-point state.

Addresses are plain integers (``intp``). Used by `fastact.cpu.driver` only, and only while it is compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import types as numba_types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from .emit import INTP, POINTER
from .lanes import call_intrinsic

types: Any = numba_types  # its names are made at run time
FILL = 256  # bytes: at least one iteration of any block
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


def _copy(builder: Any, to: Any, source: Any, count: Any) -> None:
    arguments = [_pointer(builder, to, POINTER.pointee), _pointer(builder, source, POINTER.pointee), count]
    call_intrinsic(builder, "llvm.memcpy.p0.p0.i64", ir.VoidType(), [*arguments, ir.IntType(1)(0)])


def _fill(kind: ir.Type) -> Callable[..., Any]:
    """Write the element at `source` all over the `FILL` bytes at `to`."""

    def emit(builder: Any, to: Any, source: Any) -> None:
        value = builder.load(_pointer(builder, source, kind), align=1)
        wide = ir.VectorType(kind, FILL * 8 // kind.width)
        undefined = ir.Constant(wide, ir.Undefined)
        first = builder.insert_element(undefined, value, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), wide.count), [0] * wide.count)
        builder.store(builder.shuffle_vector(first, undefined, zeros), _pointer(builder, to, wide), align=1)

    return emit


def _element_copy(kind: ir.Type) -> Callable[..., Any]:
    def emit(builder: Any, to: Any, source: Any) -> None:
        value = builder.load(_pointer(builder, source, kind), align=1)
        builder.store(value, _pointer(builder, to, kind), align=1)

    return emit


def _atomic(operation: str) -> Callable[..., Any]:
    def emit(builder: Any, address: Any, value: Any) -> Any:
        return builder.atomic_rmw(operation, _pointer(builder, address, INTP), value, "seq_cst")

    return emit


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


def _stream_line(builder: Any, to: Any, source: Any) -> None:
    """Copy 64 aligned bytes past the caches."""
    line = ir.VectorType(ir.IntType(32), 16)
    value = builder.load(_pointer(builder, source, line), align=64)
    written = builder.store(value, _pointer(builder, to, line), align=64)
    written.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))


def _fence(builder: Any) -> None:
    """Order streaming stores before whatever tells another thread that they are done."""
    if _ARCH == "x86_64":
        call_intrinsic(builder, "llvm.x86.sse.sfence", ir.VoidType(), [])
    else:
        builder.fence("seq_cst")


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


peek: Callable[..., int] = _instruction(types.intp, _load(INTP))
poke = _instruction(types.void, _store)
copy = _instruction(types.void, _copy)
fill2 = _instruction(types.void, _fill(ir.IntType(16)))
fill4 = _instruction(types.void, _fill(ir.IntType(32)))
fill8 = _instruction(types.void, _fill(ir.IntType(64)))
copy2 = _instruction(types.void, _element_copy(ir.IntType(16)))
copy4 = _instruction(types.void, _element_copy(ir.IntType(32)))
copy8 = _instruction(types.void, _element_copy(ir.IntType(64)))
atomic_add: Callable[..., int] = _instruction(types.intp, _atomic("add"))
atomic_and: Callable[..., int] = _instruction(types.intp, _atomic("and"))
atomic_swap: Callable[..., int] = _instruction(types.intp, _atomic("xchg"))
compare_and_swap: Callable[..., int] = _instruction(types.intp, _compare_and_swap)
call: Callable[..., int] = _instruction(types.intp, _call)
call_int: Callable[..., int] = _instruction(types.intp, _call_int)
call_void = _instruction(types.void, _call_void)
stream_line = _instruction(types.void, _stream_line)
fence = _instruction(types.void, _fence)
enter: Callable[..., int] = _instruction(types.intp, _enter)
leave = _instruction(types.void, _leave)
