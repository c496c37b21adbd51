"""A decoder block without a memory: causal self-attention and a feed-forward network (Keras 3)."""

import keras
from keras import ops

from layers.cached_attention import CachedAttention
from layers.common.blocks import BlockLayer, head_size


@keras.saving.register_keras_serializable(package="layers")
class CausalBlock(BlockLayer):
    """One block of `TransformerDecoder`, with its arguments. Computes equation (4) of `reference/transformer_decoder/`."""

    def __init__(
        self,
        num_attention_heads,
        intermediate_size,
        intermediate_activation,
        dropout_rate,
        attention_dropout_rate,
        intermediate_dropout,
        use_bias,
        norm_first,
        norm_epsilon,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.intermediate_activation = intermediate_activation
        self.dropout_rate = dropout_rate
        self.attention_dropout_rate = attention_dropout_rate
        self.intermediate_dropout = intermediate_dropout
        self.use_bias = use_bias
        self.norm_first = norm_first
        self.norm_epsilon = norm_epsilon

    def build(self, x_shape):
        m = x_shape[-1]
        options = {"key_dim": head_size(m, self.num_attention_heads), "dropout": self.attention_dropout_rate}
        self.self_attention = self.make_attention("self_attention", CachedAttention, **options)
        self.self_attention.build(x_shape, x_shape)
        self.self_attention_norm = self.make_norm("self_attention_layer_norm", m)
        self.attention_dropout_layer = self.make_dropout(self.dropout_rate)
        rates = self.intermediate_dropout, self.dropout_rate
        self.make_feed_forward(m, self.intermediate_size, self.intermediate_activation, *rates)
        self.output_norm = self.make_norm("output_layer_norm", m)

    def call(self, x, attention_mask=None, cache=None, decode_loop_step=None, training=None):
        own = self.self_attention_norm(x) if self.norm_first else x
        options = {"attention_mask": attention_mask, "cache": cache, "decode_loop_step": decode_loop_step}
        added, cache = self.self_attention(own, own, **options, training=training)
        return self.after_attention(x, added, training), cache


def causal(x, mask):
    """The causal mask of `x`, `(b, t, ...)`, combined with `mask` if it is given."""
    place = ops.arange(0, ops.shape(x)[1])
    up_to_itself = ops.expand_dims(place[None, :] <= place[:, None], 0)
    if mask is None:
        return up_to_itself
    return ops.logical_and(ops.cast(mask, "bool"), up_to_itself)
