"""From a kernel to a genuine numpy.ufunc, through NumPy's C API.

Making one costs microseconds: each dtype's loop is the shared driver (`fastact.cpu.driver`) plus a `Loop` record whose
block is compiled, or read from disk, when that dtype is first used.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from ..activation import Parameter
from ..kernels.rows import LONG_ROW, MOST_COUNTED, PART, RowFunction
from ..kernels.sparse import Projection
from . import cache as disk
from . import locks, machine, threads, vectorcall
from .emit import ITEMSIZE, Block
from .immortal import immortal
from .layout import (
    BESIDE,
    EVERY_SECOND,
    KINDS,
    LONGEST,
    MAX_OPERANDS,
    PAST_CACHES,
    ROWS_OF,
    SCALARS,
    SHORTEST,
    Loop,
    UFunc,
)
from .row_arena import arena, keeps_terms, width

Compiled = tuple[str, bytes]

NO_IDENTITY = -1  # PyUFunc_None: reduce and accumulate only where NumPy can do them without a first value
_FIRST_USER_DTYPE = 256  # NPY_USERDEF
# Places in the tables of NumPy's C API, the same in every NumPy (numpy/_core/code_generators/numpy_api.py).
_NEW_FROM_DESCR, _NEW_LIKE_ARRAY = 94, 277  # PyArray_...
_REGISTER_LOOP_FOR_TYPE, _FROM_FUNC_AND_DATA_AND_SIGNATURE = 2, 31  # PyUFunc_...
# Elements below which waking a thread costs more than it saves: the first for arithmetic that takes about as long as
# reading the operands, the second for a few dozen operations an element.
_THREADS_PAY = {4: 1 << 18, 2: 1 << 17}

BLOCKS: dict[tuple[str, str], Callable[[int], Block]] = {}
"""(label, dtype) -> block(kind): what the loops made so far are compiled from, for analysis."""

WAYS = {0: "", PAST_CACHES: "past", EVERY_SECOND: "second"}
"""The ways of blocks, and what they are called."""
BLOCK_FIELDS = (
    *("block", "block_scalars", "block_past_caches", "block_scalars_past_caches"),
    *("block_every_second", "block_scalars_every_second"),
)
"""The field of a `Loop` by the kind of block."""

_keep: list[Any] = immortal([])  # NumPy holds bare pointers to what a ufunc is made of
_loops: dict[int, Sequence[BuiltLoop]] = immortal({})  # of each ufunc, by its id
_pending: dict[int, Resolver] = immortal({})


@dataclass(frozen=True)
class BuiltLoop:
    """A loop with the dtypes of all its operands and the name of the driver that runs it."""

    dtypes: Sequence[np.dtype[Any]]
    loop: Loop
    driver: str


@dataclass(frozen=True)
class Resolver:
    """How to get the compiled code of one loop."""

    loop: Loop
    make: Callable[[int], int]
    fields: Sequence[str]

    def code(self, kind: int) -> int:
        """Where the code of this kind is, compiled if need be."""
        return locks.alone(partial(self._code, kind))

    def _code(self, kind: int) -> int:
        found = getattr(self.loop, self.fields[kind])
        if not found:
            found = self.make(kind)
            setattr(self.loop, self.fields[kind], found)
        return int(found)


def _resolve(number: int) -> int:
    """Called by the driver when a loop is used for the first time: `number` is its address and which kind of code."""
    address, kind = divmod(number, KINDS)
    return _pending[address].code(kind)


def _refuse_long(n: int) -> int:
    raise ValueError(
        f"rows of float32 and the 16-bit types may have {MOST_COUNTED} elements at most where their places or their "
        f"number count, as in logmeanexp and hardmax, not {n}; float64 takes more"
    )


def compile_loops(ufunc: np.ufunc, dtypes: Collection[str], lengths: Collection[int]) -> None:
    """Compile all loops of a ufunc for some dtypes, those for rows of one length for these lengths."""
    for built in _loops[id(ufunc)]:
        resolver = _pending[ctypes.addressof(built.loop)]
        if built.dtypes[0].name not in dtypes:
            continue
        if built.driver == "rows":
            longest = built.loop.longest
            kinds = [0, BESIDE, *(n - SHORTEST + 1 for n in lengths if SHORTEST <= n <= longest)]
        else:
            kinds = [kind for kind in range(len(BLOCK_FIELDS)) if built.loop.scalars or not kind & SCALARS]
        for kind in kinds:
            resolver.code(kind)


# The compiled functions that ufuncs share, and how many arguments each takes: those that all need, ...
_DRIVERS = {
    "collect": 5,
    "spread": 5,
    "share": 5,
    "piece": 6,
    "whole": 5,
    "direct": 6,
    "elementwise": 4,
    "elementwise_chunk": 3,
    "choose": 4,
    "call_ufunc": 4,
    "worker": 1,
}
# ... those that functions along an axis need, and scalar formulas, ...
_ROW_DRIVERS = {
    "rows": 4,
    "rows_chunk": 3,
    "parts_chunk": 3,
    "slabs_chunk": 3,
    "call_rows": 4,
    "choose_options": 4,
    "refuse_empty": 2,
}
# ... and those that arrays need that are not contiguous. Each group is compiled, or loaded, when it is first needed.
_VIEWS = {"collect_rows": 8, "spread_rows": 8, "walk_chunk": 3, "views": 6}
_CALLS = ("choose", "choose_options", "call_ufunc", "call_rows")  # Python's, with an object as result
_NUMBERS = (*_CALLS, "direct", "views", "share", "piece", "whole")


@cache
def _load(name: str, arguments: int) -> int:
    """The address of one of them."""

    def compile() -> Compiled:
        from numba.core import types

        from . import driver, quick, quick_rows, row_driver, sharing, tiles, views
        from .compiler import compile_function

        result = types.int32 if name == "refuse_empty" else types.intp if name in _NUMBERS else types.void
        modules = driver, sharing, row_driver, quick, quick_rows, tiles, views
        function = next(vars(module)[name] for module in modules if name in vars(module))
        return compile_function(function, f"fastact_{name}", (types.intp,) * arguments, result)

    return machine.load(*disk.load_or_compile(name, compile))


def _drivers() -> dict[str, int]:
    """The addresses of the compiled functions, and the thread pool they work with."""
    return locks.alone(_drivers_once)


@cache
def _drivers_once() -> dict[str, int]:
    found = {name: _load(name, arguments) for name, arguments in _DRIVERS.items()}
    for name in ("collect", "spread", "share", "piece", "whole", "direct"):
        setattr(threads.pool, name, found[name])
    threads.pool.elementwise_job = found["elementwise_chunk"]
    threads.pool.load_views, threads.pool.resolve = map(id, immortal((_load_views, _resolve)))
    threads.pool.refuse_long = id(immortal(_refuse_long))
    threads.set_up(found["worker"])
    _set_up_calls()
    return found


@cache
def load_rows() -> dict[str, int]:
    """The same for functions along an axis, and scalar formulas."""
    _drivers()
    found = locks.alone(lambda: {name: _load(name, arguments) for name, arguments in _ROW_DRIVERS.items()})
    threads.pool.rows = found["rows"]
    for job in ("rows", "parts", "slabs"):
        setattr(threads.pool, f"{job}_job", found[f"{job}_chunk"])
    return found


def _address(name: str) -> int:
    return (load_rows() if name in _ROW_DRIVERS else _drivers())[name]


def load_views() -> None:
    """Load, or compile, what takes arrays that are not contiguous past NumPy; done when the first one comes."""
    _drivers()

    def load() -> None:
        if not threads.pool.views:
            for name, arguments in _VIEWS.items():  # the last one says that all are there
                setattr(threads.pool, name, _load(name, arguments))

    locks.alone(load)


def _load_views(number: int) -> int:
    load_views()
    return 1


def _set_up_calls() -> None:
    """What `fastact.cpu.quick` needs of CPython and of NumPy."""
    pool, python = threads.pool, ctypes.pythonapi
    pool.numpy_call = UFunc.from_address(id(np.exp)).vectorcall
    pool.new_array, pool.new_like = (_numpy_table("_ARRAY_API")[k] for k in (_NEW_FROM_DESCR, _NEW_LIKE_ARRAY))
    pool.array_type, pool.float_type, pool.int_type = id(np.ndarray), id(float), id(int)
    for name in ("out", "axis", "keepdims"):
        setattr(pool, f"{name}_name", id(vectorcall.KEYWORDS[vectorcall.KEYWORDS.index(name)]))
    pool.true, pool.index_type = id(True), id(np.dtype(np.int64))
    for field, function in (
        ("incref", python.Py_IncRef),
        ("decref", python.Py_DecRef),
        ("save_thread", python.PyEval_SaveThread),
        ("restore_thread", python.PyEval_RestoreThread),
        ("as_long", python.PyLong_AsLongLongAndOverflow),
        ("new_tuple", python.PyTuple_New),
        ("call_one", python.PyObject_CallOneArg),
        ("from_intp", python.PyLong_FromSsize_t),
        ("as_intp", python.PyLong_AsSsize_t),
        ("error_occurred", python.PyErr_Occurred),
        ("fetch_error", python.PyErr_Fetch),
        ("restore_error", python.PyErr_Restore),
    ):
        setattr(pool, field, ctypes.cast(function, ctypes.c_void_p).value)


def _numpy_table(name: str) -> Any:
    """One of the two tables of addresses that make up NumPy's C API."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    capsule = getattr(np._core._multiarray_umath, name)  # type: ignore[attr-defined]
    return ctypes.cast(get(capsule, None), ctypes.POINTER(ctypes.c_void_p))


