"""The transformer decoder block (Keras 3)."""

import keras
from keras import ops

from layers.attention import MultiHeadAttention
from layers.cached_attention import CachedAttention, check_parts
from layers.common.activations import get_activation
from layers.common.blocks import BlockLayer, head_size, split_inputs
from layers.common.checks import check_at_least, check_broadcastable, check_rank, check_rate, check_same
from layers.multi_channel_attention import MultiChannelAttention

NAMES = ("x", "memory", "cross_mask", "self_mask", "input_doc_probs")
FORMS = {count: NAMES[:count] for count in (2, 3, 4, 5)}


@keras.saving.register_keras_serializable(package="layers")
class TransformerDecoderBlock(BlockLayer):
    """Causal self-attention, attention to a memory, and a feed-forward network, each with a residual connection and a norm.

    Computes equation (1) of `reference/transformer_decoder.py`, or equation (2) with `norm_first`, plus dropout. The block is
    causal by itself: no mask has to be given, or can be forgotten, to keep a token from seeing later ones.

    Axes: `b` batch, `t` query position, `s` key position, `h` head, `a` channel, `m` model size, `d` key size,
    `f` feed-forward size.

    Args:
        num_attention_heads: Number of heads, `h`, of both attentions. It divides `m`.
        intermediate_size: Size between the two maps of the feed-forward network, `f`.
        intermediate_activation: The activation there, by name or as a callable. "gelu" is the exact one, "gelu_tanh" its
            approximation.
        dropout_rate: Fraction dropped of what each of the three sublayers adds to the residual stream.
        attention_dropout_rate: Fraction dropped of the weights of both attentions.
        multi_channel_cross_attention: Whether the memory has channels, mixed by `input_doc_probs`.
        use_bias: Whether the linear maps have biases.
        norm_first: Whether norms come before the sublayers. A stack of such blocks needs one more norm at its end.
        norm_epsilon: What is added to the variance in all norms.
        intermediate_dropout: Fraction dropped of what comes from the activation.
        attention_initializer: How the kernels of both attentions start. Defaults to `kernel_initializer`.
        self_attention_cls: Class of the self-attention, called as `CachedAttention` is, which is the default; or the name under
            which it is registered with Keras. A model is saved with that name.
        cross_attention_cls: The same for the attention to the memory, called as `MultiHeadAttention` is, or with channels as
            `MultiChannelAttention` is.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
            bias_constraint: As for `ProjectingLayer`; for every linear map, those of attention included.

    Call arguments:
        inputs: `[x, memory, cross_mask, self_mask]`, of which the masks may be None or, from the end, left out; then, with
            `multi_channel_cross_attention`, `input_doc_probs`.
            x: Tensor of shape `(b, t, m)`; with a cache, the new tokens.
            memory: Tensor of shape `(b, s, m)`, or `(b, a, s, m)` with channels; `m` may differ from that of `x`.
            cross_mask: Not zero where attention to the memory is allowed; `(b, t, s)`, or broadcastable to `(b, h, t, s)`; with
                channels broadcastable to `(b, a, t, s)`.
            self_mask: The same for self-attention, over all keys of the new cache, and beside causality.
            input_doc_probs: The weight of each channel, broadcastable to `(b, h, t, a)`.
        cache: Keys and values of earlier tokens, as for `CachedAttention`; `init_cache` or a call returned it. Without one,
            `x` are all tokens.
        decode_loop_step: Slot of the cache that the first new token is written to, as for `CachedAttention`.
        training: Whether to drop.

    Returns:
        `(output, cache)`: a tensor of shape `(b, t, m)`, and the self-attention's keys and values for the next call.

    Raises:
        ValueError: for sizes below 1, rates outside [0, 1), heads that do not divide `m`, an unknown activation or class, and
            inputs, masks and a cache that do not fit, by name.

    Example:

    >>> block = TransformerDecoderBlock(num_attention_heads=2, intermediate_size=16, intermediate_activation="relu")
    >>> output, cache = block([keras.ops.ones((1, 3, 8)), keras.ops.ones((1, 5, 8))])
    >>> output.shape, cache["key"].shape
    (TensorShape([1, 3, 8]), TensorShape([1, 3, 2, 4]))

    Differs from the Model Garden:
        The block is causal whatever `self_mask` allows: there, who forgets that mask trains a model that copies its answers. The
        cache is that of `CachedAttention`: returned, not changed, and never attended where it is not filled. Regularizers and
        dropout reach every sublayer. No sublayer is made that is never called. "gelu" is exact, not the tanh approximation.

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
        use_bias=True,
        norm_first=False,
        norm_epsilon=1e-12,
        intermediate_dropout=0.0,
        attention_initializer=None,
        self_attention_cls=None,
        cross_attention_cls=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_at_least(1, num_attention_heads=num_attention_heads, intermediate_size=intermediate_size)
        rates = {"dropout_rate": dropout_rate, "attention_dropout_rate": attention_dropout_rate}
        check_rate(**rates, intermediate_dropout=intermediate_dropout)
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
        self.attention_initializer = keras.initializers.get(attention_initializer)
        self.self_attention_cls = layer_class("self_attention_cls", self_attention_cls)
        self.cross_attention_cls = layer_class("cross_attention_cls", cross_attention_cls)

    def build(self, inputs_shape):
        x_shape, memory_shape, *_ = parts_of(inputs_shape)
        m = x_shape[-1]
        cross = MultiChannelAttention if self.multi_channel_cross_attention else MultiHeadAttention
        options = {"key_dim": head_size(m, self.num_attention_heads), "dropout": self.attention_dropout_rate}
        self.self_attention = self.make_attention("self_attention", self.self_attention_cls or CachedAttention, **options)
        self.self_attention.build(x_shape, x_shape)
        self.encdec_attention = self.make_attention("encdec_attention", self.cross_attention_cls or cross, **options)
        self.encdec_attention.build(x_shape, memory_shape)
        self.self_attention_norm = self.make_norm("self_attention_layer_norm", m)
        self.encdec_attention_norm = self.make_norm("encdec_attention_layer_norm", m)
        self.output_norm = self.make_norm("output_layer_norm", m)
        self.self_attention_dropout = self.make_dropout(self.dropout_rate)
        self.encdec_attention_dropout = self.make_dropout(self.dropout_rate)
        rates = self.intermediate_dropout, self.dropout_rate
        self.make_feed_forward(m, self.intermediate_size, self.intermediate_activation, *rates)

    def call(self, inputs, cache=None, decode_loop_step=None, training=None):
        x, memory, cross_mask, self_mask, w = parts_of(inputs)
        self.check_inputs(x, memory, cross_mask, w)
        self.check_self_mask(x, self_mask, cache, decode_loop_step)
        if cache is None:
            self_mask = self.causal(x, self_mask)  # with a cache, attention is causal

        own = self.before(self.self_attention_norm, x)
        added, cache = self.self_attention(
            *(own, own), attention_mask=self_mask, cache=cache, decode_loop_step=decode_loop_step, training=training
        )
        y = self.after(self.self_attention_norm, x + self.self_attention_dropout(added, training=training))

        channels = {"context_attention_weights": w} if self.multi_channel_cross_attention else {}
        query = self.before(self.encdec_attention_norm, y)
        added = self.encdec_attention(query, memory, attention_mask=cross_mask, training=training, **channels)
        z = self.after(self.encdec_attention_norm, y + self.encdec_attention_dropout(added, training=training))

        added = self.feed_forward(self.before(self.output_norm, z), training)
        return self.after(self.output_norm, z + added), cache

    def before(self, norm, x):
        return norm(x) if self.norm_first else x

    def after(self, norm, x):
        return x if self.norm_first else norm(x)

    def causal(self, x, self_mask):
        """What `self_mask` allows of the keys at or before each query."""
        place = ops.arange(ops.shape(x)[1])
        mask = ops.expand_dims(place[None, :] <= place[:, None], 0)
        if self_mask is None:
            return mask
        return ops.logical_and(ops.cast(self_mask, "bool"), mask)

    def init_cache(self, batch, length):
        """A cache of `length` slots for `decode_loop_step`; of 0, to append to. The block must be built."""
        if not self.built:
            raise ValueError("init_cache needs the size of the heads: call or build the block first.")
        return self.self_attention.init_cache(batch, length)

    def check_inputs(self, x, memory, cross_mask, w):
        check_rank(3, x=x.shape)
        check_rank(3 + self.multi_channel_cross_attention, memory=memory.shape)
        check_same("batch size", x=x.shape[0], memory=memory.shape[0])
        if (w is None) == self.multi_channel_cross_attention:
            flag = f"multi_channel_cross_attention={self.multi_channel_cross_attention}"
            raise ValueError(f"input_doc_probs must be given with channels, and only then. Received: {type(w).__name__}, {flag}")
        b, *a, s, _ = memory.shape
        if w is not None:
            check_broadcastable("input_doc_probs", w.shape, (b, self.num_attention_heads, x.shape[1], *a))
            check_same("number of channels", input_doc_probs=w.shape[-1], memory=a[0])
        if cross_mask is not None:
            heads = (self.num_attention_heads,) * (len(cross_mask.shape) == 4 and not a)
            check_broadcastable("cross_mask", cross_mask.shape, (b, *a, *heads, x.shape[1], s))

    def check_self_mask(self, x, self_mask, cache, decode_loop_step):
        if self_mask is None:
            return
        b, t, _ = x.shape
        keys = t
        if cache is not None:
            check_parts(cache)
            slots, *_ = *cache["key"].shape[1:2], None
            appended = None if None in (slots, t) else slots + t
            keys = appended if decode_loop_step is None else slots
        heads = (self.num_attention_heads,) * (len(self_mask.shape) == 4)
        check_broadcastable("self_mask", self_mask.shape, (b, *heads, t, keys))

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


def parts_of(inputs):
    """The five parts of `inputs`, or of their shapes; None for each that is not given, which x and memory must be."""
    parts = split_inputs(inputs, FORMS)
    for name, part in zip(NAMES[:2], parts):
        if part is None:
            raise ValueError(f"{name} must be a tensor. Received: None")
    return parts


def layer_class(name, kind):
    """A class of layers, given as such or by the name under which it is registered; None for None.

    Raises:
        ValueError: naming the argument `name`, for anything else.
    """
    found = keras.saving.get_registered_object(kind) if isinstance(kind, str) else kind
    if kind is not None and not (isinstance(found, type) and issubclass(found, keras.layers.Layer)):
        raise ValueError(f"{name} must be a class of layers, or the name of a registered one. Received: {name}={kind!r}")
    return found
