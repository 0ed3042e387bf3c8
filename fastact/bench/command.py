"""``fastact bench``: every function of the catalogue beside every library that is installed."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import time
from pathlib import Path

from fastact.activation import Unfinished
from fastact.bench.arrays import BARS_OF_ROWS, DTYPES, FORMS, LAYOUTS, Setting, numpy_dtype, parse_shape
from fastact.bench.sizes import parse_size, size_name
from fastact.command_options import SeveralWords, add_dtype, words

__all__ = ["add_arguments", "run"]

SIZES = "1,100,10000,64Ki,1M,16M"
QUICK_SIZES = "1,64Ki"
BUSY = 0.5
"""What the rest of the machine may do, as a share of its cores, before it is said."""


class _BadArgument(ValueError):
    """What the user gave cannot be done; the message names the argument and the value."""


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(parse_size(part) for part in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _shapes(text: str) -> tuple[Setting, ...]:
    try:
        return tuple(dict.fromkeys(parse_shape(part) for part in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> int:
    number = int(text) if text.strip().isdecimal() else 0
    if not 1 <= number <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1024")
    return number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``fastact bench``; nothing heavy is imported for them."""
    parser.add_argument(
        "--functions",
        type=words,
        metavar="A,B",
        help="functions to measure, elementwise or rows for all of a kind (default: all)",
    )
    parser.add_argument(
        "--sizes",
        type=_sizes,
        metavar="N,M",
        help=f"numbers of elements, such as 100, 64Ki or 1M (default: {SIZES})",
    )
    parser.add_argument(
        "--rows",
        type=_shapes,
        nargs="?",
        const=_shapes(BARS_OF_ROWS),
        metavar="SHAPES",
        help="measure the functions along an axis on arrays of these shapes, such as 1024x1024,1024x1024@0 with the "
        f"axis after the @ (without SHAPES: {BARS_OF_ROWS.replace(',', ', ')})",
    )
    parser.add_argument(
        "--layout",
        action=SeveralWords,
        const=tuple(LAYOUTS),
        default=("contiguous",),
        metavar="A,B",
        help=f"how the input lies in memory: {', '.join(LAYOUTS)}; the result is contiguous (default: contiguous)",
    )
    add_dtype(parser, DTYPES, ("float32",))
    parser.add_argument(
        "--form",
        action=SeveralWords,
        const=FORMS,
        default=("forward",),
        metavar="A,B",
        help="forward, derivative, vjp (gradient times derivative), backward (a vjp from what the forward pass saves, "
        "y or x) or with_derivative (both in one pass; of a loss the gradient)",
    )
    parser.add_argument(
        "--limits",
        action="store_true",
        help="show beside each time the copy of as many bytes and, with llvm-mca, what the arithmetic needs at least",
    )
    parser.add_argument(
        "--no-accuracy",
        action="store_true",
        help="measure no errors",
    )
    parser.add_argument(
        "--threads",
        type=_positive,
        metavar="N",
        help="threads for every library (default: all cores)",
    )
    parser.add_argument(
        "--libraries",
        type=words,
        metavar="A,B",
        help="peers to measure beside fastact (default: all that are installed)",
    )
    parser.add_argument(
        "--rounds",
        type=_positive,
        metavar="N",
        help="batches a library gets in each cell (default: 9)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"sizes {QUICK_SIZES} and short batches: a look, not a measurement",
    )
    parser.add_argument(
        "--brief",
        action="store_true",
        help="print the summary of each size and not each function",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write everything measured, with machine and versions",
    )
    parser.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="write one line for each function, size and library",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="draw speed and accuracy into a .png, .svg or .pdf file",
    )


def _chosen_functions(wanted: tuple[str, ...] | None, rows: bool) -> tuple[str, ...]:
    import fastact as fa
    from fastact.api import ROWS
    from fastact.bench.cases import functions
    from fastact.bench.peers import PEERS

    known = functions(rows=True) if rows else functions()
    if wanted is None:
        return known
    if not wanted:
        raise _BadArgument("argument --functions: no function given")
    second_names = {alias: record.name for record in fa.CATALOGUE.values() for alias in record.aliases}
    kinds = {"elementwise": functions(rows=False), "rows": functions(rows=True)}
    chosen = tuple(dict.fromkeys(name for word in wanted for name in kinds.get(word, (second_names.get(word, word),))))
    for name in chosen:
        if name not in known:
            import difflib

            if name in ROWS and not name.endswith("_vjp"):
                PEERS[name]  # says what is missing of a new one

            close = difflib.get_close_matches(name, known, 3, 0.5)
            hint = f"did you mean {' or '.join(close)}?" if close else f"choose from {', '.join(known)}"
            raise _BadArgument(f"argument --functions: unknown function {name!r}: {hint}")
    return chosen


