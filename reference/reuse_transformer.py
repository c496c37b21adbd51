r"""The encoder block whose attention reuses weights of the previous block, and the stack of such blocks.

Paper
    Bhojanapalli et al. (2021), "Leveraging redundancy in attention with Reuse Transformers", the section on Reuse
    Transformers. https://arxiv.org/abs/2110.06821

Equations
    (1)  post-norm:  a, A = Reuse(x, x; A'),            y = LN(x + a),   z = LN(y + FFN(y))
    (2)  pre-norm:   a, A = Reuse(LN(x), LN(x); A'),    y = x + a,       z = y + FFN(LN(y))
    (3)  a stack:    z_i, A_i = Block_i(z_(i−1); A_(i−1));   K_i = 0 for i = 0 and for i above the last block that reuses
         with Reuse of `reference/reuse_attention.py`, which returns the attention weights A; A' are those of the previous block

Axes
    b batch    t query position    s key position    h head    m model

Differs from the paper
    - In the paper, either every layer but the first reuses some heads (K < h), or some layers reuse all heads. Here each block
      has its own K, which allows both and any mixture.
    - As in `reference/reuse_attention.py`, masks apply to reused weights too, and relative positions only to new heads.
    - The paper keeps the norms and feed-forward networks of its baselines. Here they are those of the encoder block.

Layer: layers/reuse_transformer.py    Notebook: notebooks/reuse_transformer.ipynb
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from jaxtyping import Bool, Float
from numpy import ndarray as Array

from reference.common.activations import relu
from reference.common.normalization import LayerNorm, RMSNorm, normalize
from reference.common.projection import Projection
from reference.reuse_attention import ReuseAttentionWeights, reuse_attention, reuse_attention_one
from reference.transformer_encoder import EncoderWeights, feed_forward, transformer_encoder_block


class ReuseTransformerWeights(NamedTuple):
    """Named as in the layer: the weights of the encoder block, with reuse attention in place of attention."""

    self_attention: ReuseAttentionWeights
    self_attention_layer_norm: LayerNorm | RMSNorm
    intermediate: Projection
    output: Projection
    output_layer_norm: LayerNorm | RMSNorm
    self_attention_layer_norm_kv: LayerNorm | RMSNorm | None = None


def reuse_transformer_one(
    x: Float[Array, "s m"],
    position: int,
    weights: ReuseTransformerWeights,
    reused: Float[Array, "_ s"] | None,
    allowed: Bool[Array, " s"],
    activation: Callable = relu,
    epsilon: float = 1e-12,
) -> tuple[Float[Array, " m"], Float[Array, "h s"]]:
    """Equation (1) for one position of one sequence: the definition everything else must match.

    `reused` holds the attention weights of this position in the previous block.
    """
    a, attention = reuse_attention_one(x[position], x, weights.self_attention, reused, allowed, position)
    y = normalize(x[position] + a, weights.self_attention_layer_norm, epsilon)
    z = y + feed_forward(y, weights.intermediate, weights.output, activation)
    return normalize(z, weights.output_layer_norm, epsilon), attention


def reuse_transformer(
    x: Float[Array, "b t m"],
    weights: ReuseTransformerWeights,
    reused: Float[Array, "b _ t t"] | None = None,
    mask: Bool[Array, "#b #t t"] | Bool[Array, "#b #h #t t"] | None = None,
    bias: Float[Array, "#b #h #t t"] | None = None,
    **options,
) -> tuple[Float[Array, "b t _"], Float[Array, "b h t t"]]:
    """Equation (1), or (2) with `norm_first`, for every position. Returns the output and the attention weights.

    Args:
        x: The block's input.
        weights: Nested as the layer nests them.
        reused: The attention weights that the block before returned; needed if heads are reused.
        mask: True where attention is allowed.
        bias: Added to the scores of the new heads, as in `reuse_attention`.
        **options: Of `transformer_encoder_block`: activation, norm_first, use_query_residual, epsilon.
    """
    # It is the encoder block, whose attention returns its weights already; only these now come from somewhere, too.
    attention = partial(reuse_attention, reused=reused, bias=bias)
    return transformer_encoder_block(x, EncoderWeights(*weights), mask=mask, attention=attention, **options)


def reuse_transformers(
    x: Float[Array, "b t m"],
    weights: Sequence[ReuseTransformerWeights],
    mask: Bool[Array, "#b #t t"] | Bool[Array, "#b #h #t t"] | None = None,
    **options,
) -> tuple[Float[Array, "b t m"], list[Float[Array, "b h t t"]]]:
    """Equation (3): each block passes its output and its attention weights on. Returns the last output, and all weights."""
    attention = []
    for block in weights:
        x, scores = reuse_transformer(x, block, attention[-1] if attention else None, mask, **options)
        attention.append(scores)
    return x, attention


def reused_heads(reuse: int, heads: int, place: int, last: int | None = None) -> int:
    """K of equation (3) for the block at `place`: `reuse` heads, or all heads for −1; 0 in the first block and above `last`."""
    if place == 0 or (last is not None and place > last):
        return 0
    return heads if reuse == -1 else reuse
