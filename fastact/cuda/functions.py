"""The public functions: from arrays on a device to a kernel in their stream."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from ..activation import Activation, Form
from ..api import aliases, default_kernel, elementwise_forms
from ..documentation import formula_lines
from ..graph import halves
from ..graph.trace import Graph, trace
from . import driver, half_pieces, half_tables, templates
from .arrays import DeviceArray, describe, is_device_array
from .compiler import cubin
from .layout import Walk, broadcast_shapes, check_apart, check_output, check_overlap, walk
from .ranges import cheap_forms, cheap_forms_for, divisions

_ALIGNMENT = 16
# Kernels whose arithmetic costs nearly as much as memory or more (``tools/cuda_budget.py``).
_SLOW = half_tables.FORMS | {"selu_with_derivative"}
_SLOW_PRODUCTS = frozenset({"gelu_vjp", "gelu_tanh_vjp"})  # the same in float16
_MAX_STRIDED = 2**31 - 1  # elements in one launch of a strided kernel: they are counted in 32 bits


def variant(name: str, dtype: str, places: str) -> templates.Kernel:
    """An elementwise kernel by its public name.

    `places` says where each parameter comes from: "" from its default, else a letter a parameter, "s" for an argument
    of the kernel, "a" for an array.
    """
    record, form = elementwise_forms()[name]
    arrays = len(form.arrays)
    if not places and record.parameters:
        kernel = default_kernel(record, form)
        if kernel is None:
            raise TypeError(f"{name}() needs a value for every parameter")
        return templates.Kernel(kernel, dtype, arrays, len(form.outputs), loads=_loads(name, dtype, places))
    # a kernel's inputs are arrays first: put the parameters back in their order
    order = [k for k, place in enumerate(places) if place == "a"] + [k for k, p in enumerate(places) if p == "s"]

    def reordered(*operands: Any) -> Any:
        given = dict(zip(order, operands[arrays:], strict=True))
        return form.kernel(*operands[:arrays], *(given[k] for k in range(len(order))))

    scalars, loads = places.count("s"), _loads(name, dtype, places)
    return templates.Kernel(reordered, dtype, arrays + places.count("a"), len(form.outputs), scalars, loads)


def _looked_up(name: str, dtype: str, places: str, graph: Graph, arrays: int) -> Graph | None:
    """The graph of a contiguous kernel of a 16-bit dtype that looks its results up, or pieces of them."""
    if dtype == "bfloat16" and not places and name in half_tables.FORMS:
        return half_tables.tabulated(graph, arrays)
    return half_pieces.pieced(graph) if _in_pieces(name, dtype, places) else None


def _in_pieces(name: str, dtype: str, places: str) -> bool:
    return dtype == "float16" and not places and name in half_pieces.FORMS


def _loads(name: str, dtype: str, places: str) -> int:
    """Where memory is not what a kernel waits for, a thread has more elements, which share what it costs to begin."""
    many = name in _SLOW and dtype in ("bfloat16", "float32") and "a" not in places
    if dtype == "float16" and name in _SLOW_PRODUCTS:
        return templates.MANY_LOADS - 1  # else there were too few registers
    if _in_pieces(name, dtype, places):
        # with one more, two results would not fit in the registers of compute capability 7.5
        return templates.MANY_LOADS - (len(elementwise_forms()[name][1].outputs) > 1)
    return templates.MANY_LOADS if many else templates.LOADS


def source(name: str, dtype: str, places: str, layout: str) -> str:
    """The CUDA C of a kernel: `layout` is "contiguous" or "strided"."""
    kernel = variant(name, dtype, places)
    kinds = ["float"] * (kernel.arrays + kernel.scalars)
    graph = trace(kernel.function, kinds, kernel.width)
    if layout == "contiguous":
        tables = _looked_up(name, dtype, places, graph, kernel.arrays)
        if tables is not None:
            return templates.contiguous(kernel, tables)
    form = elementwise_forms()[name][1]
    least = _least(graph, kinds, form, dtype)
    if layout == "strided":
        return templates.strided(kernel, *least)
    usual = _without_rare(kernel, kinds)
    return templates.contiguous(
        kernel, *least, None if usual is None else templates.Usual(*_least(usual, kinds, form, dtype))
    )


def _least(graph: Graph, kinds: Sequence[str], form: Form, dtype: str) -> tuple[Graph, dict[int, str]]:
    """A graph with what results of the dtype need, and its divisions and square roots that may have a cheap form."""
    half = templates.ITEMSIZE[dtype] == 2
    if half and len(kinds) == 1:
        x, less = halves.usual_inputs(graph, dtype), halves.reduced(graph, dtype)
        cheap = cheap_forms_for(less, x)
        # a division whose operands were in range and are no longer would be a call
        if divisions(less) == len(cheap) or divisions(graph) > len(cheap_forms_for(graph, x)):
            return less, cheap
        return graph, cheap_forms_for(graph, x)
    if half and len(kinds) == len(form.arrays) == 2:
        graph = halves.reduced_product(graph, dtype)
    return graph, cheap_forms(graph, kinds, len(form.arrays) - 1)


def _without_rare(kernel: templates.Kernel, kinds: Sequence[str]) -> Graph | None:
    """A kernel without what is rare, if there is such and arrays say where: a parameter may make it the rule."""
    graph = trace(kernel.function, kinds, kernel.width, without_rare=True)
    if graph.rare is None:
        return None
    deciding = [graph.nodes[k] for k in graph.used((graph.rare.number,))]
    return None if any(node.op == "input" and node.value >= kernel.arrays for node in deciding) else graph


@cache
def _kernel(name: str, dtype: str, places: str, layout: str, device: int) -> Any:
    capability = driver.capability(device)
    label = "-".join(filter(None, [name, dtype, places or "default", layout]))
    return driver.load(cubin(label, partial(source, name, dtype, places, layout), capability), layout)


def enqueue(
    name: str, places: str, operands: Sequence[DeviceArray], scalars: Sequence[Any], way: Walk, stream: int
) -> None:
    """Launch the kernel for operands of one device and dtype, outputs last."""
    dtype, device = operands[0].dtype, operands[0].device
    pointers = [a.pointer for a in operands]
    if way.contiguous:
        n = way.size
        kernel = _kernel(name, dtype, places, "contiguous", device)
        tile = templates.THREADS * tile_elements(name, dtype, places)
        whole = n // tile
        for p in pointers:
            if p % _ALIGNMENT:
                whole = 0
        blocks = -(-n // tile)
        driver.launch(device, stream, kernel, blocks, templates.THREADS, (*pointers, *scalars, n, whole))
        return
    kernel = _kernel(name, dtype, places, "strided", device)
    item = templates.ITEMSIZE[dtype]
    for offsets, part in pieces(way, _MAX_STRIDED):
        moved = [p + o * item for p, o in zip(pointers, offsets, strict=True)]
        blocks = -(-part.size // templates.THREADS)
        arguments = (*moved, *scalars, part.size, *geometry(part))
        driver.launch(device, stream, kernel, blocks, templates.THREADS, arguments)


@cache
def tile_elements(name: str, dtype: str, places: str) -> int:
    """How many elements a thread of the contiguous kernel computes."""
    return variant(name, dtype, places).per_thread


def geometry(way: Walk) -> tuple[int, ...]:
    """The dimensions of a walk as arguments of a kernel, the fastest first."""
    dims, padding = len(way.shape), (0,) * (templates.MAX_DIMS - len(way.shape))
    arguments = (dims, *way.shape[::-1], *padding)
    for strides in way.strides:
        arguments += (*strides[::-1], *padding)
    return arguments


def pieces(way: Walk, most: int) -> Iterator[tuple[tuple[int, ...], Walk]]:
    """A walk of more dimensions or elements than a kernel takes as several: offsets of the operands, and a walk."""
    if len(way.shape) <= templates.MAX_DIMS and way.size <= most:
        yield (0,) * len(way.strides), way
        return
    n = way.shape[0]
    if len(way.shape) > templates.MAX_DIMS or n == 1:  # without the slowest dimension
        rest = Walk(way.shape[1:], tuple(s[1:] for s in way.strides))
        parts = [(k, rest) for k in range(n)]
    else:
        half = n // 2
        parts = [(k, Walk((m, *way.shape[1:]), way.strides)) for k, m in ((0, half), (half, n - half))]
    for k, part in parts:
        for offsets, piece in pieces(part, most):
            yield tuple(o + k * s[0] for o, s in zip(offsets, way.strides, strict=True)), piece


def scalar(value: Any, dtype: str) -> Any:
    """A parameter as a kernel takes it: rounded to the arrays' dtype first, as NumPy does with a Python number."""
    if dtype == "float64":
        return np.float64(value)
    if dtype == "float32":
        return np.float32(value)
    if dtype == "float16":
        return np.float32(np.float16(value))
    bits = int(np.float32(value).view(np.uint32))
    if value == value:
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return np.uint32(bits).view(np.float32)


