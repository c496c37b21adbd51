"""Token embeddings, looked up or multiplied (Keras 3)."""

import keras
from keras import ops

from layers.common.checks import check_at_least, check_flags, check_number, interpreted
from layers.common.ids import check_integers, rows_at, wide_enough, within
from layers.common.output_shapes import TracedLayer
from layers.common.projection import matrix_product


@keras.saving.register_keras_serializable(package="layers")
class OnDeviceEmbedding(TracedLayer):
    """Embeds ids as rows of a table, by a look-up or, on devices where that is slow, by a product with one-hot vectors.

    Computes equation (1) of `reference/on_device_embedding.py`, or equation (2) with `use_one_hot`. Both give the same numbers
    and the same gradients.

    An id outside the vocabulary, including a negative id, gives a row of zeros and no gradient. This holds with and without
    one-hot vectors, eagerly, in a graph, under XLA and on JAX. Plain look-ups there wrap around, clamp, return NaN or fail.

    The product reads a one-hot vector of `vocab_size` numbers for each token. A device that multiplies float32 at lower precision
    (TF32 on GPUs, bfloat16 on TPUs) rounds the table, unless it is configured not to; a look-up never rounds. One NaN or infinity
    in the table can make every row of the product NaN.

    Axes: `b` batch, `t` position, `n` vocabulary, `m` model size.

    Args:
        vocab_size: Number of rows of the table, `n`.
        embedding_width: Size of a row, `m`.
        initializer: Initializer of the table, the weight `embeddings` of shape `(n, m)`.
        use_one_hot: Whether to multiply with one-hot vectors instead of looking rows up.
        scale_factor: Factor of the rows, often √m. Defaults to None, no scaling; 0.0 gives zeros.

    Call arguments:
        inputs: Tensor of integers, of any shape. In a `keras.Sequential`, the first entry must then be
            `keras.Input(shape, dtype="int32")`, because Keras would otherwise cast them to floats.

    Returns:
        Tensor of the shape of `inputs` followed by `m`, such as `(b, t, m)`, in the compute dtype.

    Raises:
        ValueError: if a size is below 1, `scale_factor` is not a finite number, or the inputs are not integers, since 16-bit
            floats cannot hold every id.

    Example:

    >>> layer = OnDeviceEmbedding(vocab_size=10, embedding_width=4)
    >>> layer(keras.ops.array([[1, 9, 10]])).shape
    TensorShape([1, 3, 4])

    Differs from the Model Garden:
        An id outside the vocabulary gives zeros; there, only with one-hot vectors, while a look-up raises an error on a CPU and
        takes the last row under XLA. `scale_factor=0.0` gives zeros; there, it is ignored. Under mixed precision, only the rows
        that are looked up are cast, not the whole table. `weight_fallback_dtype` does not exist: the dtype policy decides.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.4.
    """

    integer_arguments = ("inputs",)

    def __init__(self, vocab_size, embedding_width, initializer="glorot_uniform", use_one_hot=False, scale_factor=None, **kwargs):
        super().__init__(**kwargs)
        check_at_least(1, vocab_size=vocab_size, embedding_width=embedding_width)
        check_flags(use_one_hot=use_one_hot)
        if scale_factor is not None:
            check_number("a finite number or None", scale_factor=scale_factor)
        self.vocab_size = vocab_size
        self.embedding_width = embedding_width
        [self.initializer] = interpreted(keras.initializers.get, initializer=initializer)
        self.use_one_hot = use_one_hot
        self.scale_factor = None if scale_factor is None else float(scale_factor)

    def build(self, input_shape):
        self.embeddings = self.add_weight(
            shape=(self.vocab_size, self.embedding_width),
            initializer=self.initializer,
            name="embeddings",
            autocast=False,  # a look-up casts the rows that it finds, not the table
        )

    def call(self, inputs):
        check_integers(inputs=inputs)
        if hasattr(inputs, "row_splits") or hasattr(inputs, "dense_shape"):
            raise ValueError(f"inputs must be a dense tensor. Received: a {type(inputs).__name__}")
        rows = self.multiply(inputs) if self.use_one_hot else self.look_up(inputs)
        return rows if self.scale_factor is None else self.scale_factor * rows

    def look_up(self, ids):
        """Equation (1)."""
        ids, known = within(ids, self.vocab_size)
        rows = ops.cast(rows_at(self.embeddings, ids), self.compute_dtype)
        return ops.where(ops.expand_dims(known, -1), rows, ops.zeros((), rows.dtype))

    def multiply(self, ids):
        """Equation (2)."""
        one_hot = ops.one_hot(wide_enough(ids), self.vocab_size, dtype=self.compute_dtype)
        return matrix_product(one_hot, ops.cast(self.embeddings, self.compute_dtype))

    def get_config(self):
        return super().get_config() | {
            "vocab_size": self.vocab_size,
            "embedding_width": self.embedding_width,
            "initializer": keras.initializers.serialize(self.initializer),
            "use_one_hot": self.use_one_hot,
            "scale_factor": self.scale_factor,
        }
