"""Attention over several channels, and attention weights for the channels by voting (Keras 3)."""

import keras
from keras import ops

from layers.attention import MultiHeadAttention
from layers.common.checks import check_at_least, check_broadcastable, check_rank, check_same, check_shape
from layers.common.masks import both
from layers.common.projection import ProjectingLayer
from layers.common.sequences import normalized
from layers.common.sizes import product
from layers.masked_softmax import masked_softmax


@keras.saving.register_keras_serializable(package="layers")
class MultiChannelAttention(MultiHeadAttention):
    """Attention to several channels at once, such as the documents of a story, weighted as the caller says.

    Computes equation (2) of `reference/multi_channel_attention.py`, plus dropout on the attention weights.

    Axes: `b` batch, `t` query position, `s` key position, `h` head, `a` channel, `m` model size, `d` key size, `e` value size.

    Args:
        num_heads, key_dim, value_dim, dropout, use_bias, output_shape, seed, and the options of the projections: As in
            `MultiHeadAttention`.
        attention_axes: None or 1, the only axis of the query that can attend.

    Call arguments:
        query: Tensor of shape `(b, t, m)`.
        value: Tensor of shape `(b, a, s, m)`; `m` may differ from the query's.
        key: Tensor of shape `(b, a, s, m)`; its `m` may differ too. Defaults to `value`.
        context_attention_weights: The weight of each channel, `(b, h, t, a)`; `b`, `h` and `t` may be 1. Required. They are used
            without normalization, so they should sum to 1 over the channels, as those of `VotingAttention` do. For the mean of
            all channels, pass `1 / a`.
        attention_mask: Nonzero where attention is allowed; broadcastable to `(b, a, t, s)`. If a query has no allowed key in a
            channel, that channel contributes zeros to it; the weights of the other channels do not change.
        return_attention_scores: Whether to return the weights too, before dropout. Does not change the output.
        training: Whether to apply dropout.
        query_mask, value_mask, key_mask: As in `MultiHeadAttention`, `(b, t)`, and `(b, a, s)` for both others.

    Returns:
        Tensor of shape `(b, t, m)`; with `return_attention_scores`, also each channel's attention weights `(b, a, h, t, s)`.

    Raises:
        ValueError: if `context_attention_weights` is missing, a size is below 1, or the shapes of inputs, weights and mask do
            not fit together.

    Example:

    >>> layer = MultiChannelAttention(num_heads=2, key_dim=4)
    >>> documents, weights = keras.ops.ones((1, 3, 6, 8)), keras.ops.ones((1, 2, 5, 3)) / 3
    >>> layer(keras.ops.ones((1, 5, 8)), documents, context_attention_weights=weights).shape
    TensorShape([1, 5, 8])

    Differs from the Model Garden:
        The mask is `(b, a, t, s)`, as in the code there; the docstring there says `(b, t, s)`, which is rejected here. The mask
        is boolean, and a fully masked channel contributes zeros, not the mean of its values. Masks and context weights may
        broadcast. `seed` and `return_attention_scores` are new. If context weights are missing, the error says so. As in
        `MultiHeadAttention`, `softmax_robust_masking` is always the case.

    Reference:
        [Gu et al., 2020](https://arxiv.org/abs/2001.09386).
    """

    def call(
        self,
        query,
        value,
        key=None,
        context_attention_weights=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
    ):
        self.check_shapes(query.shape, value.shape, value.shape if key is None else key.shape)
        w = self.channel_weights(query, value, context_attention_weights)
        mask = self.channel_mask(query, value, attention_mask, query_mask, value_mask, key_mask)
        y = one_sequence(value)
        q = self.query_dense(query)
        k = self.key_dense(y if key is None else one_sequence(key))
        v = self.value_dense(y)
        heads, weights = self.attend_channels(q, k, v, w, mask, ops.shape(value)[1:3], training)
        output = self.output_dense(heads)
        return (output, ops.transpose(weights, (0, 3, 1, 2, 4))) if return_attention_scores else output

    def attend_channels(self, q, k, v, w, mask, sizes, training):
        """Equations (1) and (2): the heads `(b, t, h, e)` and the weights `(b, h, t, a, s)`."""
        # The reference mixes the values within each channel, then the channels. Here the channels form one sequence, whose
        # weights are w times each channel's attention weights: one larger matrix product instead of a small ones, and no
        # intermediate results to store.
        b, t, h, _ = ops.shape(q)
        scores = ops.einsum("bthd,bshd->bhts", q * self.key_dim**-0.5, k)
        weights = masked_softmax(ops.reshape(scores, (b, h, t, *sizes)), mask)
        weighted = ops.multiply(self.dropout_layer(weights, training=training), ops.expand_dims(w, -1))
        return ops.einsum("bhts,bshe->bthe", ops.reshape(weighted, (b, h, t, product(sizes))), v), weights

    def channel_weights(self, query, value, context_attention_weights):
        """The context weights, in the compute dtype."""
        expected = (query.shape[0], self.num_heads, query.shape[1], value.shape[1])
        if context_attention_weights is None:
            raise ValueError(
                f"context_attention_weights must be given, of shape {expected}. Received: context_attention_weights=None"
            )
        w = ops.cast(context_attention_weights, self.compute_dtype)
        check_broadcastable("context_attention_weights", w.shape, expected)
        check_same("number of channels", context_attention_weights=w.shape[-1], value=value.shape[1])
        return w

    def channel_mask(self, query, value, attention_mask, query_mask, value_mask, key_mask):
        """A boolean mask that broadcasts to `(b, h, t, a, s)`; None allows everything."""
        mask = None
        if attention_mask is not None:
            expected = (query.shape[0], value.shape[1], query.shape[1], value.shape[2])
            check_broadcastable("attention_mask", attention_mask.shape, expected)
            mask = ops.expand_dims(ops.transpose(ops.cast(attention_mask, "bool"), (0, 2, 1, 3)), 1)
        masks = {"query_mask": query_mask, "value_mask": value_mask, "key_mask": None if key_mask is value_mask else key_mask}
        for name, padding in masks.items():
            if padding is not None:
                side, axes = (query, (1, 3, 4)) if name == "query_mask" else (value, (1, 2))
                check_shape(name, padding, side.shape[:-1])
                mask = both(mask, ops.expand_dims(ops.cast(padding, "bool"), axes))
        return mask

    def check_shapes(self, query, value, key):
        check_rank(3, query=query)
        check_rank(4, value=value, key=key)
        check_same("shape but for the last axis", key=tuple(key[:-1]), value=tuple(value[:-1]))
        check_same("batch size", query=query[0], value=value[0])
        return normalized(self.attention_axes, 3)


