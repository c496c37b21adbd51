r"""ReZero: a block whose sublayers are multiplied by a number that starts at zero.

Paper
    Bachlechner et al. (2020), "ReZero is All You Need: Fast Convergence at Large Depth", sections 3 and 5.
    https://arxiv.org/abs/2003.04887

Equations
    (1)  x_{i+1} = x_i + α_i F(x_i),   α_i = 0 at the start
    (2)  y = x + α MultiHead(x, x, x),   z = y + α FFN(y)      the transformer block: one α for both sublayers, and no norm

Axes
    b batch    t query position    s key position    h head    m model    f feed-forward

Differs from the paper
    - The activation of FFN is an argument, GELU by default.
    - Attention and the feed-forward network may each have their own α.
    - Both sums may be followed by norms, as in a post-norm block. The paper's point is that no norm is needed.
    - Keys and values may come from a different sequence than the queries.

Layer: layers/rezero_transformer.py    Notebook: notebooks/rezero_transformer.ipynb
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray as Array

from reference.attention import AttentionWeights, attend_one, multi_head_attention
from reference.common.activations import gelu
from reference.common.normalization import LayerNorm, layer_norm
from reference.common.projection import Projection, into_heads, out_of_heads
from reference.transformer_encoder import feed_forward


class ReZeroWeights(NamedTuple):
    """Named as in the layer. The feed-forward network's own α and the norms are optional."""

    self_attention: AttentionWeights
    intermediate: Projection
    output: Projection
    rezero_alpha: Float[Array, ""]
    rezero_alpha_ffn: Float[Array, ""] | None = None
    self_attention_layer_norm: LayerNorm | None = None
    output_layer_norm: LayerNorm | None = None


class ReZeroOutput(NamedTuple):
    """The output, the stream between the two sublayers, and the attention weights."""

    output: Float[Array, "b t m"]
    between: Float[Array, "b t m"]
    attention: Float[Array, "b h t s"]


def rezero(x: Float[Array, "*shape"], alpha: float | Float[Array, ""], f: Callable) -> Float[Array, "*shape"]:
    """Equation (1) for any F that keeps the shape."""
    return x + alpha * f(x)


def rezero_one(x: Float[Array, "s m"], position: int, weights: ReZeroWeights, activation: Callable = gelu) -> Float[Array, " m"]:
    """Equation (2) for one position of one sequence, without norms: the definition everything else must match."""
    alpha, alpha_ffn = alphas(weights)
    q = into_heads(x[position], weights.self_attention.query)
    k, v = (into_heads(x, projection) for projection in (weights.self_attention.key, weights.self_attention.value))
    heads = np.stack([attend_one(q[h], k[:, h], v[:, h]) for h in range(len(q))])
    y = x[position] + alpha * out_of_heads(heads, weights.self_attention.attention_output)
    return rezero(y, alpha_ffn, lambda y: feed_forward(y, weights.intermediate, weights.output, activation))


def rezero_transformer(
    x: Float[Array, "b t m"],
    weights: ReZeroWeights,
    activation: Callable = gelu,
    key_value: Float[Array, "b s _"] | None = None,
    mask: Bool[Array, "#b #t #s"] | Bool[Array, "#b #h #t #s"] | None = None,
    epsilon: float = 1e-12,
    bias: Float[Array, "#b #h #t #s"] | None = None,
) -> ReZeroOutput:
    """Equation (2) for every position.

    Args:
        x: The block's input, from which the queries come.
        weights: Nested as in the layer. Norms, if there are any, are applied after the sums.
        activation: The activation of the feed-forward network.
        key_value: Where keys and values come from, if not from `x`.
        mask: True where attention is allowed.
        epsilon: The ε of the norms.
        bias: Of attention, as in `reference/attention.py`.
    """
    alpha, alpha_ffn = alphas(weights)
    value = x if key_value is None else key_value
    added, attention = multi_head_attention(x, value, weights.self_attention, mask=mask, bias=bias)
    y = x + alpha * added
    if weights.self_attention_layer_norm is not None:
        y = layer_norm(y, weights.self_attention_layer_norm, epsilon)
    z = rezero(y, alpha_ffn, lambda y: feed_forward(y, weights.intermediate, weights.output, activation))
    if weights.output_layer_norm is not None:
        z = layer_norm(z, weights.output_layer_norm, epsilon)
    return ReZeroOutput(z, y, attention)


def alphas(weights: ReZeroWeights) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The α of attention and that of the feed-forward network, which is the same unless it has its own."""
    own = weights.rezero_alpha_ffn
    return weights.rezero_alpha, weights.rezero_alpha if own is None else own
