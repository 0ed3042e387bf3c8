"""What a fresh process pays: asv runs each string in a Python of its own, ``python -m benchmarks.startup`` does too."""

import json
import subprocess
import sys
from time import perf_counter
from typing import Any

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

    timeraw_import_numpy.pretty_name = "Start-up: import numpy"

    def timeraw_import_numpy_and_numba(self) -> str:
        return "import numpy, numba"

    timeraw_import_numpy_and_numba.pretty_name = "Start-up: import numpy and numba"

    def timeraw_import(self) -> str:
        return "import fastact"

    timeraw_import.pretty_name = "Start-up: import fastact"

    def timeraw_first_call(self) -> str:
        return "import numpy, fastact; fastact.gelu(numpy.ones(4, 'f4'))"

    timeraw_first_call.pretty_name = "Start-up: first result, code on disk"


EMPTY = """
import os, tempfile
cache = tempfile.TemporaryDirectory()
os.environ["FASTACT_CACHE_DIR"] = cache.name
import numpy, fastact
x = numpy.ones(4, "f4")
"""


class Compiling:
    """The first results of all, which find an empty cache: the first one compiles what all loops share as well."""

    number = 1
    repeat = 2
    timeout = 300

    def timeraw_first_of_all(self) -> tuple[str, str]:
        return "fastact.relu(x)", EMPTY

    timeraw_first_of_all.pretty_name = "Empty cache: relu, the first of all"

    def timeraw_one_more(self) -> tuple[str, str]:
        return "fastact.gelu(x)", EMPTY + "fastact.relu(x)"

    timeraw_one_more.pretty_name = "Empty cache: gelu, after relu"

    def timeraw_one_more_along_rows(self) -> tuple[str, str]:
        return "fastact.softmax(x)", EMPTY + "fastact.relu(x)"

    timeraw_one_more_along_rows.pretty_name = "Empty cache: softmax, after relu"


ROUNDS = 15
FIRST_RESULTS = {
    "import numpy, fastact; fastact.gelu(x)": "import numpy, fastact; fastact.gelu(numpy.ones(4, 'f4'))",
    "import numpy, fastact; fastact.elu(x, 2.0)": "import numpy, fastact; fastact.elu(numpy.ones(4, 'f4'), 2.0)",
    "import numpy, fastact; fastact.softmax(x)": "import numpy, fastact; fastact.softmax(numpy.ones(4, 'f4'))",
}


def _seconds(program: str) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return perf_counter() - start


def measure() -> list[dict[str, Any]]:
    """The first result in a fresh process beside ``import numpy``, in turns; the shortest of each counts."""
    programs = {"import numpy": "import numpy", **FIRST_RESULTS}
    for program in programs.values():
        _seconds(program)  # fills the cache
    taken: dict[str, list[float]] = {what: [] for what in programs}
    for _ in range(ROUNDS):
        for what, program in programs.items():
            taken[what].append(_seconds(program))
    base = min(taken.pop("import numpy"))
    return [
        {"what": what, "seconds": min(times), "seconds_above_numpy": min(times) - base, "import_numpy": base}
        for what, times in taken.items()
    ]


FIRST_OF_ALL = {"relu": [], "softmax": [], "gelu, after relu": ["relu"], "softmax, after relu": ["relu"]}
"""What is called first in a cache -> what was called before."""


def measure_empty() -> list[dict[str, Any]]:
    """The first results of all: each in a process of its own, with an empty cache."""
    results = []
    for what, before in FIRST_OF_ALL.items():
        calls = "".join(f"fastact.{name}(x)\n" for name in before)
        name = what.partition(",")[0]
        program = f"{EMPTY}{calls}from time import perf_counter\nstart = perf_counter()\nfastact.{name}(x)\n"
        command = [sys.executable, "-c", f"{program}print(perf_counter() - start)"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results.append({"what": what, "seconds": float(done.stdout)})
    return results


if __name__ == "__main__":
    print(json.dumps(measure_empty() if "--empty" in sys.argv[1:] else measure(), indent=1))
