"""The machine compiled code is for, and compiled code brought into the process with llvmlite alone."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from . import locks
from .immortal import immortal
from .lanes import Target

SPARE = 4 << 20  # bytes, more than LLVM needs beside a copy of the code


@cache
def cpu() -> tuple[str, str]:
    """The CPU to compile for and its features, as Numba sees them: NUMBA_CPU_NAME and NUMBA_CPU_FEATURES win.

    LLVM ends the process on a feature without a sign, so that is an error before it sees one.
    """
    name = os.environ.get("NUMBA_CPU_NAME") or llvm.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = "" if name == "generic" else llvm.get_host_cpu_features().flatten()
    wrong = [feature for feature in features.split(",") if feature[:1] not in ("+", "-", "")]
    if wrong:
        raise ValueError(f"NUMBA_CPU_FEATURES: each feature begins with + or -, as in +avx2; got {', '.join(wrong)}")
    return name, features


@cache
def target() -> Target:
    """The CPU's features as the tracer asks for them."""
    return Target(frozenset(f[1:] for f in cpu()[1].split(",") if f.startswith("+")))


def vector_bytes() -> int:
    """The width of the widest vectors that pay on this CPU."""
    return target().vector_bytes


@cache
def _engine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    return immortal(llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine))


def load(symbol: str, code: bytes) -> int:
    """Link object code into the process and return the address of `symbol`. It stays for the life of the process."""
    bytearray(len(code) + SPARE)  # LLVM aborts where it gets no memory; this raises MemoryError instead
    with locks.linking:
        engine = _engine()
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        address = engine.get_function_address(symbol)
    if not address:
        raise RuntimeError(f"the compiled code does not define {symbol}")
    return int(address)
