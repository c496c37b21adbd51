r"""MobileBERT: blocks with wide inputs and outputs and a narrow inside, and an embedding that reads three words.

Paper
    Sun et al. (2020), "MobileBERT: a Compact Task-Agnostic BERT for Resource-Limited Devices", sections 3.1 to 3.4, table 1.
    https://arxiv.org/abs/2004.02984

Equations
    (1)  c_t = [e_{t+1}; e_t; e_{t−1}],   e_t = E_i, i = id_t,   e = 0 before the first and after the last
    (2)  x_t = norm(c_t W + b + P_t + S_{type_t})
    (3)  NoNorm(x) = γ ⊙ x + β          the student's norm in all that follows; the teacher's is LayerNorm
    (4)  u = norm(x W_in + b_in)        the bottleneck:  from the model size to a smaller one
         w = norm(x W_kq + b_kq)        the shared bottleneck of queries and keys
    (5)  y = norm(u + MultiHead(Q = w, K = w, V = x))
    (6)  y ← norm(y + FFN_i(y)),   FFN_i(y) = max(0, y W_i + b_i) W'_i + b'_i,   for each i in turn
    (7)  z = norm(x + y W_out + b_out)

Axes
    b batch    t query position    s key position    h head    m model    f feed-forward    n vocabulary
    The size of a word's vector and the size inside a block have no letter.

Differs from the paper
    - The paper calls (1) and (2) a convolution with a kernel of size 3 and says nothing of its ends or of padding. The order in
      (1) and the zeros are those of its published weights; `as_convolution` gives the kernel. A neighbor that is padding is read
      like a word, as in the published model, unless the caller marks padding: then it counts as zero, as beyond the ends.
    - Queries, keys and values may all come from u, or all from x. The norms may be LayerNorm, and the activation is an argument.

Layer: layers/mobile_bert/    Notebook: notebooks/mobile_bert.ipynb
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array

from reference.attention import AttentionWeights, attend_one, multi_head_attention
from reference.common.activations import relu
from reference.common.normalization import LayerNorm, no_norm
from reference.common.projection import Projection, dense, into_heads, out_of_heads
from reference.on_device_embedding import OnDeviceEmbeddingWeights, embed
from reference.positional_embedding import PositionalEmbeddingWeights
from reference.transformer_encoder import feed_forward


class MobileBertEmbeddingWeights(NamedTuple):
    """E, P, S, W and b, and the norm, named as in the layer. NoNorm and LayerNorm have the same weights."""

    word_embedding: OnDeviceEmbeddingWeights
    position_embedding: PositionalEmbeddingWeights
    type_embedding: OnDeviceEmbeddingWeights
    embedding_projection: Projection
    embedding_norm: LayerNorm


class MobileBertWeights(NamedTuple):
    """The weights of a block, named as in the layer. The shared bottleneck is None if it is not used."""

    bottleneck_input: Projection
    bottleneck_input_norm: LayerNorm
    kq_shared_bottleneck: Projection | None
    kq_shared_bottleneck_norm: LayerNorm | None
    attention: AttentionWeights
    attention_norm: LayerNorm
    intermediate: tuple[Projection, ...]
    output: tuple[Projection, ...]
    output_norm: tuple[LayerNorm, ...]
    bottleneck_output: Projection
    bottleneck_output_norm: LayerNorm


def trigram_one(e: Float[Array, "t _"], position: int) -> Float[Array, " _"]:
    """Equation (1) for one position: the definition everything else must match."""
    nothing = np.zeros_like(e[0])
    following = e[position + 1] if position + 1 < len(e) else nothing
    before = e[position - 1] if position > 0 else nothing
    return np.concatenate([following, e[position], before])


def trigram(e: Float[Array, "b t _"]) -> Float[Array, "b t _"]:
    """Equation (1) for every position."""
    nothing = np.zeros_like(e[:, :1])
    padded = np.concatenate([nothing, e, nothing], axis=1)
    return np.concatenate([padded[:, 2:], padded[:, 1:-1], padded[:, :-2]], axis=-1)


def as_convolution(kernel: Float[Array, "_ m"]) -> Float[Array, "3 _ m"]:
    """W of equation (2) as the kernel of a convolution of width 3, previous word first, with zeros beyond the ends."""
    return kernel.reshape(3, -1, kernel.shape[-1])[::-1]


def convolve(e: Float[Array, "b t _"], kernel: Float[Array, "3 _ m"]) -> Float[Array, "b t m"]:
    """Σ_j e_{t+j−1} K_j, which equals c_t W without forming c."""
    padded = np.pad(e, [(0, 0), (1, 1), (0, 0)])
    t = e.shape[1]
    return sum(padded[:, j : j + t] @ kernel[j] for j in range(3))


def mobile_bert_embedding(
    ids: Int[Array, "b t"],
    weights: MobileBertEmbeddingWeights,
    type_ids: Int[Array, "b t"] | None = None,
    input_mask: Bool[Array, "b t"] | None = None,
    norm: Callable = no_norm,
) -> Float[Array, "b t m"]:
    """Equation (2) for every position.

    Args:
        ids: An id outside the vocabulary has the zero vector.
        weights: The tables, the projection and the norm.
        type_ids: Without them, no S is added.
        input_mask: True at tokens. The e of any other position is zero. Without a mask, every position is a token.
        norm: `no_norm` or `layer_norm`.
    """
    e = embed(ids, weights.word_embedding.embeddings)
    if input_mask is not None:
        e = np.where(input_mask[..., None], e, 0)
    x = dense(trigram(e), weights.embedding_projection) + weights.position_embedding.embeddings[: ids.shape[1]]
    if type_ids is not None:
        x = x + embed(type_ids, weights.type_embedding.embeddings)
    return norm(x, weights.embedding_norm)


def mobile_bert_one(
    x: Float[Array, "s m"], position: int, weights: MobileBertWeights, activation: Callable = relu, norm: Callable = no_norm
) -> Float[Array, " m"]:
    """Equations (4) to (7) for one position of one sequence: the definition everything else must match."""
    w = norm(dense(x, weights.kq_shared_bottleneck), weights.kq_shared_bottleneck_norm)
    q, k = into_heads(w[position], weights.attention.query), into_heads(w, weights.attention.key)
    v = into_heads(x, weights.attention.value)
    heads = np.stack([attend_one(q[h], k[:, h], v[:, h]) for h in range(len(q))])

    u = norm(dense(x[position], weights.bottleneck_input), weights.bottleneck_input_norm)
    y = norm(u + out_of_heads(heads, weights.attention.attention_output), weights.attention_norm)
    for intermediate, output, output_norm in zip(weights.intermediate, weights.output, weights.output_norm):
        y = norm(y + dense(activation(dense(y, intermediate)), output), output_norm)
    return norm(x[position] + dense(y, weights.bottleneck_output), weights.bottleneck_output_norm)


def mobile_bert_transformer(
    x: Float[Array, "b t m"],
    weights: MobileBertWeights,
    activation: Callable = relu,
    norm: Callable = no_norm,
    mask: Bool[Array, "..."] | None = None,
    use_bottleneck_attention: bool = False,
    key_query_shared_bottleneck: bool = True,
) -> tuple[Float[Array, "b t m"], Float[Array, "b h t s"]]:
    """Equations (4) to (7) for every position.

    Args:
        x: The block's input.
        weights: Nested as in the layer.
        activation: The activation in place of max(0, ·).
        norm: `no_norm` or `layer_norm`, for all norms.
        mask: True where attention is allowed.
        use_bottleneck_attention: Whether Q = K = V = u, in place of (5).
        key_query_shared_bottleneck: Whether Q = K = w, as in (5). If neither flag is set, Q = K = V = x.

    Returns:
        The output, and the attention weights.
    """
    u = norm(dense(x, weights.bottleneck_input), weights.bottleneck_input_norm)
    if use_bottleneck_attention:
        query, value = u, u
    elif key_query_shared_bottleneck:
        query, value = norm(dense(x, weights.kq_shared_bottleneck), weights.kq_shared_bottleneck_norm), x
    else:
        query, value = x, x
    attended, scores = multi_head_attention(query, value, weights.attention, key=query, mask=mask)

    y = norm(u + attended, weights.attention_norm)
    for intermediate, output, output_norm in zip(weights.intermediate, weights.output, weights.output_norm):
        y = norm(y + feed_forward(y, intermediate, output, activation), output_norm)
    return norm(x + dense(y, weights.bottleneck_output), weights.bottleneck_output_norm), scores
