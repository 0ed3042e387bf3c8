"""The row functions on a device: softmax and its relatives along an axis."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from ..api import LOSSES, ROWS, WITH_OPTIONS
from ..documentation_rows import ROW_DOCS
from ..kernels import cross_entropy
from ..kernels import row_options as options
from ..kernels.rows import MOST_COUNTED, RowFunction
from ..loss_arguments import whole_number
from . import driver, row_support, row_templates
from .arrays import ITEMSIZE, DeviceArray, describe
from .compiler import cubin
from .functions import (
    KEYWORDS,
    OPERANDS,
    geometry,
    keywords,
    named,
    pieces,
    results,
    same_kind,
    stream_for,
    stream_handle,
)
from .layout import broadcast_shapes, expand, merged

_ALIGNMENT = 16
_MAX_ROWS = 2**31 - 1  # in one launch: rows are counted in 32 bits
_CORES = (
    options.SOFTMAX_SCALED,
    options.SOFTMAX_MASKED,
    options.LOG_SOFTMAX_SCALED,
    options.LOG_SOFTMAX_MASKED,
    cross_entropy.CROSS_ENTROPY,
    cross_entropy.CROSS_ENTROPY_WITH_GRADIENT,
    cross_entropy.SOFT_CROSS_ENTROPY,
    cross_entropy.SOFT_CROSS_ENTROPY_WITH_GRADIENT,
)


@cache
def row_functions() -> Mapping[str, RowFunction]:
    """The row functions that take nothing but arrays, by public name."""
    return {
        name: function if isinstance(function, RowFunction) else row_support.row_function(function)
        for name, function in ROWS.items()
    }


@cache
def kernels() -> Mapping[str, RowFunction]:
    """Everything there are kernels of."""
    return {**row_functions(), **{core.name: core for core in _CORES}}


@cache
def _kernel(name: str, dtype: str, how: row_templates.Share, ways: str, device: int) -> Any:
    label = f"{name}-{dtype}-{how.label}-{ways}"
    return driver.load(cubin(label, partial(source, name, dtype, how, ways), driver.capability(device)), "rows")


def source(name: str, dtype: str, how: row_templates.Share, ways: str) -> str:
    """The CUDA C of a row function."""
    return row_templates.row_kernel(kernels()[name], dtype, how, ways)


ROW_KEYWORDS = KEYWORDS.replace("the last input", "the first input")


@dataclass(frozen=True, slots=True)
class Operand:
    """What a kernel gets: an address, or where counting begins, the strides over rows, and the one within rows."""

    pointer: int
    itemsize: int
    outer: tuple[int, ...]
    core: int | None
    words: bool = False  # whether it is read or written 16 bytes at a time, if all rows lie so that they can


def _without(values: Sequence[int], axis: int) -> tuple[int, ...]:
    return tuple(values[:axis]) + tuple(values[axis + 1 :])


def _rows_of(array: DeviceArray, full: tuple[int, ...], axis: int, words: bool = True) -> Operand:
    strides = expand(array, full)
    return Operand(array.pointer, ITEMSIZE[array.dtype], _without(strides, axis), strides[axis], words)


def _one_a_row(array: DeviceArray, shape: tuple[int, ...], core: int | None = None) -> Operand:
    return Operand(array.pointer, ITEMSIZE[array.dtype], expand(array, shape), core)


def _count(shape: tuple[int, ...], length: int, causal: bool) -> Operand:
    """How many entries of each row count: all, or one more from row to row along the last axis."""
    if not causal:
        return Operand(length, 1, (0,) * len(shape), None)
    return Operand(1, 1, (*(0,) * (len(shape) - 1), 1), None)


def enqueue(
    name: str,
    ways: str,
    like: DeviceArray,
    operands: Sequence[Operand],
    shape: tuple[int, ...],
    length: int,
    stream: int,
    numbers: Sequence[Any] = (),
    loss: Sequence[Any] = (),
) -> None:
    """Launch the kernel over rows; the last operand is an output and gives the order."""
    last = operands[-1].outer
    order = sorted((d for d, n in enumerate(shape) if n != 1), key=lambda d: -abs(last[d]))
    way = merged([shape[d] for d in order], [[o.outer[d] for d in order] for o in operands])
    item = ITEMSIZE[like.dtype]
    vector = length * item % _ALIGNMENT == 0
    for k, operand in enumerate(operands):
        if operand.words:
            vector = vector and operand.core == 1 and operand.pointer % _ALIGNMENT == 0
            vector = vector and all(s * item % _ALIGNMENT == 0 for s in way.strides[k])
    how = row_templates.share(kernels()[name], length, like.dtype, vector)
    kernel = _kernel(name, like.dtype, how, ways, like.device)
    core = [o.core for o in operands if o.core is not None]
    for offsets, part in pieces(way, _MAX_ROWS):
        moved = [o.pointer + offset * o.itemsize for o, offset in zip(operands, offsets, strict=True)]
        arguments = (*moved, *numbers, part.size, length, *geometry(part), *core, *loss)
        driver.launch(like.device, stream, kernel, -(-part.size // how.rows), how.block, arguments)


def axis_of(name: str, axis: int, ndim: int) -> int:
    axis = whole_number(name, "axis", axis)
    if ndim == 0:
        raise ValueError(f"{name}() needs at least one dimension: the rows")
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name}(): axis {axis} is out of range for an array of {ndim} dimensions")
    return axis % ndim


def run(
    name: str,
    core: str,
    ways: str,
    arrays: Sequence[DeviceArray],
    labels: Sequence[str],
    axis: int,
    out: Any,
    stream: Any,
    *,
    causal: bool = False,
    numbers: Sequence[Any] = (),
    loss: Sequence[Any] = (),
    shared: Mapping[str, DeviceArray] | None = None,
) -> Any:
    """Apply the row function `core` to arrays, in the order of `ways` (see `row_templates`), for the caller `name`.

    `shared` are arrays that every row depends on, by what they are called.
    """
    function = kernels()[core]
    given = [(way, way not in "il" and k < len(function.rows)) for k, way in enumerate(ways) if way not in "scw"]
    whole = [(a, label) for a, label, (_, row) in zip(arrays, labels, given, strict=True) if row]
    ndim = max(len(a.shape) for a, _ in whole)
    place = axis_of(name, axis, ndim)
    if axis >= 0 and any(len(a.shape) != ndim for a, _ in whole):  # on the CPU it is counted in each operand
        dims = ", ".join(f"{label} {len(a.shape)}" for a, label in whole)
        raise ValueError(f"{name}(): axis {axis} must be counted from the end if dimensions differ in number: {dims}")
    full = broadcast_shapes(name, [a.shape for a, _ in whole], [label for _, label in whole])
    length, shape = full[place], _without(full, place)
    for array, label, (_, row) in zip(arrays, labels, given, strict=True):
        if not row and broadcast_shapes(name, [shape, array.shape], (labels[0], label)) != shape:
            raise ValueError(f"{name}(): {label} has the shape {array.shape}, which does not go with {shape}")
    if length == 0 and function.refuses_empty:
        raise ValueError(f"{name}(): the axis {axis} has no element")
    if length > MOST_COUNTED and arrays[0].dtype != "float64" and function.counts:
        raise ValueError(f"{name}(): rows of {arrays[0].dtype} may have {MOST_COUNTED} elements at most, not {length}")
    like, count = arrays[0], function.results + (function.write is not None)
    wanted = [shape] * function.results + [full] * (function.write is not None)
    stream = stream_handle(name, stream)
    owners, made = results(name, out, count, wanted, arrays, like, stream, shared)
    operands, left = [], iter(arrays)
    for k, way in enumerate(ways):
        if way == "c":
            operands.append(_count(shape, length, causal))
        elif way not in "sw" and k < len(function.rows) and way not in "il":
            operands.append(_rows_of(next(left), full, place, way == "a"))
        elif way not in "sw":
            operands.append(_one_a_row(next(left), shape, 0 if k < len(function.rows) else None))
    operands += [_one_a_row(made[k], shape) for k in range(function.results)]
    if function.write is not None:
        operands.append(_rows_of(made[-1], full, place))
    if 0 not in shape and (length or function.results):
        handle = stream_for(name, stream, like, [*arrays, *(shared or {}).values(), *made])
        enqueue(core, ways, like, operands, shape, length, handle, numbers, loss)
    return owners[0] if count == 1 else owners


@cache
def plain(name: str) -> Callable[..., Any]:
    """The function called `name` of nothing but arrays."""
    function = row_functions()[name]
    count, ways = len(function.rows) + len(function.values), row_templates.usual_ways(function)
    labels = _labels(name, count)

    def call(*args: Any, axis: int = -1, out: Any = None, stream: Any = None) -> Any:
        if len(args) != count:
            raise TypeError(f"{name}{signature} takes {count} arrays but {len(args)} were given")
        arrays = [describe(x, f"{name}(): {label}") for x, label in zip(args, labels, strict=True)]
        same_kind(name, arrays, labels)
        return run(name, name, ways, arrays, labels, axis, out, stream)

    kinds = inspect.Parameter
    operands = [kinds(label, kinds.POSITIONAL_ONLY) for label in labels]
    signature = inspect.Signature([*operands, kinds("axis", kinds.KEYWORD_ONLY, default=-1), *keywords()])
    return named(call, name, _document(name, labels), signature)


def row_function(name: str) -> Callable[..., Any]:
    """The function called `name`."""
    if name in LOSSES:
        from . import losses

        return losses.loss(name)
    if name in WITH_OPTIONS:
        from . import row_options

        return row_options.function(name, plain(name))
    return plain(name)


def _labels(name: str, count: int) -> tuple[str, ...]:
    """The names of the operands, as the documentation of the function on the CPU has them."""
    section = ROW_DOCS[name].split("Parameters\n----------\n")[1]
    return tuple(line.split(" : ")[0] for line in section.splitlines() if " : array_like" in line)[:count]


def _document(name: str, labels: Sequence[str]) -> str:
    formula = ROW_DOCS[name].split("\n\n")[1]
    return f"""`fastact.{name}` on a GPU, to the same accuracy, with the same bits in every run.

{formula}

Parameters
----------
{", ".join(labels)} : array
    {OPERANDS}.
axis : int, default -1
    The axis of the rows.
{ROW_KEYWORDS}

Returns
-------
array
"""