@cache
def _numpy_api() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """PyUFunc_FromFuncAndDataAndSignature and PyUFunc_RegisterLoopForType."""
    table = _numpy_table("_UFUNC_API")
    i, p = ctypes.c_int, ctypes.c_void_p
    make = ctypes.PYFUNCTYPE(ctypes.py_object, p, p, p, i, i, i, i, p, p, i, p)(
        table[_FROM_FUNC_AND_DATA_AND_SIGNATURE]
    )
    register = ctypes.PYFUNCTYPE(i, ctypes.py_object, i, p, p, p)(table[_REGISTER_LOOP_FOR_TYPE])
    return make, register


@cache
def known_dtypes() -> list[tuple[np.dtype[Any], str]]:
    """The dtypes of every ufunc, in the order NumPy tries them, so that integers promote as in np.exp.

    bfloat16 is the one ml_dtypes gives NumPy, if that package is installed.
    """
    found = [(np.dtype(name), name) for name in ("float16", "float32", "float64")]
    try:
        import ml_dtypes
    except ImportError:
        return found
    return [*found, (np.dtype(ml_dtypes.bfloat16), "bfloat16")]


def new_loop(
    inputs: int, outputs: int, itemsize: int, make: Callable[[int], int], codes: Sequence[str], **fields: int
) -> Loop:
    """A loop whose code of some kind `make(kind)` compiles on first use into the field `codes[kind]`."""
    loop = Loop(
        pool=ctypes.addressof(threads.pool),
        inputs=inputs,
        outputs=outputs,
        itemsize=itemsize,
        **{"threshold": _THREADS_PAY[2], **fields},
    )
    _pending[ctypes.addressof(loop)] = Resolver(loop, make, codes)
    return loop