def _chosen_libraries(wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    from fastact.bench.cases import LIBRARIES, installed

    if wanted is None:
        return tuple(library for library in LIBRARIES if installed(library))
    for library in wanted:
        if library not in LIBRARIES:
            raise _BadArgument(f"argument --libraries: unknown library {library!r}: choose from {', '.join(LIBRARIES)}")
        if not installed(library):
            raise _BadArgument(f"argument --libraries: {library!r} is not installed: pip install {library}")
    return tuple(library for library in LIBRARIES if library == "fastact" or library in wanted)


def _chosen_settings(args: argparse.Namespace) -> tuple[Setting, ...]:
    """The sizes or the shapes of rows, in every layout."""
    if args.rows is not None and args.sizes is not None:
        raise _BadArgument("argument --rows: shapes say how many elements there are, so --sizes cannot be given too")
    default = QUICK_SIZES if args.quick else SIZES
    plain = args.rows or [Setting(n) for n in args.sizes or _sizes(default)]
    return tuple(Setting(s.elements, layout, s.shape, s.axis) for s in plain for layout in args.layout)


def _command(args: argparse.Namespace) -> str:
    """What to type for the same measurement, without the files it writes: it goes into them."""
    words = ["fastact bench"]
    chosen = {
        "functions": ",".join(args.functions or ()),
        "sizes": ",".join(map(size_name, args.sizes or ())),
        "rows": ",".join(setting.name for setting in args.rows or ()),
        "layout": ",".join(args.layout),
        "dtype": ",".join(args.dtype),
        "form": ",".join(args.form),
        "threads": args.threads,
        "libraries": ",".join(args.libraries or ()),
        "rounds": args.rounds,
        "quick": args.quick,
        "limits": args.limits,
        "no-accuracy": args.no_accuracy,
    }
    usual = {"layout": "contiguous", "dtype": "float32", "form": "forward", "rows": BARS_OF_ROWS}
    for name, value in chosen.items():
        if (name == "rows" and value == BARS_OF_ROWS) or value is True:
            words.append(f"--{name}")
        elif value and value != usual.get(name):
            words.append(f"--{name} {value}")
    return " ".join(words)


def _check_files(args: argparse.Namespace) -> None:
    """Find out before the measurement that its results can be written, not after."""
    for option in ("json", "csv", "plot"):
        path: Path | None = getattr(args, option)
        if path is None:
            continue
        if not path.parent.is_dir():
            raise _BadArgument(f"argument --{option}: no directory {str(path.parent)!r}")
        if path.is_dir():
            raise _BadArgument(f"argument --{option}: {str(path)!r} is a directory")
        if option == "plot":
            from fastact.bench.plot import SUFFIXES, require_matplotlib

            if path.suffix not in SUFFIXES:
                raise _BadArgument(f"argument --plot: {str(path)!r} does not end in {', '.join(SUFFIXES)}")
            require_matplotlib()


def _busy(cores: int) -> str:
    """What is to be said of a machine that has work already."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # Windows has none
    if load < BUSY * cores:
        return ""
    return f"{load:.1f} other programs or threads share the {cores} cores: figures of several threads mean little now"


def run(args: argparse.Namespace) -> int:
    """Measure, print and write. The exit status is 0, 1 where fastact failed, 2 for a bad argument."""
    try:
        return _run(args)
    except (_BadArgument, Unfinished, ImportError) as error:
        print(f"fastact bench: error: {error}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace) -> int:
    _check_files(args)
    settings = _chosen_settings(args)
    functions = _chosen_functions(args.functions, args.rows is not None)
    libraries = _chosen_libraries(args.libraries)
    for dtype in args.dtype:
        numpy_dtype(dtype)

    from fastact.bench.cases import set_threads
    from fastact.bench.files import to_csv, to_json
    from fastact.bench.libraries import available_cores
    from fastact.bench.measure import Plan, Report, measure
    from fastact.bench.report import accuracy_tables, disturbed, group_table, summary, tables
    from fastact.bench.screen import Screen

    threads = args.threads or available_cores()
    plan = Plan(
        functions=functions,
        settings=settings,
        libraries=libraries,
        dtypes=args.dtype,
        forms=args.form,
        threads=threads,
        rounds=args.rounds or (3 if args.quick else 9),
        batch_seconds=0.0002 if args.quick else 0.001,
        case_seconds=0.05 if args.quick else 0.3,
        limits=args.limits,
        accuracy=not args.no_accuracy,
        command=_command(args),
    )
    report = Report(plan)
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    screen = Screen()
    beside = ", ".join(libraries[1:]) or "nothing: no peer is chosen"
    screen.line(f"fastact beside {beside}; times are the best of up to {plan.rounds} rounds")
    busy = _busy(available_cores())
    if busy:
        screen.line(f"note: {busy}")
    start = time.monotonic()
    set_threads(threads, list(libraries))
    status = 0
    try:
        with screen.progress(plan.steps()) as progress:
            measure(report, progress)
    except KeyboardInterrupt:
        status = 130  # what was measured until now is shown and written all the same

    if not args.brief:
        for table in [*tables(report), *accuracy_tables(report)]:
            screen.table(table)
    overview = group_table(report)
    if overview is not None:
        screen.table(overview)
    for note in report.notes:
        screen.line(f"note: {note}")
    doubt = disturbed(report)
    if doubt:
        screen.line(f"note: {doubt}")
    if args.json:
        to_json(report, args.json, date)
    if args.csv:
        to_csv(report, args.csv)
    if args.plot and report.cells:
        from fastact.bench.plot import draw

        draw(report, args.plot)
    written = ", ".join(str(path) for path in (args.json, args.csv, args.plot) if path and path.exists())
    took = f"{time.monotonic() - start:.0f} s on {threads} thread{'s' if threads > 1 else ''}"
    screen.line(took + (f"; wrote {written}" if written else ""))
    screen.line(summary(report)["line"])
    return status or (1 if report.failed else 0)
