"""Peak memory of one call, beside that of an empty one: a temporary of 16 M elements would be 64
MB."""

import numpy as np

N = 16_000_000


class Memory:
    """Input and result are there before; nothing as large may be added."""

    def setup(self) -> None:
        self.x = np.ones(N, "f4")
        self.out = np.ones(N, "f4")

    def peakmem_nothing(self) -> None:
        pass

    def peakmem_gelu(self) -> None:
        import fastact as fa

        fa.gelu(self.x, out=self.out)

    def peakmem_gelu_strided(self) -> None:
        import fastact as fa

        fa.gelu(self.x[::2], out=self.out[: N // 2])
