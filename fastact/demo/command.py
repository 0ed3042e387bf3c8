"""`fastact demo`: train a small network on handwritten digits and see what its activation does.

Trains a NumPy multilayer perceptron on scikit-learn's bundled digits with the activations of your
choice, once on fastact and once on plain NumPy formulas, and shows what activations are known for:
vanishing gradients with sigmoid, dead ReLUs, SELU's steady mean and variance in a deep stack.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import importlib.util
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

import fastact as fa
from fastact.demo import lessons, report
from fastact.demo import network as nn
from fastact.demo.network import Data, Settings

USUAL = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu")
SWITCHED_OFF = ("relu", "leaky_relu", "elu", "selu", "gelu")
TEST_SHARE = 0.2
MOST_WEIGHTS = 20_000_000


class UsageError(ValueError):
    """An argument that cannot be used; the message names it and its value."""


class MissingPackageError(ImportError):
    """A package of the extra `demo` is not installed."""


def _whole(least: int) -> Any:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return parse


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not (math.isfinite(value) and value > 0.0):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number above 0")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `fastact demo` to a parser."""
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--activation",
        nargs="+",
        metavar="NAME",
        help=f"elementwise functions of the catalogue (default: {' '.join(USUAL)})",
    )
    which.add_argument("--all", action="store_true", help="every founding activation")
    positive = _whole(1)
    parser.add_argument("--layers", type=positive, default=3, help="hidden layers (default: %(default)s)")
    parser.add_argument("--width", type=positive, default=128, help="units per hidden layer (default: %(default)s)")
    parser.add_argument("--epochs", type=positive, default=20, help="passes over the data (default: %(default)s)")
    parser.add_argument("--batch-size", type=positive, default=64, help="examples a step (default: %(default)s)")
    parser.add_argument("--learning-rate", type=_rate, default=0.05, help="step size (default: %(default)s)")
    parser.add_argument(
        "--seed",
        type=_whole(0),
        default=0,
        help="for start, split and batches (default: %(default)s)",
    )
    parser.add_argument(
        "--lessons",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the deep stack and the dead units after the training (default: yes)",
    )
    parser.add_argument(
        "--depth",
        type=_whole(2),
        default=20,
        help="layers of the deep stack (default: %(default)s)",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the learning curves")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure as JSON")


def _require(package: str, module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise MissingPackageError(f"this needs {package}: pip install fastact[demo]")


def _check_file(flag: str, path: Path | None) -> None:
    """Before the work and not after it: can the file be written at all?"""
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"argument {flag}: {str(path)!r} is a directory")
    if not path.parent.is_dir():
        raise UsageError(f"argument {flag}: the directory of {str(path)!r} does not exist")


def _check_plot(path: Path) -> None:
    _require("matplotlib", "matplotlib")
    known = importlib.import_module("matplotlib.figure").Figure().canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise UsageError(f"argument --plot: {str(path)!r} does not end in one of {', '.join(sorted(known))}")


def _check_size(flags: str, layers: int, width: int) -> None:
    """Refuse what would end in the machine's memory running out, half an hour later."""
    weights = layers * width * width
    if weights > MOST_WEIGHTS:
        raise UsageError(
            f"argument {flags}: {layers} layers of {width} units have {weights} weights; {MOST_WEIGHTS} are the most"
        )


def _resolve(wanted: list[str]) -> list[str]:
    """The catalogue's names for what was asked for, aliases resolved, each once."""
    aliases = {alias: name for name, record in fa.CATALOGUE.items() for alias in record.aliases}
    names = []
    for asked in wanted:
        name = aliases.get(asked, asked)
        if name not in fa.CATALOGUE:
            close = difflib.get_close_matches(asked, [*fa.CATALOGUE, *aliases], n=3)
            hint = f"did you mean {', '.join(close)}?" if close else f"choose from {', '.join(fa.CATALOGUE)}"
            raise UsageError(f"argument --activation: {asked!r} is not in the catalogue; {hint}")
        names.append(name)
    return [*dict.fromkeys(names)]


def load_data(seed: int) -> Data:
    """Scikit-learn's bundled digits, standardised as a whole, a fifth of them for testing."""
    _require("scikit-learn", "sklearn")
    digits = importlib.import_module("sklearn.datasets").load_digits()
    order = np.random.default_rng([seed, 0]).permutation(len(digits.data))
    cut = round(len(order) * TEST_SHARE)
    test, train = order[:cut], order[cut:]
    # One mean and deviation for all pixels: some pixels are the same in nearly every image, and
    # dividing by their own deviation would make outliers of the rest.
    centre, spread = digits.data[train].mean(), digits.data[train].std()
    pixels = ((digits.data - centre) / spread).astype(np.float32)
    targets = digits.target.astype(np.intp)
    return Data(pixels[train], targets[train], pixels[test], targets[test], len(digits.target_names))


def train_activation(name: str, data: Data, settings: Settings) -> report.Trained:
    """Train a network on fastact and its twin on NumPy, and look into the first one's layers."""
    engines = [nn.fastact_engine(name)]
    twin = nn.numpy_engine(name)
    if twin is not None:
        engines.append(twin)
    fresh = nn.build(name, nn.sizes(data, settings), settings.seed, learned=len(engines[0].learned))
    with np.errstate(all="ignore"):  # a network that diverges is reported, not warned about
        before = nn.gradient_norms(fresh, engines[0], data.train, data.train_targets)
        histories = nn.train(name, engines, data, settings)
        network = histories[0].network
        after = nn.gradient_norms(network, engines[0], data.train, data.train_targets)
        facts = nn.layer_facts(network, engines[0], data.test)
    return report.Trained(name, nn.scheme(name), histories, facts, before, after)


def one_blas_thread() -> contextlib.AbstractContextManager[Any]:
    """Small matrices gain nothing from more threads; times and sums become repeatable."""
    if importlib.util.find_spec("threadpoolctl") is None:
        return contextlib.nullcontext()
    limits: contextlib.AbstractContextManager[Any] = importlib.import_module("threadpoolctl").threadpool_limits(
        limits=1, user_api="blas"
    )
    return limits


def _note(text: str) -> None:
    """Say what is going on, on a terminal only, in a line that the next one overwrites."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _demo(args: argparse.Namespace) -> None:
    _check_file("--plot", args.plot)
    _check_file("--json", args.json)
    if args.plot is not None:
        _check_plot(args.plot)
    _check_size(f"--layers {args.layers} --width {args.width}", args.layers, args.width)
    if args.lessons:
        _check_size(f"--depth {args.depth}", args.depth, lessons.DEEP_WIDTH)
    _require("scikit-learn", "sklearn")
    founding = [name for name, record in fa.CATALOGUE.items() if record.founding]
    names = _resolve(founding if args.all else args.activation or list(USUAL))
    data = load_data(args.seed)
    if args.batch_size > len(data.train):
        raise UsageError(
            f"argument --batch-size: {args.batch_size} is more than the {len(data.train)} training examples"
        )
    settings = Settings(args.layers, args.width, args.epochs, args.batch_size, args.learning_rate, args.seed)
    print(
        f"Digits: {len(data.train)} training and {len(data.test)} test images of 8 x 8 pixels; "
        f"{args.layers} hidden layers of {args.width} units, {args.epochs} epochs, seed {args.seed}"
    )
    findings = report.Findings()
    with one_blas_thread():
        for place, name in enumerate(names):
            _note(f"training {name} ({place + 1} of {len(names)})")
            findings.results.append(train_activation(name, data, settings))
        if args.lessons:
            chosen = names if args.activation else []
            for name in dict.fromkeys([*USUAL, *chosen]):
                _note(f"a deep stack of {name}")
                engine = nn.fastact_engine(name)
                stack = lessons.deep_stack(name, engine, data, args.depth, args.seed)
                findings.stacks.append(stack)
            for name in dict.fromkeys([*SWITCHED_OFF, *chosen]):
                _note(f"switched-off units with {name}")
                engine = nn.fastact_engine(name)
                findings.off.append(lessons.switched_off(name, engine, data, args.seed))
    _note("")
    report.training_tables(findings.results)
    if args.lessons:
        report.deep_tables(findings.stacks)
        print("\n".join(lessons.deep_sentences(findings.stacks)))
        report.dead_table(findings.off, lessons.DEAD_BIAS)
        print("\n".join(lessons.dead_sentences(findings.off)))
    last_line = report.summary(findings.results)
    if args.plot is not None:
        report.draw(args.plot, findings)
        print(f"Learning curves: {args.plot}")
    if args.json is not None:
        numbers = {k: value for k, value in vars(args).items() if isinstance(value, int | float)}
        report.write_json(args.json, numbers, findings, last_line)
        print(f"Figures: {args.json}")
    print(last_line)


def run(args: argparse.Namespace) -> int:
    """Run the demo; 0 when it went well, 1 when something is missing, 2 for a bad argument."""
    try:
        _demo(args)
    except UsageError as problem:
        print(f"fastact demo: error: {problem}", file=sys.stderr)
        return 2
    except MissingPackageError as problem:
        print(f"fastact demo: {problem}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of the output went away: not a failure of the demo
        raise
    except OSError as problem:
        print(f"fastact demo: {problem}", file=sys.stderr)
        return 1
    return 0
