"""Object code asks for nothing that is not in every process, on systems that are not at hand too."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import pytest
from llvmlite import ir

from fastact.cpu import compiler
from fastact.cpu.emit import INTP, POINTER, Block, emit_block
from fastact.cpu.lanes import Target, call_intrinsic
from fastact.cpu.rows import emit_beside, emit_rows
from fastact.cpu.selection import emit_projection
from fastact.kernels.gaussian import gelu
from fastact.kernels.rows import RowFunction
from fastact.kernels.sparse import ENTMAX15, HARDMAX, Projection

# system -> triple, CPU and features
MACHINES = {
    "arm64 Linux": ("aarch64-unknown-linux-gnu", "generic", ""),
    "arm64 Linux, SVE": ("aarch64-unknown-linux-gnu", "neoverse-v1", "+sve,+fullfp16,+bf16"),
    "arm64 macOS": ("arm64-apple-darwin22.0.0", "apple-m1", ""),
    "x86 macOS": ("x86_64-apple-darwin22.0.0", "haswell", "+avx2,+fma,+f16c"),
    "x86 without FMA": ("x86_64-unknown-linux-gnu", "x86-64", ""),
}


def made(machine: str, emit: Callable[..., None], arguments: list[Any]) -> bytes:
    """Object code of a function whose body `emit` appends."""
    triple, cpu, features = MACHINES[machine]
    module = ir.Module("loop")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), "loop")
    function.attributes.alignstack = 64
    builder = ir.IRBuilder(function.append_basic_block())
    emit(builder, *function.args, Target(frozenset(f[1:] for f in features.split(",") if f)))
    builder.ret_void()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple(triple)
    except RuntimeError:
        pytest.skip("this LLVM was built without it")
    compiling = target.create_target_machine(cpu=cpu, features=features, opt=3, codemodel="jitdefault", jit=True)
    parsed = llvm.parse_assembly(str(module))
    parsed.triple, parsed.data_layout = triple, str(compiling.target_data)
    passes = llvm.create_pass_builder(compiling, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    return bytes(compiling.emit_object(parsed))


def asked(code: bytes) -> set[str]:
    """The names that object code, ELF or Mach-O, does not define."""

    def named(start: int) -> str:
        return code[start : code.index(b"\0", start)].decode()

    found: set[str] = set()
    if code.startswith(b"\x7fELF"):
        (sections,), (count,) = struct.unpack_from("<Q", code, 40), struct.unpack_from("<H", code, 60)
        headers = [struct.unpack_from("<IIQQQQII", code, sections + 64 * k) for k in range(count)]
        for _, kind, _, _, start, size, names, _ in headers:
            for symbol in range(start, start + size, 24) if kind == 2 else ():
                name, section = struct.unpack_from("<I2xH", code, symbol)
                found |= {named(headers[names][4] + name)} if name and not section else set()
        return found
    (commands,), place = struct.unpack_from("<I", code, 16), 32
    for _ in range(commands):
        command, size, symbols, count, names = struct.unpack_from("<5I", code, place)
        for symbol in range(symbols, symbols + 16 * count, 16) if command == 2 else ():
            name, kind = struct.unpack_from("<IB", code, symbol)
            found |= {named(names + name).removeprefix("_")} if kind & 0x0E == 0 else set()
        place += size
    return found


def check(machine: str, code: bytes) -> None:
    """LLVM ends the process where a name is not found."""
    allowed = {"memcpy", "memmove", "memset"}
    if "macOS" in machine:
        allowed |= compiler.SYMBOLS_OF["darwin"]
    if "without FMA" in machine:
        allowed |= {"fma", "fmaf"}  # of the C library
    assert asked(code) <= allowed


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_blocks(machine: str, dtype: str) -> None:
    block = Block("gelu", gelu, dtype, 1, 1, 16)
    check(machine, made(machine, lambda *arguments: emit_block(*arguments[:3], block, arguments[3]), [POINTER, INTP]))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("function", [HARDMAX, ENTMAX15], ids=lambda function: function.name)
def test_rows(machine: str, function: RowFunction | Projection) -> None:
    for emitted in (emit_projection,) if isinstance(function, Projection) else (emit_rows, emit_beside):

        def emit(builder: Any, *arguments: Any, emitted: Callable[..., None] = emitted) -> None:
            emitted(builder, *arguments[:4], function, "float32", arguments[4])

        check(machine, made(machine, emit, [POINTER] * 4))


def test_a_name_that_is_not_defined_is_seen() -> None:
    def emit(builder: Any, place: Any, n: Any, target: Any) -> None:
        zero = ir.IntType(8)(0)
        call_intrinsic(builder, "llvm.memset.p0.i64", ir.VoidType(), [place, zero, n, ir.IntType(1)(0)])

    for machine, name in (("arm64 Linux", "memset"), ("arm64 macOS", "bzero"), ("x86 macOS", "__bzero")):
        assert asked(made(machine, emit, [POINTER, INTP])) == {name}
