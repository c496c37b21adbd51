"""Multi-head attention with relative positions, for one stream and for two (Keras 3)."""

import keras
from keras import ops

from layers.attention import MultiHeadAttention
from layers.common.checks import check_rank, check_same, check_shape
from layers.common.masks import after
from layers.common.relative_positions import Terms, check_terms, has_encoding, has_open_sizes, projected, relative_shift
from layers.common.sizes import joined_length
from layers.common.sums import added_up
from layers.masked_softmax import attended


@keras.saving.register_keras_serializable(package="layers")
class MultiHeadRelativeAttention(MultiHeadAttention):
    """Multi-head attention whose scores depend on the distance between query and key.

    Computes equations (1) and (2) of `reference/relative_attention.py`, plus dropout on the attention weights. The last query is
    at the position of the last key, so query i is i + (s − t) − j positions after key j. Row r of the encodings is for distance
    s − r.

    Axes: `b` batch, `t` query position, `s` key position (the state's included), `h` head, `l` relative position, `m` model size,
    `d` key size, `e` value size.

    Args:
        kernel_initializer: Initializer of the projections' kernels. Defaults to "variance_scaling".
        **kwargs: The other arguments of `MultiHeadAttention`.

    Call arguments:
        query: Tensor of shape `(b, t, m)`.
        value: Tensor of shape `(b, s, m)`; with `state`, `(b, s − length of the state, m)`.
        content_attention_bias, positional_attention_bias: u and v of equation (1), of shape `(h, d)`, or None for zeros.
        key: Tensor of the same shape except for the last axis. Defaults to `value`.
        relative_position_encoding: Tensor of shape `(b, l, m)`, or `(1, l, m)` for all examples, which is projected once.
            It has t + s rows, for the distances s, …, 1 − t, or s + 1 rows, for s, …, 0. With s + 1 rows, no query attends to a
            key after it. Without encodings, scores do not depend on positions.
        segment_matrix: `(b, t, s)`, nonzero where query and key are in different segments. Requires `segment_encoding`.
        segment_encoding: Tensor of shape `(2, h, d)`: first for the same segment, then for different segments.
        segment_attention_bias: Tensor of shape `(h, d)`, or None for zeros. It is b of (q + b)·s, a term that only segments add.
        state: Memory of shape `(b, s − length of value, m)`, concatenated before keys and values.
        attention_mask: Nonzero where attention is allowed; `(b, t, s)`, or broadcastable to `(b, h, t, s)`.
        return_attention_scores: Whether to return the weights too, before dropout. Does not change the output.
        training: Whether to apply dropout.
        query_mask, value_mask, key_mask: As in `MultiHeadAttention`. For padding in `state`, `attention_mask` is needed.

    Returns:
        Tensor of shape `(b, t, m)`; with `return_attention_scores`, also the weights `(b, h, t, s)`.

    Raises:
        ValueError: if shapes do not fit together, the encodings have the wrong number of rows, or an argument that another
            argument requires is missing; and as in `MultiHeadAttention`.

    Example:

    >>> layer = MultiHeadRelativeAttention(num_heads=2, key_dim=4)
    >>> x, u, v = keras.ops.ones((1, 3, 8)), keras.ops.zeros((2, 4)), keras.ops.zeros((2, 4))
    >>> layer(x, x, u, v, relative_position_encoding=keras.ops.ones((1, 6, 8))).shape
    TensorShape([1, 3, 8])

    Differs from the Model Garden:
        One encoding can serve all examples. A number of rows other than t + s or s + 1 is an error; there, missing distances get
        another query's scores. With s + 1 rows, keys after the query are masked; there, they get another query's scores unless
        the caller masks them. Encodings, biases and segments are optional. A query with no allowed key gets zeros, not the mean
        of the values. The mask is boolean. `return_attention_scores` and `seed` are new.

    Reference:
        [Dai et al., 2019](https://arxiv.org/abs/1901.02860), section 3.3; [Yang et al., 2019](https://arxiv.org/abs/1906.08237),
        section 2.5.
    """

    def __init__(self, kernel_initializer="variance_scaling", **kwargs):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)

    def build(self, query_shape, value_shape, key_shape=None, relative_position_encoding_shape=None):
        check_rank(3, query=query_shape, value=value_shape, key=key_shape or value_shape)
        super().build(query_shape, value_shape, key_shape)
        self.encoding_dense = None
        if encoding_shape := relative_position_encoding_shape:
            check_rank(3, relative_position_encoding=encoding_shape)
            sizes = (None, self.num_heads, self.key_dim)
            self.encoding_dense = self.make_projection("encoding", "blm,mhd->blhd", sizes, None, encoding_shape)

    def call(
        self,
        query,
        value,
        content_attention_bias,
        positional_attention_bias,
        key=None,
        relative_position_encoding=None,
        segment_matrix=None,
        segment_encoding=None,
        segment_attention_bias=None,
        state=None,
        attention_mask=None,
        *,
        return_attention_scores=False,
        training=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
    ):
        q = self.query_dense(query)
        k, v = self.keys_and_values(value, value if key is None else key, state)
        positions = (content_attention_bias, positional_attention_bias, relative_position_encoding)
        terms = self.terms(q, k, *positions, segment_attention_bias, segment_encoding, segment_matrix)
        mask = self.allowed(q, k, attention_mask, False, query_mask, after(state, value_mask), after(state, key_mask))
        heads, weights = self.attend(q, k, v, mask, training, terms)
        output = self.output_dense(heads)
        return (output, weights) if return_attention_scores else output

    def keys_and_values(self, value, key, state):
        if state is not None:
            for name, side in (("value", value), ("key", key)):
                check_shape(f"state, concatenated with the {name},", state, (side.shape[0], None, side.shape[2]))
            value, key = (ops.concatenate([state, side], axis=1) for side in (value, key))
        return self.key_dense(key), self.value_dense(value)

    def terms(self, q, k, u, v, encoding, b, segment_encoding, segment_matrix):
        """The terms of equation (1), after checks, with projected encodings."""
        batch, t, s = q.shape[0], q.shape[1], k.shape[1]
        terms = Terms(u, v, None, b, segment_encoding, segment_matrix)
        check_terms(terms, encoding is not None, batch, t, s, self.num_heads, self.key_dim)
        return terms if encoding is None else terms._replace(encoded=projected(self.encoding_dense, encoding, batch, t, s))

    def attend(self, q, k, v, mask, training, terms):
        """Equations (1) and (2): the heads `(b, t, h, e)` and the weights `(b, h, t, s)`."""
        # Transpose q once for all terms, and scale it instead of the scores, because it has fewer numbers.
        q = ops.transpose(q * self.key_dim**-0.5, (0, 2, 1, 3))
        scores = ops.matmul(self.plus(q, terms.u), ops.transpose(k, (0, 2, 3, 1)))
        if terms.encoded is not None:
            # matmul, unlike einsum, broadcasts an encoding with batch size 1 without copying it.
            by_row = ops.matmul(self.plus(q, terms.v), terms.encoded)
            t, rows, s = *ops.shape(by_row)[2:], ops.shape(k)[1]
            scores = added_up(scores, relative_shift(by_row, s))
            if (reach := has_encoding(t, s, rows)) is not None:
                mask = reach[None, None] if mask is None else ops.logical_and(mask, reach)
        if terms.segment_encoding is not None:
            by_segment = ops.matmul(self.plus(q, terms.b), ops.transpose(terms.segment_encoding, (1, 2, 0)))
            different = ops.expand_dims(ops.cast(terms.segment_matrix, "bool"), 1)
            scores = added_up(scores, ops.where(different, by_segment[..., 1:], by_segment[..., :1]))
        return attended(scores, mask, lambda weights: self.mix(weights, v, training))

    def plus(self, q, bias):
        """q + bias, where q is `(b, h, t, d)` and already divided by √d."""
        return q if bias is None else added_up(q, ops.expand_dims(bias, 1) * self.key_dim**-0.5)

    def untraced_spec(self, query, value, state=None, return_attention_scores=False, **others):
        if not has_open_sizes((query, value, state, others)):
            return None  # there are more distances than keys
        b, t, m = query.shape
        output = self.symbol(b, t, *(self.output_shape or (m,)))
        scores = self.symbol(b, self.num_heads, t, joined_length(state, value))
        return (output, scores) if return_attention_scores else output


