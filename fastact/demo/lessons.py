"""The experiments: activations in a deep stack, and units that start switched off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastact.demo import network as nn
from fastact.demo.network import Data, Engine, LayerFacts, Settings

DEEP_WIDTH = 128
DEEP_EPOCHS = 8
# Small enough that no stack of the usual functions blows up on the way.
DEEP_LEARNING_RATE = 0.003
# As many examples as the deep gradient is averaged over.
PROBE = 512

DEAD_WIDTH = 64
DEAD_EPOCHS = 20
DEAD_LEARNING_RATE = 0.05
# About five standard deviations of a unit's input: nearly every unit starts switched off.
DEAD_BIAS = -5.0


@dataclass(frozen=True)
class DeepStack:
    """A deep network before training (per layer), and how well it learned."""

    activation: str
    initialisation: str
    gradient_norms: list[float]  # by the weights of each layer, the one behind the logits included
    layers: list[LayerFacts]
    accuracy: float
    diverged: bool

    @property
    def gradient_ratio(self) -> float:
        """The gradient norm of the first layer as a multiple of the last hidden layer's."""
        first, last = self.gradient_norms[0], self.gradient_norms[-2]
        return first / last if last else float("nan")


@dataclass(frozen=True)
class SwitchedOff:
    """A layer whose units start with a large negative bias, before and after training."""

    activation: str
    before: LayerFacts
    after: LayerFacts
    accuracy: float
    diverged: bool


def deep_stack(name: str, engine: Engine, data: Data, depth: int, seed: int) -> DeepStack:
    """Measure an untrained stack of `depth` hidden layers, then train it for a few epochs."""
    settings = Settings(depth, DEEP_WIDTH, DEEP_EPOCHS, 64, DEEP_LEARNING_RATE, seed)
    stack = nn.build(name, nn.sizes(data, settings), seed, learned=len(engine.learned))
    with np.errstate(all="ignore"):
        norms = nn.gradient_norms(stack, engine, data.train[:PROBE], data.train_targets[:PROBE])
        layers = nn.layer_facts(stack, engine, data.test)
    history = nn.train(name, [engine], data, settings)[0]
    return DeepStack(name, nn.scheme(name), norms, layers, history.accuracies[-1], history.diverged)


def switched_off(name: str, engine: Engine, data: Data, seed: int) -> SwitchedOff:
    """Train one hidden layer from a bias of `DEAD_BIAS`: which functions bring its units back?"""
    settings = Settings(1, DEAD_WIDTH, DEAD_EPOCHS, 64, DEAD_LEARNING_RATE, seed, DEAD_BIAS)
    learned = len(engine.learned)
    fresh = nn.build(name, nn.sizes(data, settings), seed, learned=learned, first_bias=DEAD_BIAS)
    before = nn.layer_facts(fresh, engine, data.test)[0]
    history = nn.train(name, [engine], data, settings)[0]
    with np.errstate(all="ignore"):
        after = nn.layer_facts(history.network, engine, data.test)[0]
    return SwitchedOff(name, before, after, history.accuracies[-1], history.diverged)


def deep_sentences(stacks: Sequence[DeepStack]) -> list[str]:
    """What the deep stacks showed, in measured figures."""
    found = {stack.activation: stack for stack in stacks}
    lines = []
    if "sigmoid" in found and "relu" in found:
        sigmoid, relu = found["sigmoid"], found["relu"]
        lines.append(
            f"Vanishing gradient: with sigmoid the first layer's gradient is "
            f"{sigmoid.gradient_ratio:.1g} times the last hidden layer's, with relu "
            f"{relu.gradient_ratio:.2g} times; after {DEEP_EPOCHS} epochs the stacks reach "
            f"{sigmoid.accuracy:.1%} and {relu.accuracy:.1%} of the test set."
        )
    if "selu" in found:
        selu = found["selu"].layers
        means = [abs(layer.mean) for layer in selu]
        variances = [layer.variance for layer in selu]
        others = [stack for stack in stacks if stack.activation != "selu"]
        line = (
            f"Self-normalising: in selu's {len(selu)} layers the mean stays within "
            f"{max(means):.2f} of 0 and the variance between {min(variances):.2f} and "
            f"{max(variances):.2f}"
        )
        if others:
            ends = ", ".join(f"{stack.activation} {stack.layers[-1].variance:.2g}" for stack in others)
            line += f"; the variance in the last layer of the others: {ends}"
        lines.append(line + ".")
    return lines


def dead_sentences(results: Sequence[SwitchedOff]) -> list[str]:
    """What became of the units that started switched off, in measured figures."""
    relu = [result for result in results if result.activation == "relu"]
    others = [result for result in results if result.activation != "relu"]
    if not relu or not others:
        return []
    rest = ", ".join(f"{result.activation} {result.after.dead:.0%} ({result.accuracy:.1%})" for result in others)
    return [
        (
            f"Dead units: {relu[0].after.dead:.0%} of relu's units are still dead after training, "
            f"and it gets {relu[0].accuracy:.1%} of the test set right; the others (accuracy): "
            f"{rest}."
        )
    ]
