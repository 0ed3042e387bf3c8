"""The row functions on a device: softmax and its relatives along an axis."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from ..api import ROWS
from ..documentation_rows import ROW_DOCS
from ..kernels.rows import RowFunction
from . import driver, row_templates
from .arrays import ITEMSIZE, DeviceArray, describe
from .compiler import cubin
from .functions import KEYWORDS, OPERANDS, geometry, keywords, named, pieces, results, same_kind, stream_handle
from .layout import broadcast_shapes, expand, merged

_ALIGNMENT = 16
_MAX_ROWS = 2**31 - 1  # in one launch: rows are counted in 32 bits


def row_functions() -> dict[str, RowFunction]:
    """The row functions there are kernels for, by public name."""
    return {name: function for name, function in ROWS.items() if isinstance(function, RowFunction)}


@cache
def _kernel(name: str, dtype: str, how: row_templates.Share, device: int) -> Any:
    label = f"{name}-{dtype}-{how.label}"
    return driver.load(cubin(label, partial(source, name, dtype, how), driver.capability(device)), "rows")


def source(name: str, dtype: str, how: row_templates.Share) -> str:
    """The CUDA C of a row function."""
    return row_templates.row_kernel(row_functions()[name], dtype, how)


def enqueue(
    name: str,
    operands: Sequence[DeviceArray],
    outer: Sequence[tuple[int, ...]],
    core: Sequence[int],
    shape: tuple[int, ...],
    length: int,
    stream: int,
) -> None:
    """Launch the kernel over rows; `outer` has the strides over rows of every operand, `core` those within rows."""
    first, function = operands[0], row_functions()[name]
    order = sorted((d for d, n in enumerate(shape) if n != 1), key=lambda d: -abs(outer[-1][d]))
    way = merged([shape[d] for d in order], [[s[d] for d in order] for s in outer])
    item = ITEMSIZE[first.dtype]
    rows = [k for k, label in enumerate(row_templates.operands(function)) if label[0] in "xy"]
    vector = all(step == 1 for step in core) and length * item % _ALIGNMENT == 0
    for k in rows:
        vector = vector and operands[k].pointer % _ALIGNMENT == 0
        vector = vector and all(s * item % _ALIGNMENT == 0 for s in way.strides[k])
    how = row_templates.share(length, first.dtype, vector)
    kernel = _kernel(name, first.dtype, how, first.device)
    for offsets, part in pieces(way, _MAX_ROWS):
        moved = [a.pointer + o * ITEMSIZE[a.dtype] for a, o in zip(operands, offsets, strict=True)]
        count = part.size
        arguments = (*moved, count, length, *geometry(part), *core)
        driver.launch(first.device, stream, kernel, -(-count // how.rows), how.block, arguments)


def _axis(name: str, axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name}(): axis {axis} is out of range for an array of {ndim} dimensions")
    return axis % ndim


def _without(values: Sequence[int], axis: int) -> tuple[int, ...]:
    return tuple(values[:axis]) + tuple(values[axis + 1 :])


@cache
def row_function(name: str) -> Callable[..., Any]:
    """The function called `name`."""
    function = row_functions()[name]
    rows, values = len(function.rows), len(function.values)
    labels = _labels(name, rows + values)

    def call(*args: Any, axis: int = -1, out: Any = None, stream: Any = None) -> Any:
        if len(args) != rows + values:
            raise TypeError(f"{name}{signature} takes {rows + values} arrays but {len(args)} were given")
        arrays = [describe(x, f"{name}(): {label}") for x, label in zip(args, labels, strict=True)]
        same_kind(name, arrays, labels)
        ndim = max(len(a.shape) for a in arrays[:rows])
        if ndim == 0:
            raise ValueError(f"{name}() needs at least one dimension: the rows")
        place = _axis(name, axis, ndim)
        full = broadcast_shapes(name, [a.shape for a in arrays[:rows]], labels[:rows])
        length, shape = full[place], _without(full, place)
        for array, label in zip(arrays[rows:], labels[rows:], strict=True):
            if broadcast_shapes(name, [shape, array.shape], (labels[0], label)) != shape:
                raise ValueError(f"{name}(): {label} has the shape {array.shape}, which does not go with {shape}")
        if length == 0 and function.refuses_empty:
            raise ValueError(f"{name}(): the axis {axis} has no element")
        count = function.results + (function.write is not None)
        wanted = [shape] * function.results + [full] * (function.write is not None)
        owners, made = results(name, out, count, wanted, arrays, arrays[0])
        outer, core = [], []
        for array in arrays[:rows]:
            strides = expand(array, full)
            outer.append(_without(strides, place))
            core.append(strides[place])
        outer += [expand(array, shape) for array in arrays[rows:]]
        outer += [made[k].full_strides() for k in range(function.results)]
        if function.write is not None:
            strides = made[-1].full_strides()
            outer.append(_without(strides, place))
            core.append(strides[place])
        if 0 not in shape and (length or function.results):
            library = arrays[0].library
            handle = library.stream(arrays[0].owner, arrays[0].device) if stream is None else stream_handle(stream)
            enqueue(name, [*arrays, *made], outer, core, shape, length, handle)
        return owners[0] if count == 1 else owners

    kinds = inspect.Parameter
    operands = [kinds(label, kinds.POSITIONAL_ONLY) for label in labels]
    signature = inspect.Signature([*operands, kinds("axis", kinds.KEYWORD_ONLY, default=-1), *keywords()])
    return named(call, name, _document(name, labels), signature)


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
{KEYWORDS}

Returns
-------
array
"""


__all__ = ["row_function", "row_functions"]
