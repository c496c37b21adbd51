"""Position embeddings: learned, as sines and cosines, or as a bias for each distance (Keras 3)."""

import keras
from keras import ops

from layers.common.checks import check_at_least, check_flags, check_rank_at_least, interpreted
from layers.common.ids import rows_at
from layers.common.output_shapes import TracedLayer
from layers.common.positions import check_position
from layers.positional_embedding.buckets import buckets_between, check_buckets
from layers.positional_embedding.learned import ForAnyBatch, check_learned, check_offset, length_of, rows_along
from layers.positional_embedding.sinusoids import check_sinusoid, sinusoid


@keras.saving.register_keras_serializable(package="layers")
class PositionalEmbedding(TracedLayer):
    """A learned vector for each position, the same for every example, to add to token embeddings.

    Computes equation (1) of `reference/positional_embedding.py`. Vectors of positions that no
    training text reaches keep their initial values. `PositionEmbedding` is the same class.

    Axes: `b` batch, `t` position, `m` model size.

    Args:
        max_length: Number of rows of the table, the weight `embeddings`.
        initializer: Initializer of the table.
        seq_axis: The axis of the inputs that holds the positions. It may be negative, but must not be the last axis.

    Call arguments:
        inputs: Tensor of shape `(b, t, m)`, or of another shape with positions along `seq_axis` and a last axis of known size.
            Only its shape is read.
        offset: Position of the first input, such as the number of cached tokens; an integer or a scalar integer tensor.

    In a compiled function, pass `offset` as a tensor, because each new integer causes a recompilation. A tensor whose value is
    unknown during tracing cannot raise an error: a position without a row in the table gets zeros, and no gradient.

    Returns:
        Tensor of the shape of `inputs`, in the compute dtype.

    Raises:
        ValueError: if `max_length` is below 1, `offset` is negative or not an integer, the inputs reach beyond `max_length`,
            `seq_axis` is not an axis of the inputs or is the last, or the last axis is unknown or differs from that of the
            table. If the length is known only when the graph runs, the backend raises the error for inputs that are too long; a
            program exported from JAX cannot, and returns NaN for the positions that have no row.

    Example:

    >>> PositionalEmbedding(max_length=512)(keras.ops.ones((2, 3, 8))).shape
    TensorShape([2, 3, 8])

    Differs from the Model Garden:
        The README there uses this name and the code PositionEmbedding; here, both names work. Inputs that are too long raise an
        error that says so; there, a reshape fails, or, if the table has one row and the length is unknown, there is no error.
        `seq_axis` may be negative. `offset` is new.

    Reference:
        [Devlin et al., 2018](https://arxiv.org/abs/1810.04805), section 3.
    """

    integer_arguments = ("offset",)

    def __init__(self, max_length, initializer="glorot_uniform", seq_axis=1, **kwargs):
        super().__init__(**kwargs)
        check_at_least(1, max_length=max_length)
        if not isinstance(seq_axis, int) or isinstance(seq_axis, bool):
            raise ValueError(f"seq_axis must be an integer. Received: seq_axis={seq_axis!r}")
        self.max_length = max_length
        [self.initializer] = interpreted(keras.initializers.get, initializer=initializer)
        self.seq_axis = seq_axis
        self.supports_masking = True  # the mask of the inputs holds for the output too

    def build(self, input_shape):
        check_learned(input_shape, self.max_length, self.seq_axis)
        shape = (self.max_length, input_shape[-1])
        self.embeddings = self.add_weight(shape=shape, initializer=self.initializer, name="embeddings")

    def call(self, inputs, offset=0):
        check_learned(inputs.shape, self.max_length, self.seq_axis, self.embeddings.shape[-1], offset)
        return rows_along(self.embeddings, offset, inputs, self.seq_axis)

    def get_config(self):
        return super().get_config() | {
            "max_length": self.max_length,
            "initializer": keras.initializers.serialize(self.initializer),
            "seq_axis": self.seq_axis,
        }


PositionEmbedding = PositionalEmbedding