def number(name: str, label: str, value: Any, dtype: str, nonzero: bool) -> Any:
    """An argument that is a number, as a kernel takes it."""
    kind = value.dtype.name if isinstance(value, np.generic) else ""
    if not isinstance(value, int | float | np.integer | np.floating | np.bool_) and kind != "bfloat16":
        raise TypeError(
            f"{name}(): {label} must be a number or an array on the GPU, "
            f"not {type(value).__module__}.{type(value).__qualname__}"
        )
    try:
        found = scalar(value, dtype)
    except OverflowError:
        raise ValueError(f"{name}(): {label} is an int too large for {dtype}") from None
    if nonzero and found == 0:  # rounded, so that it is 0 where the kernel has it
        raise ValueError(f"{name}(): {label} must not be 0, but it is {value!r}")
    return found


def stream_handle(name: str, stream: Any) -> int | None:
    """The handle of a stream, given as such or as a stream of any library, to the function `name`; None if none is."""
    if stream is None or isinstance(stream, int):
        return stream
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        return int((protocol() if callable(protocol) else protocol)[1])
    for attribute in ("cuda_stream", "ptr", "handle"):  # torch, cupy, numba
        found = getattr(stream, attribute, None)
        if found is not None:
            return int(getattr(found, "value", found) or 0)
    raise TypeError(f"{name}(): stream must be a CUDA stream or its handle, not {type(stream).__qualname__}")


