"""The bars that fastact sets itself, each with the one command that measures it: ``python -m benchmarks.bars``.

A bar's results are kept in ``benchmarks/results/NAME.json`` and judged from there, so that ``--check`` says where
things stand without measuring again; ``--results`` names another folder, say for another machine. Beside a figure that
misses its bar is what it would be if fastact took just as long as copying the bytes, or as the CPU's ports need for its
arithmetic, whichever is longer; and what it would be if memory and arithmetic overlapped wholly, with the arithmetic as
long as its loop takes in cache. Ratios are those of one run on one machine; what the machine does besides counts too:
let it do nothing else.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastact.bench.files import FORMAT
from fastact.bench.report import geometric_mean

from . import calls, startup
from .cases import functions

RESULTS = Path(__file__).parent / "results"

SIXTEEN = (
    *("relu", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "softplus", "log_sigmoid"),
    *("elu", "selu", "celu", "mish", "softsign", "hard_sigmoid", "hard_swish"),
)
"""The functions that most of the other libraries have."""
OTHERS = tuple(name for name in functions(rows=False) if name not in SIXTEEN)
SOFTMAXES = ("softmax", "log_softmax", "logsumexp", "cross_entropy_with_logits")

Records = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One figure of a bar, what it must be, and whether it is."""

    what: str
    found: str
    wanted: str
    met: bool
    at_limit: str = ""
    """the same figure if fastact took no longer than the copy and the CPU's ports allow, or than the copy and its own
    loop in cache take"""


Judge = Callable[[Records], Iterator[Verdict]]


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that has to hold, how it is measured, and who judges it."""

    what: str
    command: str
    """the options of ``fastact bench``, or a module of this package"""
    judges: tuple[Judge, ...]


# --- judges ---------------------------------------------------------------------------------------


def _groups(records: Records, *keys: str) -> Iterable[tuple[str, Records]]:
    """fastact's own records by what they have in common."""
    found: dict[str, Records] = {}
    for record in records:
        if record["library"] == "fastact":
            found.setdefault(" ".join(str(record[key]) for key in keys), []).append(record)
    return found.items()


def _ratio(record: dict[str, Any]) -> float | None:
    """How many times as fast fastact is, both starting from the same."""
    from_x: float | None = record.get("fastact_against_fastest_peer_from_x")
    return record.get("fastact_against_fastest_peer") if from_x is None else from_x


_LIMITS = {"fastact_over_limit": "at the limit", "fastact_over_loop": "with the time of the loop in cache"}


def _at_limit(ratios: list[tuple[float, dict[str, Any]]], power: int) -> str:
    """The mean of ratios of times, fastact's to the `power` 1 or -1, with each limit in the place of fastact's."""
    found = []
    for key, words in _LIMITS.items():
        value = _mean(None if record.get(key) is None else ratio / record[key] ** power for ratio, record in ratios)
        found += [] if value is None else [f"{_times(value)} {words}"]
    return ", ".join(found)


def _mean(values: Iterable[float | None]) -> float | None:
    """The geometric mean; None if there is no value, or one is not known."""
    found = list(values)
    known = [value for value in found if value is not None]
    return geometric_mean(known) if known and len(known) == len(found) else None


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}x"


def ahead(least: float = 1.0, mean: float | None = None, of: tuple[str, ...] | None = None) -> Judge:
    """Every function at least `least` times as fast as the fastest peer, and `mean` times in the geometric mean.

    Where fastact starts from x and a peer was given what its forward pass saves, the peer starts from x too; the form
    ``backward`` has both start from what they save.
    """

    def judge(records: Records) -> Iterator[Verdict]:
        for group, members in _groups(records, "dtype", "form", "setting"):
            ratios = [(ratio, record) for record in members if (ratio := _ratio(record)) is not None]
            if not ratios:
                continue
            least_found, worst = min(ratios, key=lambda pair: pair[0])
            found = f"{least_found:.2f}x: {worst['function']} ({worst['fastest_peer']})"
            limit = _at_limit([(least_found, worst)], -1)
            yield Verdict(f"{group}: worst", found, f"{least:.1f}x", least_found >= least, limit)
            if mean is not None:
                ratios = [(ratio, record) for ratio, record in ratios if of is None or record["function"] in of]
                value = _mean(ratio for ratio, _ in ratios) or 0.0
                limit = _at_limit(ratios, -1)
                yield Verdict(f"{group}: mean of {len(ratios)}", _times(value), f"{mean:.1f}x", value >= mean, limit)

    return judge


