"""Code shared by the layers that read strings (Keras 3)."""

import keras

from layers.common.checks import check_rank
from layers.common.output_shapes import TracedLayer


class TextLayer(TracedLayer):
    """A layer whose inputs are strings, `(b,)`: a TensorFlow tensor, an array or a list. Works on any backend, without XLA."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_jit = False
        self.built = True

    def argument_dtype(self, name):
        return "string"

    def __call__(self, inputs, *args, **kwargs):
        """On backends other than TensorFlow, whose arrays cannot hold strings, only `call` is run."""
        if isinstance(inputs, keras.KerasTensor):
            return super().__call__(inputs, *args, **kwargs)
        import tensorflow as tf

        inputs = tf.convert_to_tensor(inputs)
        on_tensorflow = keras.backend.backend() == "tensorflow"
        return super().__call__(inputs, *args, **kwargs) if on_tensorflow else self.call(inputs)


def check_strings(inputs):
    """Raise a ValueError unless `inputs` are strings with one axis."""
    check_rank(1, inputs=inputs.shape)
    if inputs.dtype != "string":
        raise ValueError(f"inputs must be strings. Received: inputs of dtype {keras.backend.standardize_dtype(inputs.dtype)}")


def import_tensorflow_text(layer, instead):
    """The package tensorflow-text.

    Args:
        layer: Name of the layer that needs it, for the error message.
        instead: Name of a function that gives the same ids without it, for the error message.

    Raises:
        ImportError: if tensorflow-text or TensorFlow is not installed.
    """
    try:
        import tensorflow_text
    except ImportError as error:
        raise ImportError(f"{layer} needs the package tensorflow-text. Without it, {instead} gives the same ids") from error
    return tensorflow_text