def make_ufunc(
    name: str,
    doc: str,
    operands: tuple[int, int],
    loops: Sequence[BuiltLoop],
    signature: str | None = None,
    module: str = "fastact",
    identity: int = NO_IDENTITY,
) -> np.ufunc:
    """A numpy.ufunc from its loops, in the order NumPy shall try them."""
    if sum(operands) > MAX_OPERANDS:
        raise ValueError(f"{name} has {sum(operands)} operands; at most {MAX_OPERANDS} are possible")
    make, register = _numpy_api()
    builtin = [built for built in loops if all(d.num < _FIRST_USER_DTYPE for d in built.dtypes)]
    numbers = bytes(d.num for built in builtin for d in built.dtypes)
    kept = (
        (ctypes.c_void_p * len(builtin))(*[_address(built.driver) for built in builtin]),
        (ctypes.c_void_p * len(builtin))(*[ctypes.addressof(built.loop) for built in builtin]),
        ctypes.create_string_buffer(numbers, len(numbers) or 1),
        ctypes.create_string_buffer(name.encode()),
        ctypes.create_string_buffer(doc.encode()),
        ctypes.create_string_buffer((signature or "").encode()),
    )
    functions, data, types, name_text, doc_text, core = (ctypes.addressof(k) for k in kept)
    core_or_none = core if signature is not None else None
    made: np.ufunc = make(
        functions, data, types, len(builtin), *operands, identity, name_text, doc_text, 0, core_or_none
    )
    _loops[id(made)] = loops
    _keep.append(kept)
    for built in loops:
        extra = [d.num for d in built.dtypes if d.num >= _FIRST_USER_DTYPE]
        if extra:
            own = (ctypes.c_int * len(built.dtypes))(*[d.num for d in built.dtypes])
            register(made, extra[0], _address(built.driver), ctypes.addressof(own), ctypes.addressof(built.loop))
    if operands[1] == 1 and builtin and all(built.driver == "elementwise" for built in builtin):
        for built in builtin:
            built.loop.dtype = id(np.dtype(built.dtypes[0]))
        UFunc.from_address(id(made)).vectorcall = _address("call_ufunc")
    vars(made).update(__module__=module, __qualname__=name)
    return made


