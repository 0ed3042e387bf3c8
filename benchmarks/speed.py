"""Time of the array functions, results into a given buffer."""

from collections.abc import Callable

import numpy as np

import fastact as fa

from .cases import FORMS, IN_CACHE, REPRESENTATIVES, functions, prepare


class Prepared:
    """A benchmark whose setup leaves a call without arguments."""

    call: Callable[[], object]

    def prepare(self, name: str, form: str, dtype: str, n: int) -> None:
        self.call = prepare(name, form, "fastact", dtype, n)
        self.call()


class Catalogue(Prepared):
    """Every function once, in cache."""

    params = (functions(),)
    param_names = ("function",)

    def setup(self, name: str) -> None:
        self.prepare(name, "forward", "float32", IN_CACHE)

    def time_forward(self, name: str) -> None:
        self.call()


class Forms(Prepared):
    """Derivatives, and the fused forms that save a pass over memory."""

    params = (REPRESENTATIVES, FORMS[1:])
    param_names = ("function", "form")

    def setup(self, name: str, form: str) -> None:
        self.prepare(name, form, "float32", IN_CACHE)

    def time_form(self, name: str, form: str) -> None:
        self.call()


class Sizes(Prepared):
    """From the cost of a call to the speed of memory."""

    params = (("relu", "leaky_relu", "gelu"), (1, 100, 10_000, 1_000_000, 16_000_000))
    param_names = ("function", "elements")

    def setup(self, name: str, n: int) -> None:
        self.prepare(name, "forward", "float32", n)

    def time_size(self, name: str, n: int) -> None:
        self.call()


class Dtypes(Prepared):
    """Half as wide, twice as wide."""

    params = (REPRESENTATIVES, ("float16", "float64"))
    param_names = ("function", "dtype")

    def setup(self, name: str, dtype: str) -> None:
        self.prepare(name, "forward", dtype, IN_CACHE)

    def time_dtype(self, name: str, dtype: str) -> None:
        self.call()


class Layouts:
    """Inputs that are not one contiguous block."""

    params = (
        ("relu", "gelu"),
        ("contiguous", "every_second", "reversed", "transposed", "broadcast", "masked"),
    )
    param_names = ("function", "layout")

    def setup(self, name: str, layout: str) -> None:
        self.function = getattr(fa, name)
        base = np.random.default_rng(1).normal(0.0, 3.0, (512, 256)).astype("f4")
        self.x = {
            "contiguous": base[:256],
            "every_second": base[:256, ::2],
            "reversed": base[:256, ::-1],
            "transposed": base[:256].T,
            "broadcast": np.broadcast_to(base[0], (256, 256)),
            "masked": base[:256],
        }[layout]
        self.out = np.zeros(self.x.shape, "f4")
        self.options = {"where": self.x > 0} if layout == "masked" else {}
        self.function(self.x, out=self.out, **self.options)

    def time_layout(self, name: str, layout: str) -> None:
        self.function(self.x, out=self.out, **self.options)


class Rows:
    """Along the last axis: many short rows, few long ones."""

    params = (
        ("softmax", "log_softmax", "logsumexp"),
        ("100000x10", "4096x128", "1024x1024", "64x50257"),
    )
    param_names = ("function", "shape")

    def setup(self, name: str, shape: str) -> None:
        rows, columns = map(int, shape.split("x"))
        self.function = getattr(fa, name)
        self.x = np.random.default_rng(1).normal(0.0, 5.0, (rows, columns)).astype("f4")
        self.out = np.zeros(rows if name == "logsumexp" else self.x.shape, "f4")
        self.function(self.x, out=self.out)

    def time_rows(self, name: str, shape: str) -> None:
        self.function(self.x, out=self.out)
