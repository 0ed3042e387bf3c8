"""What Numba learns from this package: a target of vectorize and guvectorize, and kernels in anyone's @njit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types as numba_types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu import CPUContext
from numba.core.imputils import lower_builtin
from numba.core.registry import cpu_target
from numba.core.sigutils import normalize_signature
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.np.ufunc.ufuncbuilder import GUFuncBuilder, UFuncBuilder

from ..kernels.language import KERNELS
from . import machine
from .compiler import compile_block
from .emit import Block
from .lanes import Lanes
from .layout import MAX_CORE_DIMS, SCALARS
from .ufunc import BLOCK_FIELDS, WAYS, BuiltLoop, make_ufunc, new_loop

types: Any = numba_types  # its names are made at run time
_FLOATS = {types.float32: (32, "float32"), types.float64: (64, "float64")}
_BY_NUMBER: dict[int, np.dtype[Any]] = {
    np.dtype(code).num: np.dtype(code) for code in np.typecodes["All"] if code not in "SUVOMm"
}
_serial = itertools.count()
_keep: list[Any] = []
_LONGEST = 10_000  # instructions of a formula that is traced: loops are unrolled, and LLVM takes seconds for so many
_VECTORS = 2  # native vectors in flight: what most formulas need to hide the latency of arithmetic


class _Trial(ir.IRBuilder):  # type: ignore[misc]
    """A builder that gives up on what does not come to an end."""

    written = 0

    def _insert(self, instruction: Any) -> None:
        self.written += 1
        if self.written > _LONGEST:
            raise OverflowError(f"more than {_LONGEST} instructions")
        super()._insert(instruction)


def _trace(kernel: Callable[..., Any], width: int, arity: int) -> tuple[Lanes, ...]:
    """Trace `kernel` into a function that is thrown away, to learn whether it can be and what it returns."""
    kind = ir.FloatType() if width == 32 else ir.DoubleType()
    function = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), [kind] * arity), "trial")
    builder = _Trial(function.append_basic_block())
    results = kernel(*(Lanes(builder, a, "float", width, 1, machine.target()) for a in function.args))
    results = results if isinstance(results, tuple) else (results,)
    for result in results:
        if not isinstance(result, Lanes) or result.kind != "float":
            raise TypeError(f"{getattr(kernel, '__name__', kernel)} returns {result!r}, not floats")
    return results


def _as_numba_function(kernel: Callable[..., Any]) -> None:
    """Make `kernel` callable in nopython code, on scalars; all arguments take the dtype of the first."""

    class Typing(AbstractTemplate):  # type: ignore[misc]
        key = kernel

        def generic(self, arguments: Any, keywords: Any) -> Any:
            if keywords or not arguments or not all(isinstance(a, types.Number | types.Boolean) for a in arguments):
                return None
            dtype = arguments[0] if arguments[0] in _FLOATS else types.float64
            results = _trace(kernel, _FLOATS[dtype][0], len(arguments))
            result = dtype if len(results) == 1 else types.UniTuple(dtype, len(results))
            return signature(result, *[dtype] * len(arguments))

    infer_global(kernel, types.Function(Typing))

    @lower_builtin(kernel, types.VarArg(types.Any))  # type: ignore[untyped-decorator]
    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        width = _FLOATS[signature.args[0]][0]
        if not isinstance(context, CPUContext):  # numba-cuda takes this over from Numba
            from ..cuda.nvvm import emit

            found = emit(builder, kernel, values, width)
            tuples = isinstance(signature.return_type, types.BaseTuple)
            return context.make_tuple(builder, signature.return_type, found) if tuples else found[0]
        results = kernel(*(Lanes(builder, v, "float", width, 1, machine.target()) for v in values))
        if isinstance(results, tuple):
            return context.make_tuple(builder, signature.return_type, [r.value for r in results])
        return results.value


class FastactUFunc(UFuncBuilder):  # type: ignore[misc]
    """``numba.vectorize([...], target="fastact")``: a numpy.ufunc with this package's loops over a user's formula.

    A formula in the kernel language is traced and runs on SIMD vectors; any other is compiled by Numba as a scalar
    function. Both get threads, ``where=`` and everything else a ufunc of this package has.
    """

    def __init__(self, py_func: Any, identity: Any = None, cache: bool = False, targetoptions: Any = None) -> None:
        options = {"nopython": True, **(targetoptions or {})}
        super().__init__(py_func, identity, cache, options)
        self._loops: list[BuiltLoop] = []

    @global_compiler_lock  # type: ignore[untyped-decorator]
    def add(self, sig: Any = None) -> Any:
        arguments, result = normalize_signature(sig)
        if not arguments:
            raise TypeError(f'vectorize(target="fastact") needs an input, and {self.py_func.__name__} has none')
        if self._in_kernel_language(arguments, result):
            self._loops.append(_traced_loop(self.py_func, arguments[0], len(arguments)))
            return None
        cres = super().add(sig)
        numbers, address, environment = self.build(cres, self._sigs[-1])
        self._loops.append(_whole_loop(numbers, 1, address, 0, (cres.library, environment)))
        return cres

    def _in_kernel_language(self, arguments: Any, result: Any) -> bool:
        kind = arguments[0]
        if kind not in _FLOATS or any(a != kind for a in arguments) or result not in (None, kind):
            return False
        try:
            first, second = (_trace(self.py_func, _FLOATS[kind][0], len(arguments)) for _ in range(2))
        except Exception:  # whatever it is that the tracer does not know, Numba may
            return False
        # A number that is another one each time, a random one say, is no constant.
        return len(first) == 1 and str(first[0].builder.module) == str(second[0].builder.module)

    def build_ufunc(self) -> np.ufunc:
        name = self.py_func.__name__
        if not self._loops:
            raise TypeError(f'vectorize(target="fastact") needs a signature for {name}, such as "float32(float32)"')
        operands = (len(self._loops[0].dtypes) - 1, 1)
        doc, module = self.py_func.__doc__ or "", self.py_func.__module__
        return make_ufunc(name, doc, operands, self._loops, module=module, identity=self.identity)


class FastactGUFunc(GUFuncBuilder):  # type: ignore[misc]
    """``numba.guvectorize([...], "(n)->(n)", target="fastact")``: a numpy.ufunc whose rows are shared among threads."""

    def build_ufunc(self) -> np.ufunc:
        if not self._sigs:
            raise TypeError(f'guvectorize(target="fastact") needs a signature for {self.py_func.__name__}')
        names = {n for operand in (*self.sin, *self.sout) for n in operand}
        if len(names) > MAX_CORE_DIMS:
            raise ValueError(
                f"{self.signature!r} has {len(names)} core dimensions; at most {MAX_CORE_DIMS} are possible"
            )
        if self.writable_args:
            raise ValueError('guvectorize(target="fastact") takes no writable_args: inputs are never written')
        loops = []
        for sig in self._sigs:
            cres = self._cres[sig]
            with global_compiler_lock:  # but not for `make_ufunc`, which takes what it needs by itself
                numbers, address, environment = self.build(cres)
            loops.append(_whole_loop(numbers, len(self.sout), address, len(names), (cres.library, environment)))
        name, doc, module = self.py_func.__name__, self.py_func.__doc__ or "", self.py_func.__module__
        operands = (len(self.sin), len(self.sout))
        return make_ufunc(name, doc, operands, loops, self.signature, module, self.identity)


def _traced_loop(function: Callable[..., Any], kind: Any, inputs: int) -> BuiltLoop:
    """Compile a user's formula now, so that an error shows where the formula is; it is not kept on disk."""
    width, dtype = _FLOATS[kind]
    lanes = _VECTORS * machine.vector_bytes() * 8 // width
    block = Block(f"user-{next(_serial)}-{function.__name__}-{dtype}", function, dtype, inputs, 1, lanes)
    address = machine.load(*compile_block(block))

    def make(kind: int) -> int:
        way = kind & ~SCALARS
        other = replace(block, name=f"{block.name}-{WAYS[way]}", way=way)
        return machine.load(*compile_block(other)) if way else address

    loop = new_loop(inputs, 1, width // 8, make, BLOCK_FIELDS, lanes=lanes)
    loop.block = address
    return BuiltLoop([np.dtype(dtype)] * (inputs + 1), loop, "elementwise")


def _whole_loop(numbers: list[int], outputs: int, address: Any, core_dims: int, keep: Any) -> BuiltLoop:
    """A loop Numba compiled from a scalar function or a gufunc kernel; `keep` holds what that code refers to."""
    if not _BY_NUMBER.keys() >= {*numbers}:
        raise TypeError('target="fastact" takes numbers only, no dates and no times')
    dtypes = [_BY_NUMBER[n] for n in numbers]
    largest = max(d.itemsize for d in dtypes)
    loop = new_loop(len(numbers) - outputs, outputs, largest, lambda kind: int(address), ["body"], core_dims=core_dims)
    loop.body, loop.raises = int(address), 1
    _keep.append(keep)
    return BuiltLoop(dtypes, loop, "rows")


@cache
def install() -> None:
    """Register the kernels with Numba; called through an entry point by Numba, and when `fastact.kernels` is used."""
    from ..api import public_kernels

    for kernel in [*KERNELS, *public_kernels().values()]:
        _as_numba_function(kernel)
    # Numba reads its registries when it starts to compile a function; this may be in the middle of one.
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
