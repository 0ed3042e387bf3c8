"""What softmax, log_softmax and softmin take beyond an array: a temperature and masks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import MASKS, describe, is_device_array
from .functions import keywords, named, number, same_kind
from .rows import axis_of, run

_OPTIONS = """temperature : number or array, default 1.0
    What `x` is divided by, not 0: a number, or an array on the GPU with a value for each row.
where : array of bool, optional
    Which entries count, of a shape that broadcasts with `x`. The others get exactly {masked}.
causal : bool, default False
    Count only the first i + 1 entries of row i, where i is its index along the last axis other
    than `axis`.
axis : int"""


def function(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    """`plain`, which is the function called `name` without options, with them."""
    core = "log_softmax" if name == "log_softmax" else "softmax"  # softmin is that with the temperature negated

    def call(
        x: Any,
        temperature: Any = 1.0,
        *,
        where: Any = None,
        causal: bool = False,
        axis: int = -1,
        out: Any = None,
        stream: Any = None,
    ) -> Any:
        one = isinstance(temperature, int | float | np.integer | np.floating) and temperature == 1
        if where is None and not causal and one:
            return plain(x, axis=axis, out=out, stream=stream)
        arrays, labels = [describe(x, f"{name}(): x")], ["x"]
        dtype, ndim = arrays[0].dtype, len(arrays[0].shape)
        axis = axis_of(name, axis, ndim) - ndim  # so that it counts for a mask of more dimensions, too
        if where is not None:
            arrays.append(describe(where, f"{name}(): where", MASKS))
            labels.append("where")
            if arrays[1].device != arrays[0].device:
                raise ValueError(f"{name}(): x is on device {arrays[0].device} but where on device {arrays[1].device}")
        if causal and max(len(a.shape) for a in arrays) < 2:
            raise ValueError(
                f"{name}(): causal=True needs an x of at least two dimensions, for it goes by the row's number"
            )
        numbers, one_a_row = [], is_device_array(temperature)
        if not one_a_row:
            divisor = number(name, "temperature", temperature, dtype, nonzero=True)
            numbers.append(-divisor if name == "softmin" else divisor)
        else:
            arrays.append(describe(temperature, f"{name}(): temperature"))
            labels.append("temperature")
            same_kind(name, [arrays[0], arrays[-1]], ["x", "temperature"])
        kernel = f"{core}_{'scaled' if where is None else 'masked'}"
        way = "s" if not one_a_row else "n" if name == "softmin" else "a"
        ways = f"a{'' if where is None else 'm'}{way}c"
        return run(name, kernel, ways, arrays, labels, axis, out, stream, causal=causal, numbers=numbers)

    kinds = inspect.Parameter
    signature = inspect.Signature(
        [
            kinds("x", kinds.POSITIONAL_ONLY),
            kinds("temperature", kinds.POSITIONAL_OR_KEYWORD, default=1.0),
            kinds("where", kinds.KEYWORD_ONLY, default=None),
            kinds("causal", kinds.KEYWORD_ONLY, default=False),
            kinds("axis", kinds.KEYWORD_ONLY, default=-1),
            *keywords(),
        ]
    )
    text = (plain.__doc__ or "").replace("axis : int", _OPTIONS.format(masked="-inf" if core != "softmax" else "0"), 1)
    return named(call, name, text, signature)
