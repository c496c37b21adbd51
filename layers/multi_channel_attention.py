"""Attention over several channels, and the vote that weighs them (Keras 3)."""

import keras
from keras import ops

from layers.attention import MultiHeadAttention, normalised
from layers.common.checks import check_at_least, check_broadcastable, check_rank, check_same
from layers.common.projection import ProjectingLayer
from layers.common.sequences import product
from layers.masked_softmax import masked_softmax


@keras.saving.register_keras_serializable(package="layers")
class MultiChannelAttention(MultiHeadAttention):
    """Attention to several channels at once, such as the documents of a story, mixed by weights that the caller gives.

    Computes equation (2) of `reference/multi_channel_attention.py`, plus dropout on the attention weights.

    Axes: `b` batch, `t` query position, `s` key position, `h` head, `a` channel, `m` model size, `d` key size, `e` value size.

    Args:
        num_heads, key_dim, value_dim, dropout, use_bias, output_shape, seed, and those of the projections: As for
            `MultiHeadAttention`.
        attention_axes: None or 1: queries have one axis to attend with.

    Call arguments:
        query: Tensor of shape `(b, t, m)`.
        value: Tensor of shape `(b, a, s, m)`; `m` may differ from the query's.
        key: Tensor of shape `(b, a, s, m)`; `m` may differ again. Defaults to `value`.
        context_attention_weights: The weight of each channel, `(b, h, t, a)`, or 1 in place of `b`, `h` and `t`. Used as they
            are: what should sum to 1 must do so before (as `VotingAttention`'s do). Must be given: the mean of all channels, if
            that is wanted, is `1 / a`.
        attention_mask: Not zero where attention is allowed; broadcastable to `(b, a, t, s)`. A channel in which a query may
            attend to nothing adds zeros for it; the weights of the others stay as they are.
        return_attention_scores: Also return the weights, as they were before dropout. Never changes the output.
        training: Whether to drop weights.

    Returns:
        Tensor of shape `(b, t, m)`, or that and each channel's attention weights `(b, a, h, t, s)`.

    Raises:
        ValueError: for missing context weights; and for sizes, inputs, weights and masks that do not fit, by name.

    Example:

    >>> layer = MultiChannelAttention(num_heads=2, key_dim=4)
    >>> documents, weights = keras.ops.ones((1, 3, 6, 8)), keras.ops.ones((1, 2, 5, 3)) / 3
    >>> layer(keras.ops.ones((1, 5, 8)), documents, context_attention_weights=weights).shape
    TensorShape([1, 5, 8])

    Differs from the Model Garden:
        The mask is `(b, a, t, s)`, as it is in the code there; the docstring there says `(b, t, s)`, which is rejected here. It
        is boolean, and a channel that is all masked adds zeros, not the mean of its values. Masks and context weights may
        broadcast, and attention scores can be had. Missing context weights are an error that says so.

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
    ):
        self.check_shapes(query.shape, value.shape, value.shape if key is None else key.shape)
        w = self.channel_weights(query, value, context_attention_weights)
        mask = self.channel_mask(query, value, attention_mask)
        y = one_sequence(value)
        q = self.query_dense(query)
        k = self.key_dense(y if key is None else one_sequence(key))
        v = self.value_dense(y)
        heads, weights = self.attend_channels(q, k, v, w, mask, ops.shape(value)[1:3], training)
        output = self.output_dense(heads)
        return (output, ops.transpose(weights, (0, 3, 1, 2, 4))) if return_attention_scores else output

    def attend_channels(self, q, k, v, w, mask, sizes, training):
        """Equations (1) and (2): the heads `(b, t, h, e)` and the weights `(b, h, t, a, s)`."""
        # The reference mixes each channel's values, then the channels. Here the channels lie one after the other, as one
        # sequence whose weights are w times each channel's own: one product of larger matrices in place of a, and no mixtures to
        # keep.
        b, t, h, _ = ops.shape(q)
        scores = ops.einsum("bthd,bshd->bhts", q * self.key_dim**-0.5, k)
        weights = masked_softmax(ops.reshape(scores, (b, h, t, *sizes)), mask)
        weighted = self.dropout_layer(weights, training=training) * ops.expand_dims(w, -1)
        return ops.einsum("bhts,bshe->bthe", ops.reshape(weighted, (b, h, t, product(sizes))), v), weights

    def channel_weights(self, query, value, context_attention_weights):
        """The context weights, in the compute dtype."""
        expected = (query.shape[0], self.num_heads, query.shape[1], value.shape[1])
        if context_attention_weights is None:
            raise ValueError(f"context_attention_weights must be given, of shape {expected}. Received: None")
        w = ops.cast(context_attention_weights, self.compute_dtype)
        check_broadcastable("context_attention_weights", w.shape, expected)
        check_same("number of channels", context_attention_weights=w.shape[-1], value=value.shape[1])
        return w

    def channel_mask(self, query, value, attention_mask):
        """The boolean mask that broadcasts to `(b, h, t, a, s)`; None for everything."""
        if attention_mask is None:
            return None
        expected = (query.shape[0], value.shape[1], query.shape[1], value.shape[2])
        check_broadcastable("attention_mask", attention_mask.shape, expected)
        return ops.expand_dims(ops.transpose(ops.cast(attention_mask, "bool"), (0, 2, 1, 3)), 1)

    def check_shapes(self, query, value, key):
        check_rank(3, query=query)
        check_rank(4, value=value, key=key)
        check_same("shape but for the last axis", key=tuple(key[:-1]), value=tuple(value[:-1]))
        check_same("batch size", query=query[0], value=value[0])
        self.attention_axes = normalised(self.attention_axes, 3)


def one_sequence(x):
    """The channels of `(b, a, s, m)` one after the other: `(b, a s, m)`."""
    b, *sizes, _ = ops.shape(x)
    return ops.reshape(x, (b, product(sizes), x.shape[-1]))


@keras.saving.register_keras_serializable(package="layers")
class VotingAttention(ProjectingLayer):
    """Weighs the documents of a story by what the others say of each.

    Computes equations (3) and (4) of `reference/multi_channel_attention.py`, the votes in at least float32.

    Axes: `b` batch, `a` channel (a document), `s` key position, `m` model size, `h` head, `d` key size.

    Args:
        num_heads: Number of heads, `h`; their votes are added.
        head_size: Size of each query and key, `d`.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
            bias_constraint: As for `ProjectingLayer`.

    Call arguments:
        encoder_outputs: Tensor of shape `(b, a, s, m)`, of which only position 0 of each document is read (BERT's `[CLS]`).
        doc_attention_mask: Tensor of shape `(b, a)`: not zero where there is a document. Defaults to all of them.

    Returns:
        Tensor of shape `(b, a)` in the compute dtype: the weights, which sum to 1. A document that is not there has weight 0
        and no vote; one that is alone has weight 1; where there is none, all weights are 0.

    Raises:
        ValueError: for sizes below 1, `encoder_outputs` that do not have four axes, and a mask that does not fit.

    Example:

    >>> layer = VotingAttention(num_heads=2, head_size=4)
    >>> layer(keras.ops.ones((1, 3, 5, 8)), keras.ops.array([[1, 1, 0]])).numpy().tolist()
    [[0.5, 0.5, 0.0]]

    Differs from the Model Garden:
        Works under every dtype policy (there, mixed precision is an error). The mask is boolean and may be left out. A document
        that is not there has weight exactly 0, however low the votes; where there is none at all, weights are 0, not uniform.

    Reference:
        [Gu et al., 2020](https://arxiv.org/abs/2001.09386).
    """

    def __init__(self, num_heads, head_size, **kwargs):
        super().__init__(**kwargs)
        check_at_least(1, num_heads=num_heads, head_size=head_size)
        self.num_heads = num_heads
        self.head_size = head_size

    def build(self, encoder_outputs_shape):
        check_rank(4, encoder_outputs=encoder_outputs_shape)
        shape, first = (None, self.num_heads, self.head_size), (*encoder_outputs_shape[:2], encoder_outputs_shape[-1])
        self.query_dense, self.key_dense = (
            self.make_projection(name, "bam,mhd->bahd", shape, "hd", first) for name in ("query", "key")
        )

    def call(self, encoder_outputs, doc_attention_mask=None):
        check_rank(4, encoder_outputs=encoder_outputs.shape)
        first = encoder_outputs[:, :, 0]
        # Unscaled sums over heads and documents soon leave the range of float16.
        dtype = "float32" if self.compute_dtype in ("float16", "bfloat16") else self.compute_dtype
        q, k = (ops.cast(dense(first), dtype) for dense in (self.query_dense, self.key_dense))
        present = self.present(first, doc_attention_mask)
        # Document t is voted for, document s votes.
        scores = ops.einsum("bthd,bshd->bts", q, k)
        others = ops.logical_not(ops.eye(ops.shape(q)[1], dtype="bool"))
        may_vote = ops.expand_dims(present, 2) & ops.expand_dims(present, 1) & others
        votes = ops.sum(ops.where(may_vote, scores, 0), axis=-1)
        return ops.cast(masked_softmax(votes, present), self.compute_dtype)

    def present(self, first, doc_attention_mask):
        """The boolean mask `(b, a)`, or `(1, a)`, of the documents that are there."""
        if doc_attention_mask is None:
            return ops.ones((1, ops.shape(first)[1]), "bool")
        check_broadcastable("doc_attention_mask", doc_attention_mask.shape, first.shape[:2])
        return ops.cast(doc_attention_mask, "bool")

    def compute_output_shape(self, encoder_outputs_shape, doc_attention_mask_shape=None):
        return tuple(encoder_outputs_shape[:2])

    def get_config(self):
        return super().get_config() | {"num_heads": self.num_heads, "head_size": self.head_size}
