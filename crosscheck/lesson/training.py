"""Train a small model for a lesson."""

import keras
from keras import ops


def fit(model, x, y, **options):
    """Silent `model.fit` that creates the variables of model and optimizer before it starts.

    TensorFlow traces a training step twice if the step creates variables, which takes longer than training a small model.

    Args:
        model: A compiled model.
        x, y: Arrays, or trees of them, with examples first.
        options: Further arguments of `model.fit`.

    Returns:
        What `model.fit` returns.
    """
    model(keras.tree.map_structure(lambda array: ops.convert_to_tensor(array[:1]), x))
    model.optimizer.build(model.trainable_variables)
    return model.fit(x, y, **({"verbose": 0} | options))
