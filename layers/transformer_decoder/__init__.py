"""The transformer decoder block (Keras 3)."""

import keras

from layers.attention import MultiHeadAttention
from layers.cached_attention import CachedAttention
from layers.common.activations import get_activation
from layers.common.blocks import BlockLayer, head_size
from layers.common.checks import (
    check_at_least,
    check_broadcastable,
    check_epsilon,
    check_flags,
    check_rank,
    check_rate,
    check_same,
    interpreted,
)
from layers.common.masks import accepted, of_inputs
from layers.common.output_shapes import appended_spec
from layers.common.sums import added_up
from layers.multi_channel_attention import MultiChannelAttention
from layers.transformer_decoder.causal_block import causal
from layers.transformer_decoder.parts import FORMS, attend, attention_class, built, check_built, check_self_mask, parts_of


@keras.saving.register_keras_serializable(package="layers")
class TransformerDecoderBlock(BlockLayer):
    """Causal self-attention, attention to a memory, and a feed-forward network, each with a residual connection and a norm.

    Computes equation (1) of `reference/transformer_decoder/`, or equation (2) with `norm_first`, plus dropout. Self-attention
    is always causal: no mask is needed to keep a token from attending to later tokens.

    Axes: `b` batch, `t` query position, `s` key position, `h` head, `a` channel, `m` model size, `d` key size,
    `f` feed-forward size.

    Args:
        num_attention_heads: Number of heads, `h`, of both attentions. It must divide `m`.
        intermediate_size: Inner size of the feed-forward network, `f`.
        intermediate_activation: Activation of the feed-forward network, by name or as a callable. "gelu" is the exact function,
            "gelu_tanh" its approximation.
        dropout_rate: Fraction of each of the three sublayers' outputs dropped while training.
        attention_dropout_rate: Fraction of the weights of both attentions dropped while training.
        multi_channel_cross_attention: Whether the memory has channels, weighted by `input_doc_probs`.
        use_bias: Whether the linear maps have biases.
        norm_first: Whether norms come before the sublayers. A stack of such blocks needs one more norm at its end.
        norm_epsilon: Added to the variance in all norms.
        intermediate_dropout: Fraction of the activation's output dropped while training.
        attention_initializer: Initializer of the kernels of both attentions. Defaults to `kernel_initializer`.
        self_attention_cls: Class of the self-attention, with the arguments of `CachedAttention`, the default; or the name under
            which the class is registered with Keras. A saved model holds that name. Only a Keras layer is built with the block,
            gets `training`, and has its weights among those of the block.
        cross_attention_cls: The same for the attention to the memory, with the arguments of `MultiHeadAttention`, the default,
            or with channels of `MultiChannelAttention`.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
            bias_constraint: As in `ProjectingLayer`, for every linear map, including those of attention.

    Call arguments:
        inputs: `[x, memory, cross_mask, self_mask]`, of which the masks may be None or omitted from the end. With
            `multi_channel_cross_attention`, `[x, memory, cross_mask, self_mask, input_doc_probs]`.
            x: Tensor of shape `(b, t, m)`; with a cache, only the new tokens.
            memory: Tensor of shape `(b, s, m)`, or `(b, a, s, m)` with channels; `m` may differ from that of `x`.
            cross_mask: Nonzero where attention to the memory is allowed; `(b, t, s)`, or broadcastable to `(b, h, t, s)`; with
                channels, broadcastable to `(b, a, t, s)`.
            self_mask: The same for self-attention, over all keys of the new cache. It applies in addition to the causal mask.
            input_doc_probs: The weight of each channel, broadcastable to `(b, h, t, a)`.
        cache: Keys and values of earlier tokens, from `init_cache` or a previous call, as in `CachedAttention`. Without a cache,
            `x` holds all tokens.
        decode_loop_step: Slot of the cache for the first new token, as in `CachedAttention`.
        training: Whether to apply dropout.
        mask, inputs_mask: Padding masks of the inputs, a list as long as `inputs`; only those of `x` and `memory` count. Keras
            fills one of the two in from the masks of the inputs; see `layers/common/masks.py`.
        attention_bias: Added to the scores of self-attention, such as the output of `RelativePositionBias`; broadcastable to
            `(b, h, t, s)`, over all keys of the new cache.

    Returns:
        `(output, cache)`: a tensor of shape `(b, t, m)`, and the self-attention's keys and values for the next call.

    Raises:
        ValueError: if a size is below 1, a rate is outside [0, 1), `norm_epsilon` is negative or not finite, `h` does not divide
            `m`, an activation or class is unknown, or the shapes of inputs, masks and cache do not fit together.

    Example:

    >>> block = TransformerDecoderBlock(num_attention_heads=2, intermediate_size=16, intermediate_activation="relu")
    >>> output, cache = block([keras.ops.ones((1, 3, 8)), keras.ops.ones((1, 5, 8))])
    >>> output.shape, cache["key"].shape
    (TensorShape([1, 3, 8]), TensorShape([1, 3, 2, 4]))

    Differs from the Model Garden:
        The block is causal whatever `self_mask` allows; there, without that mask, the model trains on the tokens that it should
        predict. The cache is that of `CachedAttention`: a new one is returned, and empty slots are never attended to.
        Regularizers and dropout apply to every sublayer. Unused sublayers are not built. "gelu" is exact, not the tanh
        approximation. As in `CachedAttention`, a cache is returned even if none is given. `attention_bias` is new.

    Reference:
        [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.1;
        [Xiong et al., 2020](https://arxiv.org/abs/2002.04745), section 3.
    """

    def __init__(
        self,
        num_attention_heads,
        intermediate_size,
        intermediate_activation,
        dropout_rate=0.0,
        attention_dropout_rate=0.0,
        multi_channel_cross_attention=False,
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
        self_attention_cls=None,
        cross_attention_cls=None,
        **kwargs,
    ):
        projection = (kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer)
        super().__init__(*projection, activity_regularizer, kernel_constraint, bias_constraint, **kwargs)
        check_at_least(1, num_attention_heads=num_attention_heads, intermediate_size=intermediate_size)
        rates = {"dropout_rate": dropout_rate, "attention_dropout_rate": attention_dropout_rate}
        check_rate(**rates, intermediate_dropout=intermediate_dropout)
        check_flags(multi_channel_cross_attention=multi_channel_cross_attention, use_bias=use_bias, norm_first=norm_first)
        check_epsilon(norm_epsilon=norm_epsilon)
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.intermediate_activation = get_activation("intermediate_activation", intermediate_activation)
        self.dropout_rate = dropout_rate
        self.attention_dropout_rate = attention_dropout_rate
        self.multi_channel_cross_attention = multi_channel_cross_attention
        self.use_bias = use_bias
        self.norm_first = norm_first
        self.norm_epsilon = norm_epsilon
        self.intermediate_dropout = intermediate_dropout
        [self.attention_initializer] = interpreted(keras.initializers.get, attention_initializer=attention_initializer)
        self.self_attention_cls = attention_class("self_attention_cls", self_attention_cls)
        self.cross_attention_cls = attention_class("cross_attention_cls", cross_attention_cls)

    def build(self, input_shape):
        x_shape, memory_shape, *_ = parts_of(input_shape)
        m = x_shape[-1]
        cross = MultiChannelAttention if self.multi_channel_cross_attention else MultiHeadAttention
        options = {"key_dim": head_size(m, self.num_attention_heads), "dropout": self.attention_dropout_rate}
        own = self.make_attention("self_attention", self.self_attention_cls or CachedAttention, **options)
        self.self_attention = built(own, x_shape, x_shape)
        other = self.make_attention("encdec_attention", self.cross_attention_cls or cross, **options)
        self.encdec_attention = built(other, x_shape, memory_shape)
        self.self_attention_norm = self.make_norm("self_attention_layer_norm", m)
        self.encdec_attention_norm = self.make_norm("encdec_attention_layer_norm", m)
        self.output_norm = self.make_norm("output_layer_norm", m)
        self.self_attention_dropout = self.make_dropout(self.dropout_rate)
        self.encdec_attention_dropout = self.make_dropout(self.dropout_rate)
        rates = self.intermediate_dropout, self.dropout_rate
        self.make_feed_forward(m, self.intermediate_size, self.intermediate_activation, *rates)

    def call(self, inputs, cache=None, decode_loop_step=None, training=None, mask=None, inputs_mask=None, attention_bias=None):
        x, memory, cross_mask, self_mask, w = parts_of(inputs)
        tokens, memory_tokens, *_ = of_inputs(FORMS, mask, inputs_mask)
        self.check_inputs(x, memory, cross_mask, w)
        check_self_mask(self.num_attention_heads, x, self_mask, cache, decode_loop_step)
        if cache is None:
            self_mask = causal(x, self_mask)  # with a cache, the self-attention masks later keys itself

        own = self.before(self.self_attention_norm, x)
        masks = {} if attention_bias is None else {"attention_bias": attention_bias}
        masks |= {"attention_mask": self_mask} | accepted(self.self_attention, query_mask=tokens, value_mask=tokens)
        options = {"cache": cache, "decode_loop_step": decode_loop_step}
        added, cache = attend(self.self_attention, own, own, training, **options, **masks)
        y = self.after(self.self_attention_norm, added_up(x, self.self_attention_dropout(added, training=training)))

        channels = {"context_attention_weights": w} if self.multi_channel_cross_attention else {}
        query = self.before(self.encdec_attention_norm, y)
        masks = {"attention_mask": cross_mask} | accepted(self.encdec_attention, query_mask=tokens, value_mask=memory_tokens)
        added = attend(self.encdec_attention, query, memory, training, **masks, **channels)
        z = self.after(self.encdec_attention_norm, added_up(y, self.encdec_attention_dropout(added, training=training)))

        added = self.feed_forward(self.before(self.output_norm, z), training)
        return self.after(self.output_norm, added_up(z, added)), cache

    def untraced_spec(self, inputs, cache=None, decode_loop_step=None, **others):
        x, _, _, self_mask, _ = parts_of(inputs)
        cache = appended_spec(self_mask, cache, decode_loop_step, x)
        return None if cache is None else (self.symbol(*x.shape), cache)

    def before(self, norm, x):
        return norm(x) if self.norm_first else x

    def after(self, norm, x):
        return x if self.norm_first else norm(x)

    def init_cache(self, batch, length):
        """A cache with `length` slots for `decode_loop_step`, or with 0 slots to append to. The block must be built.

        Args:
            batch: Batch size, `b`; None if it is not known yet, as in a functional model.
            length: Number of slots.
        """
        check_built(self, "block")
        return self.self_attention.init_cache(batch, length)

    def common_layers_with_encoder(self):
        """The sublayers of which an encoder block consists too: self-attention, its norm, the two maps, and the last norm."""
        maps = [self.intermediate_dense, self.output_dense]
        return [self.self_attention, self.self_attention_norm, *maps, self.output_norm]

    def check_inputs(self, x, memory, cross_mask, w):
        check_rank(3, x=x.shape)
        check_rank(3 + self.multi_channel_cross_attention, memory=memory.shape)
        check_same("batch size", x=x.shape[0], memory=memory.shape[0])
        if (w is None) == self.multi_channel_cross_attention:
            flag = f"multi_channel_cross_attention={self.multi_channel_cross_attention}"
            raise ValueError(
                f"input_doc_probs must be given if and only if the memory has channels. Received: {type(w).__name__}, {flag}"
            )
        b, *a, s, _ = memory.shape
        if w is not None:
            check_broadcastable("input_doc_probs", w.shape, (b, self.num_attention_heads, x.shape[1], *a))
            check_same("number of channels", input_doc_probs=w.shape[-1], memory=a[0])
        if cross_mask is not None:
            heads = (self.num_attention_heads,) * (len(cross_mask.shape) == 4 and not a)
            check_broadcastable("cross_mask", cross_mask.shape, (b, *a, *heads, x.shape[1], s))

    def get_config(self):
        names = ("num_attention_heads", "intermediate_size", "dropout_rate", "attention_dropout_rate")
        names += ("multi_channel_cross_attention", "use_bias", "norm_first", "norm_epsilon", "intermediate_dropout")
        classes = {name: getattr(self, name) for name in ("self_attention_cls", "cross_attention_cls")}
        return (
            super().get_config()
            | {name: getattr(self, name) for name in names}
            | {name: kind and keras.saving.get_registered_name(kind) for name, kind in classes.items()}
            | {
                "intermediate_activation": keras.activations.serialize(self.intermediate_activation),
                "attention_initializer": keras.initializers.serialize(self.attention_initializer),
            }
        )
