"""The function around a ufunc whose trailing operands are parameters with names and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from .activation import Parameter


class Parametrised(Protocol):
    """A function of arrays and parameters; `ufunc` is the numpy.ufunc that takes all of them by position.

    `plain` is the one that is called without parameters, if all have defaults.
    """

    __name__: str
    ufunc: np.ufunc
    plain: np.ufunc | None

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


def parametrised(
    name: str,
    doc: str,
    ufunc: np.ufunc,
    plain: Callable[..., Any] | None,
    arrays: Sequence[str],
    parameters: Sequence[Parameter],
) -> Parametrised:
    """Make the function called `name`.

    Called without parameters it uses `plain`, a second ufunc that has the defaults built in: NumPy then converts no
    scalars, and the compiled loop knows them. `plain` is None if there is a parameter without a default.
    """
    count, names = len(arrays), tuple(p.name for p in parameters)
    defaults = tuple(p.default for p in parameters)
    nonzero = tuple(k for k, p in enumerate(parameters) if p.nonzero)
    full = count + len(names)

    def with_parameters(*args: Any, **kwargs: Any) -> Any:
        if len(args) != full or kwargs:
            args = complete(args, kwargs)
        # The defaults, spelt out, must give the same bits, in float16 too, where NumPy would round them first.
        for value, default in zip(args[count:], defaults, strict=True):
            if type(value) not in (float, int) or value != default:  # a numpy scalar is not weak: it promotes
                break
        else:
            if plain is not None:
                return plain(*args[:count], **kwargs)
        weak = _weak_numbers(args, count)
        for k in nonzero:
            if np.any(np.equal(weak[count + k], 0)) or _rounds_to_0(weak[count + k], args[:count], kwargs):
                raise ValueError(f"{name}(): {names[k]} must not be 0, but it is {args[count + k]!r}")
        return ufunc(*weak, **kwargs)

    def complete(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The operands with a value for every parameter; those given by name are taken out of `kwargs`."""
        if not count <= len(args) <= full:
            given = f"{len(args)} were given"
            raise TypeError(f"{name}{signature} takes {count} to {full} positional arguments but {given}")
        completed = list(args)
        for k, parameter in enumerate(names):
            if count + k < len(args):
                if parameter in kwargs:
                    raise TypeError(f"{name}() got multiple values for argument {parameter!r}")
                continue
            value = kwargs.pop(parameter, defaults[k])
            if value is None:
                raise TypeError(f"{name}() needs the argument {parameter!r}")
            completed.append(value)
        return tuple(completed)

    kinds = inspect.Parameter
    signature = inspect.Signature(
        [kinds(a, kinds.POSITIONAL_ONLY) for a in arrays]
        + [
            kinds(p.name, kinds.POSITIONAL_OR_KEYWORD, default=kinds.empty if p.default is None else p.default)
            for p in parameters
        ]
        + [kinds("kwargs", kinds.VAR_KEYWORD)]
    )
    # The usual call goes straight to a ufunc: arrays only, or with all parameters where none has a default.
    from .cpu.ufunc import choice

    usual = (full, ufunc) if plain is None else (count, plain)
    made: Any = choice(*usual, with_parameters, ufunc, count, parameters)
    made.__name__ = made.__qualname__ = name
    made.__module__ = "fastact"
    made.__doc__ = doc
    made.__signature__ = signature
    made.ufunc, made.plain = ufunc, plain
    function: Parametrised = made
    return function


def _rounds_to_0(value: Any, arrays: Sequence[Any], options: Mapping[str, Any]) -> bool:
    """Whether a Python number is 0 in the dtype it will have beside arrays, or in the one that is asked for."""
    if type(value) is not float or not abs(value) < 2.0**-24:
        return False
    asked = options.get("dtype")
    dtype = np.result_type(*(np.asarray(a).dtype for a in arrays), value) if asked is None else np.dtype(asked)
    return dtype.kind not in "iub" and bool(dtype.type(value) == 0)  # there is no loop for integers; NumPy says so


def _weak_numbers(args: tuple[Any, ...], arrays: int) -> tuple[Any, ...]:
    """The operands: Python's numbers among the parameters of arrays that NumPy does not know, bfloat16, in their dtype.

    To NumPy, numbers are weak only beside dtypes of its own.
    """
    if not any(type(a) in (float, int) for a in args[arrays:]):
        return args
    dtypes = {getattr(a, "dtype", None) for a in args[:arrays]}
    dtype = dtypes.pop() if len(dtypes) == 1 else None
    if not isinstance(dtype, np.dtype) or dtype.kind != "V":
        return args
    return (*args[:arrays], *(dtype.type(a) if type(a) in (float, int) else a for a in args[arrays:]))
