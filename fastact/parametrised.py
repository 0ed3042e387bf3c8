"""The callable around a ufunc whose trailing operands are parameters with names and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .activation import Parameter


def _is_default(value: Any, default: float | None) -> bool:
    return type(value) in (int, float) and value == default  # a numpy scalar is not weak: it takes part in promotion


class Parametrised:
    """A function of arrays and parameters; `ufunc` is the numpy.ufunc that takes all of them by position.

    Called without parameters it uses a second ufunc that has the defaults built in: NumPy then converts no scalars, and
    the compiled loop knows them.
    """

    def __init__(
        self,
        name: str,
        doc: str,
        ufunc: np.ufunc,
        plain: Callable[..., Any] | None,
        arrays: Sequence[str],
        parameters: Sequence[Parameter],
        module: str = "fastact",
    ) -> None:
        self.__name__ = self.__qualname__ = name
        self.__module__ = module
        self.__doc__ = doc
        self.ufunc = ufunc
        self._plain = plain
        self._arrays = len(arrays)
        self._defaults = {p.name: p.default for p in parameters}
        self._check = tuple(p for p in parameters if p.nonzero)
        kinds = inspect.Parameter
        self.__signature__ = inspect.Signature(
            [kinds(a, kinds.POSITIONAL_ONLY) for a in arrays]
            + [
                kinds(p.name, kinds.POSITIONAL_OR_KEYWORD, default=kinds.empty if p.default is None else p.default)
                for p in parameters
            ]
            + [kinds("kwargs", kinds.VAR_KEYWORD)]
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) == self._arrays and self._plain is not None and not kwargs:
            return self._plain(*args)
        return self._general(args, kwargs)

    def _general(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = args[self._arrays :]
        names = list(self._defaults)
        if len(args) < self._arrays or len(given) > len(names):
            low, high = self._arrays, self._arrays + len(names)
            raise TypeError(
                f"{self.__name__}{self.__signature__} takes {low} to {high} positional arguments but {len(args)} were given"
            )
        values = dict(zip(names, given, strict=False))
        for name in names:
            if name in kwargs:
                if name in values:
                    raise TypeError(f"{self.__name__}() got multiple values for argument {name!r}")
                values[name] = kwargs.pop(name)
        if self._plain is not None and all(_is_default(v, self._defaults[n]) for n, v in values.items()):
            # The default itself, spelt out, must give the same bits, in float16 too, where NumPy would round it first.
            return self._plain(*args[: self._arrays], **kwargs)
        missing = [name for name in names if name not in values and self._defaults[name] is None]
        if missing:
            raise TypeError(f"{self.__name__}() needs the argument {missing[0]!r}")
        for parameter in self._check:
            value = values.get(parameter.name)
            if value is not None and np.any(np.equal(value, 0)):
                raise ValueError(f"{self.__name__}(): {parameter.name} must not be 0, but it is {value!r}")
        return self.ufunc(*args[: self._arrays], *(values.get(n, self._defaults[n]) for n in names), **kwargs)

    def __repr__(self) -> str:
        return f"<function {self.__module__}.{self.__name__}{self.__signature__}>"

    def __reduce__(self) -> str:
        return self.__name__