def ahead_by_shape(least: dict[str, float]) -> Judge:
    """Every function at least so many times as fast as the fastest peer, by the shape of its rows."""

    def judge(records: Records) -> Iterator[Verdict]:
        for shape, factor in least.items():
            yield from ahead(factor)([record for record in records if record["setting"] == shape])

    return judge


def at_most(key: str, most: float) -> Judge:
    """A figure of every function at most `most`: the worst function, then each other one beyond it."""

    def judge(records: Records) -> Iterator[Verdict]:
        for group, members in _groups(records, "dtype", "form", "setting"):
            known = sorted((r for r in members if r.get(key) is not None), key=lambda record: -record[key])
            for record in known[:1] + [record for record in known[1:] if record[key] > most]:
                found, limit = f"{record[key]:.2f}x: {record['function']}", _at_limit([(record[key], record)], 1)
                yield Verdict(f"{group}: {key}", found, f"at most {most:g}x", record[key] <= most, limit)

    return judge


def relu_over_torch(least: float) -> Judge:
    """fastact's relu at least `least` times as fast as PyTorch's."""

    def judge(records: Records) -> Iterator[Verdict]:
        times = {r["library"]: r["ns_per_element_best"] for r in records if r["function"] == "relu"}
        if "torch" in times:
            ratio = times["torch"] / times["fastact"]
            yield Verdict("relu against torch", f"{ratio:.2f}x", f"{least:g}x", ratio >= least)

    return judge


def figure(key: str, most: float, unit: str) -> Judge:
    """A figure that a module of this package measures."""

    def judge(records: Records) -> Iterator[Verdict]:
        for record in records:
            found = f"{record[key]:.3g} {unit}"
            yield Verdict(record["what"], found, f"at most {most:g} {unit}", record[key] <= most)

    return judge


# --- the bars -------------------------------------------------------------------------------------

_FUNCTIONS = f"--functions {','.join(SIXTEEN)}"
_ROWS = f"--rows --functions {','.join(SOFTMAXES)} --no-accuracy"
_SHORT = {"100000x10": 2.5, "100000x2": 2.5}
_LONG = dict.fromkeys(("64x50257", "8x1048576", "1x16777216", "1024x1024@0", "64x512x64@1"), 1.3)

BARS: dict[str, Bar] = {
    "float32-64Ki-1-thread": Bar(
        "in cache, one thread",
        "--sizes 64Ki --threads 1 --rounds 40 --limits",
        (ahead(1.0, 2.0, SIXTEEN),),
    ),
    "float64-64Ki-1-thread": Bar(
        "in cache, one thread, float64",
        f"{_FUNCTIONS} --sizes 64Ki --threads 1 --rounds 40 --dtype float64 --limits --no-accuracy",
        (ahead(1.0, 2.0),),
    ),
    "gradients-64Ki-1-thread": Bar(
        "derivatives and gradients against backward kernels",
        f"{_FUNCTIONS} --sizes 64Ki --threads 1 --rounds 30 --form backward,vjp,derivative --limits --no-accuracy",
        (ahead(1.0, 2.0),),
    ),
    "16-bit-64Ki-1-thread": Bar(
        "half as wide, in cache, one thread",
        f"{_FUNCTIONS} --sizes 64Ki --threads 1 --rounds 30 --dtype float16,bfloat16 --limits --no-accuracy",
        (ahead(1.0),),
    ),
    "float32-small-1-thread": Bar(
        "1 to 10,000 elements",
        f"{_FUNCTIONS} --sizes 1,10,100,1000,10000 --threads 1 --rounds 20 --no-accuracy",
        (ahead(1.0),),
    ),
    "float32-64Ki-all-threads": Bar(
        "in cache, all threads",
        "--sizes 64Ki,128Ki --rounds 40 --no-accuracy",
        (ahead(1.0),),
    ),
    "float32-1M-all-threads": Bar(
        "in the third cache, all threads",
        f"{_FUNCTIONS} --sizes 1M --rounds 60 --limits --no-accuracy",
        (ahead(1.0, 2.0),),
    ),
    "float32-16M-all-threads": Bar(
        "out of cache, all threads",
        f"{_FUNCTIONS} --sizes 16M --rounds 15 --limits",
        (ahead(1.0), at_most("fastact_over_relu", 1.25), relu_over_torch(1.2)),
    ),
    "float32-16M-others-all-threads": Bar(
        "out of cache, all threads, the rest of the catalogue",
        f"--functions {','.join(OTHERS)} --sizes 16M --rounds 3 --limits --no-accuracy",
        (ahead(1.0), at_most("fastact_over_relu", 1.25)),
    ),
    "float32-views-1-thread": Bar(
        "inputs that are not contiguous",
        f"{_FUNCTIONS} --sizes 64Ki --threads 1 --rounds 20 --no-accuracy "
        "--layout strided2,transposed,broadcast,reversed,gap",
        (ahead(1.0), at_most("fastact_over_contiguous", 2.0)),
    ),
    "rows-1-thread": Bar(
        "along an axis, one thread",
        f"{_ROWS} --threads 1",
        (ahead_by_shape({**_SHORT, "4096x128": 1.5, "1024x1024": 1.5, **_LONG}),),
    ),
    "rows-all-threads": Bar(
        "along an axis, all threads",
        _ROWS,
        (ahead_by_shape({**_SHORT, "4096x128": 1.3, "1024x1024": 1.3, **_LONG}),),
    ),
    "row-gradients-1-thread": Bar(
        "gradients along an axis from the saved output",
        "--rows --functions softmax,log_softmax --form vjp --threads 1 --no-accuracy",
        (ahead(1.0),),
    ),
    "loss-gradients-1-thread": Bar(
        "a loss and its gradient",
        "--rows --functions cross_entropy_with_logits --form with_derivative --threads 1 --no-accuracy",
        (ahead(1.0),),
    ),
    "startup": Bar(
        "the first result of a fresh process, from a filled cache, beside import numpy",
        "startup",
        (figure("seconds_above_numpy", 0.35, "s"),),
    ),
    "calls": Bar(
        "a call on one element, beside np.exp called in the same way",
        "calls",
        (figure("over_numpy_exp", 1.2, "times np.exp"),),
    ),
}
"""Name of the file of results -> bar."""