def block_loop(
    name: str, kernel: Callable[..., Any], operands: tuple[int, int], dtype: str, scalars: int, vectors: int
) -> Loop:
    """The loop of an elementwise kernel for one dtype, compiled on first use and kept on disk."""
    inputs, outputs = operands
    width = 8 if dtype == "float64" else 4  # 16-bit types compute in float32
    # more than four only where they need not share sixteen registers
    vectors = vectors if width == 4 and machine.target().has("avx512f") else min(vectors, 4)
    lanes = vectors * machine.vector_bytes() // width

    def block(kind: int) -> Block:
        values, way = scalars if kind & SCALARS else 0, kind & ~SCALARS
        label = "-".join(filter(None, (name, dtype, str(values), WAYS[way])))
        return Block(label, kernel, dtype, inputs, outputs, lanes, values, way)

    def make(kind: int) -> int:
        def compile() -> Compiled:
            from .compiler import compile_block

            return compile_block(block(kind))

        return machine.load(*disk.load_or_compile(block(kind).name, compile))

    BLOCKS[name, dtype] = block
    return new_loop(
        inputs,
        outputs,
        ITEMSIZE[dtype],
        make,
        BLOCK_FIELDS,
        scalars=scalars,
        lanes=lanes,
        threshold=_THREADS_PAY.get(min(vectors, 4), _THREADS_PAY[2]),
    )


def _in_halves(kernel: Callable[..., Any], dtype: str, x: Any) -> Any:
    from ..graph.replay import in_halves  # when something is compiled

    return in_halves(kernel, dtype, x)


def elementwise(
    name: str,
    kernel: Callable[..., Any],
    operands: tuple[int, int],
    doc: str,
    scalars: int = 0,
    vectors: int = 2,
    label: str | None = None,
) -> np.ufunc:
    """The ufunc of an elementwise kernel, for every dtype; the last `scalars` inputs are usually single values.

    `label` names the compiled code on disk and must be unique to the kernel; by default it is `name`.
    """
    loops = []
    for dtype, dtype_name in known_dtypes():
        less = ITEMSIZE[dtype_name] == 2 and operands[0] == 1
        own = partial(_in_halves, kernel, dtype_name) if less else kernel
        loop = block_loop(label or name, own, operands, dtype_name, scalars, vectors)
        loops.append(BuiltLoop([dtype] * sum(operands), loop, "elementwise"))
    return make_ufunc(name, doc, operands, loops)


