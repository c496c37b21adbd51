"""Token embeddings, looked up or multiplied (Keras 3)."""

import keras
import numpy as np
from keras import ops

from layers.common.checks import check_at_least
from layers.common.ids import check_integers, wide_enough, within
from layers.common.projection import matrix_product


@keras.saving.register_keras_serializable(package="layers")
class OnDeviceEmbedding(keras.layers.Layer):
    """Turns ids into rows of a table, by a look-up or, where that is slow, by a product with one-hot rows.

    Computes equation (1) of `reference/on_device_embedding.py`, or with `use_one_hot` equation (2); both give the same numbers
    and the same gradients.

    An id outside the vocabulary, a negative one too, gives a row of zeros and no gradient: with and without one-hot rows, step by
    step, in a graph, under XLA and on JAX alike. Left to themselves these wrap around, clamp, fill with NaN or stop.

    The product moves a one-hot row of `vocab_size` numbers for each token. A device that multiplies float32 in fewer bits (TF32
    on GPUs, bfloat16 on TPUs) rounds the table in it, unless told not to; a look-up never rounds. One NaN or infinity in the
    table makes every row of the product NaN.

    Axes: `b` batch, `t` position, `n` vocabulary, `m` model size.

    Args:
        vocab_size: Number of rows of the table, `n`.
        embedding_width: Size of a row, `m`.
        initializer: How the table, the weight `embeddings`, starts.
        use_one_hot: Whether to multiply instead of looking up.
        scale_factor: What the rows are multiplied by, often √m; 0.0 gives zeros, None leaves them as they are.

    Call arguments:
        inputs: Tensor of integers, of any shape.

    Returns:
        Tensor of the shape of `inputs`, `(b, t)` for example, and `(m,)` behind it, in the compute dtype.

    Raises:
        ValueError: for sizes below 1, a scale_factor that is no finite number, and inputs that are no integers: floats of 16 bits
            cannot hold every id.

    Example:

    >>> layer = OnDeviceEmbedding(vocab_size=10, embedding_width=4)
    >>> layer(keras.ops.array([[1, 9, 10]])).shape
    TensorShape([1, 3, 4])

    Differs from the Model Garden:
        An id outside the vocabulary gives zeros; there, it does so with one-hot rows only, and else stops on a CPU and takes the
        last row under XLA. `scale_factor=0.0` is zero; there, it is ignored. Under mixed precision only the rows that are looked
        up are cast, not the whole table.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.4.
    """

    def __init__(self, vocab_size, embedding_width, initializer="glorot_uniform", use_one_hot=False, scale_factor=None, **kwargs):
        super().__init__(**kwargs)
        check_at_least(1, vocab_size=vocab_size, embedding_width=embedding_width)
        check_scale(scale_factor)
        self.vocab_size = vocab_size
        self.embedding_width = embedding_width
        self.initializer = keras.initializers.get(initializer)
        self.use_one_hot = use_one_hot
        self.scale_factor = None if scale_factor is None else float(scale_factor)

    def build(self, inputs_shape):
        self.embeddings = self.add_weight(
            shape=(self.vocab_size, self.embedding_width),
            initializer=self.initializer,
            name="embeddings",
            autocast=False,  # a look-up casts what it has found, not the table
        )

    def call(self, inputs):
        check_integers(inputs=inputs)
        rows = self.multiply(inputs) if self.use_one_hot else self.look_up(inputs)
        return rows if self.scale_factor is None else self.scale_factor * rows

    def look_up(self, ids):
        """Equation (1)."""
        ids, known = within(ids, self.vocab_size)
        rows = ops.cast(ops.take(self.embeddings, ids, axis=0), self.compute_dtype)
        return ops.where(known[..., None], rows, ops.zeros_like(rows))

    def multiply(self, ids):
        """Equation (2)."""
        o = ops.one_hot(wide_enough(ids), self.vocab_size, dtype=self.compute_dtype)
        return matrix_product(o, ops.cast(self.embeddings, self.compute_dtype))

    def compute_output_shape(self, inputs_shape):
        return (*inputs_shape, self.embedding_width)

    def compute_output_spec(self, inputs):
        check_integers(inputs=inputs)
        return super().compute_output_spec(inputs)

    def get_config(self):
        return super().get_config() | {
            "vocab_size": self.vocab_size,
            "embedding_width": self.embedding_width,
            "initializer": keras.initializers.serialize(self.initializer),
            "use_one_hot": self.use_one_hot,
            "scale_factor": self.scale_factor,
        }


def check_scale(scale_factor):
    number = isinstance(scale_factor, (int, float, np.number)) and not isinstance(scale_factor, bool)
    if scale_factor is not None and not (number and np.isfinite(scale_factor)):
        raise ValueError(f"scale_factor must be a finite number or None. Received: scale_factor={scale_factor!r}")
