"""Losses on a device, fused with the activation they are paired with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..loss_arguments import check_loss
from . import row_templates
from .arrays import CLASSES, FLOATS, describe
from .functions import OPERANDS, keywords, named, same_kind, scalar
from .rows import ROW_KEYWORDS, run

_NAMES = ("logits", "targets", "axis", "weight", "ignore_index", "label_smoothing")
_DEFAULTS = (inspect.Parameter.empty, inspect.Parameter.empty, -1, None, None, 0.0)

_DOC = """`fastact.{name}` on a GPU, to the same accuracy.

    {formula}

Parameters
----------
logits : array
    {operands}.
targets : array
    Classes, int32 or int64, of the shape of `logits` without `axis`, or probabilities of its shape
    and dtype.
axis : int, default -1
    The axis of the classes.
weight : array of shape (classes,), optional
    Factors of the classes' terms, of the dtype of `logits`.
ignore_index : int, optional
    Rows with this target get the value 0 and the gradient 0.
label_smoothing : float, default 0.0
    Share of each target that is spread evenly over all classes, between 0 and 1.
{keywords}

Returns
-------
{returns}

Notes
-----
Every run gives the same bits. Nothing waits for the GPU, so a target that is neither a class nor
`ignore_index` raises no error: its row is NaN.
"""
_VALUE = """value : array
    The loss of each row, in nats, of the shape of `logits` without `axis`. No reduction is
    done."""
_GRADIENT = """
gradient : array
    The derivative of each row's loss by its logits, of the shape of `logits`."""


def loss(name: str) -> Callable[..., Any]:
    """The loss called `name`."""
    suffix = "_with_gradient" if name.endswith("_with_gradient") else ""

    def call(
        logits: Any,
        targets: Any,
        axis: int = -1,
        weight: Any = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        *,
        out: Any = None,
        stream: Any = None,
    ) -> Any:
        x = describe(logits, f"{name}(): logits")
        t = describe(targets, f"{name}(): targets", FLOATS + CLASSES)
        if t.device != x.device:
            raise ValueError(f"{name}(): logits is on device {x.device} but targets on device {t.device}")
        w = None if weight is None else describe(weight, f"{name}(): weight")
        if w is not None:
            same_kind(name, [x, w], ["logits", "weight"])
        index, shape = t.dtype in CLASSES, None if w is None else w.shape
        place, smoothing = check_loss(name, x.shape, t.shape, index, axis, shape, ignore_index, label_smoothing)
        if index:
            way = "i" if t.dtype == "int32" else "l"
            core, ways = ("soft_cross_entropy", f"a{way}") if smoothing else ("cross_entropy", f"a{way}w")
        else:
            same_kind(name, [x, t], ["logits", "targets"])
            core, ways = "soft_cross_entropy", "aq" if smoothing or w is not None else "aa"
        more: tuple[Any, ...] = ()
        if row_templates.is_loss(ways):
            classes = x.shape[place]
            parts = (1 - smoothing, smoothing / classes, 1 - smoothing + smoothing / classes)
            wide = "float64" if x.dtype == "float64" else "float32"
            kind = x.dtype if index else wide  # the shares of a class are only to be rounded once
            ignored = (0, 0)
            if ignore_index is not None and -(2**63) <= ignore_index < 2**63:  # beyond, it is no target's
                ignored = (1, int(ignore_index))
            weights = (0, 0) if w is None else (w.pointer, w.full_strides()[0])
            more = (*weights, *ignored, *(scalar(v, kind) for v in parts))
        shared = None if w is None else {"weight": w}
        labels = ["logits", "targets"]
        return run(name, core + suffix, ways, [x, t], labels, axis, out, stream, loss=more, shared=shared)

    kinds = inspect.Parameter
    operands = [
        kinds(label, kinds.POSITIONAL_ONLY if k < 2 else kinds.POSITIONAL_OR_KEYWORD, default=default)
        for k, (label, default) in enumerate(zip(_NAMES, _DEFAULTS, strict=True))
    ]
    text = _DOC.format(
        name=name,
        formula="sum_c q_c (log(sum_j exp(x_j)) - x_c)" + (" and softmax(x)_c sum_j q_j - q_c" if suffix else ""),
        operands=OPERANDS,
        keywords=ROW_KEYWORDS.replace("out : array,", "out : tuple of two arrays,") if suffix else ROW_KEYWORDS,
        returns=_VALUE + (_GRADIENT if suffix else ""),
    )
    return named(call, name, text, inspect.Signature([*operands, *keywords()]))
