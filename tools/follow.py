"""Write all that follows from a function: ``python tools/follow.py NAME...``, for new or changed ones.

In this order: the stub and the docstrings' examples; the proof of its errors (a minute or two an elementwise function);
its digests; the instructions of its CUDA kernels, if it is elementwise and NVIDIA's compiler is there (``pip install
"fastact[cuda-test]"``); what the README says. Each step is a command of its own, which it shows. All of them are done,
whatever one of them finds wrong: those that did are named at the end, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import fastact
from fastact.api import LOSSES, ROWS, elementwise_forms

ROOT = Path(__file__).parents[1]
Step = Sequence[str]


def steps(names: Sequence[str], cuda: bool = True) -> list[Step]:
    """The commands, without the ``python`` in front; with `cuda` those of NVIDIA's compiler as well."""
    forms = [form for form, (record, _) in elementwise_forms().items() if record.name in names]
    return [
        ["tools/stub.py"],
        ["tools/examples.py"],
        ["-m", "fastact", "accuracy", *names, "--proof", "--save", "benchmarks/results/accuracy.json"],
        ["tools/bits.py", *names],
        *([["tools/cuda_budget.py", *forms]] if forms and cuda else []),
        ["tools/measured.py"],
    ]


def run(every: Sequence[Step]) -> int:
    """Run the steps, each whatever became of those before; 1 if one failed."""
    failed = []
    for step in every:
        command = " ".join(["python", *step])
        print(command, flush=True)
        done = subprocess.run(
            [sys.executable, *step], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
        )
        if done.returncode != 0:
            failed.append(f"{command}: exit status {done.returncode}")
    if failed:
        print("\nthese steps found something wrong; what they say is above:", *failed, sep="\n  ", file=sys.stderr)
    return 1 if failed else 0


def main() -> int:
    """Run the steps for the functions that are named."""
    known = [*fastact.CATALOGUE, *ROWS, *LOSSES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", choices=known)
    names = parser.parse_args().names
    compiler = importlib.util.find_spec("cuda") is not None
    if not compiler:
        print("without NVIDIA's compiler benchmarks/results/cuda_sass.json stays as it is", flush=True)
    return run(steps(names, compiler))


if __name__ == "__main__":
    sys.exit(main())
