"""What the layers that read strings have in common (Keras 3)."""

import keras

from layers.common.checks import check_rank


class TextLayer(keras.layers.Layer):
    """A layer of strings, `(b,)`: a tensor of TensorFlow's, an array or a list; on any backend, and never compiled by XLA."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_jit = False
        self.built = True

    def __call__(self, inputs, *args, **kwargs):
        """On another backend than TensorFlow, whose arrays hold no strings, `call` is all there is."""
        if isinstance(inputs, keras.KerasTensor):
            return super().__call__(inputs, *args, **kwargs)
        import tensorflow as tf

        inputs = tf.convert_to_tensor(inputs)
        on_tensorflow = keras.backend.backend() == "tensorflow"
        return super().__call__(inputs, *args, **kwargs) if on_tensorflow else self.call(inputs)


def check_strings(inputs):
    """Raise a ValueError unless `inputs` are strings of one axis."""
    check_rank(1, inputs=inputs.shape)
    if inputs.dtype != "string":
        raise ValueError(f"inputs must be strings. Received: inputs of dtype {keras.backend.standardize_dtype(inputs.dtype)}")


def import_tensorflow_text(layer, instead):
    """The package tensorflow-text.

    Raises:
        ImportError: where it is missing, or TensorFlow itself; naming the `layer`, and the function that does the same without.
    """
    try:
        import tensorflow_text
    except ImportError as error:
        raise ImportError(f"{layer} needs the package tensorflow-text. Without it, {instead} gives the same ids") from error
    return tensorflow_text
