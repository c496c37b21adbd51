"""The common base of Transformer-XL's block and its stack of blocks (Keras 3)."""

import keras
from keras import ops

from layers.common.activations import get_activation
from layers.common.blocks import BlockLayer
from layers.common.checks import (
    check_at_least,
    check_epsilon,
    check_flags,
    check_needs,
    check_rank,
    check_rate,
    check_same,
    check_shape,
)
from layers.common.masks import first_mask
from layers.common.projection import fresh
from layers.common.relative_positions import has_open_sizes

ARGUMENTS = (
    *("vocab_size", "hidden_size", "num_attention_heads", "head_size", "inner_size", "dropout_rate", "attention_dropout_rate"),
    *("two_stream", "norm_epsilon", "inner_dropout"),
)

NONE_RENAMED = {}
OF_STACK = ("num_layers", "tie_attention_biases", "memory_length", "reuse_length")
RENAMED = {"kernel_initializer": "initializer"}


class XLLayer(BlockLayer):
    """Sizes, rates and checks of streams. A subclass lists its additional arguments and the arguments that it renames."""

    own_arguments = ()
    required_tensors = ("content_stream",)
    renamed_arguments = NONE_RENAMED

    def __init__(
        self,
        vocab_size,
        hidden_size,
        num_attention_heads,
        head_size,
        inner_size,
        dropout_rate,
        attention_dropout_rate,
        two_stream=False,
        norm_epsilon=1e-12,
        inner_activation="relu",
        kernel_initializer="variance_scaling",
        inner_dropout=0.0,
        **kwargs,
    ):
        super().__init__(kernel_initializer=kernel_initializer, **kwargs)
        check_at_least(1, vocab_size=vocab_size, num_attention_heads=num_attention_heads, head_size=head_size)
        check_at_least(1, hidden_size=hidden_size, inner_size=inner_size)
        check_rate(dropout_rate=dropout_rate, attention_dropout_rate=attention_dropout_rate, inner_dropout=inner_dropout)
        check_flags(two_stream=two_stream)
        check_epsilon(norm_epsilon=norm_epsilon)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_attention_heads = num_attention_heads
        self.head_size = head_size
        self.inner_size = inner_size
        self.dropout_rate = dropout_rate
        self.attention_dropout_rate = attention_dropout_rate
        self.two_stream = two_stream
        self.norm_epsilon = norm_epsilon
        self.inner_activation = get_activation("inner_activation", inner_activation)
        self.inner_dropout = inner_dropout

    def check_width(self, content_stream_shape):
        check_rank(3, content_stream=content_stream_shape)
        check_same("size of the last axis", content_stream=content_stream_shape[-1], hidden_size=self.hidden_size)

    def make_bias(self, name, own):
        """A bias of attention, of shape `(*own, h, d)`."""
        shape = (*own, self.num_attention_heads, self.head_size)
        return self.add_weight(name=name, shape=shape, initializer=fresh(self.kernel_initializer))

    def check_streams(self, query_stream, query_attention_mask, target_mapping):
        """Raise a ValueError unless the query stream is given with two streams, and its arguments only then."""
        if self.two_stream and query_stream is None:
            raise ValueError("query_stream must be a tensor with two_stream=True. Received: query_stream=None")
        given = {"query_stream": query_stream, "query_attention_mask": query_attention_mask, "target_mapping": target_mapping}
        for name, argument in given.items():
            if argument is not None and not self.two_stream:
                raise ValueError(f"{name} needs two_stream=True. Received: {name} with two_stream=False")

    def get_config(self):
        config = {name: getattr(self, name) for name in (*ARGUMENTS, *self.own_arguments)}
        config |= {"inner_activation": keras.activations.serialize(self.inner_activation)}
        return {self.renamed_arguments.get(name, name): value for name, value in (super().get_config() | config).items()}


def untraced_stack(layer, content_stream, state=None, query_stream=None, **others):
    """The symbolic outputs of the stack `layer`, if it cannot be traced, as in `MultiHeadRelativeAttention`; else None."""
    if not has_open_sizes((content_stream, state, query_stream, others)):
        return None
    output = layer.symbol(*(query_stream if layer.two_stream else content_stream).shape)
    return output, [shape and layer.symbol(*shape) for shape in memory_shapes(layer, content_stream.shape, state)]


def mask_of_stack(layer, inputs, previous_mask=None):
    """The Keras mask of what the stack `layer` returns first: of two streams that is the queries, whose positions are others."""
    return None if layer.two_stream else first_mask(previous_mask)


def memory_shapes(layer, shape, state):
    """The shape of the memory of each block of the stack `layer` after `state` and inputs of `shape`; None without memory."""
    if not layer.memory_length:
        return [None] * layer.num_layers
    b, t, m = shape
    if isinstance(state, (list, tuple)) or state is None:
        before = [0 if memory is None else memory.shape[1] for memory in state or [None] * layer.num_layers]
    else:
        before = [state.shape[2]] * layer.num_layers
    added = None if t is None else min(layer.reuse_length or t, t)
    return [(b, None if None in (length, added) else min(length + added, layer.memory_length), m) for length in before]


def check_segments(layer, segment_matrix, segment_embedding):
    """Raise a ValueError unless segments fit the stack `layer`."""
    check_needs("segment_embedding", segment_embedding is not None, segment_matrix=segment_matrix)
    check_needs("segment_matrix", segment_matrix is not None, segment_embedding=segment_embedding)
    shape = (layer.num_layers, 2, layer.num_attention_heads, layer.head_size)
    check_shape("segment_embedding", segment_embedding, shape)
    if segment_matrix is not None and layer.segment_attention_bias is None:
        raise ValueError(
            "segment_matrix must be given in the first call too, which builds its weight. "
            f"Received: segment_matrix of shape {tuple(segment_matrix.shape)}, in a layer built without it"
        )


def memories_of(state, num_layers, shape):
    """Each block's memory, None where there is none. `state` may be None, empty, a list, or a tensor of all memories.

    Raises:
        ValueError: if there are other than `num_layers` memories, or not of the batch and the width of inputs of `shape`.
    """
    is_list = isinstance(state, (list, tuple))
    if state is None or (is_list and not state):
        return [None] * num_layers
    count, kind = (len(state), "list") if is_list else (state.shape[0], "tensor")
    if count != num_layers:
        raise ValueError(f"state must be a list of num_layers={num_layers} memories. Received: a {kind} of {count}")
    memories = [state[i] for i in range(num_layers)]
    for i, memory in enumerate(memories):
        check_shape(f"state[{i}]", memory, (shape[0], None, shape[-1]))
    return memories


def remember(memory, h, memory_length, reuse_length):
    """Equation (3) of `reference/transformer_xl.py`: the memory of a block after the segment `h`."""
    h = h[:, :reuse_length] if reuse_length else h
    both = h if memory is None else ops.concatenate([memory, h], axis=1)
    return ops.stop_gradient(both[:, -memory_length:])


def biases_of(stack, i):
    """The biases u, v and b of a stack's block i; None for each that the stack does not have."""
    weights = stack.content_attention_bias, stack.positional_attention_bias, stack.segment_attention_bias
    tensors = (None if weight is None else ops.convert_to_tensor(weight) for weight in weights)
    return [x if x is None or stack.tie_attention_biases else x[i] for x in tensors]
