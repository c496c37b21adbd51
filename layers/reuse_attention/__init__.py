"""Attention that reuses attention weights of the previous layer (Keras 3)."""

import keras
from keras import ops

from layers.attention import MultiHeadAttention
from layers.common import sequences
from layers.common.checks import check_at_least, check_flags
from layers.common.masks import check_bias
from layers.common.projection import model_axes
from layers.common.sizes import known_shape
from layers.common.slices import section
from layers.common.sums import added_up
from layers.masked_softmax import attended
from layers.reuse_attention.parts import renormalized, reused_count


@keras.saving.register_keras_serializable(package="layers")
class ReuseMultiHeadAttention(MultiHeadAttention):
    """Multi-head attention in which the first heads reuse the attention weights of the previous layer.

    Computes equations (1) to (4) of `reference/reuse_attention.py`, plus dropout on the attention weights. A reused head
    computes no queries, keys or scores, but has its own value and output projections.

    Axes: `b` batch, `t` query position, `s` key position, `h` head, `m` model size, `d` key size, `e` value size.

    Args:
        num_heads, key_dim, value_dim, use_bias, output_shape, attention_axes, seed: As in `MultiHeadAttention`.
        dropout: Fraction of attention weights dropped while training. Reused and new weights are dropped independently.
        reuse_attention: Number of heads that reuse the weights of the previous layer: 0 or False for none, -1 for all.
        use_relative_pe: Whether to add a learned bias for each distance of key and query to the scores of new heads. Requires a
            single attended axis.
        pe_max_seq_length: Number of distances, including 0, that have their own bias in each direction. Keys farther away use
            the bias of the largest distance.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
            bias_constraint: As in `ProjectingLayer`.

    Call arguments:
        query: Tensor of shape `(b, t, m)`. If all heads are reused, only its shape is read.
        value: Tensor of shape `(b, s, m)`; `m` may differ from the query's.
        key: Tensor of shape `(b, s, m)`; its `m` may differ too. Defaults to `value`.
        attention_mask: As in `MultiHeadAttention`. Reused weights of forbidden keys become 0, and the other weights of the row
            are divided by their sum; a row whose sum is 0 is all zeros.
        return_attention_scores: Whether to return the weights too, before dropout. Does not change the output.
        training: Whether to apply dropout.
        reuse_attention_scores: The weights that the previous layer returned, `(b, h, t, s)`. It may have more heads than are
            reused; the first are taken. Required if heads are reused, ignored otherwise.
        use_causal_mask: Whether each query may attend only to keys at or before its own position.
        query_mask, value_mask, key_mask: As in `MultiHeadAttention`; the masks apply to reused weights too.
        attention_bias: As in `MultiHeadAttention`, for all heads or with a head axis of size 1. Only new heads have scores to
            which it is added.

    Returns:
        Tensor of shape `(b, t, m)`; with `return_attention_scores`, also the weights `(b, h, t, s)`: first the reused heads,
        then the new heads, so that a stack of such layers keeps reusing the heads of its first layer.

    Raises:
        ValueError: as in `MultiHeadAttention`, or if `reuse_attention` is below -1 or above `num_heads`, the reused weights are
            missing or have the wrong shape, or `use_relative_pe` is True with several attended axes.

    Example:

    >>> first, second = ReuseMultiHeadAttention(4, 8), ReuseMultiHeadAttention(4, 8, reuse_attention=3)
    >>> x, scores = first(keras.ops.ones((1, 5, 32)), keras.ops.ones((1, 5, 32)), return_attention_scores=True)
    >>> second(x, x, reuse_attention_scores=scores).shape
    TensorShape([1, 5, 32])

    Differs from the Model Garden:
        Returned weights start with the reused heads; there, the new heads come first, so that the next layer reuses those. The
        mask applies to reused weights too; there, it does not. With -1, the config holds -1, not the number of heads.
        `position_embeddings` is `(h, l)`, without a first axis of size 1, and follows the dtype policy of the layer.
        `reuse_attention=True` is an error: there, it means one head. `seed`, `attention_bias` and `use_causal_mask` are new.

    Reference:
        [Bhojanapalli et al., 2021](https://arxiv.org/abs/2110.06821).
    """

    def __init__(
        self,
        num_heads,
        key_dim,
        value_dim=None,
        dropout=0.0,
        reuse_attention=0,
        use_relative_pe=False,
        pe_max_seq_length=512,
        use_bias=True,
        output_shape=None,
        attention_axes=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        sizes = (num_heads, key_dim, value_dim, dropout, use_bias, output_shape, attention_axes)
        projection = (kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer)
        super().__init__(*sizes, *projection, activity_regularizer, kernel_constraint, bias_constraint, **kwargs)
        reuse_attention = reused_count(reuse_attention, num_heads)
        check_flags(use_relative_pe=use_relative_pe)
        check_at_least(1, pe_max_seq_length=pe_max_seq_length)
        self.reuse_attention = reuse_attention
        self.use_relative_pe = use_relative_pe
        self.pe_max_seq_length = pe_max_seq_length

    def build(self, query_shape, value_shape, key_shape=None):
        key_shape = key_shape or value_shape
        self.check_shapes(query_shape, value_shape, key_shape)
        reused, new = self.reused_heads, self.new_heads
        if new:
            self.query_dense = self.into_heads("query", self.key_dim, query_shape)
            self.key_dense = self.into_heads("key", self.key_dim, key_shape)
        if reused:
            self.value_reuse_dense = self.into_heads("value_reuse", self.value_dim, value_shape)
        if new:
            self.value_new_dense = self.into_heads("value_new", self.value_dim, value_shape)
        if reused:
            self.output_reuse_dense = self.unite("attention_output_reuse", reused, self.use_bias, query_shape)
        if new:
            # Both outputs are added, so one bias is enough.
            self.output_new_dense = self.unite("attention_output_new", new, self.use_bias and not reused, query_shape)
        if new and self.use_relative_pe:
            shape, initializer = (new, 2 * self.pe_max_seq_length - 1), keras.initializers.RandomNormal(stddev=0.2)
            self.position_embeddings = self.add_weight(name="position_embeddings", shape=shape, initializer=initializer)
        self.dropout_layer = keras.layers.Dropout(self.dropout, seed=self.seed, dtype=self.dtype_policy)

    def call(
        self,
        query,
        value,
        key=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        reuse_attention_scores=None,
        use_causal_mask=False,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_bias=None,
    ):
        x, y, z, mask, reused = query, value, value if key is None else key, attention_mask, reuse_attention_scores
        axes, several_axes = self.check_shapes(x.shape, y.shape, z.shape), len(x.shape) > 3
        padding, bias = (query_mask, value_mask, key_mask), self.bias_of_new(attention_bias)
        if self.reused_heads:
            self.check_scores(reused, query, value, axes)
        if several_axes:
            x, y, z = (sequences.to_sequence(side, axes) for side in (x, y, z))
            mask = self.to_sequence("attention_mask", mask, query, value, axes)
            padding = sequences.padding_to_sequence(padding, axes)
            bias = bias if bias is None else sequences.bias_to_sequence(bias, query, value, axes, self.num_heads)
            if self.reused_heads:
                reused = sequences.scores_to_sequence(reused, query, value, axes)

        mask = self.allowed(x, y, mask, use_causal_mask, *padding)
        weights, outputs = [], []
        if k := self.reused_heads:
            weights.append(renormalized(section(reused, 0, k, axis=1), None if mask is None else mask[:, :k]))
            outputs.append(self.output_reuse_dense(self.mix(weights[-1], self.value_reuse_dense(y), training)))
        if new := self.new_heads:
            v = self.value_new_dense(y)
            # Counted from the end, so that a mask with a head axis of size 1 keeps it.
            allowed = None if mask is None else mask[:, -new:]
            check_bias(bias, x.shape[0], self.num_heads, x.shape[1], z.shape[1])
            bias = None if bias is None else bias[:, -new:]
            heads, new_weights = attended(self.scores(x, z), allowed, lambda weights: self.mix(weights, v, training), bias)
            outputs.append(self.output_new_dense(heads))
            weights.append(new_weights)
        output = outputs[0] if len(outputs) == 1 else added_up(*outputs)

        if several_axes:
            output = sequences.from_sequence(output, query, axes)
        if not return_attention_scores:
            return output
        weights = weights[0] if len(weights) == 1 else ops.concatenate(weights, axis=1)
        return output, sequences.scores_from_sequence(weights, query, value, axes) if several_axes else weights

    def bias_of_new(self, attention_bias):
        if attention_bias is not None and not self.new_heads:
            raise ValueError("attention_bias needs new heads. Received: attention_bias in a layer that reuses all heads")
        return attention_bias

    def scores(self, query, key):
        """The scores in the second line of equation (1), before the softmax, `(b, h, t, s)`."""
        q, k = self.query_dense(query), self.key_dense(key)
        # The reference scales the scores; q has fewer numbers to scale.
        scores = ops.einsum("bthd,bshd->bhts", q * self.key_dim**-0.5, k)
        if self.use_relative_pe:
            scores = added_up(scores, self.relative_bias(ops.shape(query)[1], ops.shape(key)[1]))
        return scores

    def relative_bias(self, t, s):
        """Equation (4), `(h, t, s)`."""
        farthest = self.pe_max_seq_length - 1
        distance = ops.arange(0, s)[None, :] - ops.arange(0, t)[:, None]
        return ops.take(self.position_embeddings, farthest + ops.clip(distance, -farthest, farthest), axis=1)

    @property
    def reused_heads(self):
        return self.num_heads if self.reuse_attention == -1 else self.reuse_attention

    @property
    def new_heads(self):
        return self.num_heads - self.reused_heads

    def heads_of(self, name):
        return self.reused_heads if name == "value_reuse" else self.new_heads

    def unite(self, name, heads, use_bias, query_shape):
        """The linear map `(b, t, heads, e)` → `(b, t, m)`, or the sizes of `output_shape` in place of `m`."""
        sizes = self.output_shape or (query_shape[-1],)
        m = model_axes(len(sizes))
        shape, bias_axes = (None, *sizes), m if use_bias else None
        return self.make_projection(name, f"bthe,he{m}->bt{m}", shape, bias_axes, (None, None, heads, self.value_dim))

    def check_shapes(self, query, value, key):
        axes = super().check_shapes(query, value, key)
        if self.use_relative_pe and len(axes) > 1:
            raise ValueError(f"use_relative_pe needs a single attended axis. Received: attention_axes={axes}")
        return axes

    def check_scores(self, scores, query, value, axes):
        k = self.reused_heads
        if scores is None:
            raise ValueError(f"reuse_attention_scores must be given to reuse {k} heads. Received: reuse_attention_scores=None")
        batch = [query.shape[axis] for axis in sequences.free_axes(query, axes)]
        lengths = [side.shape[axis] for side in (query, value) for axis in axes]
        expected = (*batch, k, *lengths)
        fits = len(scores.shape) == len(expected) and all(
            size is None or wanted is None or size == wanted or (axis == len(batch) and size > k)
            for axis, (size, wanted) in enumerate(zip(known_shape(scores.shape), known_shape(expected)))
        )
        if not fits:
            raise ValueError(
                f"reuse_attention_scores must have the shape {expected}, or more than {k} heads. Received: {tuple(scores.shape)}"
            )

    def get_config(self):
        return super().get_config() | {
            "reuse_attention": self.reuse_attention,
            "use_relative_pe": self.use_relative_pe,
            "pe_max_seq_length": self.pe_max_seq_length,
        }
