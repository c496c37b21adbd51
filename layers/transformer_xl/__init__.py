"""Transformer-XL's block, and the stack of blocks with a memory of earlier segments (Keras 3)."""

import keras

from layers.common.checks import check_at_least, check_flags, check_needs
from layers.common.relative_positions import has_open_sizes
from layers.common.sums import added_up
from layers.relative_attention import MultiHeadRelativeAttention, TwoStreamRelativeAttention
from layers.transformer_xl import parts
from layers.transformer_xl.parts import ARGUMENTS, XLLayer, biases_of, memories_of, remember


@keras.saving.register_keras_serializable(package="layers")
class TransformerXLBlock(XLLayer):
    """Relative attention to a segment and its memory, and a feed-forward network, each with a residual connection and a norm.

    Computes equations (1), (2) and, with two streams, (4) of `reference/transformer_xl.py`, plus dropout.

    Axes: `b` batch, `t` query position, `s` key position (the memory's included), `h` head, `l` relative position,
    `m` model size, `d` key size, `f` feed-forward size.

    Args:
        vocab_size: Stored in the configuration; the layer does not use it.
        hidden_size, num_attention_heads, head_size, inner_size: `m`, `h`, `d` and `f`; `m` need not be `h` · `d`.
        dropout_rate, attention_dropout_rate, inner_dropout: Fractions dropped while training, of the outputs of both sublayers,
            of the attention weights, and of the activation's output.
        two_stream: Whether there is a query stream in addition to the content stream.
        norm_epsilon, inner_activation: Added to the variance in the norms; the activation of the feed-forward network.
        kernel_initializer, **kwargs: As in `ProjectingLayer`, for all linear maps.

    Call arguments:
        content_stream: Tensor of shape `(b, t, m)`.
        content_attention_bias, positional_attention_bias, relative_position_encoding, segment_matrix, segment_encoding,
            segment_attention_bias, state: As in `MultiHeadRelativeAttention`; `state` is the memory `(b, s − t, m)`.
        content_attention_mask: Nonzero where attention is allowed; broadcastable to `(b, t, s)` or `(b, h, t, s)`.
        query_stream, query_attention_mask, target_mapping: As in `TwoStreamRelativeAttention`, only with `two_stream`.
        training: Whether to apply dropout.
        content_stream_mask: As in `TwoStreamRelativeAttention`, with one stream too.

    Returns:
        A dict with "content_attention" and, with `two_stream`, "query_attention", each of the shape of its stream.

    Raises:
        ValueError: if a size or rate is out of range, the activation is unknown, or a query stream is given without `two_stream`
            or missing with it; and as in the attention.

    Example:

    >>> block = TransformerXLBlock(100, 8, 2, 4, 16, dropout_rate=0.1, attention_dropout_rate=0.1)
    >>> x, u, v = keras.ops.ones((1, 3, 8)), keras.ops.zeros((2, 4)), keras.ops.zeros((2, 4))
    >>> block(x, u, v, keras.ops.ones((1, 4, 8)))["content_attention"].shape
    TensorShape([1, 3, 8])

    Differs from the Model Garden:
        `dropout_rate` applies to the output of attention too; there, `attention_dropout_rate` does. Arguments that require
        `two_stream` raise an error without it. Attention differs as in `MultiHeadRelativeAttention`. The arguments of
        `ProjectingLayer` are new.

    Reference:
        [Dai et al., 2019](https://arxiv.org/abs/1901.02860), section 3.
    """

    def build(self, content_stream_shape, relative_position_encoding_shape=None, query_stream_shape=None):
        self.check_width(content_stream_shape)
        kind = TwoStreamRelativeAttention if self.two_stream else MultiHeadRelativeAttention
        options = {"key_dim": self.head_size, "dropout": self.attention_dropout_rate, "use_bias": False}
        self.self_attention = self.make_attention("self_attention", kind, **options)
        other = query_stream_shape or content_stream_shape
        self.self_attention.build(content_stream_shape, other, relative_position_encoding_shape=relative_position_encoding_shape)
        self.attention_dropout_layer = self.make_dropout(self.dropout_rate)
        self.self_attention_norm = self.make_norm("self_attention_layer_norm", self.hidden_size)
        rates = self.inner_dropout, self.dropout_rate
        self.make_feed_forward(self.hidden_size, self.inner_size, self.inner_activation, *rates)
        self.output_norm = self.make_norm("output_layer_norm", self.hidden_size)

    def call(
        self,
        content_stream,
        content_attention_bias,
        positional_attention_bias,
        relative_position_encoding=None,
        segment_matrix=None,
        segment_encoding=None,
        segment_attention_bias=None,
        state=None,
        content_attention_mask=None,
        query_stream=None,
        query_attention_mask=None,
        target_mapping=None,
        training=None,
        content_stream_mask=None,
    ):
        self.check_streams(query_stream, query_attention_mask, target_mapping)
        h, g, encoding = content_stream, query_stream, relative_position_encoding
        biases = content_attention_bias, positional_attention_bias
        rest = segment_matrix, segment_encoding, segment_attention_bias, state, content_attention_mask
        if not self.two_stream:
            masks = {"query_mask": content_stream_mask, "value_mask": content_stream_mask}
            attended = self.self_attention(h, h, *biases, None, encoding, *rest, training=training, **masks)
            return {"content_attention": self.after_attention(h, attended, training)}
        streams = (h, *biases, g, encoding, target_mapping, *rest, query_attention_mask)
        attended, asked = self.self_attention(*streams, training=training, content_stream_mask=content_stream_mask)
        content, query = self.after_attention(h, attended, training), self.after_attention(g, asked, training)
        return {"content_attention": content, "query_attention": query}

    def after_attention(self, x, attended, training):
        """The rest of equation (2)."""
        y = self.self_attention_norm(added_up(x, self.attention_dropout_layer(attended, training=training)))
        return self.output_norm(added_up(y, self.feed_forward(y, training)))

    def untraced_spec(self, content_stream, query_stream=None, **others):
        if not has_open_sizes((content_stream, query_stream, others)):
            return None  # as in MultiHeadRelativeAttention
        streams = {"content_attention": content_stream, "query_attention": query_stream}
        return {name: self.symbol(*x.shape) for name, x in streams.items() if x is not None}


