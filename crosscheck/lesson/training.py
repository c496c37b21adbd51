"""Train a small model for a lesson."""

import keras
from keras import ops


def fit(model, x, y, **options):
    """`model.fit`, silent, of a compiled model, whose variables and whose optimizer's are there before it starts.

    TensorFlow traces a training step twice if the step makes variables, which costs a small model more than the training.

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
