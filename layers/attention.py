"""Multi-head scaled dot-product attention (Keras 3)."""

import keras
from keras import ops

from layers.common import sequences
from layers.common.checks import (
    check_at_least,
    check_axes,
    check_flags,
    check_rate,
    check_same,
    check_seed,
    check_sizes,
)
from layers.common.compatibility import garden_arguments
from layers.common.masks import check_bias, over_heads, tokens_only
from layers.common.projection import ProjectingLayer, model_axes
from layers.masked_softmax import attended


@keras.saving.register_keras_serializable(package="layers")
@garden_arguments(unused={"softmax_robust_masking": (False, True)})
class MultiHeadAttention(ProjectingLayer):
    """Multi-head scaled dot-product attention.

    Computes equation (2) of `reference/attention.py`, plus dropout on the attention weights. Weights have the names and shapes of
    `keras.layers.MultiHeadAttention`, so they can be copied both ways.

    Axes: `b` batch, `t` query position, `s` key position, `h` head, `m` model size, `d` key size, `e` value size.

    Args:
        num_heads: Number of attention heads, `h`.
        key_dim: Size of each query and key, `d`.
        value_dim: Size of each value, `e`. Defaults to `key_dim`.
        dropout: Fraction of the attention weights dropped while training.
        use_bias: Whether the projections have biases.
        output_shape: Size of the last axis of the output, or a tuple of sizes of its last axes. Defaults to the `m` of the query.
        attention_axes: Axes of the inputs to attend over, as one sequence. By default, each call attends over all
            axes between batch and model axis.
        seed: Seed of the dropout. Defaults to a random seed.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
            bias_constraint: For the kernels, biases and outputs of the four projections, with the same meaning and defaults as
            in `keras.layers.Dense`.

    Call arguments:
        query: Tensor of shape `(b, t, m)`.
        value: Tensor of shape `(b, s, m)`; `m` may differ from the query's.
        key: Tensor of shape `(b, s, m)`; `m` may differ from both. Defaults to `value`.
        attention_mask: Nonzero where attention is allowed; `(b, t, s)`, or broadcastable to `(b, h, t, s)`; or `(t, s)`, unless
            that could be `(b, s)`. A query with no
            allowed key gets the zero vector before the output projection. For inputs with more than 3 axes, the mask ends with
            the attended axes of the query and those of the keys, and starts with the batch axis, with all batch axes (those that
            are not attended), or with these and a head axis.
        return_attention_scores: Whether to return the weights too, before dropout. Does not change the output.
        training: Whether to apply dropout.
        use_causal_mask: Whether each query may attend only to keys at or before its own position.
        query_mask, value_mask, key_mask: Nonzero at tokens and zero at padding, of the shapes of their tensors without the last
            axis. Keras fills them in from the masks of the inputs; see `layers/common/masks.py`.
        attention_bias: Added to the scores, such as the output of `RelativePositionBias`; broadcastable to `(b, h, t, s)`. For
            inputs with more than 3 axes, its axes are those of the returned weights.

    Returns:
        Tensor of shape `(b, t, m)`; with `return_attention_scores`, also the attention weights `(b, h, t, s)`.

    Raises:
        ValueError: if a size is below 1, `dropout` is outside [0, 1), `attention_axes` contains an axis twice or an axis that is
            not between batch and model axis, the shapes of the inputs do not fit together, or the mask does not broadcast.

    Example:

    >>> layer = MultiHeadAttention(num_heads=2, key_dim=4)
    >>> layer(keras.ops.ones((1, 3, 8)), keras.ops.ones((1, 5, 8))).shape
    TensorShape([1, 3, 8])

    Differs from the Model Garden:
        A query with no allowed key gets zeros, not the mean of the values (or NaN in float16), with or without
        `return_attention_scores`. The mask is boolean: there, a mask value of 2 increases the score. A mask `(t, s)` is an error
        if there are as many examples as queries: write `mask[None]`. `attention_bias` and `seed` are new.
        `softmax_robust_masking` may be given, and is always the case. Private hooks such as `_build_from_signature` do not exist.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.2.
    """

    required_tensors = ("query", "value", "content_stream")

    def __init__(
        self,
        num_heads,
        key_dim,
        value_dim=None,
        dropout=0.0,
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
        *,
        seed=None,
        **kwargs,
    ):
        projection = (kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer)
        super().__init__(*projection, activity_regularizer, kernel_constraint, bias_constraint, **kwargs)
        value_dim = key_dim if value_dim is None else value_dim
        check_at_least(1, num_heads=num_heads, key_dim=key_dim, value_dim=value_dim)
        check_rate(dropout=dropout)
        check_flags(use_bias=use_bias)
        check_sizes(output_shape=output_shape)
        check_seed(seed)
        check_axes(attention_axes=attention_axes)
        self.num_heads = num_heads
        self.key_dim = key_dim
        self.value_dim = value_dim
        self.dropout = dropout
        self.use_bias = use_bias
        self.output_shape = (output_shape,) if isinstance(output_shape, int) else output_shape and tuple(output_shape)
        self.attention_axes = (attention_axes,) if isinstance(attention_axes, int) else attention_axes and tuple(attention_axes)
        self.seed = seed

    def build(self, query_shape, value_shape, key_shape=None):
        self.check_shapes(query_shape, value_shape, key_shape or value_shape)
        h, d, e = self.num_heads, self.key_dim, self.value_dim
        self.query_dense = self.into_heads("query", d, query_shape)
        self.key_dense = self.into_heads("key", d, key_shape or value_shape)
        self.value_dense = self.into_heads("value", e, value_shape)
        sizes = self.output_shape or (query_shape[-1],)
        self.output_dense = self.out_of_heads("attention_output", sizes, (None, None, h, e))
        self.dropout_layer = keras.layers.Dropout(self.dropout, seed=self.seed, dtype=self.dtype_policy)

    def call(
        self,
        query,
        value,
        key=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_bias=None,
    ):
        axes = self.check_shapes(query.shape, value.shape, value.shape if key is None else key.shape)
        x, y, mask, several_axes = query, value, attention_mask, len(query.shape) > 3
        padding, bias = (query_mask, value_mask, key_mask), attention_bias
        if several_axes:
            x, y = (sequences.to_sequence(side, axes) for side in (query, value))
            key = key if key is None else sequences.to_sequence(key, axes)
            mask = self.to_sequence("attention_mask", mask, query, value, axes)
            padding = sequences.padding_to_sequence(padding, axes)
            bias = bias if bias is None else sequences.bias_to_sequence(bias, query, value, axes, self.num_heads)

        q = self.query_dense(x)
        k = self.key_dense(y if key is None else key)
        v = self.value_dense(y)
        heads, weights = self.attend(q, k, v, self.allowed(q, k, mask, use_causal_mask, *padding), training, bias)
        output = self.output_dense(heads)

        if several_axes:
            output = sequences.from_sequence(output, query, axes)
            weights = sequences.scores_from_sequence(weights, query, value, axes)
        return (output, weights) if return_attention_scores else output

    def attend(self, q, k, v, mask, training, bias=None):
        """Equation (1), or (3) with a bias: the heads `(b, t, h, e)` and the weights `(b, h, t, s)`."""
        check_bias(bias, q.shape[0], self.num_heads, q.shape[1], k.shape[1])
        # The reference divides the scores by √d. Scaling q instead is cheaper, because q has fewer numbers.
        scores = ops.einsum("bthd,bshd->bhts", q * self.key_dim**-0.5, k)
        return attended(scores, mask, lambda weights: self.mix(weights, v, training), bias)

    def mix(self, weights, v, training):
        """Sums of the values, weighted by the attention weights after dropout: the heads `(b, t, h, e)`."""
        return ops.einsum("bhts,bshe->bthe", self.dropout_layer(weights, training=training), v)

    def allowed(self, q, k, attention_mask, use_causal_mask=False, *padding):
        """The attention mask, the causal mask and the padding as one boolean mask that broadcasts to `(b, h, t, s)`, or None.

        `padding` is `(query_mask, value_mask, key_mask)`, as in `call`.
        """
        mask = None
        if attention_mask is not None:
            mask = over_heads(attention_mask, q.shape[0], self.num_heads, q.shape[1], k.shape[1])
        if use_causal_mask:
            causal = ops.arange(0, ops.shape(k)[1])[None, :] <= ops.arange(0, ops.shape(q)[1])[:, None]
            mask = causal[None, None] if mask is None else ops.logical_and(mask, causal)
        return tokens_only(mask, q.shape[1], k.shape[1], *padding)

    def to_sequence(self, name, mask, query, value, axes):
        """The argument `name`, a mask over several axes, as `(b, h or 1, t, s)` of the flattened sequences; None without it."""
        return mask if mask is None else sequences.mask_to_sequence(name, mask, query, value, axes, self.num_heads)

    def into_heads(self, name, size, input_shape):
        """The linear map `(b, t, m)` → `(b, t, h, size)`."""
        shape, bias_axes = (None, self.heads_of(name), size), "hd" if self.use_bias else None
        return self.make_projection(name, "btm,mhd->bthd", shape, bias_axes, (None, None, input_shape[-1]))

    def heads_of(self, name):
        """The number of heads of the linear map named `name`."""
        return self.num_heads

    def out_of_heads(self, name, sizes, input_shape):
        """The linear map `(b, t, h, e)` → `(b, t, *sizes)`."""
        m = model_axes(len(sizes))
        return self.make_projection(name, f"bthe,he{m}->bt{m}", (None, *sizes), m if self.use_bias else None, input_shape)

    def check_shapes(self, query, value, key):
        """The attended axes of inputs of these shapes, by default all between batch and model axis.

        Raises:
            ValueError: if the shapes do not fit together, or do not have the attended axes.
        """
        rank = len(query)
        for name, shape in (("query", query), ("value", value), ("key", key)):
            if len(shape) != rank or rank < 3:
                raise ValueError(
                    f"{name} must have 3 axes (or more, the same number in all inputs). Received: {name} of shape {tuple(shape)}"
                )
        axes = sequences.normalized(self.attention_axes, rank)
        check_same("shape but for the last axis", key=tuple(key[:-1]), value=tuple(value[:-1]))
        for axis in range(rank - 1):
            if axis not in axes:
                check_same(f"size of axis {axis}", query=query[axis], value=value[axis])
        return axes

    def get_config(self):
        return super().get_config() | {
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "output_shape": self.output_shape,
            "attention_axes": self.attention_axes,
            "seed": self.seed,
        }
