"""A language model of causal blocks, from token ids to logits (Keras 3)."""

import math

import keras
from keras import ops

from layers.cached_attention import place
from layers.common.activations import get_activation
from layers.common.blocks import BlockLayer
from layers.common.caches import check_parts
from layers.common.checks import (
    check_at_least,
    check_divisible,
    check_epsilon,
    check_flags,
    check_length,
    check_rank,
    check_rate,
    interpreted,
)
from layers.common.ids import check_integers
from layers.common.masks import over_heads
from layers.common.output_shapes import appended_spec
from layers.common.projection import fresh, matrix_product
from layers.common.sizes import comparable
from layers.common.sums import added_up
from layers.on_device_embedding import OnDeviceEmbedding
from layers.positional_embedding import PositionalEmbedding, RelativePositionEmbedding
from layers.transformer_decoder.causal_block import CausalBlock, causal
from layers.transformer_decoder.parts import check_built

ARGUMENTS = ("vocab_size", "hidden_size", "num_layers", "num_attention_heads", "intermediate_size", "max_length")
BLOCK = ("dropout_rate", "attention_dropout_rate", "intermediate_dropout", "use_bias", "norm_first", "norm_epsilon")


@keras.saving.register_keras_serializable(package="layers")
class TransformerDecoder(BlockLayer):
    """A decoder-only language model: for each token, the logits of the next one, from the tokens up to it.

    Computes equations (4) to (6) of `reference/transformer_decoder/`, plus dropout. `layers.generate` lets it write.

    Axes: `b` batch, `t` query position, `s` key position, `h` head, `n` vocabulary, `m` model size, `d` key size.

    Args:
        vocab_size: Number of token ids, `n`.
        hidden_size: Model size, `m`.
        num_layers: Number of blocks.
        num_attention_heads: Number of heads, `h`, which must divide `m`.
        intermediate_size: Inner size of the feed-forward networks.
        intermediate_activation: Activation of the feed-forward networks, by name or as a callable.
        max_length: Number of learned positions, the most tokens that there can be. Defaults to None, sines and cosines, which
            have no last position; then embeddings are multiplied by √m, as in Vaswani et al.
        dropout_rate: Fraction of the embeddings and of both sublayers' outputs dropped while training.
        attention_dropout_rate: Fraction of the attention weights dropped while training.
        intermediate_dropout: Fraction of the activation's output dropped while training.
        use_bias: Whether the blocks' linear maps have biases.
        norm_first: Whether norms come before the sublayers, and one more at the end. If False, they come after, as in GPT.
        norm_epsilon: Added to the variance in all norms.
        embedding_initializer: Initializer of the tables of tokens and positions. Defaults to a truncated normal of standard
            deviation 0.02.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint,
            bias_constraint: As in `ProjectingLayer`, for every linear map in the blocks.

    Call arguments:
        inputs: Token ids, integers of shape `(b, t)`; with a cache, only the new tokens. Ids outside the vocabulary embed as
            zeros.
        attention_mask: Nonzero where attention is allowed; `(b, t, s)`, or broadcastable to `(b, h, t, s)`, where `s` is the
            number of keys in the new cache; or `(t, s)`, unless that could be `(b, s)`: write a padding mask as
            `mask[:, None, :]`. It applies in addition to the causal mask.
        cache: List of each block's keys and values, from `init_cache` or an earlier call, as in `CachedAttention`.
        decode_loop_step: Slot of the cache for the first new token, which is also its position, as in `CachedAttention`.
            By default, tokens are appended.
        training: Whether to apply dropout.

    Returns:
        `(logits, cache)`: a tensor of shape `(b, t, n)`, the table of tokens being the last linear map; and a list of each
        block's keys and values for the next call.

    Raises:
        ValueError: if a size is below 1, a rate is outside [0, 1), `norm_epsilon` is negative or not finite, `h` does not divide
            `m`, the inputs are not integers of two axes, there are more than `max_length` tokens or slots, or as in
            `CachedAttention`.

    Example:

    >>> decoder = TransformerDecoder(50, hidden_size=8, num_layers=2, num_attention_heads=2, intermediate_size=16)
    >>> logits, cache = decoder(keras.ops.array([[3, 1, 4]]))
    >>> logits.shape, len(cache), cache[0]["key"].shape
    (TensorShape([1, 3, 50]), 2, TensorShape([1, 3, 2, 4]))

    Differs from the Model Garden:
        It has no class of this kind: its model of this name is a stack of blocks that attend to a memory, without embeddings.

    Reference:
        [Radford et al., 2018](https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf),
        section 3.1; [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.
    """

    integer_arguments = ("inputs",)

    def __init__(
        self,
        vocab_size,
        hidden_size,
        num_layers,
        num_attention_heads,
        intermediate_size,
        intermediate_activation="relu",
        max_length=None,
        dropout_rate=0.0,
        attention_dropout_rate=0.0,
        intermediate_dropout=0.0,
        use_bias=True,
        norm_first=True,
        norm_epsilon=1e-12,
        embedding_initializer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_at_least(1, vocab_size=vocab_size, hidden_size=hidden_size, num_layers=num_layers)
        check_at_least(1, num_attention_heads=num_attention_heads, intermediate_size=intermediate_size)
        if max_length is not None:
            check_at_least(1, max_length=max_length)
        check_divisible(hidden_size=hidden_size, num_attention_heads=num_attention_heads)
        rates = {"dropout_rate": dropout_rate, "attention_dropout_rate": attention_dropout_rate}
        check_rate(**rates, intermediate_dropout=intermediate_dropout)
        check_flags(use_bias=use_bias, norm_first=norm_first)
        check_epsilon(norm_epsilon=norm_epsilon)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.intermediate_activation = get_activation("intermediate_activation", intermediate_activation)
        self.max_length = max_length
        self.dropout_rate = dropout_rate
        self.attention_dropout_rate = attention_dropout_rate
        self.intermediate_dropout = intermediate_dropout
        self.use_bias = use_bias
        self.norm_first = norm_first
        self.norm_epsilon = norm_epsilon
        start = keras.initializers.TruncatedNormal(stddev=0.02) if embedding_initializer is None else embedding_initializer
        [self.embedding_initializer] = interpreted(keras.initializers.get, embedding_initializer=start)

    def build(self, input_shape):
        check_rank(2, inputs=input_shape)
        shape, options = (*input_shape, self.hidden_size), {"dtype": self.dtype_policy}
        scale = math.sqrt(self.hidden_size) if self.max_length is None else None
        table = fresh(self.embedding_initializer), False, scale
        self.token_embedding = OnDeviceEmbedding(*(self.vocab_size, self.hidden_size), *table, name="token_embedding", **options)
        self.token_embedding.build(input_shape)
        options["name"] = "position_embedding"
        if self.max_length is None:
            self.position_embedding = RelativePositionEmbedding(self.hidden_size, **options)
        else:
            self.position_embedding = PositionalEmbedding(self.max_length, fresh(self.embedding_initializer), **options)
        self.position_embedding.build(shape)
        self.embedding_dropout = self.make_dropout(self.dropout_rate)
        options = {name: getattr(self, name) for name in BLOCK} | self.projection_options() | {"dtype": self.dtype_policy}
        sizes = self.num_attention_heads, self.intermediate_size, self.intermediate_activation
        self.blocks = [CausalBlock(*sizes, **options, name=f"layer_{i}") for i in range(self.num_layers)]
        for block in self.blocks:
            block.build(shape)
        self.output_norm = self.make_norm("output_layer_norm", self.hidden_size) if self.norm_first else None

    def call(self, inputs, attention_mask=None, cache=None, decode_loop_step=None, training=None):
        check_rank(2, inputs=inputs.shape)
        check_integers(inputs=inputs)
        offset = self.first_position(inputs, cache, decode_loop_step)
        x = self.token_embedding(inputs)
        x = self.embedding_dropout(added_up(x, self.position_embedding(x, offset=offset)), training=training)
        if cache is None:  # with a cache, attention masks later keys itself
            b, t, _ = x.shape
            mask = None if attention_mask is None else over_heads(attention_mask, b, self.num_attention_heads, t, t)
            attention_mask = causal(x, mask)
        options = {"attention_mask": attention_mask, "decode_loop_step": decode_loop_step, "training": training}
        new = []
        for block, kept in zip(self.blocks, cache or [None] * self.num_layers):
            x, kept = block(x, cache=kept, **options)
            new.append(kept)
        return self.logits(x), new

    def untraced_spec(self, inputs, attention_mask=None, cache=None, decode_loop_step=None, **others):
        new = [appended_spec(attention_mask, part, decode_loop_step, inputs) for part in cache or [None]]
        return None if None in new else (self.symbol(*inputs.shape, self.vocab_size), new)

    def logits(self, x):
        """Equation (6)."""
        x = x if self.output_norm is None else self.output_norm(x)
        return matrix_product(x, ops.transpose(ops.cast(self.token_embedding.embeddings, self.compute_dtype)))

    def first_position(self, inputs, cache, decode_loop_step):
        """The position of the first of `inputs`, after a check of what is given for it."""
        t = inputs.shape[1]
        if cache is None and decode_loop_step is not None:
            raise ValueError(f"decode_loop_step needs a cache. Received: decode_loop_step={decode_loop_step}, cache=None")
        if cache is None:
            self.check_room(t)
            return 0
        check_list(cache, self.num_layers)
        for part in cache:
            check_parts(part)
        slots = cache[0]["key"].shape[1]
        if decode_loop_step is not None:
            self.check_room(slots)
            place(decode_loop_step, cache[0]["key"], inputs)
            return decode_loop_step
        self.check_room(None if None in (slots, t) else slots + t)
        return comparable(ops.shape(cache[0]["key"])[1])

    def check_room(self, length):
        if self.max_length is not None:
            check_length("inputs and cache", length, max_length=self.max_length)

    def init_cache(self, batch, length):
        """A cache with `length` slots for `decode_loop_step`, or with 0 slots to append to. The decoder must be built.

        Args:
            batch: Batch size, `b`; None if it is not known yet, as in a functional model.
            length: Number of slots.
        """
        check_built(self, "decoder")
        self.check_room(length)
        return [block.self_attention.init_cache(batch, length) for block in self.blocks]

    def get_config(self):
        return (
            super().get_config()
            | {name: getattr(self, name) for name in ARGUMENTS + BLOCK}
            | {
                "intermediate_activation": keras.activations.serialize(self.intermediate_activation),
                "embedding_initializer": keras.initializers.serialize(self.embedding_initializer),
            }
        )


def check_list(cache, num_layers):
    """Raise a ValueError unless `cache` is a list with a dictionary for each block."""
    if not isinstance(cache, (list, tuple)) or len(cache) != num_layers or not all(isinstance(part, dict) for part in cache):
        received = f"a list of {len(cache)}" if isinstance(cache, (list, tuple)) else type(cache).__name__
        raise ValueError(f"cache must be a list of {num_layers} dictionaries, one for each block. Received: {received}")
