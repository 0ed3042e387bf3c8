"""The function around a ufunc whose trailing operands are parameters with names and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from .activation import Parameter
from .cpu.ufunc import choice


class Parametrised(Protocol):
    """A function of arrays and parameters; `ufunc` is the numpy.ufunc that takes all of them by position."""

    __name__: str
    ufunc: np.ufunc

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
    count, names = len(arrays), [p.name for p in parameters]
    defaults = {p.name: p.default for p in parameters}
    nonzero = [p.name for p in parameters if p.nonzero]

    def with_parameters(*args: Any, **kwargs: Any) -> Any:
        given = args[count:]
        if len(args) < count or len(given) > len(names):
            few = f"{count} to {count + len(names)}"
            raise TypeError(f"{name}{signature} takes {few} positional arguments but {len(args)} were given")
        values = dict(zip(names, given, strict=False))
        for parameter in names:
            if parameter in kwargs:
                if parameter in values:
                    raise TypeError(f"{name}() got multiple values for argument {parameter!r}")
                values[parameter] = kwargs.pop(parameter)
        if plain is not None and all(_is_default(v, defaults[n]) for n, v in values.items()):
            # The default itself, spelt out, must give the same bits, in float16 too, where NumPy would round it first.
            return plain(*args[:count], **kwargs)
        for parameter in names:
            if parameter not in values and defaults[parameter] is None:
                raise TypeError(f"{name}() needs the argument {parameter!r}")
        for parameter in nonzero:
            value = values.get(parameter, 1)
            if np.any(np.equal(value, 0)):
                raise ValueError(f"{name}(): {parameter} must not be 0, but it is {value!r}")
        return ufunc(*args[:count], *(values.get(n, defaults[n]) for n in names), **kwargs)

    kinds = inspect.Parameter
    signature = inspect.Signature(
        [kinds(a, kinds.POSITIONAL_ONLY) for a in arrays]
        + [
            kinds(p.name, kinds.POSITIONAL_OR_KEYWORD, default=kinds.empty if p.default is None else p.default)
            for p in parameters
        ]
        + [kinds("kwargs", kinds.VAR_KEYWORD)]
    )
    # The usual call, arrays only, goes straight to the ufunc.
    made: Any = with_parameters if plain is None else choice(count, plain, with_parameters)
    made.__name__ = made.__qualname__ = name
    made.__module__ = "fastact"
    made.__doc__ = doc
    made.__signature__ = signature
    made.ufunc = ufunc
    function: Parametrised = made
    return function


def _is_default(value: Any, default: float | None) -> bool:
    return type(value) in (int, float) and value == default  # a numpy scalar is not weak: it takes part in promotion
