r"""The feed-forward network of a transformer, with a gate.

Paper
    Shazeer (2020), "GLU Variants Improve Transformer", section 2, equations (2) to (6). https://arxiv.org/abs/2002.05202

Equations
    (1)  FFN(x) = φ(x W) W_2
    (2)  FFN_GLU(x) = (φ(x W) ⊙ x V) W_2
    (3)  block      y = LN(x + FFN(x)),   applied once or several times in sequence

         φ in (2): sigmoid  GLU    identity  Bilinear    max(0, ·)  ReGLU    GELU  GEGLU    Swish  SwiGLU

Axes
    b batch    t position    m model    f feed-forward

Differs from the paper
    - The maps may have biases, as in Vaswani et al. (2017); the paper's have none.
    - The paper reduces the units to two thirds when there is a gate, so that three maps have as many parameters as two had. Here
      the weights determine the number of units.
    - The residual connection and the norm are part of the block; the paper leaves them to the surrounding model. The norm comes
      last, as in Vaswani et al. A block without a norm still has its residual connection.

Layer: layers/gated_feedforward.py    Notebook: notebooks/gated_feedforward.ipynb
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float
from numpy import ndarray as Array

from reference.common.activations import gelu
from reference.common.normalization import LayerNorm, layer_norm
from reference.common.projection import Projection, dense


class GatedFeedforwardWeights(NamedTuple):
    """W, V, W_2 and the norm of every block, named as in the layer."""

    intermediate: tuple[Projection, ...]
    gate: tuple[Projection, ...] | None
    output: tuple[Projection, ...]
    output_layer_norm: tuple[LayerNorm, ...] | None


def feed_forward_one(
    x: Float[Array, " m"],
    w: Float[Array, "m f"],
    v: Float[Array, "m f"] | None,
    w2: Float[Array, "f m"],
    phi: Callable,
) -> Float[Array, " m"]:
    """Equation (2), or (1) if there is no `v`, for one token: the definition everything else must match.

    Each unit writes its row of W_2, as strongly as what it finds in x.
    """
    strengths = phi(x @ w) if v is None else phi(x @ w) * (x @ v)
    return sum(strength * row for strength, row in zip(strengths, w2))


def feed_forward(
    x: Float[Array, "*rows m"], intermediate: Projection, gate: Projection | None, output: Projection, phi: Callable
) -> tuple[Float[Array, "*rows m"], Float[Array, "*rows f"]]:
    """Equation (2), or (1) if there is no `gate`, for every token, with biases. Returns the output and the units' strengths."""
    strengths = phi(dense(x, intermediate))
    if gate is not None:
        strengths = strengths * dense(x, gate)
    return dense(strengths, output), strengths


def gated_feedforward(
    x: Float[Array, "*rows m"], weights: GatedFeedforwardWeights, phi: Callable = gelu, epsilon: float = 1e-12
) -> tuple[Float[Array, "*rows m"], tuple[Float[Array, "*rows f"], ...]]:
    """Equation (3), block after block.

    Args:
        x: Tokens, with any number of leading axes.
        weights: Without a `gate`, (1) is computed; without an `output_layer_norm`, y = x + FFN(x).
        phi: The activation φ.
        epsilon: The ε of the norms.

    Returns:
        The output, and the strengths of the units of each block.
    """
    blocks = range(len(weights.intermediate))
    gates = weights.gate or [None for _ in blocks]
    all_strengths = []
    for i in blocks:
        y, strengths = feed_forward(x, weights.intermediate[i], gates[i], weights.output[i], phi)
        x = x + y
        if weights.output_layer_norm is not None:
            x = layer_norm(x, weights.output_layer_norm[i], epsilon)
        all_strengths.append(strengths)
    return x, tuple(all_strengths)