@keras.saving.register_keras_serializable(package="layers")
class RelativePositionEmbedding(ForAnyBatch):
    """Sines and cosines of each position, for any number of positions; nothing is learned.

    Computes equation (2) of `reference/positional_embedding.py`, the paper's, or equation (3), Tensor2Tensor's. The name is the
    Model Garden's: the positions are absolute, but shifting all of them is a rotation that does not depend on the position.

    The two equations differ in their wavelengths, not only in the order of columns. The paper's is the default.

    Axes: `b` batch, `t` position, `m` model size.

    Args:
        hidden_size: Number of columns, `m`, at least 2. If it is odd, the last sine has no cosine ("interleaved") or the last
            column is zero ("concatenated").
        min_timescale: Timescale of the first column, in positions; its wavelength is 2π times as long.
        max_timescale: Timescale that the columns approach ("interleaved") or that the last column has ("concatenated").
        convention: "interleaved": sine, cosine, sine, cosine, …, and timescales that grow by (max/min)^{2/m}, as in the paper.
            "concatenated": all sines, then all cosines, and timescales that reach `max_timescale`, as in Tensor2Tensor.

    Call arguments:
        inputs: Tensor of shape `(b, t, ...)`, of which only the length is read; may be None if `length` is given.
        length: Number of positions, an integer. If `inputs` is given too, it must have this length.
        offset: The first position, as in `PositionalEmbedding`; positions below 0 or beyond those of int32 get zeros.

    Returns:
        Tensor of shape `(t, m)` in the compute dtype, accurate to the last digits of float32, or of float64, at any position.

    Raises:
        ValueError: if `hidden_size` is below 2, the timescales do not satisfy 0 < min ≤ max < ∞, the convention is unknown,
            neither inputs nor length is given or they disagree, the length is below 1, inputs have fewer than 2 axes, or
            `offset` is not an integer, is negative, or leads beyond position 2³¹ − 1.

    Example:

    >>> RelativePositionEmbedding(hidden_size=8)(None, length=3).shape
    TensorShape([3, 8])

    Differs from the Model Garden:
        There, `convention` does not exist and is always "concatenated"; with it, numbers are equal for an even `hidden_size`
        above 2 and a `min_timescale` of 1. `min_timescale` is a timescale; there, it multiplies frequencies. A `hidden_size` of 2
        gives no NaN, and an odd `hidden_size` gives all columns. `offset` is new.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.5.
    """

    def __init__(self, hidden_size, min_timescale=1.0, max_timescale=1.0e4, *, convention="interleaved", **kwargs):
        super().__init__(**kwargs)
        check_at_least(2, hidden_size=hidden_size)
        check_sinusoid(min_timescale, max_timescale, convention)
        self.hidden_size = hidden_size
        self.min_timescale = float(min_timescale)
        self.max_timescale = float(max_timescale)
        self.convention = convention

    def call(self, inputs=None, length=None, offset=0):
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        scales = (self.min_timescale, self.max_timescale)
        t = length_of(inputs, length)
        check_offset(offset, t)
        y = sinusoid(t, self.hidden_size, *scales, self.convention, dtype, offset)
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
    """A learned bias for each head and each range of distances between query and key, to add to attention scores.

    Computes equation (5) of `reference/positional_embedding.py`. Small distances have a bucket each, larger distances share
    buckets, and all of the largest share one, so the bias is defined for any length.

    Axes: `b` batch, `t` query position, `s` key position, `h` head.

    Args:
        num_heads: Number of heads, `h`.
        relative_attention_num_buckets: Number of rows of the weight `embeddings`, `(buckets, h)`. If `bidirectional`, half of
            them are for keys after the query; the row for distance zero in that half is never used or trained.
        relative_attention_max_distance: Distance, in positions, at which the growing ranges end. The last range, which has no
            upper end, begins one step before it.
        bidirectional: Whether keys after the query have their own buckets; if False, they count as distance zero.
        embeddings_initializer: Initializer of `embeddings`. Defaults to a truncated normal of standard deviation 1.

    Call arguments:
        query: Tensor of shape `(b, t, ...)`. Only its length is read; its first position is `offset`.
        key: Tensor of shape `(b, s, ...)`. Only its length is read; its first position is 0.
        offset: Position of the first query, which may be negative: an integer or a scalar integer tensor. In cached decoding,
            where the keys are all slots of the cache, it is the number of earlier tokens.

    Returns:
        Tensor of shape `(1, h, t, s)`, in the compute dtype.

    Raises:
        ValueError: if `num_heads` is below 1, the number of buckets is too small, or odd with `bidirectional`, the maximum
            distance is too small for two distances to share one, query or key has fewer than 2 axes, or `offset` is no integer.

    Example:

    >>> RelativePositionBias(num_heads=4)(keras.ops.ones((2, 3, 8)), keras.ops.ones((2, 5, 8))).shape
    TensorShape([1, 4, 3, 5])

    Differs from the Model Garden:
        The first axis is 1, to broadcast over the batch; there, the bias is repeated for each example, which changes no sum with
        scores, and takes b times the memory. Buckets are computed in integers; there, a logarithm of zero is cast to an integer
        and then discarded. Invalid numbers of buckets raise an error. `offset` is new.

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
        check_flags(bidirectional=bidirectional)
        check_buckets(relative_attention_num_buckets, relative_attention_max_distance, bidirectional)
        self.num_heads = num_heads
        self.relative_attention_num_buckets = relative_attention_num_buckets
        self.relative_attention_max_distance = relative_attention_max_distance
        self.bidirectional = bidirectional
        start = keras.initializers.TruncatedNormal(stddev=1.0) if embeddings_initializer is None else embeddings_initializer
        [self.embeddings_initializer] = interpreted(keras.initializers.get, embeddings_initializer=start)

    def build(self, query_shape, key_shape):
        shape = (self.relative_attention_num_buckets, self.num_heads)
        self.embeddings = self.add_weight(shape=shape, initializer=self.embeddings_initializer, name="embeddings")

    def call(self, query, key, offset=0):
        check_rank_at_least(2, query=query.shape, key=key.shape)
        check_position(offset=offset)
        ranges = (self.relative_attention_num_buckets, self.relative_attention_max_distance, self.bidirectional)
        buckets = buckets_between(ops.shape(query)[1], ops.shape(key)[1], offset, *ranges)
        return ops.transpose(rows_at(self.embeddings, ops.cast(buckets, "int32")), (2, 0, 1))[None]

    def get_config(self):
        return super().get_config() | {
            "num_heads": self.num_heads,
            "relative_attention_num_buckets": self.relative_attention_num_buckets,
            "relative_attention_max_distance": self.relative_attention_max_distance,
            "bidirectional": self.bidirectional,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }
