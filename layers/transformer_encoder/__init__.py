"""The transformer encoder block (Keras 3)."""

import keras

from layers.attention import MultiHeadAttention
from layers.common.activations import get_activation
from layers.common.blocks import RangedBlock, first_positions, head_size, split_inputs
from layers.common.checks import interpreted
from layers.common.compatibility import OTHER_ATTENTION, garden_arguments
from layers.common.masks import of_inputs
from layers.grouped_query_attention import GroupedQueryAttention
from layers.transformer_encoder.arguments import ARGUMENTS, FORMS, RENAMED, check_arguments, own_name


@keras.saving.register_keras_serializable(package="layers")
@garden_arguments(unused=OTHER_ATTENTION)
class TransformerEncoderBlock(RangedBlock):
    """Attention and a feed-forward network, each with a residual connection and a norm.

    Computes equation (2) of `reference/transformer_encoder.py`, or equation (3) with `norm_first`, plus dropout.

    Axes: `b` batch, `t` query position, `s` key position, `h` head, `m` model size, `d` key size, `e` value size,
    `f` feed-forward size.

    Args:
        num_attention_heads: Number of heads, `h`. If it does not divide `m`, pass `key_dim`, or get a warning and `m` / `h`
            rounded down.
        inner_dim: Inner size of the feed-forward network, `f`.
        inner_activation: Its activation, by name or as a callable. "gelu" is the exact function, "gelu_tanh" its approximation.
        output_range: Number of positions, from the first, to compute. All positions still serve as keys. Defaults to all.
        use_bias: Whether the linear maps have biases.
        norm_first: Whether norms come before the sublayers. A stack of such blocks needs one more norm at its end.
        norm_epsilon: Added to the variance in both norms.
        use_rms_norm: Whether both norms are RMS norms instead of layer norms.
        output_dropout, attention_dropout, inner_dropout: Fractions dropped while training, of each sublayer's output, of the
            attention weights, and of the activation's output.
        attention_initializer: Initializer of the attention's kernels. Defaults to `kernel_initializer`.
        attention_axes: Axes of the inputs to attend over. Defaults to the axis between batch and model axis.
        use_query_residual: Whether to add `x` to the output of attention.
        key_dim, value_dim: Sizes `d` and `e`. By default, `d` is `m` / `h`, and `e` is `d`.
        output_last_dim: Size of the last axis of the output, and of attention's output. Defaults to `m`.
        diff_q_kv_att_layer_norm: Whether keys and values have their own norm. Requires `norm_first`.
        return_attention_scores: Whether to return the attention weights too.
        num_kv_heads: Number of key and value heads, each shared by several query heads. Defaults to `h`.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
            bias_constraint: As in `ProjectingLayer`, for every linear map, including those of attention.

    Call arguments:
        inputs: `x`, `[x, attention_mask]` or `[x, key_value, attention_mask]`. `x` is `(b, t, m)`. Keys and values come from
            `key_value`, `(b, s, m)`. The mask is nonzero where attention is allowed, `(b, t, s)` or `(b, h, t, s)`.
        output_range: Overrides the constructor's.
        training: Whether to apply dropout.
        mask, inputs_mask: Padding masks of the inputs, a mask of `x` or a list as long as `inputs`. Keras fills one of the two in
            from the masks of the inputs; see `layers/common/masks.py`.
        attention_bias: Added to the scores of attention, such as the output of `RelativePositionBias`; broadcastable to
            `(b, h, t, s)`.

    Returns:
        Tensor of shape `(b, t, m)`; with `return_attention_scores`, also the attention weights `(b, h, t, s)`.

    Raises:
        ValueError: if a size is below 1, a rate is outside [0, 1), `norm_epsilon` is negative or not finite, `h` exceeds `m` and
            `key_dim` is None, the activation is unknown, `output_range` exceeds the length, `output_last_dim` differs
            from `m` although `use_query_residual` is True, or the shapes of inputs and mask do not fit together.

    Example:

    >>> block = TransformerEncoderBlock(num_attention_heads=2, inner_dim=16, inner_activation="gelu")
    >>> block(keras.ops.ones((1, 3, 8))).shape
    TensorShape([1, 3, 8])

    Differs from the Model Garden:
        `output_dropout` applies to the output of attention too; there, `attention_dropout` does. Regularizers apply to every
        linear map, `use_rms_norm` to both norms. With `diff_q_kv_att_layer_norm`, keys have their own norm even if they come
        from `x`. "gelu" is exact. An `output_range` of 0 is an error. Residual sums are not cast to float32. Block-sparse,
        sigmoid and low-rank attention are other mechanisms: `src_block_size`, `tgt_block_size`, `use_sigmoid_attn`,
        `sigmoid_attn_bias`, `linformer_dim` and `linformer_shared_kv_projection` are accepted where they switch these off.
        `attention_bias` is new.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.1;
        [Xiong et al., 2020](https://arxiv.org/abs/2002.04745), section 3.
    """

    def __init__(
        self,
        num_attention_heads,
        inner_dim,
        inner_activation,
        output_range=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        use_bias=True,
        norm_first=False,
        norm_epsilon=1e-12,
        use_rms_norm=False,
        output_dropout=0.0,
        attention_dropout=0.0,
        inner_dropout=0.0,
        attention_initializer=None,
        attention_axes=None,
        use_query_residual=True,
        key_dim=None,
        value_dim=None,
        output_last_dim=None,
        diff_q_kv_att_layer_norm=False,
        return_attention_scores=False,
        num_kv_heads=None,
        **kwargs,
    ):
        projection = (kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer)
        super().__init__(*projection, activity_regularizer, kernel_constraint, bias_constraint, **kwargs)
        self.num_attention_heads = num_attention_heads
        self.inner_dim = inner_dim
        self.inner_activation = get_activation(own_name(self, "inner_activation"), inner_activation)
        self.output_range = output_range
        self.use_bias = use_bias
        self.norm_first = norm_first
        self.norm_epsilon = norm_epsilon
        self.use_rms_norm = use_rms_norm
        self.output_dropout = output_dropout
        self.attention_dropout = attention_dropout
        self.inner_dropout = inner_dropout
        [self.attention_initializer] = interpreted(keras.initializers.get, attention_initializer=attention_initializer)
        self.attention_axes = attention_axes
        self.use_query_residual = use_query_residual
        self.key_dim = key_dim
        self.value_dim = value_dim
        self.output_last_dim = output_last_dim
        self.diff_q_kv_att_layer_norm = diff_q_kv_att_layer_norm
        self.return_attention_scores = return_attention_scores
        self.num_kv_heads = num_kv_heads
        check_arguments(self)

    def build(self, input_shape):
        x_shape, key_value_shape, _ = split_inputs(input_shape, FORMS)
        m, size = x_shape[-1], self.output_last_dim or x_shape[-1]
        if self.use_query_residual and size != m:
            raise ValueError(f"output_last_dim must be {m}, unless use_query_residual=False. Received: output_last_dim={size}")
        self.self_attention_norm = self.make_norm("self_attention_layer_norm", m if self.norm_first else size)
        if self.diff_q_kv_att_layer_norm:
            self.key_value_norm = self.make_norm("self_attention_layer_norm_kv", (key_value_shape or x_shape)[-1])
        self.self_attention = self.make_attention(
            *("self_attention", GroupedQueryAttention if self.num_kv_heads else MultiHeadAttention),
            key_dim=head_size(m, self.num_attention_heads, self.key_dim, rounds=True),
            value_dim=self.value_dim,
            dropout=self.attention_dropout,
            output_shape=size,
            attention_axes=self.attention_axes,
            **({"num_kv_heads": self.num_kv_heads} if self.num_kv_heads else {}),
        )
        self.self_attention.build(x_shape, key_value_shape or x_shape)
        self.attention_dropout_layer = self.make_dropout(self.output_dropout)
        self.make_feed_forward(size, self.inner_dim, self.inner_activation, self.inner_dropout, self.output_dropout)
        self.output_norm = self.make_norm("output_layer_norm", size)

    def call(self, inputs, output_range=None, training=None, mask=None, inputs_mask=None, attention_bias=None):
        x, key_value, attention_mask = split_inputs(inputs, FORMS)
        tokens, key_tokens, _ = of_inputs(FORMS, mask, inputs_mask)
        key_tokens = tokens if key_value is None else key_tokens
        normed, key_value = self.before_attention(x, x if key_value is None else key_value)
        count = self.positions(output_range)
        x, normed, attention_mask, tokens, bias = first_positions(count, x, normed, attention_mask, tokens, attention_bias)

        masks = {"attention_mask": attention_mask, "query_mask": tokens, "value_mask": key_tokens, "attention_bias": bias}
        added, scores = self.self_attention(normed, key_value, return_attention_scores=True, training=training, **masks)
        z = self.after_attention(x, added, training)
        return (z, scores) if self.return_attention_scores else z

    def get_config(self):
        config = {name: getattr(self, name) for name in ARGUMENTS}
        config["inner_activation"] = keras.activations.serialize(self.inner_activation)
        config["attention_initializer"] = keras.initializers.serialize(self.attention_initializer)
        return super().get_config() | config


