"""Write all that follows from the record of a function: ``python tools/follow.py NAME...``, for new or changed ones.

In this order: the stub and the docstrings' examples; the proof of its errors (minutes a function); its digests; the
instructions of its CUDA kernels, if NVIDIA's compiler is there (``pip install "fastact[cuda-test]"``); what the README
says. Each step is a command of its own, which it shows.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import fastact
from fastact.api import elementwise_forms

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Run the steps; stop at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", choices=list(fastact.CATALOGUE))
    names = parser.parse_args().names
    forms = [form for form, (record, _) in elementwise_forms().items() if record.name in names]
    cuda = ["tools/cuda_budget.py", *forms]
    steps = [
        ["tools/stub.py"],
        ["tools/examples.py"],
        ["-m", "fastact", "accuracy", *names, "--proof", "--save", "benchmarks/results/accuracy.json"],
        ["tools/bits.py", *names],
        cuda,
        ["tools/measured.py"],
    ]
    if importlib.util.find_spec("cuda") is None:
        steps.remove(cuda)
        print("without NVIDIA's compiler benchmarks/results/cuda_sass.json stays as it is", flush=True)
    for step in steps:
        print("python", *step, flush=True)
        done = subprocess.run(
            [sys.executable, *step], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
        )
        if done.returncode != 0:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
