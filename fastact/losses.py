"""Losses fused with the activation they are paired with."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .documentation import ROW_DTYPES
from .kernels.cross_entropy import LOSSES
from .kernels.rows import RowFunction
from .loss_arguments import check_loss


@cache
def _core(function: RowFunction) -> np.ufunc:
    from .cpu.ufunc import rows as make

    made = make(function, "Core of cross_entropy_with_logits.")
    vars(made)["__module__"] = "fastact.ufuncs"  # where pickle finds it again
    return made


def core(name: str) -> np.ufunc | None:
    """The ufunc called `name` behind a loss, if there is one."""
    functions = [function for behind in LOSSES.values() for function in behind]
    return next((_core(function) for function in functions if function.name == name), None)


def cores(name: str) -> list[np.ufunc]:
    """The ufuncs behind a loss."""
    return [_core(function) for function in LOSSES[name]]


@cache
def _one(dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    one = np.ones((), dtype)
    one.setflags(write=False)
    return one


_USUAL = {dtype: _one(dtype) for dtype in map(np.dtype, ("float32", "float64", "float16"))}
_INT64, _UINT64 = np.dtype(np.int64), np.dtype(np.uint64)


def _within(indices: np.ndarray[Any, Any], classes: int) -> bool:
    """Whether int64 of which there is at least one are classes.

    What is negative is large if its bits are taken to have no sign; and looking for the largest by its place takes
    NumPy a fraction of the time of a reduction.
    """
    large = indices.view(_UINT64)
    return bool(large.item(large.argmax()) < classes)


@cache
def _of_classes(name: str) -> np.ufunc:
    return _core(LOSSES[name].classes)


def _usual(
    name: str, logits: Any, targets: Any, axis: int, weight: Any, ignore_index: Any, label_smoothing: Any
) -> Any:
    """The loss of plain arrays with classes along the last axis, at the least cost; None if they are anything else."""
    if weight is not None or ignore_index is not None or type(label_smoothing) is not float or label_smoothing != 0.0:
        return None
    if type(logits) is not np.ndarray or type(targets) is not np.ndarray or type(axis) is not int:
        return None
    shape, one = logits.shape, _USUAL.get(logits.dtype)
    if one is None or targets.dtype is not _INT64 or not shape or shape[:-1] != targets.shape or targets.size == 0:
        return None
    if (axis != -1 and axis != len(shape) - 1) or not _within(targets, shape[-1]):
        return None
    return _of_classes(name)(logits, targets, one)


def _is_index(targets: np.ndarray[Any, Any]) -> bool:
    return targets.dtype.kind in "iu"


def _check_logits(name: str, logits: Any) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = np.asanyarray(logits)
    if array.dtype.kind in "biu":
        array = array.astype(np.float64)
    if array.dtype.kind not in "fV" or array.dtype.itemsize > 8:  # a long double is a double on some systems
        raise TypeError(f"{name}(): logits must be real floating-point numbers, not {array.dtype}")
    return array


def _check_indices(
    name: str, targets: np.ndarray[Any, Any], classes: int, ignore_index: int | None
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """The targets as int64, 0 where they are ignored, and which ones are ignored."""
    ignored = None if ignore_index is None else targets == ignore_index
    if ignored is None and targets.size:  # the usual case, at the least cost
        index = targets.astype(np.int64, copy=False)
        if _within(index, classes):
            return index, None
    wrong = (targets < 0) | (targets >= classes)
    if ignored is not None:
        wrong &= ~ignored
    if wrong.any():
        position = tuple(int(k) for k in np.argwhere(wrong)[0])
        raise IndexError(
            f"{name}(): target {int(targets[position])} at position {position} is out of range for {classes} classes"
            + ("" if ignore_index is None else f" (and is not ignore_index={ignore_index})")
        )
    index = targets.astype(np.int64)
    if ignored is not None and ignored.any():
        index[ignored] = 0
        return index, ignored
    return index, None


def _zero_where(ignored: np.ndarray[Any, Any], results: Any, place: int) -> tuple[Any, ...]:
    """The results, 0 in ignored rows: shares of 0 are not enough if there is no number among the logits."""
    value, *gradients = results if isinstance(results, tuple) else (results,)
    zero = value.dtype.type(0)
    if isinstance(value, np.ndarray):
        np.copyto(value, zero, where=ignored)
    else:
        value = zero
    for gradient in gradients:
        np.copyto(gradient, zero, where=np.expand_dims(ignored, place))
    return (value, *gradients)


def _weights(name: str, weight: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Weights of classes, in the dtype of the logits."""
    if isinstance(weight, np.ma.MaskedArray):
        raise TypeError(f"{name}(): weight must not be a masked array")
    try:
        given = np.asarray(weight)
    except ValueError as error:
        raise ValueError(f"{name}(): weight is no array ({error})") from None
    if given.dtype.kind not in "biufV":
        raise TypeError(f"{name}(): weight must be real numbers, not {given.dtype}")
    with np.errstate(all="ignore"):
        return given.astype(dtype, copy=False)


