"""The time of functions on a GPU, beside a copy of device memory. There are no such benchmarks on a machine without."""

from __future__ import annotations

from typing import Any

import numpy as np

N = 1 << 26


class Cuda:
    """One call on 2^26 float32 and the wait for it."""

    params = (["copy", "relu", "tanh", "sigmoid", "silu", "gelu", "softplus", "mish"],)
    param_names = ("function",)

    def setup(self, function: str) -> None:
        from fastact.cuda.hardware import Gpu

        self.gpu = Gpu()
        self.x = self.gpu.upload(np.resize(np.random.default_rng(0).normal(size=1 << 16).astype("f4"), N))
        self.out = self.gpu.empty((N,), np.float32)
        self.call: Any = None
        if function != "copy":
            from fastact import cuda

            self.call = getattr(cuda, function)
        self.run()

    def run(self) -> None:
        if self.call is None:
            self.gpu.copy(self.out, self.x)
        else:
            self.call(self.x, out=self.out)
        self.gpu.wait()

    def time_call(self, function: str) -> None:
        self.run()

    time_call.pretty_name = "GPU: one call on 2^26 float32"


class CudaRows(Cuda):
    """softmax of 2^26 float32 in rows of different lengths."""

    params = ([256, 1024, 4096, 16384],)
    param_names = ("columns",)

    def setup(self, columns: Any) -> None:
        super().setup("copy")

        from fastact import cuda

        shape = (N // columns, columns)
        self.x, self.out = self.x.part(0, shape), self.out.part(0, shape)
        self.call = cuda.softmax
        self.run()

    def time_call(self, function: Any) -> None:
        self.run()

    time_call.pretty_name = "GPU: softmax of 2^26 float32"


def there_is_a_gpu() -> bool:
    from fastact.cuda.hardware import Gpu

    try:
        Gpu()
    except (ImportError, RuntimeError):
        return False
    return True


if not there_is_a_gpu():  # a benchmark that is skipped is a row of n/a in the dashboard
    del Cuda, CudaRows
