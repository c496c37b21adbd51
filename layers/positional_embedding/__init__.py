"""Where a token stands: learned, as sines and cosines, or as a bias for each distance (Keras 3)."""

import keras
import numpy as np
from keras import ops

from layers.common.checks import check_at_least, check_rank_at_least
from layers.common.slices import section
from layers.positional_embedding.buckets import check_buckets, relative_buckets
from layers.positional_embedding.learned import ForAnyBatch, check_learned, length_of
from layers.positional_embedding.sinusoids import check_sinusoid, sinusoid


@keras.saving.register_keras_serializable(package="layers")
class PositionalEmbedding(keras.layers.Layer):
    """A learned row for each position, for every example the same: what to add to token embeddings.

    Computes equation (1) of `reference/positional_embedding.py`. Of positions at which no training text had a token, it knows
    nothing but how they started. `PositionEmbedding` is the same class.

    Axes: `b` batch, `t` position, `m` model size.

    Args:
        max_length: Number of rows of the table, the weight `embeddings`.
        initializer: How the table starts.
        seq_axis: Which axis of the inputs is the positions; neither the last one nor one that is not there.

    Call arguments:
        inputs: Tensor of shape `(b, t, m)`, or of any other with positions along `seq_axis` and a last axis of known size. Only
            its shape is read.

    Returns:
        Tensor of the shape of `inputs`, in the compute dtype.

    Raises:
        ValueError: for a max_length below 1, inputs longer than it, a seq_axis that cannot be, and a last axis that is unknown or
            not the one that the table was made for. If the length is not known before the graph runs, one that is too long is
            the backend's error there; it never gets the rows of other positions.

    Example:

    >>> PositionalEmbedding(max_length=512)(keras.ops.ones((2, 3, 8))).shape
    TensorShape([2, 3, 8])

    Differs from the Model Garden:
        Its README calls it by this name and its code PositionEmbedding: here both do. Too long a text is an error that says so;
        there, one of a reshape, or if the table has one row and the length is unknown, none. `seq_axis` may be negative.

    Reference:
        [Devlin et al., 2018](https://arxiv.org/abs/1810.04805), section 3.
    """

    def __init__(self, max_length, initializer="glorot_uniform", seq_axis=1, **kwargs):
        super().__init__(**kwargs)
        check_at_least(1, max_length=max_length)
        if not isinstance(seq_axis, int) or isinstance(seq_axis, bool):
            raise ValueError(f"seq_axis must be an integer. Received: seq_axis={seq_axis!r}")
        self.max_length = max_length
        self.initializer = keras.initializers.get(initializer)
        self.seq_axis = seq_axis
        self.supports_masking = True  # a position of padding stays padding

    def build(self, inputs_shape):
        check_learned(inputs_shape, self.max_length, self.seq_axis)
        shape = (self.max_length, inputs_shape[-1])
        self.embeddings = self.add_weight(shape=shape, initializer=self.initializer, name="embeddings")

    def call(self, inputs):
        check_learned(inputs.shape, self.max_length, self.seq_axis, self.embeddings.shape[-1])
        shape, rank = ops.shape(inputs), len(inputs.shape)
        alone = [1] * rank
        alone[self.seq_axis], alone[-1] = shape[self.seq_axis], shape[-1]
        # To the length asked for: where there are fewer rows, this stops, and broadcasting a single one would not.
        rows = ops.reshape(section(self.embeddings, 0, shape[self.seq_axis], axis=0), alone)
        return ops.broadcast_to(rows, shape)

    def compute_output_shape(self, inputs_shape):
        check_learned(inputs_shape, self.max_length, self.seq_axis)
        return inputs_shape

    def get_config(self):
        return super().get_config() | {
            "max_length": self.max_length,
            "initializer": keras.initializers.serialize(self.initializer),
            "seq_axis": self.seq_axis,
        }


PositionEmbedding = PositionalEmbedding


