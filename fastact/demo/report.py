"""What the demo prints, draws and writes: tables, learning curves and JSON."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fastact.demo.lessons import DeepStack, SwitchedOff
from fastact.demo.network import SATURATED, History, LayerFacts

# Wide enough for every table here where the output is not a terminal.
PLAIN_WIDTH = 100


@dataclass(frozen=True)
class Trained:
    """One activation's training: a history per engine (fastact first), and its layers after it."""

    activation: str
    initialisation: str
    histories: list[History]
    layers: list[LayerFacts]
    gradients_before: list[float]
    gradients_after: list[float]

    @property
    def fastact(self) -> History:
        """The run on fastact."""
        return self.histories[0]

    @property
    def ratios(self) -> tuple[float, float] | None:
        """Time of fastact over NumPy's: of the best epochs, and the median."""
        if len(self.histories) < 2:
            return None
        ours, theirs = self.histories[0].seconds, self.histories[1].seconds
        pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
        return min(ours) / min(theirs), statistics.median(pairs)


@dataclass
class Findings:
    """Everything the demo measured."""

    results: list[Trained] = field(default_factory=list)
    stacks: list[DeepStack] = field(default_factory=list)
    off: list[SwitchedOff] = field(default_factory=list)


def number(value: float, form: str) -> str:
    """A formatted number, or a dash where there is none."""
    return format(value, form) if math.isfinite(value) else "-"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, the first column to the left, with rich where it is installed."""
    print(f"\n{title}")
    if importlib.util.find_spec("rich") is not None:
        rich_console = importlib.import_module("rich.console")
        rich_table = importlib.import_module("rich.table")
        box = importlib.import_module("rich.box").SIMPLE_HEAD
        console = rich_console.Console()
        if not console.is_terminal:
            console = rich_console.Console(width=PLAIN_WIDTH)
        grid = rich_table.Table(box=box, pad_edge=False)
        for place, column in enumerate(columns):
            grid.add_column(column, justify="right" if place else "left", overflow="fold")
        for row in rows:
            grid.add_row(*row)
        console.print(grid)
        return
    lines = [list(columns), *map(list, rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    for count, line in enumerate(lines):
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())
        if count == 0:
            print("  ".join("-" * width for width in widths))
    print()


def training_tables(results: Sequence[Trained]) -> None:
    """Accuracy and time per activation, then the hidden layers of each network."""
    rows = []
    for result in results:
        best = [f"{1e3 * min(history.seconds):.1f}" for history in result.histories]
        ratios = result.ratios
        rows.append(
            [
                result.activation,
                result.initialisation,
                f"{result.fastact.accuracies[-1]:.1%}",
                "diverged" if result.fastact.diverged else f"{result.fastact.losses[-1]:.4f}",
                *(best if len(best) == 2 else [best[0], "-"]),
                *([f"{ratio:.2f}" for ratio in ratios] if ratios else ["-", "-"]),
            ]
        )
    columns = ["activation", "init", "accuracy", "loss", "fastact ms", "NumPy ms"]
    table(
        "Training: test accuracy; time per epoch (best), and fastact's over NumPy's time",
        [*columns, "best", "median"],
        rows,
    )
    rows = []
    for result in results:
        for place, facts in enumerate(result.layers):
            rows.append(
                [
                    "" if place else result.activation,
                    str(place + 1),
                    number(facts.dead, ".0%"),
                    number(facts.saturated, ".1%"),
                    number(result.gradients_before[place], ".2g"),
                    number(result.gradients_after[place], ".2g"),
                    number(facts.mean, ".2f"),
                    number(facts.variance, ".2f"),
                ]
            )
    columns = ["activation", "layer", "dead", "saturated", "grad before", "grad after"]
    table(
        "Hidden layers after training, on the test set; gradient norms before and after it\n"
        f"(saturated: |f'| < {SATURATED:g}; dead: a unit that is saturated for every image)",
        [*columns, "mean", "variance"],
        rows,
    )


def deep_tables(stacks: Sequence[DeepStack]) -> None:
    """Gradients and spread of activations through a deep stack."""
    depth = len(stacks[0].layers)
    shown = sorted({0, depth // 2, depth - 1})
    table(
        f"A stack of {depth} layers: gradient norms before training, test accuracy after it",
        ["activation", "init", "layer 1", f"layer {depth}", "first / last", "accuracy"],
        [
            [
                stack.activation,
                stack.initialisation,
                number(stack.gradient_norms[0], ".1e"),
                number(stack.gradient_norms[-2], ".1e"),
                number(stack.gradient_ratio, ".1e"),
                "diverged" if stack.diverged else f"{stack.accuracy:.1%}",
            ]
            for stack in stacks
        ],
    )
    shown = sorted({0, depth // 2 - 1, depth - 1})
    rows = []
    for stack in stacks:
        facts = [stack.layers[place] for place in shown]
        cells = [[number(fact.mean, ".3f"), number(fact.variance, ".3f")] for fact in facts]
        rows.append([stack.activation, *(cell for pair in cells for cell in pair)])
    names = [[f"mean {place + 1}", f"variance {place + 1}"] for place in shown]
    table(
        "Mean and variance of the activations in that stack's layers, before training",
        ["activation", *(name for pair in names for name in pair)],
        rows,
    )


def dead_table(results: Sequence[SwitchedOff], bias: float) -> None:
    """Units that start switched off, before and after training."""
    rows = [
        [
            result.activation,
            number(result.before.inactive, ".0%"),
            number(result.after.inactive, ".0%"),
            number(result.before.dead, ".0%"),
            number(result.after.dead, ".0%"),
            "diverged" if result.diverged else f"{result.accuracy:.1%}",
        ]
        for result in results
    ]
    table(
        f"One hidden layer that starts with bias {bias:g}: units never active, units dead",
        ["activation", "inactive before", "after", "dead before", "after", "accuracy"],
        rows,
    )


def summary(results: Sequence[Trained]) -> str:
    """The last line: the best accuracy, and how fastact's time compares, the losses included."""
    best = max(results, key=lambda result: result.fastact.accuracies[-1])
    text = f"Best test accuracy {best.fastact.accuracies[-1]:.1%} ({best.activation})"
    diverged = [result.activation for result in results if result.fastact.diverged]
    if diverged:
        text += f"; diverged: {', '.join(diverged)}"
    timed = [(result.activation, result.ratios) for result in results if result.ratios]
    medians = {name: ratios[1] for name, ratios in timed if ratios}
    if not medians:
        return f"{text}; no time to compare."
    low, high = min(medians.values()), max(medians.values())
    span = f"{low:.2f}" if len(medians) == 1 else f"{low:.2f} to {high:.2f}"
    slower = [f"{name} ({ratio:.2f})" for name, ratio in medians.items() if ratio > 1.0]
    text += f"; an epoch with fastact took {span} of plain NumPy's time (median)"
    return f"{text}, slower for {', '.join(slower)}." if slower else f"{text}, slower for none."


def draw(path: Path, findings: Findings) -> None:
    """Draw the learning curves, and the deep stacks under them where there are any."""
    results, stacks = findings.results, findings.stacks
    figure_type = importlib.import_module("matplotlib.figure").Figure
    names = [*dict.fromkeys([r.activation for r in results] + [s.activation for s in stacks])]
    colours = importlib.import_module("matplotlib").colormaps["tab10"]
    # Dashes as well as colours: curves on each other stay visible, and 20 names stay apart.
    styles = {
        name: {"color": colours(place % 10), "linestyle": ("-", "--", "-.", ":")[place % 4]}
        for place, name in enumerate(names)
    }
    rows = 2 if stacks else 1
    figure = figure_type(figsize=(11, 4.2 * rows), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False)
    handles: dict[str, Any] = {}
    for result in results:
        epochs = range(1, len(result.fastact.losses) + 1)
        style = styles[result.activation]
        axes[0, 0].plot(epochs, result.fastact.accuracies, **style)
        handles[result.activation] = axes[0, 1].plot(epochs, result.fastact.losses, **style)[0]
    axes[0, 0].set(title="test accuracy", xlabel="epoch")
    axes[0, 1].set(title="training loss", xlabel="epoch", yscale="log")
    for stack in stacks:
        style = styles[stack.activation]
        layers = range(1, len(stack.layers) + 1)
        handles[stack.activation] = axes[1, 0].plot(layers, stack.gradient_norms[:-1], **style)[0]
        axes[1, 1].plot(layers, [facts.variance for facts in stack.layers], **style)
    if stacks:
        axes[1, 0].set(title="deep stack: gradient norm", xlabel="layer", yscale="log")
        axes[1, 1].set(title="deep stack: variance of activations", xlabel="layer", yscale="log")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.legend([handles[name] for name in names], names, loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=120)


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, settings: dict[str, Any], findings: Findings, last_line: str) -> None:
    """Write every figure the tables show, and the series behind them."""
    training = []
    for result in findings.results:
        ratios = result.ratios or (None, None)
        runs = {
            history.engine: {
                "losses": history.losses,
                "accuracies": history.accuracies,
                "seconds": history.seconds,
                "diverged": history.diverged,
            }
            for history in result.histories
        }
        training.append(
            {
                "activation": result.activation,
                "initialisation": result.initialisation,
                "runs": runs,
                "time_ratio_best": ratios[0],
                "time_ratio_median": ratios[1],
                "gradient_norms_before": result.gradients_before,
                "gradient_norms_after": result.gradients_after,
                "layers": [asdict(facts) for facts in result.layers],
            }
        )
    content = {
        "settings": settings,
        "training": training,
        "deep": [asdict(s) | {"gradient_ratio": s.gradient_ratio} for s in findings.stacks],
        "switched_off": [asdict(result) for result in findings.off],
        "summary": last_line,
    }
    path.write_text(json.dumps(_plain(content), indent=1, allow_nan=False) + "\n", "utf-8")