@keras.saving.register_keras_serializable(package="layers")
class TwoStreamRelativeAttention(MultiHeadRelativeAttention):
    """Relative attention of two streams: the content, and queries that predict the token at a position without seeing it.

    Computes equation (3) of `reference/relative_attention.py`. Both streams share all weights and attend to the content.

    Axes: as in `MultiHeadRelativeAttention`; here `t` is the length of the content stream.

    Args:
        **kwargs: The arguments of `MultiHeadRelativeAttention`.

    Call arguments:
        content_stream: Tensor of shape `(b, t, m)`.
        content_attention_bias, positional_attention_bias, relative_position_encoding, segment_matrix, segment_encoding,
            segment_attention_bias, state: As in `MultiHeadRelativeAttention`.
        query_stream: Tensor of shape `(b, t, m)`; with `target_mapping`, `(b, targets, m)`.
        target_mapping: Tensor of shape `(b, targets, t)`, for each target 1 at its position and 0 elsewhere. The output of a row
            of zeros is the output projection's bias.
        content_attention_mask, query_attention_mask: Nonzero where the stream may attend; `(b, t, s)`, or broadcastable to
            `(b, h, t, s)`, with or without `target_mapping`.
        training: Whether to apply dropout.
        content_stream_mask: Nonzero at tokens, `(b, t)`, for the queries of the content stream and the keys of both. Keras fills
            it in from that stream's mask, which the first output carries; see `layers/common/masks.py`.

    Returns:
        Two tensors, the content stream and the query stream, each of the shape of its input.

    Raises:
        ValueError: as in `MultiHeadRelativeAttention`, or if the streams and the mapping do not fit together.

    Example:

    >>> layer = TwoStreamRelativeAttention(num_heads=2, key_dim=4)
    >>> x, u, v = keras.ops.ones((1, 3, 8)), keras.ops.zeros((2, 4)), keras.ops.zeros((2, 4))
    >>> content, query = layer(x, u, v, query_stream=x, relative_position_encoding=keras.ops.ones((1, 6, 8)))
    >>> content.shape, query.shape
    (TensorShape([1, 3, 8]), TensorShape([1, 3, 8]))

    Differs from the Model Garden:
        As in `MultiHeadRelativeAttention`. In particular, the first token of a permutation, which may attend to nothing, gets
        zeros; there, it gets the mean of all tokens, including its own.

    Reference:
        [Yang et al., 2019](https://arxiv.org/abs/1906.08237), section 2.3.
    """

    def build(self, content_stream_shape, query_stream_shape, relative_position_encoding_shape):
        check_rank(3, query_stream=query_stream_shape)
        super().build(content_stream_shape, content_stream_shape, None, relative_position_encoding_shape)

    def call(
        self,
        content_stream,
        content_attention_bias,
        positional_attention_bias,
        query_stream,
        relative_position_encoding,
        target_mapping=None,
        segment_matrix=None,
        segment_encoding=None,
        segment_attention_bias=None,
        state=None,
        content_attention_mask=None,
        query_attention_mask=None,
        training=None,
        content_stream_mask=None,
    ):
        self.check_streams(content_stream.shape, query_stream.shape, target_mapping)
        q, g = self.query_dense(content_stream), self.query_dense(query_stream)
        k, v = self.keys_and_values(content_stream, content_stream, state)
        positions = (content_attention_bias, positional_attention_bias, relative_position_encoding)
        terms = self.terms(q, k, *positions, segment_attention_bias, segment_encoding, segment_matrix)
        if target_mapping is not None:
            g = ops.einsum("bthd,bts->bshd", g, target_mapping)
        padding = after(state, content_stream_mask)
        mask = self.allowed(q, k, content_attention_mask, False, content_stream_mask, padding)
        content, _ = self.attend(q, k, v, mask, training, terms)
        query, _ = self.attend(g, k, v, self.allowed(g, k, query_attention_mask, False, None, padding), training, terms)
        if target_mapping is not None:
            query = ops.einsum("bshe,bts->bthe", query, target_mapping)
        return self.output_dense(content), self.output_dense(query)

    def check_streams(self, content, query, target_mapping):
        check_same("batch", content_stream=content[0], query_stream=query[0])
        check_same("size of the last axis", content_stream=content[2], query_stream=query[2])
        check_shape("target_mapping", target_mapping, (content[0], query[1], content[1]))
        if target_mapping is None:
            check_same("length, unless target_mapping is given", content_stream=content[1], query_stream=query[1])

    def untraced_spec(self, content_stream, query_stream, **others):
        if not has_open_sizes((content_stream, query_stream, others)):
            return None
        return tuple(self.symbol(*x.shape[:-1], *(self.output_shape or x.shape[-1:])) for x in (content_stream, query_stream))
