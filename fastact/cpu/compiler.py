"""Numba compiles a block, or any function with C types, to the object code that `fastact.cpu.cache` keeps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from numba.core import codegen, config, cpu, types
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic

from ..kernels.rows import RowFunction
from ..kernels.sparse import Projection
from . import locks
from .emit import Block, emit_block
from .machine import target
from .rows import emit_beside, emit_rows, emit_short_rows
from .selection import emit_projection

# error_model="numpy": without it Numba tests every divisor for zero, which alone stops vectorisation.
OPTIONS = {"error_model": "numpy", "boundscheck": False, "forceinline": True, "_nrt": False}

# What object code may ask of the process. Anything else would not be there in a process that reads it from disk and has
# not imported Numba, and LLVM ends the process on a symbol it cannot find. On Windows a frame of more than a page is
# begun with a call of __chkstk, which ntdll has in every process; on macOS LLVM writes zeros with bzero, or __bzero on
# x86, and makes memset_pattern16 of loops that store a constant: libSystem has them. (fma and fmaf, which stand for the
# instructions that old x86 CPUs lack, come in later, when LLVM writes the code; the C library has them.)
SYMBOLS_OF = {"win32": {"__chkstk"}, "darwin": {"bzero", "__bzero", "memset_pattern16"}}
ALLOWED_SYMBOLS = {"memcpy", "memmove", "memset"} | SYMBOLS_OF.get(sys.platform, set())


@contextmanager
def jit_enabled() -> Iterator[None]:
    """NUMBA_DISABLE_JIT and NUMBA_OPT are for the user's own functions; the package's would not work without.

    Below its usual level Numba leaves its handling of errors in the code, which a process without Numba could not run.
    """
    disabled, level = config.DISABLE_JIT, config.OPT
    config.DISABLE_JIT, config.OPT = 0, max(level, type(level)(3))
    try:
        yield
    finally:
        config.DISABLE_JIT, config.OPT = disabled, level


def compile_function(
    function: Callable[..., Any], name: str, arguments: Sequence[Any], result: Any = types.void
) -> tuple[str, bytes]:
    """Compile `function` for C callers; return its symbol and its object code.

    `name` must be unique among the objects one process loads: it becomes part of the symbol.
    """
    locks.need_numba()
    with global_compiler_lock:
        symbol, library = _compiled(function, name, arguments, result)
        return symbol, bytes(library._get_compiled_object())


def _compiled(function: Callable[..., Any], name: str, arguments: Sequence[Any], result: Any) -> tuple[str, Any]:
    """The symbol of `function`, and Numba's library that holds its code."""
    function.__name__ = function.__qualname__ = name
    with jit_enabled(), _parts_as_they_are():
        wrapped: Any = CFunc(function, (tuple(arguments), result), {}, dict(OPTIONS))
        compiled = wrapped._compile_uncached()
        library = compiled.library
        library.enable_object_caching()
        setattr(library, _ROLE, "whole")
        library.finalize()
    missing = _missing(library)
    if missing:
        raise RuntimeError(f"{name} cannot stand alone: it needs {', '.join(sorted(missing))}")
    return compiled.fndesc.llvm_cfunc_wrapper_name, library


def _missing(library: Any) -> set[str]:
    """What its code asks for and will not find."""
    functions = library._final_module.functions
    asked = {f.name for f in functions if f.is_declaration and not f.name.startswith("llvm.")}
    return asked - ALLOWED_SYMBOLS


# --- how Numba compiles: without what nobody needs here


@contextmanager
def _instead(owner: type, **methods: Callable[..., Any]) -> Iterator[None]:
    """These methods in place of a class of Numba's, for what is compiled meanwhile, which is by this thread.

    All they do is to save time: where Numba no longer has such a method, nothing is put in its place.
    """
    with global_compiler_lock:
        usual = {name: getattr(owner, name) for name in methods if hasattr(owner, name)}
        try:
            for name in usual:
                setattr(owner, name, methods[name])
            yield
        finally:
            for name, method in usual.items():
                setattr(owner, name, method)


_ROLE = "fastact_role"  # of a library: that of a "part" is called by others of this package, that of a "whole" by C
_PACKAGE = __name__.partition(".")[0] + "."


class _NoCode:
    """Stands for a library that is asked where Python may call its function."""

    def __init__(self, library: Any) -> None:
        self.library = library  # lives as long as this does

    @property
    def codegen(self) -> _NoCode:
        return self

    def get_pointer_to_function(self, name: str) -> int:
        return 0  # which says: nowhere

    def set_env(self, name: str, environment: Any) -> None:
        pass