def _one_row(weights: np.ndarray[Any, Any], place: int, ndim: int) -> np.ndarray[Any, Any]:
    """Weights of classes along one of `ndim` axes."""
    return weights.reshape([-1 if k == place else 1 for k in range(ndim)])


def _cross_entropy(
    name: str, logits: Any, targets: Any, axis: int, weight: Any, ignore_index: int | None, label_smoothing: float
) -> tuple[Any, ...]:
    functions = LOSSES[name]
    for operand, given in ("logits", logits), ("targets", targets):
        if isinstance(given, np.ma.MaskedArray):
            raise TypeError(f"{name}(): {operand} must not be a masked array; say ignore_index")
    x, t = _check_logits(name, logits), np.asarray(targets)
    if t.dtype.kind == "V" and np.can_cast(t.dtype, np.int64):  # integers of ml_dtypes
        t = t.astype(np.int64)
    if t.dtype.kind not in "iufV":
        raise TypeError(f"{name}(): targets must be class indices (integers) or probabilities (floats), not {t.dtype}")
    weights = None if weight is None else _weights(name, weight, x.dtype)
    shape = None if weights is None else weights.shape
    place, smoothing = check_loss(name, x.shape, t.shape, _is_index(t), axis, shape, ignore_index, label_smoothing)
    classes = x.shape[place]
    if _is_index(t):
        index, ignored = _check_indices(name, t, classes, ignore_index)
        if not smoothing:
            factor = _one(x.dtype) if weights is None else weights[index]
            if ignored is not None:
                factor = np.where(ignored, np.zeros((), x.dtype), factor)
            results = _core(functions.classes)(x, index, factor, axis=place)
            return results if isinstance(results, tuple) else (results,)
        shares = [np.array(s, x.dtype) for s in (1 - smoothing + smoothing / classes, smoothing / classes)]
        if ignored is not None:
            shares = [np.where(ignored, np.zeros((), x.dtype), share) for share in shares]
        if weights is None:
            weights = np.ones(classes, x.dtype)
        row = _one_row(weights, place, x.ndim)
        results = _core(functions.smoothed)(x, row, index, *shares, axis=place)
        if ignored is not None:
            results = _zero_where(ignored, results, place)
    else:
        with np.errstate(all="ignore"):  # what is out of range is infinite, or 0
            q = t.astype(x.dtype, copy=False)
        if smoothing:
            wide = q.astype(np.float32) if q.dtype.itemsize == 2 else q
            q = (wide * (1 - smoothing) + smoothing / classes).astype(x.dtype, copy=False)
        if weights is not None:
            q = q * _one_row(weights, place, x.ndim)
        results = _core(functions.distributions)(x, q, axis=place)
    return results if isinstance(results, tuple) else (results,)


