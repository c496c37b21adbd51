"""The common base of Transformer-XL's block and its stack of blocks (Keras 3)."""

import keras
from keras import ops

from layers.common.activations import get_activation
from layers.common.blocks import BlockLayer
from layers.common.checks import check_at_least, check_needs, check_rank, check_rate, check_same, check_shape
from layers.common.projection import fresh
from layers.common.relative_positions import has_open_sizes

ARGUMENTS = (
    *("vocab_size", "hidden_size", "num_attention_heads", "head_size", "inner_size", "dropout_rate", "attention_dropout_rate"),
    *("two_stream", "norm_epsilon", "inner_dropout"),
)
NONE_RENAMED = {}


class XLLayer(BlockLayer):
    """Sizes, rates and checks of streams. A subclass lists its additional arguments and the arguments that it renames."""

    own_arguments = ()
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
        if hidden_size != num_attention_heads * head_size:
            raise ValueError(
                f"hidden_size must be num_attention_heads · head_size = {num_attention_heads * head_size}. "
                f"Received: hidden_size={hidden_size}"
            )
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

    def compute_output_spec(self, *args, **kwargs):
        if has_open_sizes((args, kwargs)):  # not traced, as in MultiHeadRelativeAttention
            return keras.layers.Layer.compute_output_spec(self, *args, **kwargs)
        return super().compute_output_spec(*args, **kwargs)

    def get_config(self):
        config = {name: getattr(self, name) for name in (*ARGUMENTS, *self.own_arguments)}
        config |= {"inner_activation": keras.activations.serialize(self.inner_activation)}
        return {self.renamed_arguments.get(name, name): value for name, value in (super().get_config() | config).items()}


def check_stack(layer, segment_matrix, segment_embedding, state):
    """Raise a ValueError unless segments and memories fit the stack `layer`."""
    check_needs("segment_embedding", segment_embedding is not None, segment_matrix=segment_matrix)
    check_needs("segment_matrix", segment_matrix is not None, segment_embedding=segment_embedding)
    shape = (layer.num_layers, 2, layer.num_attention_heads, layer.head_size)
    check_shape("segment_embedding", segment_embedding, shape)
    if segment_matrix is not None and layer.segment_attention_bias is None:
        raise ValueError(
            "segment_matrix must be given in the first call too, which builds its weight. "
            f"Received: segment_matrix of shape {tuple(segment_matrix.shape)}, in a layer built without it"
        )
    if state and len(state) != layer.num_layers:
        raise ValueError(f"state must be a list of num_layers={layer.num_layers} memories. Received: a list of {len(state)}")


def remembered(memory, h, memory_length, reuse_length):
    """Equation (3) of `reference/transformer_xl.py`."""
    h = h[:, :reuse_length] if reuse_length else h
    both = h if memory is None else ops.concatenate([memory, h], axis=1)
    return ops.stop_gradient(both[:, -memory_length:])
