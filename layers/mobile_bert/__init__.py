"""MobileBERT's embedding and its block (Keras 3)."""

import keras
from keras import ops

from layers.attention import MultiHeadAttention
from layers.common.activations import get_activation
from layers.common.checks import check_at_least, check_divisible, check_flags, check_length, check_rate
from layers.common.ids import check_integers
from layers.common.sums import added_up
from layers.mobile_bert.parts import MobileBertLayer, check_alike, check_input, trigram


@keras.saving.register_keras_serializable(package="layers")
class MobileBertEmbedding(MobileBertLayer):
    """Embeds each token together with its two neighbors, from a table with short rows.

    Computes equation (2) of `reference/mobile_bert.py`, plus dropout: the vectors of the next, the current and the
    previous word, in this order, are concatenated and mapped to the model size; position and type embeddings are added.

    Axes: `b` batch, `t` position, `m` model size.

    Args:
        word_vocab_size, type_vocab_size, max_sequence_length: Number of words, of segment types and of positions.
        word_embed_size: Size of a word's vector.
        output_embed_size: Size of the output, `m`.
        dropout_rate: Fraction of the output dropped while training.
        normalization_type: "no_norm", γ ⊙ x + β, or "layer_norm", with an epsilon of 1e-12.
        initializer: Initializer of tables and projection. Defaults to a truncated normal of standard deviation 0.02.
        bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint: As in
            `ProjectingLayer`, for the projection.

    Call arguments:
        input_ids: Integers of shape `(b, t)`. The vector of an id outside the vocabulary is zero.
        token_type_ids: Integers of shape `(b, t)`. If None, no type embedding is added.
        input_mask: `(b, t)`, nonzero at tokens. With it, the vectors of padding are zero, like those beyond the ends, so that
            the output at the tokens does not depend on the amount of padding. Without it, as in the published models, the last
            token reads the vector of the [PAD] after it, which is not zero.
        training: Whether to apply dropout.

    Returns:
        Tensor of shape `(b, t, m)` in the compute dtype.

    Raises:
        ValueError: if a size is below 1, the rate is outside [0, 1), the norm is unknown, the ids are not integers, the inputs
            are longer than `max_sequence_length`, or an argument does not have the shape `(b, t)`.

    Example:

    >>> embed = MobileBertEmbedding(word_vocab_size=10, word_embed_size=4, type_vocab_size=2, output_embed_size=8)
    >>> embed(keras.ops.array([[1, 2, 0]]), input_mask=keras.ops.array([[1, 1, 0]])).shape
    TensorShape([1, 3, 8])

    Differs from the Model Garden:
        `input_mask` and the arguments of `ProjectingLayer` are new. `max_sequence_length` and the ids are checked.

    Reference:
        [Sun et al., 2020](https://arxiv.org/abs/2004.02984), section 3.4.
    """

    def __init__(
        self,
        word_vocab_size,
        word_embed_size,
        type_vocab_size,
        output_embed_size,
        max_sequence_length=512,
        normalization_type="no_norm",
        initializer=None,
        dropout_rate=0.1,
        **kwargs,
    ):
        super().__init__(normalization_type, initializer, **kwargs)
        check_at_least(1, word_vocab_size=word_vocab_size, word_embed_size=word_embed_size, type_vocab_size=type_vocab_size)
        check_at_least(1, output_embed_size=output_embed_size, max_sequence_length=max_sequence_length)
        check_rate(dropout_rate=dropout_rate)
        self.word_vocab_size = word_vocab_size
        self.word_embed_size = word_embed_size
        self.type_vocab_size = type_vocab_size
        self.output_embed_size = output_embed_size
        self.max_sequence_length = max_sequence_length
        self.dropout_rate = dropout_rate

    def build(self, input_ids_shape):
        m, word = self.output_embed_size, self.word_embed_size
        self.word_embedding = self.make_table("word_embedding", self.word_vocab_size, word)
        self.type_embedding = self.make_table("type_embedding", self.type_vocab_size, m, use_one_hot=True)
        self.position_embedding = self.make_positions("position_embedding", self.max_sequence_length, m)
        self.embedding_projection = self.make_dense("embedding_projection", 3 * word, m)
        self.embedding_norm = self.make_norm("embedding_norm", m)
        self.dropout_layer = self.make_dropout(self.dropout_rate)

    def call(self, input_ids, token_type_ids=None, input_mask=None, training=None):
        check_alike(2, input_ids=input_ids, token_type_ids=token_type_ids, input_mask=input_mask)
        check_integers(input_ids=input_ids, token_type_ids=token_type_ids)
        check_length("input_ids", input_ids.shape[1], max_sequence_length=self.max_sequence_length)
        e = self.word_embedding(input_ids)
        if input_mask is not None:
            e = ops.where(ops.expand_dims(ops.cast(input_mask, "bool"), -1), e, ops.zeros((), e.dtype))
        x = self.embedding_projection(trigram(e))
        x = added_up(x, self.position_embedding(x))
        x = x if token_type_ids is None else added_up(x, self.type_embedding(token_type_ids))
        return self.dropout_layer(self.embedding_norm(x), training=training)

    def get_config(self):
        sizes = ("word_vocab_size", "word_embed_size", "type_vocab_size", "output_embed_size", "max_sequence_length")
        return super().get_config() | {name: getattr(self, name) for name in (*sizes, "dropout_rate")}


