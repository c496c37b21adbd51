"""The encoder block that reuses attention weights of the previous block (Keras 3)."""

import keras

from layers.common.blocks import first_positions, split_inputs
from layers.common.checks import check_at_least, check_flags
from layers.common.masks import of_inputs
from layers.reuse_attention import ReuseMultiHeadAttention, reused_count
from layers.transformer_encoder import TransformerEncoderBlock

FORMS = {1: ("x",), 2: ("x", "attention_mask"), 3: ("x", "attention_mask", "reuse_attention_scores")}


@keras.saving.register_keras_serializable(package="layers")
class ReuseTransformer(TransformerEncoderBlock):
    """An encoder block in which some or all heads reuse the attention weights of the previous block.

    Computes equation (1) of `reference/reuse_transformer.py`, or equation (2) with `norm_first`, plus dropout.

    Axes: `b` batch, `t` query position, `h` head, `m` model size, `f` feed-forward size.

    Args:
        num_attention_heads, inner_dim, inner_activation: As in `TransformerEncoderBlock`.
        head_size: Another name for `key_dim`, the size of each query and key. Defaults to `m` / `h`.
        reuse_attention: Number of heads that reuse the weights of the previous block: 0 or False for none, -1 for all.
        use_relative_pe, pe_max_seq_length: As in `ReuseMultiHeadAttention`.
        layer_idx: The block's index in its stack, from 0. If given, block 0 reuses nothing, so that all blocks of a stack can
            have the same other arguments. Defaults to None: `reuse_attention` always applies.
        max_reuse_layer_idx: The last index at which a block reuses weights; later blocks reuse nothing. Requires `layer_idx`.
        return_attention_scores: Whether to return the attention weights too, which the next block needs. Defaults to True.
        output_range, kernel_initializer, …, attention_axes, **kwargs: The other arguments of `TransformerEncoderBlock` except
            `num_kv_heads`.

    Call arguments:
        inputs: `x`, `[x, attention_mask]` or `[x, attention_mask, reuse_attention_scores]`. `x` is `(b, t, m)`. The mask is
            nonzero where attention is allowed, `(b, t, t)` or `(b, h, t, t)`; it may be None. The scores are the weights that
            the previous block returned, `(b, h, t, t)`; they are ignored if no heads are reused.
        output_range: Number of positions, from the first, to compute. Overrides the constructor's.
        training: Whether to apply dropout.
        mask, inputs_mask: Padding masks of the inputs, a mask of `x` or a list as long as `inputs`. Keras fills one of the two in
            from the masks of the inputs; see `layers/common/masks.py`.
        attention_bias: Added to the scores of attention, such as the output of `RelativePositionBias`; broadcastable to
            `(b, h, t, s)`.

    Returns:
        Tensor of shape `(b, t, m)` and, unless `return_attention_scores` is False, the attention weights `(b, h, t, t)`: first
        the reused heads, then the new heads.

    Raises:
        ValueError: as in `TransformerEncoderBlock` and `ReuseMultiHeadAttention`, or if an index is below 0,
            `max_reuse_layer_idx` is given without `layer_idx`, `head_size` and `key_dim` differ, or `num_kv_heads` is given.

    Example:

    >>> blocks = [ReuseTransformer(4, 64, "gelu", reuse_attention=-1, layer_idx=i) for i in range(3)]
    >>> x, scores = blocks[0](keras.ops.ones((1, 5, 32)))
    >>> for block in blocks[1:]:
    ...     x, scores = block([x, keras.ops.ones((1, 5, 5)), scores])
    >>> x.shape, scores.shape
    (TensorShape([1, 5, 32]), TensorShape([1, 4, 5, 5]))

    Differs from the Model Garden:
        As in `TransformerEncoderBlock` and `ReuseMultiHeadAttention`: regularizers and rates apply to the sublayers that they
        name, masks apply to reused weights, and reused heads come first. The attribute `reuse_attention` keeps its value where
        `layer_idx` overrides it. The arguments `use_rms_norm`, `use_query_residual`, `key_dim`, `value_dim`, `output_last_dim`,
        `diff_q_kv_att_layer_norm` and `return_attention_scores` of the encoder block, and `output_range` in `call`, are new;
        `num_kv_heads` must be None. `attention_bias` is new.

    Reference:
        [Bhojanapalli et al., 2021](https://arxiv.org/abs/2110.06821).
    """

    def __init__(
        self,
        num_attention_heads,
        inner_dim,
        inner_activation,
        head_size=None,
        output_range=None,
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
        output_dropout=0.0,
        attention_dropout=0.0,
        inner_dropout=0.0,
        attention_initializer=None,
        attention_axes=None,
        reuse_attention=0,
        use_relative_pe=False,
        pe_max_seq_length=512,
        layer_idx=None,
        max_reuse_layer_idx=None,
        *,
        key_dim=None,
        return_attention_scores=True,
        num_kv_heads=None,
        **kwargs,
    ):
        key_dim = one_size(head_size, key_dim)
        if num_kv_heads is not None:
            raise ValueError(
                f"num_kv_heads must be None: here, each head has its own values. Received: num_kv_heads={num_kv_heads!r}"
            )
        super().__init__(
            *(num_attention_heads, inner_dim, inner_activation, output_range),
            *(kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer),
            *(activity_regularizer, kernel_constraint, bias_constraint, use_bias, norm_first, norm_epsilon),
            output_dropout=output_dropout,
            attention_dropout=attention_dropout,
            inner_dropout=inner_dropout,
            attention_initializer=attention_initializer,
            attention_axes=attention_axes,
            key_dim=key_dim,
            return_attention_scores=return_attention_scores,
            **kwargs,
        )
        self.head_size = head_size
        self.reuse_attention = reused_count(reuse_attention, num_attention_heads)
        self.use_relative_pe = use_relative_pe
        self.pe_max_seq_length = pe_max_seq_length
        self.layer_idx = layer_idx
        self.max_reuse_layer_idx = max_reuse_layer_idx
        check_reuse(self)

    def build(self, input_shape):
        super().build(split_inputs(input_shape, FORMS)[0])

    def call(self, inputs, output_range=None, training=None, mask=None, inputs_mask=None, attention_bias=None):
        x, attention_mask, before = split_inputs(inputs, FORMS)
        tokens = key_tokens = of_inputs(FORMS, mask, inputs_mask)[0]
        count = self.positions(output_range)
        normed, key_value = self.before_attention(x, x)
        x, normed, attention_mask, tokens, bias = first_positions(count, x, normed, attention_mask, tokens, attention_bias)
        if before is not None and count is not None:
            before = before[..., :count, :]
        added, scores = self.self_attention(
            normed,
            key_value,
            attention_mask=attention_mask,
            query_mask=tokens,
            value_mask=key_tokens,
            attention_bias=bias,
            return_attention_scores=True,
            training=training,
            reuse_attention_scores=before,
        )
        z = self.after_attention(x, added, training)
        return (z, scores) if self.return_attention_scores else z

    def make_attention(self, name, kind, **options):
        options |= {"use_relative_pe": self.use_relative_pe, "pe_max_seq_length": self.pe_max_seq_length}
        return super().make_attention(name, ReuseMultiHeadAttention, reuse_attention=self.reuse_here(), **options)

    def reuse_here(self):
        """Equation (3): `reuse_attention`, or 0 if the block's index says that nothing is reused."""
        if self.layer_idx is None:
            return self.reuse_attention
        last = self.layer_idx if self.max_reuse_layer_idx is None else self.max_reuse_layer_idx
        return self.reuse_attention if 0 < self.layer_idx <= last else 0

    def get_config(self):
        return super().get_config() | {
            "head_size": self.head_size,
            "reuse_attention": self.reuse_attention,
            "use_relative_pe": self.use_relative_pe,
            "pe_max_seq_length": self.pe_max_seq_length,
            "layer_idx": self.layer_idx,
            "max_reuse_layer_idx": self.max_reuse_layer_idx,
        }


def one_size(head_size, key_dim):
    """The size that the two arguments name; None if neither is given.

    Raises:
        ValueError: if they differ, or `head_size` is below 1.
    """
    if head_size is None:
        return key_dim
    check_at_least(1, head_size=head_size)
    if key_dim not in (None, head_size):
        raise ValueError(f"head_size and key_dim must be the same. Received: head_size={head_size}, key_dim={key_dim}")
    return head_size


def check_reuse(block):
    """Raise a ValueError unless the arguments that say what `block` reuses are in range and compatible."""
    check_flags(use_relative_pe=block.use_relative_pe)
    check_at_least(1, pe_max_seq_length=block.pe_max_seq_length)
    places = {"layer_idx": block.layer_idx, "max_reuse_layer_idx": block.max_reuse_layer_idx}
    check_at_least(0, **{name: place for name, place in places.items() if place is not None})
    if block.max_reuse_layer_idx is not None and block.layer_idx is None:
        raise ValueError(
            f"max_reuse_layer_idx needs layer_idx. Received: max_reuse_layer_idx={block.max_reuse_layer_idx}, layer_idx=None"
        )
