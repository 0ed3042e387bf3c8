"""``fastact accuracy``: how accurate is it, on this machine, now.

Measures the error of any function and form in ULP of the true value: float32 against a float64 reference that is itself
within 1e-3 ULP, over all 2^32 inputs (``--exhaustive``) or a walk through them, float64 against hundreds of bits.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import fastact
from fastact.accuracy.cases import Case, cases
from fastact.accuracy.judges import Measurement
from fastact.accuracy.peers import measure_peers
from fastact.accuracy.plot import draw
from fastact.accuracy.results import Key, Results
from fastact.accuracy.row_cases import FUNCTIONS, RowCase
from fastact.accuracy.sweep import count, sweep
from fastact.accuracy.varied import VariedCase, varied_cases
from fastact.activation import Unfinished
from fastact.api import LOSSES, ROWS
from fastact.bench.plot import SUFFIXES, require_matplotlib
from fastact.command_options import SeveralWords, add_dtype
from fastact.cpu import cache

__all__ = ["add_arguments", "run"]

Told = Callable[[float], None]
DTYPES = ("float32", "float64", "float16", "bfloat16")
AnyCase = Case | VariedCase | RowCase
STRIDE = 1021
"""Every which bit pattern of float32 is looked at by default: a prime, so that all low bits occur; 4 million inputs."""

GRID_STRIDE = 61
"""The same for the grid of parameter values in the proof: 70 million inputs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("functions", nargs="*", metavar="NAME", help="functions, or --all")
    parser.add_argument("--all", action="store_true", help="every function, elementwise or along an axis")
    add_dtype(parser, DTYPES, ("float32",))
    parser.add_argument(
        "--form",
        action=SeveralWords,
        metavar="A,B",
        help="forward, derivative, with_derivative, derivative_PARAMETER or rows (default: all)",
    )
    parser.add_argument(
        "--exhaustive",
        action="store_true",
        help="all 2^32 inputs of float32 (under a minute a form on two quiet cores)",
    )
    parser.add_argument("--stride", type=int, metavar="N", help=f"every N-th bit pattern of float32 (default {STRIDE})")
    parser.add_argument("--points", type=int, default=20_000, metavar="N", help="inputs for float64 (default 20000)")
    parser.add_argument(
        "--grid",
        action="store_true",
        help="a grid of parameter values as well as the defaults, and parameters of every size that vary with x",
    )
    parser.add_argument("--peers", action="store_true", help="measure the installed libraries too, on 4 million inputs")
    parser.add_argument(
        "--proof",
        action="store_true",
        help="all that tests/test_proof.py asks for: every dtype, exhaustively or with a million points, and a grid",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads that measure (default: one a core)")
    parser.add_argument("--state", type=Path, metavar="DIR", help="where an interrupted sweep is kept")
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE",
        help="keep the findings in FILE, row by row; what is there already, of the same kernel, is not measured again",
    )
    parser.add_argument("--json", metavar="FILE", help="write the findings to FILE, or - for standard output")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the error against x, and that of the installed libraries (.png)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Run the command; 1 if an error is above the function's contract, 2 if nothing was asked for that exists."""
    if args.proof:
        given = {**vars(args), "proof": False}
        full = {"dtype": list(DTYPES), "exhaustive": True, "points": 1_000_000, "grid": False, "varied": True}
        grid = {"dtype": ["float32"], "exhaustive": False, "stride": GRID_STRIDE, "grid": True, "varied": False}
        return max(run(argparse.Namespace(**{**given, **what})) for what in (full, grid))
    catalogue = fastact.CATALOGUE
    known = [*catalogue, *FUNCTIONS]
    names = known if args.all else args.functions
    unknown = [name for name in names if name not in known]
    for name in {*unknown} & {*ROWS, *LOSSES}:
        raise Unfinished(name, "what is to be judged of it", "FUNCTIONS", "fastact/accuracy/row_cases.py")
    if unknown or not names:
        asked = f"unknown: {', '.join(unknown)}" if unknown else "name a function, or say --all"
        print(f"fastact accuracy: {asked}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    if (args.stride is not None and args.stride < 1) or args.points < 1:
        print("fastact accuracy: --stride and --points are at least 1", file=sys.stderr)
        return 2
    if args.plot is not None:
        if args.plot.suffix not in SUFFIXES:
            print(f"fastact accuracy: --plot: the file ends in one of {', '.join(SUFFIXES)}", file=sys.stderr)
            return 2
        require_matplotlib()
    jobs = list(_jobs(args, names))
    if not jobs:
        print("fastact accuracy: none of these functions has that form or dtype", file=sys.stderr)
        return 2
    results = Results(args.save) if args.save else None
    found: list[tuple[Measurement, float]] = []
    peers: list[tuple[str, Measurement]] = []
    machine_readable = args.json == "-"
    width = max(17, *(len(case.name) + 2 for case, _ in jobs))
    if not machine_readable:
        print(f"{'function':{width}}{HEAD}")
    with _progress(len(jobs), shown=not args.quiet) as start:
        for case, dtype in jobs:
            bound = case.bound(dtype)
            told = start(f"{case.title} {dtype}")
            measured, kept = _measure(args, case, dtype, results, told)
            found.append((measured, bound))
            if not machine_readable:
                line = _line(measured, bound, width, varied=isinstance(case, VariedCase))
                print(line + ("  (kept)" if kept else ""), flush=True)
            for library, theirs in measure_peers(case, dtype) if args.peers and isinstance(case, Case) else ():
                peers.append((library, theirs))
                if not machine_readable:
                    print(_line(theirs, math.inf, width, library), flush=True)
    broken = [measured for measured, bound in found if not measured.holds(bound)]
    if args.plot is not None:
        first = jobs[0][1]
        draw([c for c, d in jobs if isinstance(c, Case) and d == first and not c.parts()], first, args.plot)
    if args.json:
        _write(args.json, found, peers)
    if not machine_readable:
        verdict = f"{len(broken)} above their bound" if broken else "all within their bounds"
        print(f"{len(found)} measured, {sum(m.inputs for m, _ in found):,} inputs: {verdict}")
    return 1 if broken else 0


def _measure(
    args: argparse.Namespace, case: AnyCase, dtype: str, results: Results | None, told: Told
) -> tuple[Measurement, bool]:
    """What was found now, or is kept in `results` for the same kernel and at least as many inputs."""
    digest, parameters = case.digest(dtype), case.parameters(dtype)
    sampled = not isinstance(case, Case)
    exhaustive = not sampled and dtype != "float64" and (args.exhaustive or dtype != "float32")
    stride = 1 if exhaustive else args.stride or STRIDE
    if isinstance(case, Case):
        planned = args.points if dtype == "float64" else count(dtype, stride)
    else:
        planned = case.inputs(dtype) if isinstance(case, RowCase) else 1

    def kept(one: AnyCase) -> Measurement | None:
        key = Key(one.name, one.form, dtype, one.given, parameters)
        row = None if results is None else results.current(key, one.digest(dtype))
        return row.found if row is not None and row.found.inputs >= planned else None

    before = kept(case)
    if before is not None:
        return before, True
    if not isinstance(case, Case):
        measured, same = case.measure(dtype), False
    else:
        # What joins two functions is not judged again, if both were judged: it must give their bits.
        known = [found for found in map(kept, case.parts()) if found is not None]
        same = bool(known) and len(known) == len(case.parts())
        measured = sweep(
            case.function(dtype),
            case.name,
            case.form,
            dtype,
            parameters,
            stride=stride,
            points=args.points,
            kinks=case.record.kinks,
            threads=args.threads,
            state=_state(args, case.title, dtype, digest + same * "-bits"),
            progress=told,
            parts=[part.function(dtype) for part in case.parts()] if same else (),
        )
        if same:
            worst = max(known, key=lambda m: m.max_ulp)
            rounded = sum(m.correctly_rounded for m in known)
            measured = replace(measured, max_ulp=worst.max_ulp, at=worst.at, correctly_rounded=rounded)
    if results is not None:
        results.put(measured, case.given, exhaustive, digest, [c.form for c in case.parts()] if same else ())
    return measured, False


def _jobs(args: argparse.Namespace, names: Sequence[str]) -> Iterator[tuple[AnyCase, str]]:
    """Cases and dtypes. A vjp has no error of its own: it is the derivative times g, rounded once more."""
    records = [fastact.CATALOGUE[name] for name in names if name in fastact.CATALOGUE]
    rows = [RowCase(name) for name in names if name in FUNCTIONS and "rows" in (args.form or ["rows"])]
    for dtype in args.dtype:
        yield from ((case, dtype) for case in cases(records, args.form, args.grid) if case.form != "vjp")
        if vars(args).get("varied", args.grid) and dtype in ("float32", "float64"):
            yield from ((case, dtype) for case in varied_cases(records, args.form))
        yield from ((case, dtype) for case in rows if dtype in ("float32", "float64"))


HEAD = f"{'form':21}{'parameters':13}{'dtype':9}{'inputs':>14}{'max ULP':>11}{'rounded':>10}  at"


def _line(found: Measurement, bound: float, width: int, library: str = "", varied: bool = False) -> str:
    """One row of the table; that of a peer has the library's name for the function's."""
    parameters = "varied" if varied else ", ".join(f"{p:.4g}" for p in found.parameters)
    title = f"  {library}" if library else found.name
    line = (
        f"{title:{width}}{found.form:21}{parameters:13}{found.dtype:9}{found.inputs:14,}"
        f"{found.max_ulp:11.4g}{_percent(found.share):>10}  {_place(found)}"
    ).rstrip()
    if found.wrong:
        kinds = [f"{n:,} {kind}" + _example(found, kind) for kind, n in found.wrong.items()]
        line += "  WRONG " + ", ".join(kinds)
    elif not found.holds(bound):
        line += f"  ABOVE {bound:g}"
    return line


def _place(found: Measurement) -> str:
    """Where the largest error is; nothing where there is none."""
    if not found.max_ulp:
        return ""
    if found.form != "rows":
        return repr(found.at)
    return f"entry {found.at:.0f}" + (f" of {found.row!r}" if found.row else "")


def _example(found: Measurement, kind: str) -> str:
    return f" (at {found.examples[kind]!r})" if kind in found.examples else ""


def _percent(share: float) -> str:
    """Three decimals, cut off rather than rounded: 100 % means all."""
    return f"{int(share * 100_000) / 1000:.3f} %"


def _state(args: argparse.Namespace, title: str, dtype: str, digest: str) -> Path | None:
    """The file for an interrupted sweep; that of a changed kernel is another sweep."""
    if not args.exhaustive or dtype != "float32":
        return None
    directory = args.state or cache.root() / "accuracy"
    return Path(directory) / f"{title}_{dtype}_{digest}.json"


def _write(target: str, found: list[tuple[Measurement, float]], peers: list[tuple[str, Measurement]]) -> None:
    rows = [{"library": "fastact", **m.as_dict(), "bound": bound, "holds": m.holds(bound)} for m, bound in found]
    rows += [{"library": library, **m.as_dict()} for library, m in peers]
    text = json.dumps(rows, indent=1)
    if target == "-":
        print(text)
    else:
        Path(target).write_text(text + "\n", "utf-8")


@contextmanager
def _progress(jobs: int, shown: bool) -> Iterator[Callable[[str], Told]]:
    """Yield what starts the bar of one job; bars need rich and a terminal, and are left out without them."""
    try:
        if not shown or not sys.stderr.isatty():
            raise ImportError
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield lambda title: lambda share: None
        return
    text, share = TextColumn("{task.description}"), TextColumn("{task.percentage:>3.0f} %")
    columns = (text, BarColumn(), share, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        every = bar.add_task("functions", total=jobs)
        current = bar.add_task("", total=1.0)
        before = 0

        def start(title: str) -> Told:
            nonlocal before
            base, before = before, before + 1
            bar.reset(current, total=1.0, description=title)

            def told(share: float) -> None:
                bar.update(current, completed=share)
                bar.update(every, completed=base + share)

            return told

        yield start