@keras.saving.register_keras_serializable(package="layers")
class TransformerXL(XLLayer):
    """A stack of blocks, each with a memory of its earlier inputs.

    Computes `transformer_xl` of `reference/transformer_xl.py`, equations (1) to (4), plus dropout; axes as in the block.

    Args:
        num_layers: Number of blocks.
        vocab_size, hidden_size, num_attention_heads, head_size, inner_size, dropout_rate, attention_dropout_rate, two_stream,
            inner_activation: As in `TransformerXLBlock`.
        initializer: Initializer of all linear maps and of attention's biases.
        tie_attention_biases: Whether all blocks share the biases u, v and b of attention, `(h, d)`. If False, each has its own.
        memory_length: Maximum number of positions in each block's memory. None or 0 for no memory.
        reuse_length: Number of positions of a segment, from its first, added to the memory. None or 0 for all. A `memory_length`
            of 0, though not of None, leaves nothing to add to.
        **kwargs: As in `ProjectingLayer`, and `norm_epsilon` and `inner_dropout`.

    Call arguments:
        content_stream: Tensor of shape `(b, t, m)`.
        relative_position_encoding: `(1, l, m)` or `(b, l, m)`, as in `MultiHeadRelativeAttention`; s includes the memory.
        segment_matrix, segment_embedding: `(b, t, s)`, nonzero where segments differ, and `(num_layers, 2, h, d)`.
        state: List of each block's memory `(b, s − t, m)`, as returned by the previous call, or all of them as one tensor,
            `(num_layers, b, s − t, m)`. None, or None for a block, for no memory.
        content_attention_mask, query_stream, query_attention_mask, target_mapping, training, content_stream_mask: As in
            `TransformerXLBlock`. The memory does not remember padding: if it holds some, the attention masks must say so.

    Returns:
        A tuple: the last block's content stream, with its Keras mask, or with `two_stream` its query stream, without one,
        `(b, t, m)`; and a list with each block's memory, through which no gradient flows. Without memory, the list has None for
        each block; in a functional model, where nothing but tensors can be returned, it is empty.

    Raises:
        ValueError: as in `TransformerXLBlock`, or if a length is below 0, `reuse_length` is given without a memory, `state` does
            not have one memory for each block, or segments are given to a layer that was built without them.

    Example:

    >>> xl = TransformerXL(100, 2, 8, 2, 4, 16, 0.1, 0.1, "glorot_uniform", memory_length=5)
    >>> output, memories = xl(keras.ops.ones((1, 3, 8)), keras.ops.ones((1, 4, 8)))
    >>> output, memories = xl(keras.ops.ones((1, 3, 8)), keras.ops.ones((1, 7, 8)), state=memories)
    >>> output.shape, [memory.shape for memory in memories]
    (TensorShape([1, 3, 8]), [TensorShape([1, 5, 8]), TensorShape([1, 5, 8])])

    Differs from the Model Garden:
        A `reuse_length` of None keeps all positions; there, it is a TypeError. `initializer` applies to the linear maps, not only
        the biases. Without segments, their bias is not created. `norm_epsilon`, `inner_dropout` and the arguments of
        `ProjectingLayer` are new. Its blocks differ as `TransformerXLBlock` does.

    Reference: [Dai et al., 2019](https://arxiv.org/abs/1901.02860), section 3.2.
    """

    own_arguments, renamed_arguments = parts.OF_STACK, parts.RENAMED
    untraced_spec = parts.untraced_stack
    compute_mask = parts.mask_of_stack
    required_tensors = ("content_stream", "relative_position_encoding")

    def __init__(
        self,
        vocab_size,
        num_layers,
        hidden_size,
        num_attention_heads,
        head_size,
        inner_size,
        dropout_rate,
        attention_dropout_rate,
        initializer,
        two_stream=False,
        tie_attention_biases=True,
        memory_length=None,
        reuse_length=None,
        inner_activation="relu",
        **kwargs,
    ):
        sizes = vocab_size, hidden_size, num_attention_heads, head_size, inner_size
        options = {"inner_activation": inner_activation, "kernel_initializer": initializer}
        super().__init__(*sizes, dropout_rate, attention_dropout_rate, two_stream, **options, **kwargs)
        check_at_least(1, num_layers=num_layers)
        check_flags(tie_attention_biases=tie_attention_biases)
        lengths = {"memory_length": memory_length, "reuse_length": reuse_length}
        check_at_least(0, **{name: length for name, length in lengths.items() if length is not None})
        check_needs("memory_length", memory_length is not None, reuse_length=reuse_length or None)
        self.num_layers = num_layers
        self.initializer = self.kernel_initializer
        self.tie_attention_biases = tie_attention_biases
        self.memory_length = memory_length
        self.reuse_length = reuse_length

    def build(self, content_stream_shape, relative_position_encoding_shape, segment_matrix_shape=None, query_stream_shape=None):
        self.check_width(content_stream_shape)
        own = () if self.tie_attention_biases else (self.num_layers,)
        self.content_attention_bias = self.make_bias("content_attention_bias", own)
        self.positional_attention_bias = self.make_bias("positional_attention_bias", own)
        self.segment_attention_bias = self.make_bias("segment_attention_bias", own) if segment_matrix_shape else None
        options = {name: getattr(self, name) for name in ARGUMENTS} | self.projection_options()
        options |= {"inner_activation": self.inner_activation, "dtype": self.dtype_policy}
        self.blocks = [TransformerXLBlock(**options, name=f"layer_{i}") for i in range(self.num_layers)]
        for block in self.blocks:
            block.build(content_stream_shape, relative_position_encoding_shape, query_stream_shape)

    def call(
        self,
        content_stream,
        relative_position_encoding,
        segment_matrix=None,
        segment_embedding=None,
        state=None,
        content_attention_mask=None,
        query_stream=None,
        query_attention_mask=None,
        target_mapping=None,
        training=None,
        content_stream_mask=None,
    ):
        parts.check_segments(self, segment_matrix, segment_embedding)
        h, g, memories = content_stream, query_stream, []
        for i, (block, memory) in enumerate(zip(self.blocks, memories_of(state, self.num_layers, h.shape))):
            memories.append(remember(memory, h, self.memory_length, self.reuse_length) if self.memory_length else None)
            u, v, b = biases_of(self, i)
            segments = (None, None, None) if segment_matrix is None else (segment_matrix, segment_embedding[i], b)
            streams = content_attention_mask, g, query_attention_mask, target_mapping
            named = {"training": training, "content_stream_mask": content_stream_mask}
            outputs = block(h, u, v, relative_position_encoding, *segments, memory, *streams, **named)
            h, g = outputs["content_attention"], outputs.get("query_attention")
        return (g if self.two_stream else h), memories

    def compute_output_spec(self, *args, **kwargs):
        output, memories = super().compute_output_spec(*args, **kwargs)
        return output, memories if self.memory_length else []  # a functional model cannot hold a None

    def compute_output_shape(self, *shapes, **named):
        output, memories = super().compute_output_shape(*shapes, **named)
        return output, memories or [None] * self.num_layers
