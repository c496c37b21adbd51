"""BERT's encoder (Keras 3)."""

import keras

from layers.common.activations import get_activation
from layers.common.blocks import BlockLayer
from layers.common.checks import (
    check_at_least,
    check_divisible,
    check_epsilon,
    check_flags,
    check_length,
    check_rank,
    check_rate,
    check_same,
    interpreted,
)
from layers.common.ids import check_integers
from layers.common.projection import fresh
from layers.common.sums import added_up
from layers.on_device_embedding import OnDeviceEmbedding
from layers.positional_embedding import PositionalEmbedding
from layers.self_attention_mask import SelfAttentionMask
from layers.transformer_encoder import TransformerEncoderBlock

RENAMED = {"kernel_initializer": "initializer"}
INPUTS = ("input_word_ids", "input_mask", "input_type_ids")


@keras.saving.register_keras_serializable(package="layers")
class BertEncoder(BlockLayer):
    """BERT's encoder: from the ids of packed word pieces to a vector for each piece, and one for the whole sequence.

    Computes equations (1) to (3) of `reference/bert.py`, plus dropout.

    Axes: `b` batch, `t` position, `h` head, `m` model size, `f` feed-forward size, `n` vocabulary.

    Args:
        vocab_size: Number of word pieces, `n`.
        hidden_size: Model size, `m`.
        num_layers: Number of transformer blocks.
        num_attention_heads: Number of heads in each block, `h`, a divisor of `m`.
        max_sequence_length: Number of position embeddings, the largest length of the inputs.
        type_vocab_size: Number of segment embeddings.
        inner_dim: Inner size of the feed-forward networks, `f`.
        inner_activation: Their activation, by name or as a callable. "gelu" is the exact function, "gelu_tanh" its approximation.
        output_dropout, attention_dropout: Fractions dropped while training: of the embeddings and of each sublayer's output, and
            of the attention weights.
        initializer: Initializer of every kernel and embedding table. Defaults to BERT's: a normal distribution with standard
            deviation 0.02, truncated at 0.04.
        norm_epsilon: Added to the variance in every norm.
        use_pooler: Whether to compute `pooled_output`.
        return_attention_scores: Whether to return the attention weights too.
        bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint: For
            every linear map, with the same meaning and defaults as in `keras.layers.Dense`.

    Call arguments:
        inputs: Dict of three integer tensors `(b, t)`, as returned by `BertPackInputs`: `input_word_ids`, ids of word pieces;
            `input_mask`, nonzero where there is a token; `input_type_ids`, ids of segments. An id outside its table is embedded
            as zeros.
        training: Whether to apply dropout.

    Returns:
        Dict of `sequence_output`, `(b, t, m)`; `encoder_outputs`, the list of the outputs of all blocks, each `(b, t, m)`; with
        `use_pooler`, `pooled_output`, `(b, m)`; with `return_attention_scores`, `attention_scores`, the list of the attention
        weights of all blocks, each `(b, h, t, t)`.

    Raises:
        ValueError: if a size is below 1, a rate is outside [0, 1), `h` does not divide `m`, the activation is unknown, `inputs`
            is not such a dict, or its tensors do not have 2 axes, differ in shape, are longer than `max_sequence_length`, or hold
            ids that are not integers.

    Example:

    >>> encoder = BertEncoder(vocab_size=30, hidden_size=8, num_layers=2, num_attention_heads=2, inner_dim=16)
    >>> ids = keras.ops.ones((1, 5), "int32")
    >>> encoder({"input_word_ids": ids, "input_mask": ids, "input_type_ids": 0 * ids})["pooled_output"].shape
    TensorShape([1, 8])

    Differs from the Model Garden:
        This is a layer; there, it is a model. `type_vocab_size` defaults to BERT's 2 instead of 16. The pooler is optional.
        Outputs are in the compute dtype. `output_range`, `embedding_width`, `embedding_layer` and `norm_first` are omitted.

    Reference:
        [Devlin et al., 2018](https://arxiv.org/abs/1810.04805), section 3.
    """

    renamed_arguments = RENAMED

    integer_arguments = ("inputs",)

    def __init__(
        self,
        vocab_size,
        hidden_size=768,
        num_layers=12,
        num_attention_heads=12,
        max_sequence_length=512,
        type_vocab_size=2,
        inner_dim=3072,
        inner_activation="gelu",
        output_dropout=0.1,
        attention_dropout=0.1,
        initializer=None,
        norm_epsilon=1e-12,
        use_pooler=True,
        return_attention_scores=False,
        **kwargs,
    ):
        [initializer] = interpreted(keras.initializers.get, initializer=initializer)
        initializer = initializer or keras.initializers.TruncatedNormal(stddev=0.02)
        # The inputs are ids and a mask, which must not be cast: in float16, a small number in the mask would become zero.
        super().__init__(kernel_initializer=initializer, autocast=False, **kwargs)
        check_at_least(1, vocab_size=vocab_size, hidden_size=hidden_size, num_layers=num_layers, inner_dim=inner_dim)
        check_at_least(1, num_attention_heads=num_attention_heads, type_vocab_size=type_vocab_size)
        check_at_least(1, max_sequence_length=max_sequence_length)
        check_rate(output_dropout=output_dropout, attention_dropout=attention_dropout)
        check_epsilon(norm_epsilon=norm_epsilon)
        check_flags(use_pooler=use_pooler, return_attention_scores=return_attention_scores)
        check_divisible(hidden_size=hidden_size, num_attention_heads=num_attention_heads)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.num_attention_heads = num_attention_heads
        self.max_sequence_length = max_sequence_length
        self.type_vocab_size = type_vocab_size
        self.inner_dim = inner_dim
        self.inner_activation = get_activation("inner_activation", inner_activation)
        self.output_dropout = output_dropout
        self.attention_dropout = attention_dropout
        self.initializer = initializer
        self.norm_epsilon = norm_epsilon
        self.use_pooler = use_pooler
        self.return_attention_scores = return_attention_scores

    def build(self, inputs_shape):
        b, t = self.shape_of(inputs_shape)
        m = self.hidden_size
        self.word_embeddings = self.make_table("word_embeddings", self.vocab_size)
        self.type_embeddings = self.make_table("type_embeddings", self.type_vocab_size)
        self.position_embedding = PositionalEmbedding(
            self.max_sequence_length, fresh(self.initializer), name="position_embedding", dtype=self.dtype_policy
        )
        self.position_embedding.build((b, t, m))
        self.embeddings_norm = self.make_norm("embeddings_layer_norm", m)
        self.embeddings_dropout = self.make_dropout(self.output_dropout)
        self.mask_layer = SelfAttentionMask(dtype=self.dtype_policy)
        self.transformer_blocks = [self.make_block(i) for i in range(self.num_layers)]
        for block in self.transformer_blocks:
            block.build((b, t, m))
        self.pooler = self.make_dense("pooler", m, m) if self.use_pooler else None

    def make_table(self, name, rows):
        table = OnDeviceEmbedding(rows, self.hidden_size, fresh(self.initializer), name=name, dtype=self.dtype_policy)
        table.build((None, None))
        return table

    def make_block(self, i):
        return TransformerEncoderBlock(
            self.num_attention_heads,
            self.inner_dim,
            self.inner_activation,
            norm_epsilon=self.norm_epsilon,
            output_dropout=self.output_dropout,
            attention_dropout=self.attention_dropout,
            return_attention_scores=True,
            name=f"transformer_{i}",
            dtype=self.dtype_policy,
            **self.projection_options(),
        )

    def call(self, inputs, training=None):
        self.shape_of({name: getattr(x, "shape", None) for name, x in inputs.items()} if isinstance(inputs, dict) else inputs)
        tokens, mask, segments = (inputs[name] for name in INPUTS)
        check_integers(input_word_ids=tokens, input_type_ids=segments)
        z, blocks, attention = self.embed_inputs(tokens, segments, training), [], []
        allowed = self.mask_layer(z, mask)
        for block in self.transformer_blocks:
            z, scores = block([z, allowed], training=training)
            blocks.append(z)
            attention.append(scores)

        outputs = {"sequence_output": z, "encoder_outputs": blocks}
        if self.use_pooler:
            outputs["pooled_output"] = get_activation("pooler", "tanh")(self.pooler(z[:, 0]))
        return outputs | ({"attention_scores": attention} if self.return_attention_scores else {})

    def embed_inputs(self, tokens, segments, training):
        """Equation (1)."""
        words, kinds = self.word_embeddings(tokens), self.type_embeddings(segments)
        x = self.embeddings_norm(added_up(added_up(words, self.position_embedding(words)), kinds))
        return self.embeddings_dropout(x, training=training)

    def shape_of(self, shapes):
        """`(b, t)` from the shapes of the inputs, after checking them."""
        if not isinstance(shapes, dict) or set(shapes) != set(INPUTS):
            received = f"a dict of {sorted(shapes)}" if isinstance(shapes, dict) else "inputs that are not a dict"
            raise ValueError(f"inputs must be a dict of {', '.join(INPUTS)}. Received: {received}")
        if missing := [name for name, shape in shapes.items() if shape is None]:
            raise ValueError(f"{missing[0]} must be a tensor. Received: {missing[0]}=None")
        check_rank(2, **shapes)
        for axis, what in ((0, "batch size"), (1, "length")):
            check_same(what, **{name: shape[axis] for name, shape in shapes.items()})
        b, t = shapes["input_word_ids"]
        check_length("inputs", t, max_sequence_length=self.max_sequence_length)
        if self.use_pooler and t == 0:
            raise ValueError(f"inputs must have at least one token for the pooler. Received: inputs of shape {(b, t)}")
        return b, t

    def get_config(self):
        config = super().get_config()
        names = ("vocab_size", "hidden_size", "num_layers", "num_attention_heads", "max_sequence_length", "type_vocab_size")
        names += ("inner_dim", "output_dropout", "attention_dropout", "norm_epsilon", "use_pooler", "return_attention_scores")
        config |= {name: getattr(self, name) for name in names}
        config["inner_activation"] = keras.activations.serialize(self.inner_activation)
        config["initializer"] = config.pop("kernel_initializer")
        return config
