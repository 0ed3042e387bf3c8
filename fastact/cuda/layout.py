"""How operands lie in memory together: broadcasting, dimensions that can be walked as one, overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .arrays import ITEMSIZE, DeviceArray

_OVERLAP_WORK = 10_000  # what may be spent on finding out whether two strided arrays share an element


@dataclass(frozen=True, slots=True)
class Walk:
    """Dimensions, the slowest first, with the stride of every operand in elements, 0 where it is broadcast."""

    shape: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def contiguous(self) -> bool:
        """Whether every operand's elements lie one after the other, in the same order."""
        return len(self.shape) == 0 or (len(self.shape) == 1 and all(s == (1,) for s in self.strides))


def broadcast_shapes(name: str, shapes: Sequence[tuple[int, ...]], labels: Sequence[str]) -> tuple[int, ...]:
    """The common shape of operands."""
    if all(s == shapes[0] for s in shapes):
        return shapes[0]
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        listed = ", ".join(f"{label} {shape}" for label, shape in zip(labels, shapes, strict=True))
        raise ValueError(f"{name}(): the operands have shapes that do not go together: {listed}") from None


def expand(array: DeviceArray, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of an operand broadcast to `shape`."""
    missing = len(shape) - len(array.shape)
    strides = array.full_strides()
    return (0,) * missing + tuple(
        0 if own == 1 and n != 1 else s for own, n, s in zip(array.shape, shape[missing:], strides, strict=True)
    )


def walk(operands: Sequence[DeviceArray], shape: tuple[int, ...]) -> Walk:
    """How to go over all elements; the last operand, an output, gives the order."""
    if all(a.strides is None and a.shape == shape for a in operands):
        return Walk((prod(shape),), ((1,),) * len(operands))
    strides = [expand(a, shape) for a in operands]
    order = sorted((d for d, n in enumerate(shape) if n != 1), key=lambda d: -abs(strides[-1][d]))
    return merged([shape[d] for d in order], [[s[d] for d in order] for s in strides])


def merged(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> Walk:
    """The same walk with as few dimensions as possible."""
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for d, n in enumerate(shape):
        if sizes and all(own[-1] == s[d] * n for own, s in zip(steps, strides, strict=True)):
            sizes[-1] *= n
            for own, s in zip(steps, strides, strict=True):
                own[-1] = s[d]
        else:
            sizes.append(n)
            for own, s in zip(steps, strides, strict=True):
                own.append(s[d])
    return Walk(tuple(sizes), tuple(tuple(s) for s in steps))


class _Addresses:
    """What NumPy needs to know to compare the memory of arrays; it never looks into it."""

    def __init__(self, array: DeviceArray) -> None:
        item = ITEMSIZE[array.dtype]
        self.__array_interface__ = {
            "shape": array.shape,
            "strides": tuple(s * item for s in array.full_strides()),
            "data": (array.pointer, True),
            "typestr": f"|V{item}",
            "version": 3,
        }


def _addresses(array: DeviceArray) -> np.ndarray[Any, Any]:
    return np.asarray(_Addresses(array))


def check_output(name: str, out: DeviceArray, label: str, shape: tuple[int, ...], dtype: str) -> None:
    """Refuse what cannot take a result."""
    if out.shape != shape:
        raise ValueError(f"{name}(): {label} has the shape {out.shape}, the result {shape}")
    if out.dtype != dtype:
        raise TypeError(f"{name}(): {label} is {out.dtype}, the result {dtype}")
    if out.read_only:
        raise ValueError(f"{name}(): {label} is read-only")
    if out.strides is not None and any(s == 0 and n > 1 for s, n in zip(out.strides, out.shape, strict=True)):
        raise ValueError(f"{name}(): {label} is broadcast: several results would go to one place")
    if out.strides is not None and out.size > 1 and _meets_itself(_addresses(out)):
        raise ValueError(f"{name}(): {label} has several elements in one place, as of a window that slides")


def _meets_itself(array: np.ndarray[Any, Any]) -> bool:
    """Whether two elements surely share memory."""
    reach = 0
    for step, n in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if step <= reach:
            break
        reach += step * (n - 1)
    else:  # each step leads beyond all of the smaller ones
        return False
    # if any two do, then two of which one is at 0 in the first dimension in which they differ, and all before
    for d, n in enumerate(array.shape):
        first = array[(0,) * d]
        if n > 1 and _share(first[1:], first[:1], unknown=False):
            return True
    return False


def _share(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], unknown: bool) -> bool:
    """Whether two arrays share memory; `unknown` if it takes too long to find out."""
    try:
        return bool(np.shares_memory(a, b, max_work=_OVERLAP_WORK))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return unknown


def _same_array(a: DeviceArray, b: DeviceArray) -> bool:
    if a.pointer != b.pointer or a.dtype != b.dtype or a.shape != b.shape:
        return False
    # whatever the stride is of a dimension that has one element
    return all(n == 1 or s == t for n, s, t in zip(a.shape, a.full_strides(), b.full_strides(), strict=True))


def _apart(a: DeviceArray, b: DeviceArray) -> bool:
    """Whether two arrays surely share no memory."""
    if a.size == 0 or b.size == 0:
        return True
    if a.strides is None and b.strides is None:
        end, other_end = (v.pointer + v.size * ITEMSIZE[v.dtype] for v in (a, b))  # a mask has items of its own
        return end <= b.pointer or other_end <= a.pointer
    return not _share(_addresses(a), _addresses(b), unknown=True)


def check_apart(name: str, out: DeviceArray, label: str, other: DeviceArray, other_label: str) -> None:
    """Refuse an output that shares memory with what all of it depends on."""
    if not _apart(out, other):
        raise ValueError(f"{name}(): {label} overlaps {other_label}, which would be overwritten before it is read")


def check_overlap(name: str, out: DeviceArray, label: str, other: DeviceArray, other_label: str) -> None:
    """Refuse an output that shares memory with another operand, unless the two are the same array."""
    if out.size and _same_array(out, other):
        if other_label.startswith("out"):
            raise ValueError(f"{name}(): {label} and {other_label} are the same memory")
        return
    if not _apart(out, other):
        raise ValueError(
            f"{name}(): {label} overlaps {other_label} without being the same array: elements would be overwritten "
            "before they are read"
        )