@contextmanager
def _parts_as_they_are() -> Iterator[None]:
    """Functions of this package are left as Numba lowers them, to be optimised within those that call them.

    Numba would also optimise each by itself, with all that it calls in turn, and make machine code that nobody runs.
    """
    library, context = codegen.CPUCodeLibrary, cpu.CPUContext
    executable: Any = getattr(context, "get_executable", None)
    optimise: Any = getattr(library, "_optimize_final_module", None)
    finish: Any = getattr(library, "_finalize_final_module", None)

    def get_executable(self: Any, part: Any, function: Any, environment: Any) -> Any:
        if function.modname.startswith(_PACKAGE):
            setattr(part, _ROLE, "part")
            part = _NoCode(part)
        return executable(self, part, function, environment)

    def optimise_whole(self: Any) -> None:
        role = getattr(self, _ROLE, None)
        if role == "part":
            return
        optimise(self)
        if role == "whole" and _missing(self):
            # Numba's handling of errors, which there are none of: that can be seen once all is in one function
            optimise(self)

    def finish_whole(self: Any) -> None:
        if getattr(self, _ROLE, None) == "part":
            self._finalized = True
        else:
            finish(self)

    with (
        _instead(context, get_executable=get_executable),
        _instead(library, _optimize_final_module=optimise_whole, _finalize_final_module=finish_whole),
    ):
        yield


@contextmanager
def _once_optimised() -> Iterator[None]:
    """LLVM's passes over each function, which Numba runs before those over the whole module, are left out.

    For a loop that is emitted they take a fifth of the time and change nothing; what Numba makes of Python needs them.
    """

    def lay_out(library: Any, module: Any) -> None:
        module.data_layout = library._codegen._data_layout

    with _instead(codegen.CPUCodeLibrary, _optimize_functions=lay_out):
        yield


def _appended(emit: Callable[..., None]) -> Any:
    """A function for Numba code that takes a tuple and whose body `emit(builder, *elements)` appends."""

    @intrinsic  # type: ignore[untyped-decorator]
    def body(typing_context: Any, operands: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            # What does not fit in the registers, such as tables, goes to the stack: there in whole cache lines, or each
            # use of it reads two.
            builder.function.attributes.alignstack = 64
            emit(builder, *(builder.extract_value(values[0], k) for k in range(len(operands))))
            return context.get_dummy_value()

        return types.void(operands), codegen

    return body


def compile_block(block: Block) -> tuple[str, bytes]:
    """Compile the loop of `block` as ``void(char **args, intp n)``."""
    return compile_function(_block_function(block), block.name, (types.voidptr, types.intp))


def compile_emitted(name: str, emit: Callable[[Any, Any, Any], None]) -> tuple[str, bytes]:
    """Compile what ``emit(builder, address, n)`` appends as ``void(void *, intp n)``."""
    return compile_function(_function_of(emit), name, (types.voidptr, types.intp))


def assembly_of_block(block: Block) -> str:
    """The same code as text, for those who want to read or to analyse it."""
    with global_compiler_lock:
        _, library = _compiled(_block_function(block), block.name, (types.voidptr, types.intp), types.void)
        return str(library.get_asm_str())


def _block_function(block: Block) -> Callable[..., None]:
    def emit(builder: Any, args: Any, n: Any) -> None:
        emit_block(builder, args, n, block, target())

    return _function_of(emit)


def _function_of(emit: Callable[[Any, Any, Any], None]) -> Callable[..., None]:
    body = _appended(emit)

    def entry(args: Any, n: int) -> None:
        body((args, n))

    return entry


def compile_rows(
    name: str, function: RowFunction | Projection, dtype: str, length: int | None = None, beside: bool = False
) -> tuple[str, bytes]:
    """Compile the loop of `function`, as NumPy calls a gufunc's but for its last argument: the fields of
    `fastact.cpu.layout.ROW_FIELDS`, or 0.

    With `length`, it is for rows of that many elements, and best for those that follow on each other. A row function
    has two loops for all others: that for rows that are short or lie side by side is made with `beside`.
    """

    def emit(builder: Any, args: Any, dims: Any, steps: Any, piece: Any) -> None:
        if isinstance(function, Projection):
            emit_projection(builder, args, dims, steps, piece, function, dtype, target())
        elif length is not None:
            emit_short_rows(builder, args, dims, steps, function, dtype, target(), length)
        else:
            loop = emit_beside if beside else emit_rows
            loop(builder, args, dims, steps, piece, function, dtype, target())

    body = _appended(emit)

    def entry(args: Any, dims: Any, steps: Any, piece: Any) -> None:
        body((args, dims, steps, piece))

    with _once_optimised():
        return compile_function(entry, name, (types.voidptr,) * 4)
