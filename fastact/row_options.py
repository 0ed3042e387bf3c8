"""What softmax, log_softmax and softmin take beyond the arguments of a ufunc: a temperature and masks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from .kernels import row_options as kernels
from .kernels.rows import RowFunction
from .loss_arguments import whole_number

# name -> the row functions that do the work, without and with a mask
_CORES = {
    "softmax": (kernels.SOFTMAX_SCALED, kernels.SOFTMAX_MASKED),
    "log_softmax": (kernels.LOG_SOFTMAX_SCALED, kernels.LOG_SOFTMAX_MASKED),
}
_CORES["softmin"] = _CORES["softmax"]  # with the temperature negated
NAMES = tuple(_CORES)


@cache
def _core(function: RowFunction) -> np.ufunc:
    from .cpu.ufunc import rows

    made = rows(function, f"Core of {function.name.partition('_scaled')[0]} with a temperature or a mask.")
    vars(made)["__module__"] = "fastact.ufuncs"
    return made


def core(name: str) -> np.ufunc | None:
    """The ufunc called `name` behind the options, if there is one."""
    functions = [function for both in _CORES.values() for function in both]
    return next((_core(function) for function in functions if function.name == name), None)


def cores(name: str) -> list[np.ufunc]:
    """The ufuncs behind the options of one of `NAMES`."""
    return [_core(function) for function in _CORES[name]]


def _limit(name: str, shape: tuple[int, ...], axis: int, causal: bool) -> Any:
    """How many entries of each row count."""
    if not causal:
        return shape[axis]
    others = [n for k, n in enumerate(shape) if k != axis % len(shape)]
    if not others:
        raise ValueError(
            f"{name}(): causal=True needs an x of at least two dimensions, for it goes by the row's number"
        )
    return np.minimum(np.arange(1, others[-1] + 1), shape[axis])


def _in_chunks(operands: list[Any], limit: Any, axis: int) -> list[Any]:
    """A Dask array, the mask and the limits, in the chunks of the first: Dask cuts up no arrays by itself."""
    import dask.array

    from_array: Any = dask.array.from_array
    chunks = operands[0].chunks
    others = [c for k, c in enumerate(chunks) if k != axis % len(chunks)]
    masks = [from_array(np.asarray(mask), chunks=chunks) for mask in operands[1:]]
    return [operands[0], *masks, from_array(limit, chunks=others[-1:]) if np.ndim(limit) else limit]


def _check(name: str, temperature: Any) -> None:
    if type(temperature) in (int, float):  # asking NumPy takes longer than a short row
        zero = temperature == 0
    else:
        kind = np.asarray(temperature).dtype.kind
        if kind not in "biufV":
            raise TypeError(f"{name}(): temperature must be a real number or an array of them, not {temperature!r}")
        zero = np.any(np.equal(temperature, 0))
    if zero:
        raise ValueError(f"{name}(): temperature must not be 0, but it is {temperature!r}")


def _rounded(name: str, temperature: float, dtype: np.dtype[Any]) -> Any:
    """A Python number in the dtype of the rows."""
    if 2.0**-14 <= abs(temperature) <= 2.0**15:  # a normal number in any
        return dtype.type(temperature)
    try:
        with np.errstate(all="ignore"):
            found = dtype.type(temperature)
    except OverflowError:
        raise ValueError(f"{name}(): temperature is an int too large for {dtype}") from None
    if found == 0:
        raise ValueError(f"{name}(): temperature must not be 0, as {temperature!r} is in {dtype}")
    return found


def _negative(temperature: Any, x: Any) -> Any:
    """Minus a temperature, which is a float first: what has no sign has no negative."""
    if getattr(getattr(temperature, "dtype", None), "kind", None) in ("b", "i", "u"):
        own = getattr(x, "dtype", None)
        bfloat16 = isinstance(own, np.dtype) and own.kind == "V" and np.can_cast(temperature.dtype, own)
        temperature = temperature.astype(own if bfloat16 else np.promote_types(temperature.dtype, np.float16))
    return np.negative(temperature) if np.ndim(temperature) else -temperature


def function(name: str, plain: np.ufunc) -> Callable[..., Any]:
    """What calls of `plain` go to that have more than a ufunc's arguments."""

    def options(
        x: Any, temperature: Any = 1.0, /, *, where: Any = True, causal: bool = False, axis: int = -1, **kwargs: Any
    ) -> Any:
        if isinstance(temperature, np.ndarray | tuple):  # by position it is the result array, as for any ufunc
            return options(x, where=where, causal=causal, axis=axis, out=temperature, **kwargs)
        if "temperature" in kwargs:
            if temperature is not None and not (type(temperature) is float and temperature == 1.0):
                raise TypeError(f"{name}() got multiple values for argument 'temperature'")
            temperature = kwargs.pop("temperature")
        temperature = 1.0 if temperature is None else temperature  # the result array of a call by position, not given
        unknown = kwargs.keys() - {"out", "dtype", "casting", "order", "subok", "signature"}
        if unknown:
            raise TypeError(f"{name}() does not take {sorted(unknown)[0]!r} together with these arguments")
        masked = where is not True and where is not np.True_
        if not masked and not causal and type(temperature) in (int, float) and temperature == 1:
            return plain(x, axis=axis, **kwargs)
        _check(name, temperature)
        shape = np.shape(x)
        axis = whole_number(name, "axis", axis)
        axis = axis - len(shape) if axis >= 0 else axis  # so that it counts for all operands alike
        if not -len(shape) <= axis < 0:
            raise np.exceptions.AxisError(axis, len(shape))
        operands = [x]
        if masked:
            where = np.asarray(where)
            if where.dtype != np.bool_:
                raise TypeError(f"{name}(): where must be of dtype bool, not {where.dtype}")
            if where.shape == shape and isinstance(x, np.ndarray):
                operands = [x, where]
            else:
                shape = np.broadcast_shapes(shape, where.shape)
                own = {"subok": True} if isinstance(x, np.ndarray) else {}  # which others do not know
                operands = [np.broadcast_to(x, shape, **own), np.broadcast_to(where, shape)]
        dtype = getattr(x, "dtype", None)
        if (
            isinstance(dtype, np.dtype)
            and dtype.kind in "fV"
            and type(temperature) in (int, float)
            and not kwargs.keys() & {"dtype", "signature"}
        ):
            # Python's numbers are weak to NumPy, but not beside bfloat16, nor to Dask
            temperature = _rounded(name, temperature, dtype)
        if name == "softmin":
            temperature = _negative(temperature, x)
        limit = _limit(name, shape, axis, causal)
        if hasattr(x, "rechunk"):
            *operands, limit = _in_chunks(operands, limit, axis)
        return _core(_CORES[name][masked])(*operands, temperature, limit, axis=axis, **kwargs)

    options.__name__ = options.__qualname__ = name
    return options