MODULES = {"startup": startup.measure, "calls": calls.measure}


def command_of(bar: Bar) -> str:
    """What to type to measure a bar."""
    return f"python -m benchmarks.{bar.command}" if bar.command in MODULES else f"fastact bench {bar.command}"


def run(name: str, results: Path = RESULTS) -> None:
    """Measure a bar and keep the results."""
    bar, file = BARS[name], results / f"{name}.json"
    print(f"\n== {name}: {bar.what}\n$ {command_of(bar)}", flush=True)
    if bar.command in MODULES:
        file.write_text(
            json.dumps({"command": command_of(bar), "results": MODULES[bar.command]()}, indent=1) + "\n", "utf-8"
        )
        return
    options = [*shlex.split(bar.command), "--brief", "--json", str(file)]
    subprocess.run([sys.executable, "-m", "fastact", "bench", *options], check=True)


def judge(name: str, results: Path = RESULTS) -> list[Verdict]:
    """What the kept results of a bar say; nothing where there are none."""
    file = results / f"{name}.json"
    if not file.exists():
        return [Verdict("not measured", "", "", False)]
    content = json.loads(file.read_text("utf-8"))
    records = content["results"]
    if BARS[name].command not in MODULES and content["format"] != FORMAT:
        return [Verdict(f"measured by an older version ({content['format']})", "", "", False)]
    return [verdict for judge in BARS[name].judges for verdict in judge(records)]


def main(arguments: list[str] | None = None) -> int:
    """Measure the bars that are named, or all; exit with 1 if one is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BARS)} (default: all)")
    parser.add_argument("--list", action="store_true", help="print the commands and run nothing")
    parser.add_argument("--check", action="store_true", help="judge the kept results and run nothing")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FOLDER", help="where results are kept (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BARS]
    if unknown:
        parser.error(f"unknown bar {unknown[0]!r}: choose from {', '.join(BARS)}")
    names = options.names or list(BARS)
    if options.list:
        for name in names:
            print(f"{name}: {BARS[name].what}\n    {command_of(BARS[name])}")
        return 0
    missed = 0
    if not options.check:
        options.results.mkdir(parents=True, exist_ok=True)
        for name in names:
            run(name, options.results)
    for name in names:
        verdicts = judge(name, options.results)
        print(f"\n{name}: {BARS[name].what}")
        for verdict in verdicts:
            missed += not verdict.met
            mark = "met   " if verdict.met else "MISSED"
            bar = f"  (bar: {verdict.wanted})" if verdict.wanted else ""
            limit = f"  [{verdict.at_limit}]" if verdict.at_limit and not verdict.met else ""
            print(f"  {mark}  {verdict.what:46}  {verdict.found}{bar}{limit}")
    print(f"\n{missed} missed" if missed else "\nall bars are met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
