"""The ReZero transformer block (Keras 3)."""

import keras
from keras import ops

from layers.attention import MultiHeadAttention
from layers.common.activations import get_activation
from layers.common.blocks import RangedBlock, first_positions, head_size, split_inputs
from layers.common.checks import check_at_least, check_flags, check_rate
from layers.common.compatibility import OTHER_ATTENTION, garden_arguments
from layers.common.masks import of_inputs
from layers.common.sums import added_up
from layers.transformer_encoder import FORMS

GARDEN_NAMES = {
    "intermediate_size": "inner_dim",
    "intermediate_activation": "inner_activation",
    "output_dropout": "dropout_rate",
    "attention_dropout": "attention_dropout_rate",
}


@keras.saving.register_keras_serializable(package="layers")
@garden_arguments(GARDEN_NAMES, {"num_kv_heads": (None,)} | OTHER_ATTENTION)
class ReZeroTransformer(RangedBlock):
    """Attention and a feed-forward network, each multiplied by a weight α that starts at 0, then added to its input.

    Computes equation (2) of `reference/rezero_transformer.py`, plus dropout. A new block is the identity; while α is 0, it is
    the only weight with a nonzero gradient. Weight decay pulls α toward 0. To avoid that, call
    `optimizer.exclude_from_weight_decay(var_names=["rezero_alpha"])`.

    Axes: `b` batch, `t` query position, `s` key position, `h` head, `m` model size, `f` feed-forward size.

    Args:
        num_attention_heads: Number of heads, `h`. It must divide `m`.
        inner_dim: Inner size of the feed-forward network, `f`.
        inner_activation: Activation of the feed-forward network, by name or as a callable. "gelu" is the exact function,
            "gelu_tanh" its approximation.
        dropout_rate: Fraction of each sublayer's output dropped while training.
        attention_dropout_rate: Fraction of attention weights dropped while training.
        output_range: Number of positions, from the first, to compute. All positions still serve as keys. Defaults to all.
        use_layer_norm: Whether to normalize after each sum, with an epsilon of 1e-12. A new block is then two norms instead of
            the identity.
        share_rezero: Whether both sublayers share one α. If False, the feed-forward network has its own.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
            bias_constraint: As in `ProjectingLayer`, for every linear map, including those of attention, but not for α.

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
        Tensor of shape `(b, t, m)` in the compute dtype.

    Raises:
        ValueError: if a size is below 1, a rate is outside [0, 1), `num_attention_heads` does not divide `m`, the activation is
            unknown, `output_range` exceeds the length, or the shapes of inputs and mask do not fit together.

    Example:

    >>> block, x = ReZeroTransformer(num_attention_heads=2, inner_dim=16), keras.ops.arange(24.0)
    >>> x = keras.ops.reshape(x, (1, 3, 8))
    >>> bool(keras.ops.all(block(x) == x))
    True

    Differs from the Model Garden:
        The output has the compute dtype; there, it is float32 unless `use_layer_norm`. An `output_range` of 0 is an error;
        there, it means all positions. "gelu" is exact, not the tanh approximation. Regularizers apply to every linear map.
        Grouped, block-sparse, sigmoid and low-rank attention are other mechanisms: `num_kv_heads`, `src_block_size`,
        `tgt_block_size`, `use_sigmoid_attn`, `sigmoid_attn_bias`, `linformer_dim` and `linformer_shared_kv_projection` are
        accepted where they switch these off. The argument names of the encoder block, such as `intermediate_size`, work too.
        `attention_bias` is new.

    Reference:
        [Bachlechner et al., 2020](https://arxiv.org/abs/2003.04887), section 5.
    """

    def __init__(
        self,
        num_attention_heads,
        inner_dim=768,
        inner_activation="gelu",
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
        use_layer_norm=False,
        share_rezero=True,
        **kwargs,
    ):
        projection = (kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer)
        super().__init__(*projection, activity_regularizer, kernel_constraint, bias_constraint, **kwargs)
        check_at_least(1, num_attention_heads=num_attention_heads, inner_dim=inner_dim)
        check_at_least(1, **({} if output_range is None else {"output_range": output_range}))
        check_rate(dropout_rate=dropout_rate, attention_dropout_rate=attention_dropout_rate)
        check_flags(use_layer_norm=use_layer_norm, share_rezero=share_rezero)
        self.num_attention_heads = num_attention_heads
        self.inner_dim = inner_dim
        self.inner_activation = get_activation("inner_activation", inner_activation)
        self.dropout_rate = dropout_rate
        self.attention_dropout_rate = attention_dropout_rate
        self.output_range = output_range
        self.use_layer_norm = use_layer_norm
        self.share_rezero = share_rezero

    def build(self, input_shape):
        x_shape, key_value_shape, _ = split_inputs(input_shape, FORMS)
        m = x_shape[-1]
        self.self_attention = self.make_attention(
            *("self_attention", MultiHeadAttention),
            key_dim=head_size(m, self.num_attention_heads),
            dropout=self.attention_dropout_rate,
        )
        self.self_attention.build(x_shape, key_value_shape or x_shape)
        self.attention_dropout_layer = self.make_dropout(self.dropout_rate)
        self.make_feed_forward(m, self.inner_dim, self.inner_activation, 0.0, self.dropout_rate)
        self.rezero_alpha = self.add_weight(name="rezero_alpha", shape=(), initializer="zeros")
        if not self.share_rezero:
            self.rezero_alpha_ffn = self.add_weight(name="rezero_alpha_ffn", shape=(), initializer="zeros")
        if self.use_layer_norm:
            self.self_attention_norm = self.make_norm("self_attention_layer_norm", m)
            self.output_norm = self.make_norm("output_layer_norm", m)

    def call(self, inputs, output_range=None, training=None, mask=None, inputs_mask=None, attention_bias=None):
        x, key_value, attention_mask = split_inputs(inputs, FORMS)
        tokens, key_tokens, _ = of_inputs(FORMS, mask, inputs_mask)
        key_value, key_tokens = (x, tokens) if key_value is None else (key_value, key_tokens)
        count = self.positions(output_range)
        x, _, attention_mask, tokens, bias = first_positions(count, x, x, attention_mask, tokens, attention_bias)
        alpha, alpha_ffn = (ops.cast(alpha, self.compute_dtype) for alpha in self.alphas)

        masks = {"attention_mask": attention_mask, "query_mask": tokens, "value_mask": key_tokens, "attention_bias": bias}
        added = self.self_attention(x, key_value, training=training, **masks)
        y = added_up(x, ops.multiply(alpha, self.attention_dropout_layer(added, training=training)))
        if self.use_layer_norm:
            y = self.self_attention_norm(y)
        z = added_up(y, ops.multiply(alpha_ffn, self.feed_forward(y, training)))
        return self.output_norm(z) if self.use_layer_norm else z

    @property
    def alphas(self):
        """The factors of attention and of the feed-forward network."""
        return self.rezero_alpha, self.rezero_alpha if self.share_rezero else self.rezero_alpha_ffn

    def reset_rezero(self):
        """Set every α back to 0. The block must be built."""
        if not self.built:
            raise ValueError("the block must be built before reset_rezero: call or build it first. Received: built=False")
        for alpha in self.alphas:
            alpha.assign(0.0)

    def get_config(self):
        return super().get_config() | {
            "num_attention_heads": self.num_attention_heads,
            "inner_dim": self.inner_dim,
            "inner_activation": keras.activations.serialize(self.inner_activation),
            "dropout_rate": self.dropout_rate,
            "attention_dropout_rate": self.attention_dropout_rate,
            "output_range": self.output_range,
            "use_layer_norm": self.use_layer_norm,
            "share_rezero": self.share_rezero,
        }
