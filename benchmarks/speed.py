"""Time of the array functions, results into a given buffer."""

from collections.abc import Callable

import numpy as np

import fastact as fa
from fastact.bench.limits import NoBound, bound_of, copies

from .cases import BARS_OF_ROWS, FORMS, IN_CACHE, LAYOUTS, REPRESENTATIVES, Setting, functions, parse_shape, prepare


class Prepared:
    """A benchmark whose setup leaves a call without arguments."""

    call: Callable[[], object]

    def prepare(self, name: str, form: str, dtype: str, setting: int | Setting) -> None:
        self.call = prepare(name, form, "fastact", dtype, setting)
        self.call()


class Catalogue(Prepared):
    """Every function once, in cache."""

    params = (functions(),)
    param_names = ("function",)

    def setup(self, name: str) -> None:
        self.prepare(name, "forward", "float32", IN_CACHE)

    def time_forward(self, name: str) -> None:
        self.call()

    time_forward.pretty_name = "Forward in cache, every function"


class Limits:
    """What the machine allows: a copy of as many bytes, and what the arithmetic needs if llvm-mca is there."""

    params = ((1, 1000, IN_CACHE, 1_000_000, 16_000_000),)
    param_names = ("elements",)

    def setup(self, n: int) -> None:
        self.ways = list(copies(2 * 4 * n, ("fastact",)).values())
        for way in self.ways:
            way()

    def time_memcpy(self, n: int) -> None:
        self.ways[0]()

    time_memcpy.pretty_name = "Limit: memcpy of input and result"

    def time_copying_loop(self, n: int) -> None:
        self.ways[1]()

    time_copying_loop.pretty_name = "Limit: compiled copy of the same"


class Arithmetic:
    """The throughput bound of each compiled loop: it moves with the kernel and with the compiler, not with the day."""

    params = (functions(rows=False), ("forward", "derivative"), ("float32",))
    param_names = ("function", "form", "dtype")
    unit = "cycles per element"

    def track_cycles(self, name: str, form: str, dtype: str) -> float:
        try:
            return bound_of(name if form == "forward" else f"{name}_{form}", dtype).throughput
        except NoBound:
            return float("nan")

    track_cycles.pretty_name = "Arithmetic: cycles an element (llvm-mca)"


class Forms(Prepared):
    """Derivatives, and the fused forms that save a pass over memory."""

    params = (REPRESENTATIVES, FORMS[1:])
    param_names = ("function", "form")

    def setup(self, name: str, form: str) -> None:
        self.prepare(name, form, "float32", IN_CACHE)

    def time_form(self, name: str, form: str) -> None:
        self.call()

    time_form.pretty_name = "Derivatives and fused forms, in cache"


class Sizes(Prepared):
    """From the cost of a call to the speed of memory."""

    params = (("relu", "leaky_relu", "gelu"), (1, 10, 100, 1000, 10_000, 1_000_000, 16_000_000))
    param_names = ("function", "elements")

    def setup(self, name: str, n: int) -> None:
        self.prepare(name, "forward", "float32", n)

    def time_size(self, name: str, n: int) -> None:
        self.call()

    time_size.pretty_name = "From one element to past the caches"


class Dtypes(Prepared):
    """Half as wide, twice as wide."""

    params = (REPRESENTATIVES, ("float16", "bfloat16", "float64"))
    param_names = ("function", "dtype")

    def setup(self, name: str, dtype: str) -> None:
        self.prepare(name, "forward", dtype, IN_CACHE)

    def time_dtype(self, name: str, dtype: str) -> None:
        self.call()

    time_dtype.pretty_name = "Other dtypes, in cache"


class Layouts(Prepared):
    """Inputs that are not one contiguous block."""

    params = (("relu", "gelu"), tuple(LAYOUTS))
    param_names = ("function", "layout")

    def setup(self, name: str, layout: str) -> None:
        self.prepare(name, "forward", "float32", Setting(IN_CACHE, layout))

    def time_layout(self, name: str, layout: str) -> None:
        self.call()

    time_layout.pretty_name = "Inputs that are not contiguous, in cache"


class Masked:
    """Where half of the elements are asked for."""

    params = (("relu", "gelu"),)
    param_names = ("function",)

    def setup(self, name: str) -> None:
        self.function = getattr(fa, name)
        self.x = np.random.default_rng(1).normal(0.0, 3.0, IN_CACHE).astype("f4")
        self.out, self.mask = np.zeros_like(self.x), self.x > 0
        self.time_where(name)

    def time_where(self, name: str) -> None:
        self.function(self.x, out=self.out, where=self.mask)

    time_where.pretty_name = "Half of the elements asked for with where="


class Rows(Prepared):
    """Along an axis: many short rows, few long ones, one, and rows that lie across memory."""

    params = (functions(rows=True), tuple(BARS_OF_ROWS.split(",")))
    param_names = ("function", "shape")
    timeout = 300

    def setup(self, name: str, shape: str) -> None:
        self.prepare(name, "forward", "float32", parse_shape(shape))

    def time_rows(self, name: str, shape: str) -> None:
        self.call()

    time_rows.pretty_name = "Functions along an axis, by shape"


class RowGradients(Prepared):
    """From the saved output."""

    params = (("softmax", "log_softmax"), ("100000x10", "1024x1024", "1024x1024@0"))
    param_names = ("function", "shape")

    def setup(self, name: str, shape: str) -> None:
        self.prepare(name, "vjp", "float32", parse_shape(shape))

    def time_rows(self, name: str, shape: str) -> None:
        self.call()

    time_rows.pretty_name = "Gradients along an axis from the saved output"
