"""A multilayer perceptron in NumPy: start, forward and backward pass, training, diagnostics.

The network does not know who computes its activations: an `Engine` brings the activation, its
backward rule and the loss, once from fastact and once as plain NumPy formulas, and everything else
is the same.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

import fastact as fa
from fastact.demo import formulas
from fastact.demo.formulas import Array

Targets = npt.NDArray[np.intp]

# A derivative smaller than this passes on next to nothing: the activation is called saturated. It
# lies below leaky_relu's slope of 0.01; sigmoid gets there at |x| = 6.9, tanh at 4.1, elu at -6.9.
SATURATED = 1e-3

# A learned slope (prelu) starts where its paper starts it (He et al. 2015).
FIRST_SLOPE = 0.25

MOMENTUM = 0.9

# Bounded, roughly odd functions take Glorot's variance, selu needs LeCun's to keep mean 0 and
# variance 1, and what passes half of its input takes He's, which makes up for the other half.
GLOROT = frozenset({"binary_step", "sigmoid", "bipolar_sigmoid", "tanh", "softsign", "hard_sigmoid", "hard_tanh"})
LECUN = frozenset({"selu"})


@dataclass(frozen=True)
class Engine:
    """Who computes: the activation f, g * f'(x), and the loss with its gradient.

    `learned` has one gradient function f(x, *values) -> df/dvalue for each parameter that is
    trained with the weights (prelu's slope); the others then take those values too.
    """

    name: str
    forward: Callable[..., Array]
    backward: Callable[..., Array]  # (g, x, y, *values), y being the saved output
    cross_entropy: Callable[[Array, Targets], tuple[Array, Array]]
    learned: tuple[Callable[..., Array], ...] = ()


@dataclass
class Layer:
    """One layer: `x @ weights + bias`, and the learned parameters of the activation behind it."""

    weights: Array
    bias: Array
    values: list[Array] = field(default_factory=list)

    def arrays(self) -> list[Array]:
        """What is trained, in the order of `gradients`."""
        return [self.weights, self.bias, *self.values]


@dataclass(frozen=True)
class Data:
    """Training and test examples, one a row, and their classes."""

    train: Array
    train_targets: Targets
    test: Array
    test_targets: Targets
    classes: int


@dataclass(frozen=True)
class Settings:
    """What a training run is made of."""

    layers: int
    width: int
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    first_bias: float = 0.0


@dataclass
class History:
    """One training run: a value per finished epoch, and the trained network."""

    engine: str
    network: list[Layer]
    velocities: list[Array]  # of the gradient descent, one for each array of the network
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    diverged: bool = False


@dataclass(frozen=True)
class LayerFacts:
    """What the test set does in one hidden layer."""

    inactive: float  # share of units whose input is never above 0
    dead: float  # share of units saturated for every example, so that no gradient reaches them
    saturated: float  # share of all activations with |f'| < SATURATED
    mean: float
    variance: float


def fastact_engine(name: str) -> Engine:
    """The activation `name` of fastact with its defaults; a parameter without one is learned."""
    record = fa.CATALOGUE[name]
    vjp = getattr(fa, f"{name}_vjp")
    learned = tuple(
        getattr(fa, f"{name}_derivative_{parameter.name}")
        for parameter in record.parameters
        if parameter.default is None
    )
    return Engine(
        "fastact",
        getattr(fa, name),
        lambda g, x, y, *values: vjp(g, x, *values),
        fa.cross_entropy_with_logits_with_gradient,
        learned,
    )


def numpy_engine(name: str) -> Engine | None:
    """The same activation as plain NumPy formulas, or None where the demo has none."""
    formula = formulas.FORMULAS.get(name)
    if formula is None:
        return None
    learned = (lambda x, a: np.minimum(x, 0.0),) if name == "prelu" else ()
    return Engine("NumPy", formula.forward, formula.backward, formulas.cross_entropy, learned)


def scheme(name: str) -> str:
    """The initialisation that suits an activation: He, Glorot or LeCun."""
    return "Glorot" if name in GLOROT else "LeCun" if name in LECUN else "He"


def sizes(data: Data, settings: Settings) -> list[int]:
    """The number of inputs, of units in each hidden layer, and of classes."""
    return [data.train.shape[1], *[settings.width] * settings.layers, data.classes]


def build(
    name: str,
    widths: Sequence[int],
    seed: int,
    *,
    learned: int = 0,
    first_bias: float = 0.0,
    dtype: npt.DTypeLike = np.float32,
) -> list[Layer]:
    """A fresh network, `widths[0]` inputs to `widths[-1]` logits; hidden units get `first_bias`."""
    generator = np.random.default_rng([seed, 1])
    layers = []
    for number, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        hidden = number < len(widths) - 2
        variance = {"He": 2.0 / n_in, "Glorot": 2.0 / (n_in + n_out), "LeCun": 1.0 / n_in}
        # Behind the last layer there is no activation whose losses He's factor would make up for.
        deviation = math.sqrt(variance[scheme(name) if hidden else "LeCun"])
        weights = (generator.standard_normal((n_in, n_out)) * deviation).astype(dtype)
        bias = np.full(n_out, first_bias if hidden else 0.0, dtype)
        values = [np.full(n_out, FIRST_SLOPE, dtype) for _ in range(learned if hidden else 0)]
        layers.append(Layer(weights, bias, values))
    return layers


def forward(network: Sequence[Layer], engine: Engine, x: Array) -> tuple[list[Array], list[Array]]:
    """Run the network: the input of each layer, and the weighted sums of each (last: logits)."""
    inputs: list[Array] = [x]
    sums: list[Array] = []
    for layer in network[:-1]:
        sums.append(inputs[-1] @ layer.weights + layer.bias)
        inputs.append(engine.forward(sums[-1], *layer.values))
    sums.append(inputs[-1] @ network[-1].weights + network[-1].bias)
    return inputs, sums


def gradients(network: Sequence[Layer], engine: Engine, x: Array, targets: Targets) -> tuple[float, list[list[Array]]]:
    """The mean loss, and its gradient by every array of every layer."""
    inputs, sums = forward(network, engine, x)
    values, upstream = engine.cross_entropy(sums[-1], targets)
    upstream = upstream * (1.0 / len(x))
    result: list[list[Array]] = []
    for number in range(len(network) - 1, -1, -1):
        layer, own = network[number], []
        if number < len(network) - 1:
            z, y = sums[number], inputs[number + 1]
            # The axis summed away is the batch: a learned slope is shared by all examples.
            own = [(upstream * by(z, *layer.values)).sum(axis=0) for by in engine.learned]
            upstream = engine.backward(upstream, z, y, *layer.values)
        result.append([inputs[number].T @ upstream, upstream.sum(axis=0), *own])
        if number:
            upstream = upstream @ layer.weights.T
    return float(np.mean(values)), result[::-1]


def accuracy(network: Sequence[Layer], engine: Engine, x: Array, targets: Targets) -> float:
    """The share of examples whose largest logit is the right one."""
    logits = forward(network, engine, x)[1][-1]
    return float(np.mean(np.argmax(logits, axis=-1) == targets))


def gradient_norms(network: Sequence[Layer], engine: Engine, x: Array, targets: Targets) -> list[float]:
    """The Euclidean norm of the gradient by the weights, per layer."""
    # In float64, because squares of a vanishing gradient vanish once more.
    per_layer = gradients(network, engine, x, targets)[1]
    return [float(np.linalg.norm(arrays[0].astype(np.float64))) for arrays in per_layer]


def layer_facts(network: Sequence[Layer], engine: Engine, x: Array) -> list[LayerFacts]:
    """Dead units, saturation, mean and variance in every hidden layer, over the examples `x`.

    A network that has diverged has none: they are NaN from the first layer that overflowed.
    """
    inputs, sums = forward(network, engine, x)
    result = []
    for layer, z, y in zip(network[:-1], sums[:-1], inputs[1:], strict=True):
        if not np.isfinite(z).all():
            result.append(LayerFacts(*[math.nan] * 5))
            continue
        slope = np.abs(engine.backward(np.ones_like(z), z, y, *layer.values))
        saturated = slope < SATURATED
        result.append(
            LayerFacts(
                inactive=float(np.mean(np.all(z <= 0.0, axis=0))),
                dead=float(np.mean(np.all(saturated, axis=0))),
                saturated=float(np.mean(saturated)),
                mean=float(np.mean(y, dtype=np.float64)),
                variance=float(np.var(y, dtype=np.float64)),
            )
        )
    return result


def _epoch(
    history: History,
    engine: Engine,
    data: Data,
    settings: Settings,
    order: npt.NDArray[np.intp],
) -> float:
    """One pass over the training examples, with momentum; the mean loss on the way."""
    network, total = history.network, 0.0
    trained = [array for layer in network for array in layer.arrays()]
    for start in range(0, len(order), settings.batch_size):
        rows = order[start : start + settings.batch_size]
        loss, per_layer = gradients(network, engine, data.train[rows], data.train_targets[rows])
        total += loss * len(rows)
        flat = (gradient for arrays in per_layer for gradient in arrays)
        for array, velocity, gradient in zip(trained, history.velocities, flat, strict=True):
            velocity[...] = MOMENTUM * velocity + gradient
            array[...] -= settings.learning_rate * velocity
    return total / len(order)


def train(name: str, engines: Sequence[Engine], data: Data, settings: Settings) -> list[History]:
    """Train one network per engine from the same start on the same batches.

    The engines take turns epoch by epoch, and turns at going first, so that noise of the machine
    falls on all alike. Training ends early when a loss is no longer finite.
    """
    histories = []
    for engine in engines:
        learned, bias = len(engine.learned), settings.first_bias
        network = build(name, sizes(data, settings), settings.seed, learned=learned, first_bias=bias)
        velocities = [np.zeros_like(array) for layer in network for array in layer.arrays()]
        histories.append(History(engine.name, network, velocities))
        few = slice(settings.batch_size)
        gradients(network, engine, data.train[few], data.train_targets[few])  # compile, warm up
    batches = np.random.default_rng([settings.seed, 2])
    for epoch in range(settings.epochs):
        order = batches.permutation(len(data.train))
        turns = range(len(engines)) if epoch % 2 == 0 else reversed(range(len(engines)))
        for turn in turns:
            engine, history = engines[turn], histories[turn]
            # A run whose weights overflow is not an accident here but something the demo reports.
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                started = time.perf_counter()
                loss = _epoch(history, engine, data, settings, order)
                history.seconds.append(time.perf_counter() - started)
                history.losses.append(loss)
                history.accuracies.append(accuracy(history.network, engine, data.test, data.test_targets))
            history.diverged = not math.isfinite(loss)
        if any(history.diverged for history in histories):
            break
    return histories
