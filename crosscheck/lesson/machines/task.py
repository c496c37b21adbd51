"""The model that is trained on one machine and on several, its data, and what a run reports.

All numbers are drawn with NumPy, so that a run on TensorFlow and a run on JAX begin at the same weights.
"""

import keras
import numpy as np
from keras import ops

import layers

T, M, C = 3, 4, 3
"""Positions, numbers at a position, classes."""

EXAMPLES = 45
"""Five batches of eight, and one of five that two devices cannot share evenly."""

FEATURES = 16
RATE = 0.125


def data():
    """Sequences of three classes that overlap, `(b, t, m)`, and their classes `(b,)`."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, C, EXAMPLES)
    centers = rng.normal(size=(C, T, M))
    return centers[classes] + rng.normal(size=(EXAMPLES, T, M)), classes


def batches(run, one_pass=False):
    """For each step, or of one pass over the data, the ids of its examples; after the last example follows the first."""
    ids = [np.arange(start, min(start + run.batch, EXAMPLES)) for start in range(0, EXAMPLES, run.batch)]
    ids = [part[::-1] for part in ids] if run.reverse else ids
    return ids if one_pass else [ids[step % len(ids)] for step in range(run.steps)]


def model_for(run, kind=layers.RandomFeatureGaussianProcess):
    """A block of an encoder, then two layers that keep state: a spectral norm, and a Gaussian process as the output.

    Args:
        run: The training.
        kind: The class of the Gaussian process.
    """
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(1)

    def drawn(shape, dtype):
        return ops.convert_to_tensor(rng.normal(size=shape) / np.sqrt(shape[0]), dtype)

    inputs = keras.Input((T, M))
    block = layers.TransformerEncoderBlock(2, 6, "relu", output_dropout=run.dropout, kernel_initializer=drawn)
    x = block(inputs)[:, 0]
    if run.batch_norm:
        x = keras.layers.BatchNormalization(momentum=0.5, name="batch_norm")(x)
    dense = keras.layers.Dense(5, kernel_initializer=drawn)
    bounded = layers.SpectralNormalization(dense, norm_multiplier=0.875, name="bounded")
    process = kind(C, FEATURES, gp_cov_momentum=-1, l2_regularization=1 / 64, kernel_initializer=drawn, name="process")
    return keras.Model(inputs, process(bounded(x))[0])


def optimizer_for(model):
    """None that divides by the size of a gradient: Adam would hide a gradient that is twice as large."""
    optimizer = keras.optimizers.SGD(RATE, momentum=0.875)
    optimizer.build(model.trainable_variables)
    return optimizer


def sum_of_errors(logits, classes, counted=1.0):
    """The cross-entropy, summed over the examples. (On JAX, `ops.mean` computes in float32, even for float64.)

    Args:
        logits, classes: `(b, c)` and `(b,)`.
        counted: 1, or a factor for each example.
    """
    chosen = ops.one_hot(classes, C, dtype=logits.dtype) * ops.log_softmax(logits)
    return -ops.sum(ops.sum(chosen, axis=-1) * counted)


def report(model, losses, read):
    """What a process says of its run.

    Args:
        model: As it is after the last step.
        losses: That of each step.
        read: For each step, the ids of the examples that each device of this process read.
    """
    x, _ = data()
    process = model.get_layer("process")
    inner = keras.Model(model.inputs, process.input)
    variances = process(inner(ops.convert_to_tensor(x[:4])), diagonal=True)[1]
    arrays = {variable.path: np.asarray(variable) for variable in model.non_trainable_variables}
    weights = np.concatenate([np.asarray(variable).ravel() for variable in model.trainable_variables])
    return {
        "losses": losses,
        "weights": weights.tolist(),
        "state": {name: array.tolist() for name, array in arrays.items()},
        "variances": np.asarray(variances).tolist(),
        "read": read,
    }
