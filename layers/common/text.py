"""Code shared by the layers that read strings (Keras 3)."""

import keras
import numpy as np

from layers.common.checks import check_rank
from layers.common.output_shapes import TracedLayer, converted_floats, is_called_for_shapes


class TextLayer(TracedLayer):
    """A layer of TensorFlow's operations for strings and ragged tensors, which XLA cannot compile.

    On TensorFlow it may stand in a model. On other backends it is a function of tensors, arrays and lists, for `tf.data` or to
    be called before the model: it gets and returns TensorFlow's tensors, and a symbolic input is an error.
    """

    fixed = ()
    """Arguments that other attributes were made from. Setting one of them later is an error, because it would be ignored."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_jit = False
        self.built = True

    def __setattr__(self, name, value):
        if name in self.fixed and name in vars(self):
            raise AttributeError(f"{name} cannot be set after {type(self).__name__} has been made. Make a new one instead")
        super().__setattr__(name, value)

    def argument_dtype(self, name):
        return "int32" if name in self.integer_arguments else "string"

    def __call__(self, inputs, *args, **kwargs):
        if keras.backend.backend() == "tensorflow":
            tensors = self.as_tensors(inputs)
            if "inputs" not in self.integer_arguments and is_called_for_shapes():  # Keras builds a loaded model with floats
                tensors = as_strings(tensors)
            return super().__call__(tensors, *args, **kwargs)
        if is_symbolic(inputs):
            raise self.not_in_a_model(inputs)
        try:
            tensors = self.as_tensors(inputs)
        except ValueError as error:
            is_traced = any(map(keras.ops.is_tensor, as_list(inputs)))
            raise (self.not_in_a_model(inputs) if is_traced else error) from error
        return self.call(tensors, *args, **kwargs)

    def not_in_a_model(self, inputs):
        backend = keras.backend.backend()
        return ValueError(
            f"inputs must be texts or ids, not symbolic, on the {backend} backend: {type(self).__name__} runs TensorFlow's "
            "operations, which cannot be part of a model there. Call it in `tf.data`, with `dataset.map`, or before the "
            f"model, and give the model what it returns. Received: inputs={inputs}"
        )

    def as_tensors(self, inputs):
        """`inputs` as TensorFlow's tensors, if they are not symbolic."""
        if is_symbolic(inputs):
            return inputs
        if isinstance(inputs, (list, tuple)) and not inputs:
            inputs = np.array([], object)
        return as_tensor("inputs", inputs, "strings with 1 axis, as a tensor, an array or a list")


def as_strings(inputs):
    import tensorflow as tf

    return converted_floats(inputs, tf.as_string)


def as_list(inputs):
    return inputs if isinstance(inputs, (list, tuple)) else [inputs]


def is_symbolic(inputs):
    return any(isinstance(x, keras.KerasTensor) for x in as_list(inputs))


def as_tensor(name, value, expected):
    """`value` as a dense tensor of TensorFlow. The ValueError otherwise says what was `expected` of the argument `name`."""
    import tensorflow as tf

    if isinstance(value, np.ndarray) and value.dtype.kind == "T":  # NumPy's own strings of any length
        value = value.astype(object)
    try:
        tensor = tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise not_expected(name, value, expected) from error
    if tensor.shape.rank is None:
        raise ValueError(f"{name} must have a known number of axes; `tf.ensure_shape` gives it one. Received: {tensor}")
    return tensor


def as_tensor_of_ids(name, value):
    """`value` as a dense tensor of TensorFlow, or as a ragged one with 64-bit row splits; a symbolic one as it is."""
    import tensorflow as tf

    if is_symbolic(value):
        return value
    if isinstance(value, tf.RaggedTensor):
        return value.with_row_splits_dtype("int64")  # `tf.io.parse_example` gives 32 bits
    expected = "integers `(b, tokens)` or `(b, words, pieces)`, as a ragged or dense tensor, an array or nested lists"
    is_array_of_lists = isinstance(value, np.ndarray) and value.dtype.kind == "O"
    if not isinstance(value, (list, tuple)) and not is_array_of_lists:
        return as_tensor(name, value, expected)
    try:
        rows = tf.ragged.constant(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise not_expected(name, value, expected) from error
    has_no_ids = isinstance(rows, tf.RaggedTensor) and rows.flat_values.shape[0] == 0
    return tf.cast(rows, "int32") if has_no_ids else rows


def not_expected(name, value, expected):
    """The ValueError for a `value` that is no tensor and cannot become one."""
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    shown = repr(value).replace("\n", " ")
    shown = shown if len(shown) < 80 else f"{shown[:80]}…"
    return ValueError(f"{name} must be {expected}. Received: {type(value).__name__}{shape}, {shown}")


def check_strings(inputs):
    """Raise a ValueError unless `inputs` are strings with one axis."""
    check_rank(1, inputs=inputs.shape)
    if inputs.dtype != "string":
        raise ValueError(f"inputs must be strings. Received: inputs of dtype {keras.backend.standardize_dtype(inputs.dtype)}")


def read_file(name, path):
    """The bytes of the file that the argument `name` is the path of, wherever TensorFlow can read: a disk, `gs://`, `file://`.

    Raises:
        ValueError: if `path` is no path.
        OSError: if the file cannot be read; FileNotFoundError if there is none.
    """
    import tensorflow as tf

    if not isinstance(path, str) and not hasattr(path, "__fspath__"):
        raise ValueError(f"{name} must be the path of a file. Received: {name}={path!r}")
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.OpError as error:
        kind = FileNotFoundError if isinstance(error, tf.errors.NotFoundError) else OSError
        raise kind(f"{name} must be the path of a file that can be read. Received: {str(path)!r}. {error.message}") from error


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
