r"""Transformer-XL: a stack of blocks with a memory of earlier segments.

Paper
    Dai et al. (2019), "Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context", sections 3.2 and 3.3.
    https://arxiv.org/abs/1901.02860
    Yang et al. (2019), "XLNet: Generalized Autoregressive Pretraining for Language Understanding", sections 2.3 and 2.4.
    https://arxiv.org/abs/1906.08237

Equations
    (1)  h̃ = [memory ∘ h]                                     (along positions; keys and values come from h̃, queries from h)
    (2)  y = LN(h + Attention(h, h̃, h̃)),   z = LN(y + FFN(y))  (the attention of reference/relative_attention.py)
    (3)  memory′ = SG(the last M of [memory ∘ h]),  h the block's input; SG passes no gradient
    (4)  two streams: h goes through (2) as above, g through (2) with queries from g and keys and values from the same h̃

Axes
    b batch    t query position    s key position    h head    l relative position
    m model    d key size          f feed-forward size

Differs from the paper
    - In the papers' equations the memory keeps all of h. Here it may keep the first tokens only, as in XLNet's pretraining.
    - The attention biases u and v are shared by all layers, as in the paper, or each layer has its own.
    - A key without an encoding, because it comes after the query, is not attended to.

Layer: layers/transformer_xl/    Notebook: notebooks/transformer_xl.ipynb
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray as Array

from reference.common.activations import relu
from reference.common.normalization import LayerNorm, layer_norm
from reference.common.projection import Projection, into_heads, out_of_heads
from reference.relative_attention import (
    RelativeAttentionWeights,
    Terms,
    after_memory,
    relative_attention,
    score,
    two_stream_relative_attention,
)
from reference.transformer_encoder import feed_forward


class XLBlockWeights(NamedTuple):
    """Named as in the layer."""

    self_attention: RelativeAttentionWeights
    self_attention_layer_norm: LayerNorm
    intermediate: Projection
    output: Projection
    output_layer_norm: LayerNorm


class XLWeights(NamedTuple):
    """The blocks, and u, v and b of attention: (h, d) for all blocks, or one per block. Without segments, b is None."""

    layer: tuple[XLBlockWeights, ...]
    content_attention_bias: Float[Array, "*layers h d"]
    positional_attention_bias: Float[Array, "*layers h d"]
    segment_attention_bias: Float[Array, "*layers h d"] | None = None


class XLOutput(NamedTuple):
    """The output of the last block and the memory of each block, None without one. `query` is None for one stream."""

    content: Float[Array, "b t m"]
    query: Float[Array, "b _ m"] | None
    memories: tuple[Float[Array, "b _ m"] | None, ...]


def block_at(
    x: Float[Array, "t m"],
    i: int,
    memory: Float[Array, "_ m"],
    weights: XLBlockWeights,
    encoding: Float[Array, "l m"],
    u: Float[Array, "h d"],
    v: Float[Array, "h d"],
) -> Float[Array, " m"]:
    """Equations (1) and (2) for token i of one segment, causal: the definition everything else must match.

    Row r of the encodings is for distance s − r, where s is the length of memory and segment together.
    """
    both = np.concatenate([memory, x])
    now, attention = len(memory) + i, weights.self_attention
    q, r = into_heads(x[i], attention.query), into_heads(encoding, attention.encoding)
    k, values = into_heads(both, attention.key), into_heads(both, attention.value)
    heads = []
    for h in range(len(q)):
        scores = [score(q[h], k[j, h], r[len(both) - (now - j), h], u[h], v[h]) for j in range(now + 1)]
        p = np.exp(scores) / np.sum(np.exp(scores))
        heads.append(sum(p[j] * values[j, h] for j in range(now + 1)))
    return after_attention(x[i], out_of_heads(np.stack(heads), attention.attention_output), weights)


def after_attention(
    x: Float[Array, "*rows m"],
    attended: Float[Array, "*rows m"],
    weights: XLBlockWeights,
    activation: Callable = relu,
    epsilon: float = 1e-12,
) -> Float[Array, "*rows m"]:
    """The rest of equation (2), the same for both streams."""
    y = layer_norm(x + attended, weights.self_attention_layer_norm, epsilon)
    z = y + feed_forward(y, weights.intermediate, weights.output, activation)
    return layer_norm(z, weights.output_layer_norm, epsilon)


def transformer_xl_block(
    content: Float[Array, "b t m"],
    weights: XLBlockWeights,
    encoding: Float[Array, "#b l _"] | None,
    terms: Terms,
    memory: Float[Array, "b _ m"] | None = None,
    content_mask: Bool[Array, "..."] | None = None,
    query: Float[Array, "b _ m"] | None = None,
    query_mask: Bool[Array, "..."] | None = None,
    target_mapping: Float[Array, "b _ t"] | None = None,
    activation: Callable = relu,
    epsilon: float = 1e-12,
) -> tuple[Float[Array, "b t m"], Float[Array, "b _ m"] | None]:
    """Equations (1), (2) and (4): the new content stream, and the new query stream if there is one."""
    attention = weights.self_attention
    if query is None:
        attended, _ = relative_attention(content, content, attention, terms, None, encoding, memory, content_mask)
        return after_attention(content, attended, weights, activation, epsilon), None
    attended, asked, *_ = two_stream_relative_attention(
        content, query, attention, encoding, terms, target_mapping, memory, content_mask, query_mask
    )
    streams = ((content, attended), (query, asked))
    return tuple(after_attention(x, added, weights, activation, epsilon) for x, added in streams)


def remember(
    memory: Float[Array, "b _ m"] | None, h: Float[Array, "b t m"], memory_length: int | None, reuse_length: int | None = None
) -> Float[Array, "b _ m"] | None:
    """Equation (3): the last `memory_length` of the old memory and h, or the first `reuse_length` of h; None for no memory."""
    if not memory_length:
        return None
    return after_memory(memory, h[:, :reuse_length] if reuse_length else h)[:, -memory_length:]


def transformer_xl(
    content: Float[Array, "b t m"],
    weights: XLWeights,
    encoding: Float[Array, "#b l _"],
    state: tuple[Float[Array, "b _ m"] | None, ...] | None = None,
    memory_length: int | None = None,
    reuse_length: int | None = None,
    segment_matrix: Bool[Array, "#b #t s"] | None = None,
    segment_embedding: Float[Array, "_ 2 h d"] | None = None,
    content_mask: Bool[Array, "..."] | None = None,
    query: Float[Array, "b _ m"] | None = None,
    query_mask: Bool[Array, "..."] | None = None,
    target_mapping: Float[Array, "b _ t"] | None = None,
    activation: Callable = relu,
) -> XLOutput:
    """The stack: each block has its own memory, of what came into it."""
    memories = []
    for i, block in enumerate(weights.layer):
        memory = state[i] if state else None
        memories.append(remember(memory, content, memory_length, reuse_length))
        terms = terms_of_layer(i, weights, segment_matrix, segment_embedding)
        content, query = transformer_xl_block(
            content, block, encoding, terms, memory, content_mask, query, query_mask, target_mapping, activation
        )
    return XLOutput(content, query, tuple(memories))


def terms_of_layer(
    i: int, weights: XLWeights, segment_matrix: Bool[Array, "..."] | None, segment_embedding: Float[Array, "_ 2 h d"] | None
) -> Terms:
    """The terms in the scores of layer i. A layer has its own biases if the weights have a layer axis."""
    biases = weights[1:] if segment_matrix is not None else (*weights[1:3], None)
    u, v, b = (bias[i] if bias is not None and bias.ndim == 3 else bias for bias in biases)
    return Terms(u, v, None, b, None if segment_matrix is None else segment_embedding[i], segment_matrix)


def by_segments(
    x: Float[Array, "b t m"], weights: XLWeights, encode: Callable, length: int, memory_length: int | None
) -> Float[Array, "b t m"]:
    """A long sequence in segments of `length`, each with the memory of the earlier ones.

    `encode` takes t and s and returns the encodings. With s + 1 rows, no token attends to a later one.
    """
    state, outputs = None, []
    for start in range(0, x.shape[1], length):
        segment = x[:, start : start + length]
        s = segment.shape[1] + (0 if state is None or state[0] is None else state[0].shape[1])
        output = transformer_xl(segment, weights, encode(segment.shape[1], s), state, memory_length)
        outputs.append(output.content)
        state = output.memories
    return np.concatenate(outputs, axis=1)
