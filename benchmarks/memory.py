"""Peak memory of one call, beside that of an empty one: a temporary would add 64 MB."""

import numpy as np

import fastact as fa

N = 16_000_000


class Memory:
    """Input and result are there before; nothing as large may be added."""

    def setup_cache(self) -> None:
        """Compile in another process, and only once: here that would be part of the peak."""
        fa.gelu(np.ones(1, "f4"))

    def setup(self) -> None:
        self.x = np.ones(N, "f4")
        self.out = np.ones(N, "f4")
        fa.gelu(self.x[:1])  # loading the function is part of every benchmark here

    def peakmem_nothing(self) -> None:
        pass

    peakmem_nothing.pretty_name = "Peak memory: before the call"

    def peakmem_gelu(self) -> None:
        fa.gelu(self.x, out=self.out)

    peakmem_gelu.pretty_name = "Peak memory: gelu of 16M elements"

    def peakmem_gelu_strided(self) -> None:
        fa.gelu(self.x[::2], out=self.out[: N // 2])

    peakmem_gelu_strided.pretty_name = "Peak memory: gelu of every second of them"
