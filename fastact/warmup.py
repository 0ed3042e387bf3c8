"""``fastact warmup``: compile every function for every dtype and keep the code on disk."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

import numpy as np

DTYPES = ("float32", "float64", "float16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--functions", metavar="A,B", help="only these public names (default: all)")
    parser.add_argument("--dtypes", metavar="A,B", default=",".join(DTYPES), help="dtypes (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")


def warm(name: str, dtypes: tuple[str, ...]) -> str:
    """Call one public function once for each dtype, with scalar and with array parameters."""
    import fastact

    from .api import elementwise_forms

    function = getattr(fastact, name)
    for dtype in dtypes:
        x = np.zeros(2, dtype)
        if name not in elementwise_forms():
            columns = function.signature.split("->")[0].split(",")
            for n in (2, 64):  # rows that are short, for which each lane is a row, and others
                row = np.zeros(n, dtype)
                function(*(row if column == "(n)" else row[0] for column in columns))
            continue
        record, form = elementwise_forms()[name]
        arrays = [x] * len(form.arrays)
        if not record.parameters:
            function(*arrays)
            _large(function, len(arrays), dtype)
            continue
        parameters = [np.asarray(1.0, dtype) for _ in record.parameters]
        function.ufunc(*arrays, *parameters)
        function.ufunc(*arrays, *(np.broadcast_to(p, 2).copy() for p in parameters))
        if all(p.default is not None for p in record.parameters):
            function(*arrays)
            _large(function, len(arrays), dtype)
    return name


def _large(function: Any, inputs: int, dtype: str) -> None:
    """Call `function` in ways that have loops of their own: on every second element, and as if its results were too
    large for the caches."""
    from .cpu.threads import pool

    function(*np.zeros((inputs, 2048), dtype)[:, ::2])

    usual, pool.stream_bytes = pool.stream_bytes, 0
    try:
        arrays = np.zeros((inputs, 1024), dtype)
        found = function(*arrays)
        # rows of one array: it takes results that begin cache lines at the same time
        function(*arrays, out=tuple(np.zeros((len(found), 1024), dtype)) if isinstance(found, tuple) else found)
    finally:
        pool.stream_bytes = usual


def run(options: argparse.Namespace) -> int:
    """Compile what `options` asks for; 2 if that names something unknown."""
    from .api import ROWS, elementwise_forms
    from .cpu.ufunc import load_rows, load_views

    known = [*elementwise_forms(), *ROWS]
    names = options.functions.split(",") if options.functions else known
    dtypes = tuple(options.dtypes.split(","))
    for argument, given, possible in (("--functions", names, known), ("--dtypes", dtypes, (*DTYPES, "bfloat16"))):
        wrong = [g for g in given if g not in possible]
        if wrong:
            print(f"fastact warmup: {argument}: unknown {wrong[0]!r}")
            return 2
    if options.jobs < 1:
        print(f"fastact warmup: --jobs must be at least 1, not {options.jobs}")
        return 2
    started = time.perf_counter()
    warm(names[0], dtypes[:1])  # the driver, which all share, is compiled once
    if any(name in ROWS for name in names):
        load_rows()
    load_views()
    # spawned, not forked: a forked child may not use this process's threads
    jobs = min(options.jobs, 61) if sys.platform == "win32" else options.jobs  # Windows waits for no more at once
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool, _progress(len(names)) as advance:
        for done in as_completed([pool.submit(warm, name, dtypes) for name in names]):
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
