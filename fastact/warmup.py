"""``fastact warmup``: compile every loop of every function for every dtype and keep the code on disk."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

import numpy as np

from .command_options import add_dtype
from .cpu.threads import available_cpus

DTYPES = ("float32", "float64", "float16", "bfloat16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--functions", metavar="A,B", help="only these public names (default: all)")
    add_dtype(parser, DTYPES, None, check=False)
    parser.add_argument(
        "--lengths",
        metavar="A,B-C",
        default="",
        help="compile what rows of these lengths have with AVX-512, of 2-32: a loop for each length (default: none)",
    )
    parser.add_argument("--jobs", type=int, default=available_cpus(), help="processes (default: %(default)s)")


def ufuncs(name: str) -> list[np.ufunc]:
    """What does the work of one public function."""
    import fastact

    from . import losses, row_options
    from .api import LOSSES, WITH_OPTIONS

    if name in LOSSES:
        return losses.cores(name)
    function = getattr(fastact, name)
    if name in WITH_OPTIONS:
        return [function, *row_options.cores(name)]
    if isinstance(function, np.ufunc):
        return [function]
    return [function.ufunc, *([function.plain] if function.plain is not None else [])]


def warm(name: str, dtypes: Sequence[str], lengths: Sequence[int]) -> str:
    """Compile all loops of one public function."""
    from .cpu.ufunc import compile_loops

    for ufunc in ufuncs(name):
        compile_loops(ufunc, dtypes, lengths)
    return name


def row_lengths(text: str) -> list[int]:
    """The numbers that "2-8,10" names; ValueError if it is not of that form."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def run(options: argparse.Namespace) -> int:
    """Compile what `options` asks for; 2 if that names something unknown."""
    from .api import LOSSES, ROWS, elementwise_forms
    from .cpu.layout import LONGEST, SHORTEST
    from .cpu.ufunc import known_dtypes, load_rows, load_views

    known = [*elementwise_forms(), *ROWS, *LOSSES]
    names = options.functions.split(",") if options.functions else known
    there = [name for _, name in known_dtypes()]
    dtypes = options.dtype or there
    for argument, given, possible in (("--functions", names, known), ("--dtype", dtypes, DTYPES)):
        wrong = [g for g in given if g not in possible]
        if wrong:
            print(f"fastact warmup: {argument}: unknown {wrong[0]!r}", file=sys.stderr)
            return 2
    if not set(dtypes) <= set(there):
        print("fastact warmup: --dtype: bfloat16 needs the package ml_dtypes: pip install ml_dtypes", file=sys.stderr)
        return 2
    if options.jobs < 1:
        print(f"fastact warmup: --jobs must be at least 1, not {options.jobs}", file=sys.stderr)
        return 2
    try:
        lengths = row_lengths(options.lengths)
    except ValueError:
        lengths = [-1]
    if any(not SHORTEST <= n <= LONGEST for n in lengths):
        wanted = f"from {SHORTEST} to {LONGEST}, as in 2-8,10"
        print(f"fastact warmup: --lengths: {wanted}, not {options.lengths!r}", file=sys.stderr)
        return 2
    started = time.perf_counter()
    warm(names[0], dtypes[:1], ())  # the driver, which all share, is compiled once
    if any(name not in elementwise_forms() for name in names):
        load_rows()
    load_views()
    # spawned, not forked: a forked child may not use this process's threads
    jobs = min(options.jobs, 61) if sys.platform == "win32" else options.jobs  # Windows waits for no more at once
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool, _progress(len(names)) as advance:
        for done in as_completed([pool.submit(warm, name, dtypes, lengths) for name in names]):
            advance(done.result())
    from .cpu import cache

    seconds = time.perf_counter() - started
    print(f"{len(names)} functions, {len(dtypes)} dtypes: {seconds:.1f} s, kept in {cache.root() / cache.key()}")
    return 0


class _progress:
    """A progress bar if rich is installed, else nothing."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.bar: Any = None

    def __enter__(self) -> Any:
        try:
            from rich.progress import Progress
        except ImportError:
            return lambda name: None
        self.bar = Progress(transient=True).__enter__()
        task = self.bar.add_task("compiling", total=self.total)
        return lambda name: self.bar.update(task, advance=1, description=name)

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.__exit__(*error)