def stream_for(name: str, stream: int | None, like: DeviceArray, others: Sequence[DeviceArray]) -> int:
    """The handle of the stream to use: that which is given, or the one that `like` is used in, as all others are."""
    if stream is not None:
        return stream
    handle = like.library.stream(like.owner, like.device)
    for other in others:
        if other is like or (other.library is like.library and like.library.current):
            continue
        its = other.library.stream(other.owner, other.device)
        if its is None or handle is None:
            handle = its if handle is None else handle
        elif its != handle and not {its, handle} <= driver.DEFAULT_STREAMS:
            raise ValueError(
                f"{name}(): operands are used in different streams ({like.library.name}: {handle:#x}, "
                f"{other.library.name}: {its:#x}): see to their order, and pass stream="
            )
    return handle or 0


def same_kind(name: str, arrays: Sequence[DeviceArray], labels: Sequence[str]) -> None:
    """Refuse operands of different dtypes or devices."""
    first = arrays[0]
    for array, label in zip(arrays[1:], labels[1:], strict=True):
        if array.dtype != first.dtype:
            raise TypeError(f"{name}(): {labels[0]} is {first.dtype} but {label} is {array.dtype}; convert one of them")
        if array.device != first.device:
            raise ValueError(f"{name}(): {labels[0]} is on device {first.device} but {label} on device {array.device}")


def results(
    name: str,
    out: Any,
    count: int,
    shape: Sequence[tuple[int, ...]],
    inputs: Sequence[DeviceArray],
    like: DeviceArray,
    stream: int | None,
    shared: Mapping[str, DeviceArray] | None = None,
) -> tuple[tuple[Any, ...], list[DeviceArray]]:
    """The outputs, given or new: as the caller sees them, and as kernels do.

    `stream` is that which the caller has given, or None, and `shared` are inputs that every part of an output depends
    on, by what they are called.
    """
    given = (None,) * count if out is None else out if isinstance(out, tuple) else (out,)
    if len(given) != count:
        raise ValueError(f"{name}(): out must be {count} arrays in a tuple, one for each result, not {len(given)}")
    owners: list[Any] = []
    described: list[DeviceArray] = []
    for k, (own, wanted) in enumerate(zip(given, shape, strict=True)):
        label = "out" if count == 1 else f"out[{k}]"
        made = like.library.empty(like.owner, wanted, stream) if own is None else own
        array = describe(made, f"{name}(): {label}")
        if own is None and array.read_only:
            raise TypeError(f"{name}(): arrays of {type(made).__module__} must not be written to: pass out=")
        if own is not None:
            check_output(name, array, label, wanted, like.dtype)
            if array.device != like.device:
                raise ValueError(f"{name}(): {label} is on device {array.device}, the operands on {like.device}")
            for j, other in enumerate(inputs):
                check_overlap(name, array, label, other, f"input {j}")
            for other_label, other in (shared or {}).items():
                check_apart(name, array, label, other, other_label)
            for j, other in enumerate(described):
                check_overlap(name, array, label, other, f"out[{j}]")
        owners.append(made)
        described.append(array)
    return tuple(owners), described