def one_sequence(x):
    """Concatenate the channels of `(b, a, s, m)` into one sequence, `(b, a s, m)`."""
    b, *sizes, _ = ops.shape(x)
    return ops.reshape(x, (b, product(sizes), x.shape[-1]))


@keras.saving.register_keras_serializable(package="layers")
class VotingAttention(ProjectingLayer):
    """Weights for the documents of a story: each document scores every other, and a softmax turns the sums into weights.

    Computes equations (3) and (4) of `reference/multi_channel_attention.py`, the votes in at least float32.

    Axes: `b` batch, `a` channel (a document), `s` key position, `m` model size, `h` head, `d` key size.

    Args:
        num_heads: Number of heads, `h`. The scores of all heads are added.
        head_size: Size of each query and key, `d`.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
            bias_constraint: As in `ProjectingLayer`.

    Call arguments:
        encoder_outputs: Tensor of shape `(b, a, s, m)`, Only position 0 of each document, BERT's `[CLS]`, is read.
        doc_attention_mask: Tensor of shape `(b, a)`, nonzero at documents and zero at padding. Defaults to no padding.
        mask, encoder_outputs_mask: Nonzero at tokens, `(b, a, s)`; a document without tokens is padding. Keras fills one of them
            in from the mask of the input; see `layers/common/masks.py`.

    Returns:
        Tensor of shape `(b, a)` in the compute dtype: the weights, which sum to 1. Padding has weight 0 and no vote. A single
        document has weight 1. If a story has no documents, all weights are 0.

    Raises:
        ValueError: if a size is below 1, `encoder_outputs` does not have 4 axes, or the mask does not broadcast to `(b, a)`.

    Example:

    >>> layer = VotingAttention(num_heads=2, head_size=4)
    >>> layer(keras.ops.ones((1, 3, 5, 8)), keras.ops.array([[1, 1, 0]])).numpy().tolist()
    [[0.5, 0.5, 0.0]]

    Differs from the Model Garden:
        Works under every dtype policy; there, mixed precision is an error. The mask is boolean and optional. Padding has weight
        exactly 0, however low the other scores are. If there are no documents, the weights are 0, not uniform.

    Reference:
        [Gu et al., 2020](https://arxiv.org/abs/2001.09386).
    """

    def __init__(
        self,
        num_heads,
        head_size,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        projection = (kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer)
        super().__init__(*projection, activity_regularizer, kernel_constraint, bias_constraint, **kwargs)
        check_at_least(1, num_heads=num_heads, head_size=head_size)
        self.num_heads = num_heads
        self.head_size = head_size

    def build(self, encoder_outputs_shape):
        check_rank(4, encoder_outputs=encoder_outputs_shape)
        shape, first = (None, self.num_heads, self.head_size), (*encoder_outputs_shape[:2], encoder_outputs_shape[-1])
        self.query_dense, self.key_dense = (
            self.make_projection(name, "bam,mhd->bahd", shape, "hd", first) for name in ("query", "key")
        )

    def call(self, encoder_outputs, doc_attention_mask=None, mask=None, encoder_outputs_mask=None):
        check_rank(4, encoder_outputs=encoder_outputs.shape)
        first = encoder_outputs[:, :, 0]
        # Unscaled sums over heads and documents can exceed the range of float16.
        dtype = "float32" if self.compute_dtype in ("float16", "bfloat16") else self.compute_dtype
        q, k = (ops.cast(dense(first), dtype) for dense in (self.query_dense, self.key_dense))
        tokens = mask if encoder_outputs_mask is None else encoder_outputs_mask
        present = both(self.present(first, doc_attention_mask), self.compute_mask(encoder_outputs, tokens))
        # Document s votes for document t.
        scores = ops.einsum("bthd,bshd->bts", q, k)
        places = ops.arange(0, ops.shape(q)[1])
        others = places[None, :] != places[:, None]
        may_vote = ops.expand_dims(present, 2) & ops.expand_dims(present, 1) & others
        votes = ops.sum(ops.where(may_vote, scores, 0), axis=-1)
        return ops.cast(masked_softmax(votes, present), self.compute_dtype)

    def present(self, first, doc_attention_mask):
        """The boolean mask of documents, False at padding: `(b, a)`, or `(1, a)` without a mask."""
        if doc_attention_mask is None:
            return ops.ones((1, ops.shape(first)[1]), "bool")
        check_broadcastable("doc_attention_mask", doc_attention_mask.shape, first.shape[:2])
        return ops.cast(doc_attention_mask, "bool")

    def compute_mask(self, encoder_outputs, previous_mask=None):
        return None if previous_mask is None else ops.any(ops.cast(previous_mask, "bool"), axis=-1)

    def get_config(self):
        return super().get_config() | {"num_heads": self.num_heads, "head_size": self.head_size}