@keras.saving.register_keras_serializable(package="layers")
class MobileBertTransformer(MobileBertLayer):
    """A bottleneck encoder block: attention and a stack of feed-forward networks, on vectors smaller than input and output.

    Computes equations (4) to (7) of `reference/mobile_bert.py`, plus dropout.

    Axes: `b` batch, `t` query position, `s` key position, `h` head, `m` model size, `f` feed-forward size.

    Args:
        hidden_size: Size of input and output, `m`.
        num_attention_heads: Number of heads, `h`. It must divide `intra_bottleneck_size`.
        intermediate_size, intermediate_act_fn: Inner size of each feed-forward network, `f`, and its activation, by name or as
            a callable; "gelu" is the exact function.
        hidden_dropout_prob, attention_probs_dropout_prob: Fractions dropped while training, of the block's last linear map and
            of the attention weights. Nothing else is dropped.
        intra_bottleneck_size: Size of the vectors between the two bottlenecks.
        use_bottleneck_attention: Whether queries, keys and values all come from the bottleneck. If True, the next argument has
            no effect.
        key_query_shared_bottleneck: If True, as in the paper, queries and keys come from a bottleneck of their own and values
            from the input. If False, all three come from the input.
        num_feedforward_networks: Number of feed-forward networks, each with a residual connection and a norm.
        normalization_type, initializer: As in `MobileBertEmbedding`; the initializer is for all linear maps.
        bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint: As in
            `ProjectingLayer`, for every linear map, including those of attention.

    Call arguments:
        input_tensor: Tensor of shape `(b, t, m)`.
        attention_mask: Nonzero where attention is allowed; `(b, t, s)`, or broadcastable to `(b, h, t, s)`.
        return_attention_scores: Whether to return the attention weights too. Does not change the output.
        training: Whether to apply dropout.
        mask, input_tensor_mask: Nonzero at tokens, `(b, t)`. Keras fills one in; see `layers/common/masks.py`.

    Returns:
        Tensor of shape `(b, t, m)`; with `return_attention_scores`, also the attention weights `(b, h, t, s)`.

    Raises:
        ValueError: if a size is below 1, `num_attention_heads` does not divide `intra_bottleneck_size`, a rate is outside [0, 1),
            the norm or activation is unknown, the input is not `(b, t, m)`, or the mask does not broadcast.

    Example:

    >>> block = MobileBertTransformer(hidden_size=8, num_attention_heads=2, intermediate_size=8, intra_bottleneck_size=4)
    >>> block(keras.ops.ones((1, 3, 8))).shape
    TensorShape([1, 3, 8])

    Differs from the Model Garden:
        With `use_bottleneck_attention` there is no shared bottleneck; there, it is built but unused. "gelu" is exact. A query
        with no allowed key gets zeros from attention; there, it gets the mean of the values. The arguments of `ProjectingLayer`
        are new.

    Reference:
        [Sun et al., 2020](https://arxiv.org/abs/2004.02984), sections 3.1 to 3.3.
    """

    def __init__(
        self,
        hidden_size=512,
        num_attention_heads=4,
        intermediate_size=512,
        intermediate_act_fn="relu",
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        intra_bottleneck_size=128,
        use_bottleneck_attention=False,
        key_query_shared_bottleneck=True,
        num_feedforward_networks=4,
        normalization_type="no_norm",
        initializer=None,
        **kwargs,
    ):
        super().__init__(normalization_type, initializer, **kwargs)
        check_at_least(1, hidden_size=hidden_size, num_attention_heads=num_attention_heads, intermediate_size=intermediate_size)
        check_at_least(1, intra_bottleneck_size=intra_bottleneck_size, num_feedforward_networks=num_feedforward_networks)
        check_rate(hidden_dropout_prob=hidden_dropout_prob, attention_probs_dropout_prob=attention_probs_dropout_prob)
        check_flags(use_bottleneck_attention=use_bottleneck_attention, key_query_shared_bottleneck=key_query_shared_bottleneck)
        check_divisible(intra_bottleneck_size=intra_bottleneck_size, num_attention_heads=num_attention_heads)
        self.hidden_size = hidden_size
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.intermediate_act_fn = get_activation("intermediate_act_fn", intermediate_act_fn)
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.intra_bottleneck_size = intra_bottleneck_size
        self.use_bottleneck_attention = use_bottleneck_attention
        self.key_query_shared_bottleneck = key_query_shared_bottleneck
        self.num_feedforward_networks = num_feedforward_networks

    def build(self, input_tensor_shape):
        check_input(input_tensor_shape, self.hidden_size)
        m, inside, f = self.hidden_size, self.intra_bottleneck_size, self.intermediate_size
        self.bottleneck_input, self.bottleneck_input_norm = self.with_norm("bottleneck_input", m, inside)
        if self.has_shared_bottleneck:
            self.kq_shared_bottleneck, self.kq_shared_bottleneck_norm = self.with_norm("kq_shared_bottleneck", m, inside)
        self.attention = self.make_attention(
            *("attention", MultiHeadAttention),
            key_dim=inside // self.num_attention_heads,
            dropout=self.attention_probs_dropout_prob,
            output_shape=inside,
        )
        q_size = inside if self.use_bottleneck_attention or self.has_shared_bottleneck else m
        v_size = inside if self.use_bottleneck_attention else m
        self.attention.build((None, None, q_size), (None, None, v_size), (None, None, q_size))
        self.attention_norm = self.make_norm("attention_norm", inside)
        networks = range(self.num_feedforward_networks)
        self.intermediate_dense = [self.make_dense(f"intermediate_{i}", inside, f) for i in networks]
        self.output_dense = [self.make_dense(f"output_{i}", f, inside) for i in networks]
        self.output_norm = [self.make_norm(f"output_norm_{i}", inside) for i in networks]
        self.bottleneck_output, self.bottleneck_output_norm = self.with_norm("bottleneck_output", inside, m)
        self.dropout_layer = self.make_dropout(self.hidden_dropout_prob)

    def call(
        self, input_tensor, attention_mask=None, return_attention_scores=False, training=None, mask=None, input_tensor_mask=None
    ):
        check_input(input_tensor.shape, self.hidden_size)
        x, tokens = input_tensor, mask if input_tensor_mask is None else input_tensor_mask
        u = self.bottleneck_input_norm(self.bottleneck_input(x))
        query, value = self.query_and_value(x, u)
        masks = {"attention_mask": attention_mask, "query_mask": tokens, "value_mask": tokens, "key_mask": tokens}
        attended, scores = self.attention(query, value, query, return_attention_scores=True, training=training, **masks)
        y = self.attention_norm(added_up(u, attended))
        for i in range(self.num_feedforward_networks):
            y = self.output_norm[i](added_up(y, self.output_dense[i](self.intermediate_act_fn(self.intermediate_dense[i](y)))))
        z = self.bottleneck_output_norm(added_up(x, self.dropout_layer(self.bottleneck_output(y), training=training)))
        return (z, scores) if return_attention_scores else z

    def query_and_value(self, x, u):
        """The source of queries and keys, and the source of values, in equation (5)."""
        if self.use_bottleneck_attention:
            return u, u
        return (self.kq_shared_bottleneck_norm(self.kq_shared_bottleneck(x)) if self.has_shared_bottleneck else x), x

    @property
    def has_shared_bottleneck(self):
        return self.key_query_shared_bottleneck and not self.use_bottleneck_attention

    def get_config(self):
        names = ("hidden_size", "num_attention_heads", "intermediate_size", "intra_bottleneck_size", "num_feedforward_networks")
        names += ("hidden_dropout_prob", "attention_probs_dropout_prob")
        names += ("use_bottleneck_attention", "key_query_shared_bottleneck")
        activation = {"intermediate_act_fn": keras.activations.serialize(self.intermediate_act_fn)}
        return super().get_config() | {name: getattr(self, name) for name in names} | activation