@keras.saving.register_keras_serializable(package="layers")
class Transformer(TransformerEncoderBlock):
    """The encoder block with the argument names of the original BERT code.

    Computes equation (2) or (3) of `reference/transformer_encoder.py`.

    Args:
        intermediate_size, intermediate_activation, dropout_rate, attention_dropout_rate, intermediate_dropout: In this order,
            inner_dim, inner_activation, output_dropout, attention_dropout and inner_dropout of `TransformerEncoderBlock`.
        num_attention_heads, **kwargs: The other arguments of `TransformerEncoderBlock`, with the same names.

    Call arguments:
        inputs, output_range, training, mask, inputs_mask, attention_bias: As in `TransformerEncoderBlock`. Weights and errors are
            the same too.

    Returns:
        As in `TransformerEncoderBlock`.

    Example:

    >>> block = Transformer(num_attention_heads=2, intermediate_size=16, intermediate_activation="relu")
    >>> block([keras.ops.ones((1, 3, 8)), keras.ops.ones((1, 3, 3))]).shape
    TensorShape([1, 3, 8])

    Differs from the Model Garden:
        As in `TransformerEncoderBlock`, whose `inner_dim`, `inner_activation`, `output_dropout`, `attention_dropout` and
        `inner_dropout` are only known by the names above. `attention_bias` is new.
    """

    renamed_arguments = RENAMED

    def __init__(
        self,
        num_attention_heads,
        intermediate_size,
        intermediate_activation,
        dropout_rate=0.0,
        attention_dropout_rate=0.0,
        output_range=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        use_bias=True,
        norm_first=False,
        norm_epsilon=1e-12,
        intermediate_dropout=0.0,
        attention_initializer=None,
        **kwargs,
    ):
        super().__init__(
            *(num_attention_heads, intermediate_size, intermediate_activation, output_range),
            *(kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer),
            *(activity_regularizer, kernel_constraint, bias_constraint, use_bias, norm_first, norm_epsilon),
            output_dropout=dropout_rate,
            attention_dropout=attention_dropout_rate,
            inner_dropout=intermediate_dropout,
            attention_initializer=attention_initializer,
            **kwargs,
        )
        for there, here in RENAMED.items():
            setattr(self, here, getattr(self, there))

    def get_config(self):
        return {RENAMED.get(name, name): value for name, value in super().get_config().items()}
