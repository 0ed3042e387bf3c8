"""What a fresh process pays: asv runs each string in a Python of its own."""

import numpy as np

import fastact as fa


class Startup:
    """Imports beside those of the dependencies, and the first result from a filled cache."""

    number = 1
    repeat = 5
    timeout = 120

    def setup_cache(self) -> None:
        """Fill the disk cache for the first call below."""
        fa.gelu(np.ones(4, "f4"))

    def timeraw_import_numpy(self) -> str:
        return "import numpy"

    def timeraw_import_numpy_and_numba(self) -> str:
        return "import numpy, numba"

    def timeraw_import(self) -> str:
        return "import fastact"

    def timeraw_first_call(self) -> str:
        return "import numpy, fastact; fastact.gelu(numpy.ones(4, 'f4'))"