def cross_entropy_with_logits(
    logits: Any,
    targets: Any,
    axis: int = -1,
    weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
) -> Any:
    """Cross entropy between softmax(logits) and targets, a value per row.

        sum_c q_c (log(sum_j exp(x_j)) - x_c)

    Parameters
    ----------
    logits : array_like
        Unnormalised log-probabilities x, in nats, of shape (..., classes, ...):
        {dtypes}
        Integers and bool count as float64.
    targets : array_like
        Class indices (any integer dtype), of the shape of `logits` without `axis`, or
        probabilities q of the shape of `logits`.
    axis : int, default -1
        The axis of the classes.
    weight : array_like of shape (classes,), optional
        Factors of the classes' terms.
    ignore_index : int, optional
        Rows with this target get the value 0 and the gradient 0.
    label_smoothing : float, default 0.0
        Share of each target that is spread evenly over all classes, between 0 and 1.

    Returns
    -------
    ndarray or scalar
        The loss of each row, in nats, of the shape of `logits` without `axis` and in their dtype.
        No reduction is done.

    Raises
    ------
    IndexError
        If a target is neither a class nor `ignore_index`; the message names it and its position.
    TypeError, ValueError
        For dtypes, shapes and options that do not fit; the message names the argument.

    See Also
    --------
    cross_entropy_with_logits_with_gradient, log_softmax, logsumexp

    Notes
    -----
    The error stays below 2 ULP in float32 and float64, next to 0 too, where the target's logit
    dominates: the loss is then log1p of what the others add up to. Weights, probabilities and the
    shares of smoothed labels, and their products, are rounded to the dtype of `logits` first; the
    bound counts from there. An entry below exp(-124) of the largest (float64: exp(-751)) is nothing
    to it, which only weights above 1e8 (400) would show. The bits are the same wherever a row lies
    and whatever the number of threads. A target whose logit is -inf costs inf.

    References
    ----------
    Bridle (1990), Probabilistic interpretation of feedforward classification network outputs.

    Examples
    --------
    >>> import fastact as fa, numpy as np
    >>> logits = np.float32([[0, -17], [0, -1000]])
    >>> fa.cross_entropy_with_logits(logits, [0, 1])
    array([4.1399378e-08, 1.0000000e+03], dtype=float32)
    """
    name = "cross_entropy_with_logits"
    value = _usual(name, logits, targets, axis, weight, ignore_index, label_smoothing)
    if value is not None:
        return value
    return _cross_entropy(name, logits, targets, axis, weight, ignore_index, label_smoothing)[0]


def cross_entropy_with_logits_with_gradient(
    logits: Any,
    targets: Any,
    axis: int = -1,
    weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
) -> tuple[Any, Any]:
    """Cross entropy between softmax(logits) and targets, and its gradient by the logits, in one pass.

        softmax(x)_c sum_j q_j - q_c

    Parameters
    ----------
    logits, targets, axis, weight, ignore_index, label_smoothing
        As for `cross_entropy_with_logits`.

    Returns
    -------
    value : ndarray or scalar
        The loss of each row, in nats, of the shape of `logits` without `axis` and in their dtype.
    gradient : ndarray
        The derivative of each row's loss by its logits, of the shape and in the dtype of `logits`.

    Raises
    ------
    IndexError, TypeError, ValueError
        As for `cross_entropy_with_logits`.

    See Also
    --------
    cross_entropy_with_logits, softmax

    Notes
    -----
    The value has the bits that `cross_entropy_with_logits` gives. The error of the gradient stays
    below 2 ULP in float32 and float64 too, for class indices also at the target, where the two
    terms cancel. With probabilities, weights or smoothed labels it is 2 ULP of the larger term
    where they cancel; all three are rounded to the dtype of `logits` first, and so are products of
    them.

    References
    ----------
    Bridle (1990), Probabilistic interpretation of feedforward classification network outputs.

    Examples
    --------
    >>> import fastact as fa, numpy as np
    >>> logits = np.float64([0, 1000])
    >>> value, gradient = fa.cross_entropy_with_logits_with_gradient(logits, 1)
    >>> float(value), gradient
    (0.0, array([ 0., -0.]))
    """
    name = "cross_entropy_with_logits_with_gradient"
    both = _usual(name, logits, targets, axis, weight, ignore_index, label_smoothing)
    value, gradient = both or _cross_entropy(name, logits, targets, axis, weight, ignore_index, label_smoothing)
    return value, gradient


if cross_entropy_with_logits.__doc__ is not None:
    cross_entropy_with_logits.__doc__ = cross_entropy_with_logits.__doc__.replace("{dtypes}", ROW_DTYPES)