def choice(
    count: int,
    first: Callable[..., Any],
    second: Callable[..., Any],
    ufunc: np.ufunc,
    arrays: int,
    parameters: Sequence[Parameter],
) -> Any:
    """The callable of `fastact.cpu.vectorcall`."""
    made = vectorcall.make(_address("choose"), count, first, second)
    vectorcall.take_numbers(made, ufunc, arrays, parameters)
    return made


def with_options(ufunc: np.ufunc, function: Callable[..., Any]) -> np.ufunc:
    """`ufunc`, which takes what NumPy's ufuncs take; a call with anything else goes to `function`."""
    vectorcall.extend(ufunc, _address("choose_options"), function)
    return ufunc


def projection(function: Projection, doc: str) -> np.ufunc:
    """The gufunc of a projection of rows, for every dtype."""
    loops = [
        BuiltLoop([dtype] * 2, _rows_loop(function, dtype_name, 1, 1), "rows") for dtype, dtype_name in known_dtypes()
    ]
    return _without_empty_rows(_called_directly(make_ufunc(function.name, doc, (1, 1), loops, "(n)->(n)"), loops))


def _called_directly(made: np.ufunc, loops: Sequence[BuiltLoop]) -> np.ufunc:
    """Let plain calls of a gufunc of rows go past NumPy."""
    for built in loops:
        built.loop.dtype = id(np.dtype(built.dtypes[0]))
    UFunc.from_address(id(made)).vectorcall = _address("call_rows")
    return made


def _without_empty_rows(made: np.ufunc) -> np.ufunc:
    """Let `made` refuse rows without elements, where NumPy allows it."""
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
        UFunc.from_address(id(made)).process_core_dims = _address("refuse_empty")
    return made


def rows(function: RowFunction, doc: str) -> np.ufunc:
    """The gufunc of a row function, for every dtype; an index operand is int64."""
    inputs = len(function.rows) + len(function.values)
    outputs = function.results + (function.write is not None)
    loops = []
    for dtype, dtype_name in known_dtypes():
        others = [np.dtype(np.int64) if kind == "index" else dtype for kind in function.values]
        loop = _rows_loop(function, dtype_name, inputs, outputs)
        arrays = [dtype] * len(function.rows)
        if function.mask:
            arrays[-1] = np.dtype(np.bool_)
        loops.append(BuiltLoop([*arrays, *others, *[dtype] * outputs], loop, "rows"))
    made = make_ufunc(function.name, doc, (inputs, outputs), loops, function.signature)
    if not function.mask:
        _called_directly(made, loops)
    return _without_empty_rows(made) if function.refuses_empty else made


def _rows_loop(function: RowFunction | Projection, dtype: str, inputs: int, outputs: int) -> Loop:
    if isinstance(function, RowFunction):
        function = function.on_cpu(width(dtype))

    def make(kind: int) -> int:
        beside = kind == BESIDE
        length = kind + SHORTEST - 1 if kind and not beside else None
        label = "-".join(map(str, filter(None, (function.name, dtype, length, "beside" if beside else ""))))

        def compile() -> Compiled:
            from .compiler import compile_rows

            return compile_rows(label, function, dtype, length, beside)

        return machine.load(*disk.load_or_compile(label, compile))

    fields = ["body", *ROWS_OF.values(), "beside"]
    loop = new_loop(inputs, outputs, ITEMSIZE[dtype], make, fields, core_dims=1, arena=arena(function, dtype))
    if isinstance(function, RowFunction):
        loop.longest = LONGEST if machine.vector_bytes() == 64 else 0  # permutations of smaller vectors take more
        loop.scalars, loop.mask = len(function.values), function.mask
        loop.indices = sum(1 << k for k, kind in enumerate(function.values) if kind == "index")
        loop.phases = 2 * len(function.passes) + (function.write is not None)
        bits = width(dtype)
        loop.counted = MOST_COUNTED if function.counts and bits == 32 else 0
        loop.part, loop.long = PART[bits], LONG_ROW[bits] if function.by_parts else 0
        loop.keeps = LONG_ROW[bits] if keeps_terms(function) and ITEMSIZE[dtype] * 8 < bits else 0
    return loop
