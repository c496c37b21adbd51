"""Kinds of feed-forward networks with as many parameters each, and how a model with one of them is trained again and again."""

from functools import cache

import keras
from keras import ops

from experiments.common.training import Stretches, forget
from layers.gated_feedforward import GatedFeedforward


def squared_relu(x):
    """max(0, x)², which Primer has in place of a gate."""
    return ops.square(ops.relu(x))


class Added(GatedFeedforward):
    """The same three maps with a sum in place of the product."""

    def gated_feed_forward(self, x, i):
        return self.output_dense[i](self.inner_activation(self.intermediate_dense[i](x)) + self.gate_dense[i](x))


KINDS = {"ReLU": ("relu", False), "GELU": ("gelu", False), "Swish": ("swish", False), "GLU": ("sigmoid", True)}
KINDS |= {"Bilinear": ("linear", True), "GEGLU": ("gelu", True), "SwiGLU": ("swish", True), "ReGLU": ("relu", True)}
TABLE = tuple(KINDS)
"""The kinds of the paper's Table 1."""
LEADERS = TABLE[4:]

ADDED, SQUARED = "SwiGLU, added", "ReLU², no gate"
KINDS |= {ADDED: ("swish", True), SQUARED: (squared_relu, False)}
"""{kind: (activation, whether it has a gate)}."""


def network(kind, f, **options):
    """A network with as many numbers in its kernels as one of f units without a gate."""
    activation, gated = KINDS[kind]
    layer = Added if kind == ADDED else GatedFeedforward
    return layer(f * 2 // 3 if gated else f, activation, use_gate=gated, **options)


STRETCH = 50
"""Steps that a compiled program takes at a time, and that a point of a curve averages."""


def prepared(model, example, loss):
    """The model with its weights, ready to be trained."""
    model(example)
    model.compile(keras.optimizers.Adam(), loss, jit_compile=True, steps_per_execution=STRETCH)
    model.optimizer.build(model.trainable_variables)
    return model


@cache
def compiled(make, kind):
    """The one model of a kind, which all seeds and rates share."""
    return make(kind)


@cache
def start_of(make, kind, seed):
    """The weights with which all rates begin."""
    keras.utils.set_random_seed(seed)
    return make(kind).get_weights()


def restarted(make, kind, seed):
    """The model with new weights and an optimizer that has seen nothing.

    Args:
        make: `make(kind)` returns a model that is prepared.
        kind: One of `KINDS`.
        seed: Of the weights.
    """
    model = compiled(make, kind)
    model.set_weights(start_of(make, kind, seed))
    forget(model.optimizer)
    return model


def falling(rate, steps):
    """The schedule of `steps` steps: the rate in the first half; in the second it falls in a straight line, nearly to zero."""
    return Stretches(lambda done: rate * min(1.0, 2 * (1 - done * STRETCH / steps)))


def curve_of(watch):
    return [(STRETCH * (i + 1), capped(loss)) for i, loss in enumerate(watch.losses)]


def capped(loss):
    """The loss, or 100 if it is larger or not a number."""
    return min(100.0, float(loss))