@keras.saving.register_keras_serializable(package="layers")
class RelativePositionEmbedding(ForAnyBatch):
    """Sines and cosines of each position, for as many positions as there are; nothing is learned.

    Computes equation (2) of `reference/positional_embedding.py`, the paper's, or equation (3), Tensor2Tensor's. Its name is the
    Model Garden's: the positions are absolute, but a shift of all of them is a rotation that does not depend on where they are.

    The two are no reorderings of each other: their wavelengths differ as well. The paper's is the default, as everywhere here.

    Axes: `b` batch, `t` position, `m` model size.

    Args:
        hidden_size: Number of columns, `m`, at least 2. If it is odd, the last sine has no cosine, or in the other convention
            the last column is zero.
        min_timescale: Timescale of the first column; its wavelength is 2π times that.
        max_timescale: Timescale that the last column approaches, or in the other convention has.
        convention: "interleaved": sine, cosine, sine, cosine, …, and timescales that grow by (max/min)^{2/m}, as in the paper.
            "concatenated": all sines, then all cosines, and timescales that reach `max_timescale`, as in Tensor2Tensor.

    Call arguments:
        inputs: Tensor of shape `(b, t, ...)`, of which only the length is read; None if `length` is given.
        length: Number of positions, an integer. If `inputs` are given too, they must be of this length.

    Returns:
        Tensor of shape `(t, m)`, in the compute dtype, right to the last digits of float32, or float64, at any length.

    Raises:
        ValueError: for a hidden_size below 2, timescales that are not 0 < min ≤ max, an unknown convention, neither inputs nor
            length, both of different lengths, a length below 1, and inputs with fewer than 2 axes.

    Example:

    >>> RelativePositionEmbedding(hidden_size=8)(None, length=3).shape
    TensorShape([3, 8])

    Differs from the Model Garden:
        There, it is always "concatenated"; with that, numbers are the same for an even `hidden_size` above 2 and a min_timescale
        of 1. A min_timescale is a timescale; there, it multiplies frequencies. hidden_size=2 is not NaN, and an odd one has all
        its columns.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.5.
    """

    def __init__(self, hidden_size, min_timescale=1.0, max_timescale=1.0e4, convention="interleaved", **kwargs):
        super().__init__(**kwargs)
        check_at_least(2, hidden_size=hidden_size)
        check_sinusoid(min_timescale, max_timescale, convention)
        self.hidden_size = hidden_size
        self.min_timescale = float(min_timescale)
        self.max_timescale = float(max_timescale)
        self.convention = convention

    def call(self, inputs=None, length=None):
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        scales = (self.min_timescale, self.max_timescale)
        y = sinusoid(length_of(inputs, length), self.hidden_size, *scales, self.convention, dtype)
        return ops.cast(y, self.compute_dtype)

    def get_config(self):
        return super().get_config() | {
            "hidden_size": self.hidden_size,
            "min_timescale": self.min_timescale,
            "max_timescale": self.max_timescale,
            "convention": self.convention,
        }


@keras.saving.register_keras_serializable(package="layers")
class RelativePositionBias(ForAnyBatch):
    """A learned bias for each head and each range of distances between query and key: what to add to attention scores.

    Computes equation (5) of `reference/positional_embedding.py`. Near distances have a bucket each, far ones share theirs, and
    the farthest share one, so there is a bias for any length.

    Axes: `b` batch, `t` query position, `s` key position, `h` head.

    Args:
        num_heads: Number of heads, `h`.
        relative_attention_num_buckets: Number of rows of the weight `embeddings`, `(buckets, h)`. If attention looks both ways,
            half of them are for keys behind the query's position, of which none is at distance zero: that row stays as it is.
        relative_attention_max_distance: Where ranges that grow by one factor would end. The last begins one step before.
        bidirectional: Whether keys after the query have buckets of their own; otherwise they are at distance zero.
        embeddings_initializer: How `embeddings` start; None for a truncated normal distribution of deviation 1.

    Call arguments:
        query: Tensor of shape `(b, t, ...)`.
        key: Tensor of shape `(b, s, ...)`. Of both only the length is read; both start at position 0.

    Returns:
        Tensor of shape `(1, h, t, s)`, in the compute dtype.

    Raises:
        ValueError: for num_heads below 1, buckets that are too few, or odd where there are two directions, a max_distance that
            leaves no distance to share, and a query or key with fewer than 2 axes.

    Example:

    >>> RelativePositionBias(num_heads=4)(keras.ops.ones((2, 3, 8)), keras.ops.ones((2, 5, 8))).shape
    TensorShape([1, 4, 3, 5])

    Differs from the Model Garden:
        The first axis is 1, to broadcast over the batch; there, the bias is repeated for each example. Buckets are counted in
        integers; there, a logarithm of zero is cast to an integer and then not used. Buckets that cannot be are an error.

    Reference:
        [Raffel et al., 2019](https://arxiv.org/abs/1910.10683), section 2.1.
    """

    def __init__(
        self,
        num_heads,
        relative_attention_num_buckets=32,
        relative_attention_max_distance=128,
        bidirectional=True,
        embeddings_initializer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_at_least(1, num_heads=num_heads)
        check_buckets(relative_attention_num_buckets, relative_attention_max_distance, bidirectional)
        self.num_heads = num_heads
        self.relative_attention_num_buckets = relative_attention_num_buckets
        self.relative_attention_max_distance = relative_attention_max_distance
        self.bidirectional = bidirectional
        start = keras.initializers.TruncatedNormal(stddev=1.0) if embeddings_initializer is None else embeddings_initializer
        self.embeddings_initializer = keras.initializers.get(start)

    def build(self, query_shape, key_shape):
        shape = (self.relative_attention_num_buckets, self.num_heads)
        self.embeddings = self.add_weight(shape=shape, initializer=self.embeddings_initializer, name="embeddings")

    def call(self, query, key):
        check_rank_at_least(2, query=query.shape, key=key.shape)
        t, s = ops.shape(query)[1], ops.shape(key)[1]
        ranges = (self.relative_attention_num_buckets, self.relative_attention_max_distance, self.bidirectional)
        # Of known lengths, the buckets are constants of the graph.
        xp = np if isinstance(t, int) and isinstance(s, int) else ops
        buckets = relative_buckets(xp.arange(s)[None, :] - xp.arange(t)[:, None], *ranges, xp)
        return ops.transpose(ops.take(self.embeddings, ops.cast(buckets, "int32"), axis=0), (2, 0, 1))[None]

    def get_config(self):
        return super().get_config() | {
            "num_heads": self.num_heads,
            "relative_attention_num_buckets": self.relative_attention_num_buckets,
            "relative_attention_max_distance": self.relative_attention_max_distance,
            "bidirectional": self.bidirectional,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }
