"""How far one step of training moves each weight, with the optimizers of Keras: the same on each backend.

Outputs and gradients of two backends may agree while their training differs, because an optimizer sees more of a gradient than
its numbers: TensorFlow may pass the gradient of a table as entries, one for each place where a row is looked up.
"""

import keras
import numpy as np
from keras import ops

from crosscheck.agreement import Trial
from crosscheck.case import arguments
from crosscheck.tree import leaves, to_numpy

OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.1),
    "Adam": lambda: keras.optimizers.Adam(0.01),
    "Adafactor": lambda: keras.optimizers.Adafactor(0.01),
}
LEAST_GRADIENT = 1e-9
"""Relative to the largest gradient. Adam and Adafactor divide by the size of the gradient, so that one that is zero by symmetry,
and consists of rounding errors, would move a weight anywhere."""


def trained_cases(cases):
    """For each class of layer, the first case with the most inputs, of those that can run on JAX and have gradients."""
    by_class = {}
    for case in cases:
        if not {"gradient", "jax"} & set(case.skips):
            by_class.setdefault(type(case.layer(dtype="float64")), []).append(case)
    return [max(found, key=lambda case: len(case.inputs(np.random.default_rng(0)))) for found in by_class.values()]


def moves(case):
    """{"optimizer:number of the weight": how far one step moves it}, in float64, for the weights whose gradient is not zero.

    The loss is the sum of the outputs, each multiplied by a random number. All examples are equal, so that each id occurs several
    times. A layer without a table takes a step of SGD only, since there other optimizers see no more than the numbers of the
    gradient, and compiling them takes as long as the rest.
    """
    trial = Trial(case)
    layer, inputs = trial.make()
    if not layer.trainable_variables:
        return {}
    repeated = keras.tree.map_structure(lambda x: like_the_first(x, case.batch), inputs)
    cotangents, tensors = trial.cotangents(), arguments(repeated, layer.compute_dtype)

    def loss():
        outputs = leaves(case.call(layer, **tensors))
        return sum(ops.sum(outputs[where] * ops.cast(c, outputs[where].dtype)) for where, c in cotangents.items())

    has_table = any("embeddings" in variable.path for variable in layer.trainable_variables)
    optimizers = {name: make() for name, make in OPTIMIZERS.items() if has_table or name == "SGD"}
    slopes, ends = BACKENDS[keras.backend.backend()](loss, layer, optimizers)
    largest = max(abs(slope).max() for slope in slopes)
    moved = [i for i, slope in enumerate(slopes) if abs(slope).max() > LEAST_GRADIENT * largest]
    starts = [to_numpy(variable) for variable in layer.trainable_variables]
    return {f"{name}:{i}": ends[name][i] - starts[i] for name in optimizers for i in moved}


def like_the_first(x, batch):
    """An array with a row for each of `batch` examples, with the first in place of all; any other value as it is."""
    return np.repeat(x[:1], batch, axis=0) if isinstance(x, np.ndarray) and x.shape[:1] == (batch,) else x


def on_tensorflow(loss, layer, optimizers):
    """The gradients, and {optimizer: weights after a step}, as arrays. Optimizers get what the tape gives, as in training."""
    import tensorflow as tf

    variables, ends = layer.trainable_variables, {}
    values = [variable.value for variable in variables]
    with tf.GradientTape() as tape:
        total = loss()
    slopes = [tf.zeros_like(v) if slope is None else slope for v, slope in zip(values, tape.gradient(total, values))]
    starts = [to_numpy(variable) for variable in variables]
    for name, optimizer in optimizers.items():
        optimizer.apply(slopes, variables)
        ends[name] = [to_numpy(variable) for variable in variables]
        for variable, start in zip(variables, starts):
            variable.assign(start)
    return [tf.convert_to_tensor(slope).numpy() for slope in slopes], ends


def on_jax(loss, layer, optimizers):
    import jax

    variables = layer.trainable_variables
    for optimizer in optimizers.values():
        optimizer.build(variables)

    def loss_of(values):
        with keras.StatelessScope(state_mapping=list(zip(variables, values))):
            return loss()

    def step(values, states):
        slopes = jax.grad(loss_of)(values)
        return slopes, {name: of.stateless_apply(states[name], slopes, values)[0] for name, of in optimizers.items()}

    states = {name: [variable.value for variable in optimizer.variables] for name, optimizer in optimizers.items()}
    return jax.tree.map(to_numpy, jax.jit(step)([variable.value for variable in variables], states))


BACKENDS = {"tensorflow": on_tensorflow, "jax": on_jax}
