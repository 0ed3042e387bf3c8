"""What cross entropies ask of their arguments, on the CPU and on GPUs, in the same words."""

from __future__ import annotations

from contextlib import suppress
from operator import index
from typing import Any

import numpy as np

Shape = tuple[int, ...]


def whole_number(name: str, option: str, value: Any) -> int:
    """`value`, an option of the function `name`, as an int."""
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{name}(): {option} must be an integer, not {value!r}") from None


def _real_number(name: str, option: str, value: Any) -> float:
    if not isinstance(value, str | bytes | bytearray):
        with suppress(TypeError, ValueError, OverflowError):
            return float(value)
    raise TypeError(f"{name}(): {option} must be a number, not {type(value).__module__}.{type(value).__qualname__}")


def check_loss(
    name: str,
    logits: Shape,
    targets: Shape,
    classes: bool,
    axis: int,
    weight: Shape | None,
    ignore_index: int | None,
    label_smoothing: float,
) -> tuple[int, float]:
    """The axis of the classes, counted from the front, and the label smoothing, if shapes and options fit.

    `classes` says that the targets are classes and no probabilities.
    """
    for option, value in ("axis", axis), ("ignore_index", 0 if ignore_index is None else ignore_index):
        whole_number(name, option, value)
    if not logits:
        raise ValueError(f"{name}(): logits must have at least one dimension: the classes")
    if not -len(logits) <= axis < len(logits):
        raise np.exceptions.AxisError(axis, len(logits), f"{name}()")
    place = axis % len(logits)
    count = logits[place]
    if count == 0:
        raise ValueError(f"{name}(): logits must have at least one class, but the class axis has no element")
    if weight is not None and weight != (count,):
        raise ValueError(f"{name}(): weight must have shape ({count},), one value per class, not {weight}")
    smoothing = _real_number(name, "label_smoothing", label_smoothing)
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(f"{name}(): label_smoothing must be between 0 and 1, not {label_smoothing!r}")
    rows = logits[:place] + logits[place + 1 :]
    if classes and targets != rows:
        raise ValueError(
            f"{name}(): targets must have the shape of logits without the class axis, {rows}, not {targets}"
        )
    if not classes and ignore_index is not None:
        raise ValueError(f"{name}(): ignore_index goes with class indices, not with probabilities")
    if not classes and targets != logits:
        raise ValueError(
            f"{name}(): targets that are probabilities must have the shape of logits, {logits}, not {targets}"
        )
    return place, smoothing