@cache
def elementwise(name: str) -> Callable[..., Any]:
    """The function called `name`."""
    record, form = elementwise_forms()[name]
    parameters = record.parameters
    count, outputs = len(form.arrays), len(form.outputs)
    labels = form.arrays
    defaults = tuple(p.default for p in parameters)
    signature = _signature(form, record)
    usual = -1 if None in defaults else count  # how many arguments need no look at the signature

    def function(*args: Any, out: Any = None, stream: Any = None, **kwargs: Any) -> Any:
        if kwargs or len(args) != usual:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            args = tuple(bound.arguments[p] for p in signature.parameters if p not in ("out", "stream"))
        given = args[count:]
        arrays = [describe(x, f"{name}(): {label}") for x, label in zip(args[:count], labels, strict=True)]
        names = list(labels)
        places, scalars = "", []
        if given and not all(type(v) in (int, float) and v == d for v, d in zip(given, defaults, strict=True)):
            for parameter, value in zip(parameters, given, strict=True):
                if is_device_array(value):
                    arrays.append(describe(value, f"{name}(): {parameter.name}"))
                    names.append(parameter.name)
                    places += "a"
                    continue
                scalars.append(number(name, parameter.name, value, arrays[0].dtype, parameter.nonzero))
                places += "s"
        same_kind(name, arrays, names)
        like = arrays[count - 1]
        shape = broadcast_shapes(name, [a.shape for a in arrays], names)
        stream = stream_handle(name, stream)
        owners, made = results(name, out, outputs, (shape,) * outputs, arrays, like, stream)
        operands = [*arrays, *made]
        way = walk(operands, shape)
        if 0 not in shape:
            enqueue(name, places, operands, scalars, way, stream_for(name, stream, like, operands))
        return owners[0] if outputs == 1 else owners

    return named(function, name, _document(record, form), signature)


def named(function: Any, name: str, doc: str, signature: inspect.Signature) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    function.__module__ = "fastact.cuda"
    function.__doc__, function.__signature__ = doc, signature
    made: Callable[..., Any] = function
    return made


def keywords() -> list[inspect.Parameter]:
    """The keywords of every function."""
    return [inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=None) for k in ("out", "stream")]


def _signature(form: Form, record: Activation) -> inspect.Signature:
    kinds = inspect.Parameter
    operands = [kinds(a, kinds.POSITIONAL_ONLY) for a in form.arrays]
    operands += [
        kinds(p.name, kinds.POSITIONAL_OR_KEYWORD, default=kinds.empty if p.default is None else p.default)
        for p in record.parameters
    ]
    return inspect.Signature(operands + keywords())


OPERANDS = """float16, bfloat16, float32 or float64 on a GPU, of PyTorch, CuPy, Numba or anything with
    ``__cuda_array_interface__`` or DLPack"""
KEYWORDS = """out : array, optional
    Where the result goes: of its shape and dtype, and either one of the inputs or apart from them.
    By default the library of the last input makes it.
stream : optional
    A CUDA stream or its handle; by default the current stream of the library of the last input."""


def _document(record: Activation, form: Form) -> str:
    lines = [f"`fastact.{form.name}` on a GPU, with the same bits.", "", *formula_lines(record, form), ""]
    lines += ["Parameters", "----------", f"{', '.join(form.arrays)} : array", f"    {OPERANDS}; they broadcast."]
    for p in record.parameters:
        default = "" if p.default is None else f", default {p.default:g}"
        lines += [f"{p.name} : number or array{default}", f"    {p.doc}"]
    several = "a tuple of them for several results" if len(form.outputs) > 1 else ""
    lines += [KEYWORDS, "", "Returns", "-------", f"{', '.join(form.outputs)} : array", f"    {several}".rstrip()]
    return "\n".join(line for line in lines if line is not None).rstrip() + "\n"


def find(name: str) -> Callable[..., Any]:
    """The elementwise function called `name`, also by a second name."""
    return elementwise(aliases().get(name, name))
