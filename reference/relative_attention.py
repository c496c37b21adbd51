r"""Attention whose scores depend on the distance between two tokens, in one stream and in two.

Paper
    Dai et al. (2019), "Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context", section 3.3 and appendix B.
    https://arxiv.org/abs/1901.02860
    Yang et al. (2019), "XLNet: Generalized Autoregressive Pretraining for Language Understanding", sections 2.3 (two streams)
    and 2.5 (segments). https://arxiv.org/abs/1906.08237

Equations
    (1)  A_ij = [(q_i + u)ᵀ k_j  +  (q_i + v)ᵀ W R_{i−j}  +  (q_i + b)ᵀ s_ij] / √d,   s_ij: s_0 if in the same segment, else s_1
    (2)  output_i = Σ_j softmax_j(A_ij) v_j                    (values carry no positions)
    (3)  content stream   h_i ← (2) with q_i from h_i, over keys of h with rank in the order at most that of i
         query stream     g_i ← (2) with q_i from g_i, over keys of h with rank in the order below that of i
    (4)  shift: A_ij uses the encoding in row  j + t − i

Axes
    b batch    t query position    s key position    h head    l relative position
    m model    d key size          e value size

    The last query is at the position of the last key: query i is at position i + (s − t), after the s − t keys of the memory.
    Row r of the encodings is for distance s − r. So t + s rows are for distances s, s−1, …, 1−t, and s + 1 rows for s, …, 0.

Differs from the paper
    - The papers print (1) without 1/√d; here it divides all three terms.
    - Dai et al. only attend backwards. Here distances may be negative if there are t + s rows. With s + 1 rows attention is
      causal, because a key without an encoding is not attended to.
    - The caller passes R, which may be any encoding; `relative_position_encoding` gives the papers' sinusoids.
    - Projections may have biases, W has none. A query that may attend to no key gets the zero vector.

Layer: layers/relative_attention.py    Notebook: notebooks/relative_attention.ipynb
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array

from reference.attention import for_every_head
from reference.common.projection import Projection, into_heads, out_of_heads
from reference.masked_softmax import masked_softmax
from reference.positional_embedding import frequencies, sines_then_cosines


class RelativeAttentionWeights(NamedTuple):
    """The weights of attention, and `encoding`, the W of equation (1), if there are positions."""

    query: Projection
    key: Projection
    value: Projection
    attention_output: Projection
    encoding: Projection | None = None


class Terms(NamedTuple):
    """The parts of equation (1) other than queries and keys. A term without its encoding is left out; a missing bias is zero."""

    u: Float[Array, "h d"] | None = None
    v: Float[Array, "h d"] | None = None
    encoded: Float[Array, "#b l h d"] | None = None  # W R, row r for distance s − r
    b: Float[Array, "h d"] | None = None
    segment_encoding: Float[Array, "2 h d"] | None = None  # s_0, s_1
    segment_matrix: Bool[Array, "#b #t s"] | None = None  # True where query and key are in different segments


NO_TERMS = Terms()


def score(q: Float[Array, " d"], k: Float[Array, " d"], r: Float[Array, " d"], u: Float[Array, " d"], v: Float[Array, " d"]):
    """Equation (1) for one query, one key and the encoding of their distance: the definition everything else must match."""
    return ((q + u) @ k + (q + v) @ r) / np.sqrt(len(q))


def scores_by_loops(
    q: Float[Array, "b t h d"],
    k: Float[Array, "b s h d"],
    r: Float[Array, "#b l h d"],
    u: Float[Array, "h d"],
    v: Float[Array, "h d"],
) -> Float[Array, "b h t s"]:
    """Equation (1) without segments, pair by pair; −∞ where the distance has no encoding."""
    r = np.broadcast_to(r, (len(q), *r.shape[1:]))
    t, s = q.shape[1], k.shape[1]
    scores = np.full((len(q), q.shape[2], t, s), -np.inf)
    for example, h, i, j in np.ndindex(scores.shape):
        distance = i + (s - t) - j
        row = s - distance
        if row < r.shape[1]:
            scores[example, h, i, j] = score(q[example, i, h], k[example, j, h], r[example, row, h], u[h], v[h])
    return scores


def relative_shift_by_loops(x: Float[Array, "b h t l"], s: int) -> Float[Array, "b h t s"]:
    """Equation (4): what query i has for each row becomes what it has for each key; 0 where there is no such row."""
    t, rows = x.shape[2:]
    shifted = np.zeros((*x.shape[:3], s), x.dtype)
    for i, j in np.ndindex(t, s):
        if j + t - i < rows:
            shifted[:, :, i, j] = x[:, :, i, j + t - i]
    return shifted


def relative_shift(x: Float[Array, "b h t l"], s: int) -> Float[Array, "b h t s"]:
    """Equation (4) without a loop or a gather.

    With t queries of L rows in one line, query i's row j + t − i stands at i L + j + t − i = i (L − 1) + j + t: drop the first t
    numbers, cut the line into pieces of L − 1, and the j-th number of piece i is it.
    """
    b, h, t, rows = x.shape
    x = np.pad(x, [(0, 0)] * 3 + [(0, t + s - rows)])  # the rows that are not there
    return x.reshape(b, h, -1)[:, :, t:].reshape(b, h, t, t + s - 1)[..., :s]


def has_encoding(t: int, s: int, rows: int) -> Bool[Array, "t s"]:
    """Whether the distance of query and key has a row: always with t + s rows; only for keys up to the query with s + 1 rows."""
    return np.arange(s)[None, :] + t - np.arange(t)[:, None] < rows


def content_scores(
    q: Float[Array, "b t h d"], k: Float[Array, "b s h d"], u: Float[Array, "h d"] | None = None
) -> Float[Array, "b h t s"]:
    """First term of (1), before √d. As below, `optimize` turns the einsum into a matrix product, which is many times faster."""
    return np.einsum("bshd,bthd->bhts", k, plus(q, u), optimize=True)  # with k first, the scores of one query are contiguous


def position_scores(
    q: Float[Array, "b t h d"], r: Float[Array, "#b l h d"], s: int, v: Float[Array, "h d"] | None = None
) -> Float[Array, "b h t s"]:
    """Second term of (1), before √d."""
    return relative_shift(np.einsum("bthd,blhd->bhtl", plus(q, v), r, optimize=True), s)


def segment_scores(
    q: Float[Array, "b t h d"],
    encoding: Float[Array, "2 h d"],
    different: Bool[Array, "#b #t s"],
    b: Float[Array, "h d"] | None = None,
) -> Float[Array, "b h t s"]:
    """Third term of (1), before √d."""
    same, other = (np.einsum("bthd,hd->bht", plus(q, b), s_ij)[..., None] for s_ij in encoding)
    return np.where(different[:, None], other, same)


def plus(q: Float[Array, "b t h d"], bias: Float[Array, "h d"] | None) -> Float[Array, "b t h d"]:
    return q if bias is None else q + bias


def attend(
    q: Float[Array, "b t h d"],
    k: Float[Array, "b s h d"],
    v: Float[Array, "b s h e"],
    terms: Terms,
    mask: Bool[Array, "#b #h #t #s"] | None = None,
) -> tuple[Float[Array, "b t h e"], Float[Array, "b h t s"]]:
    """Equations (1) and (2). Returns the outputs and the attention weights."""
    t, s = q.shape[1], k.shape[1]
    scores = content_scores(q, k, terms.u)
    if terms.encoded is not None:
        scores = scores + position_scores(q, terms.encoded, s, terms.v)
        reach = has_encoding(t, s, terms.encoded.shape[1])[None, None]
        mask = reach if mask is None else mask & reach
    if terms.segment_encoding is not None:
        scores = scores + segment_scores(q, terms.segment_encoding, terms.segment_matrix, terms.b)
    weights = masked_softmax(scores / np.sqrt(q.shape[-1]), mask)
    return np.einsum("bhts,bshe->bthe", weights, v, optimize=True), weights


def relative_attention(
    query: Float[Array, "b t m"],
    value: Float[Array, "b s _"],
    weights: RelativeAttentionWeights,
    terms: Terms = NO_TERMS,
    key: Float[Array, "b s _"] | None = None,
    encoding: Float[Array, "#b l _"] | None = None,
    state: Float[Array, "b _ _"] | None = None,
    mask: Bool[Array, "..."] | None = None,
) -> tuple[Float[Array, "b t _"], Float[Array, "b h t _"]]:
    """One stream. The memory `state` is prepended to keys and values. Returns the output and the attention weights."""
    q = into_heads(query, weights.query)
    k = into_heads(after_memory(state, value if key is None else key), weights.key)
    v = into_heads(after_memory(state, value), weights.value)
    if encoding is not None:
        terms = terms._replace(encoded=into_heads(encoding, weights.encoding))
    heads, attention = attend(q, k, v, terms, for_every_head(mask))
    return out_of_heads(heads, weights.attention_output), attention


def two_stream_relative_attention(
    content_stream: Float[Array, "b t m"],
    query_stream: Float[Array, "b _ m"],
    weights: RelativeAttentionWeights,
    encoding: Float[Array, "#b l _"],
    terms: Terms = NO_TERMS,
    target_mapping: Float[Array, "b _ t"] | None = None,
    state: Float[Array, "b _ m"] | None = None,
    content_mask: Bool[Array, "..."] | None = None,
    query_mask: Bool[Array, "..."] | None = None,
) -> tuple[Float[Array, "b t _"], Float[Array, "b _ _"], Float[Array, "b h t s"], Float[Array, "b h t s"]]:
    """Equation (3). Both streams take keys and values from the content. Returns both outputs, then both attention weights.

    With `target_mapping` the query stream is only as long as there are targets: row p of the mapping is 1 at p's position.
    """
    k, v = (into_heads(after_memory(state, content_stream), into) for into in (weights.key, weights.value))
    terms = terms._replace(encoded=into_heads(encoding, weights.encoding))
    q, g = (into_heads(stream, weights.query) for stream in (content_stream, query_stream))
    if target_mapping is not None:
        g = at_positions(g, target_mapping)
    content, content_attention = attend(q, k, v, terms, for_every_head(content_mask))
    query, query_attention = attend(g, k, v, terms, for_every_head(query_mask))
    if target_mapping is not None:
        query = of_targets(query, target_mapping)
    content, query = (out_of_heads(heads, weights.attention_output) for heads in (content, query))
    return content, query, content_attention, query_attention


def at_positions(q: Float[Array, "b t h d"], target_mapping: Float[Array, "b t s"]) -> Float[Array, "b s h d"]:
    """The query of each target, moved to the position that it predicts; zeros elsewhere."""
    return np.einsum("bthd,bts->bshd", q, target_mapping, optimize=True)


def of_targets(heads: Float[Array, "b s h e"], target_mapping: Float[Array, "b t s"]) -> Float[Array, "b t h e"]:
    """The result at the position of each target."""
    return np.einsum("bshe,bts->bthe", heads, target_mapping, optimize=True)


def after_memory(state: Float[Array, "b _ _"] | None, x: Float[Array, "b _ _"]) -> Float[Array, "b _ _"]:
    return x if state is None else np.concatenate([state, x], axis=1)


def permutation_masks(order: Int[Array, " t"], memory: int = 0) -> tuple[Bool[Array, "t s"], Bool[Array, "t s"]]:
    """Masks of equation (3) for content and query stream. `order` lists positions, first predicted first; memory is visible."""
    rank = np.argsort(order)
    masks = rank[None, :] <= rank[:, None], rank[None, :] < rank[:, None]
    return tuple(np.pad(mask, [(0, 0), (memory, 0)], constant_values=True) for mask in masks)


def relative_position_encoding(t: int, s: int, m: int, causal: bool = False) -> Float[Array, "1 l m"]:
    """The papers' R for all t + s distances, or for the s + 1 that are not negative, in the order of the rows."""
    return sinusoid(np.arange(s, -1 if causal else -t, -1), m)[None]


def sinusoid(distances: Int[Array, " l"], m: int) -> Float[Array, "l m"]:
    """Sines of m / 2 wavelengths, then their cosines.

    Raises:
        ValueError: if `m` is odd.
    """
    if m % 2:
        raise ValueError(f"m must be even, half for sines and half for cosines. Received: m={m}")
    return sines_then_cosines(distances, frequencies(m // 2, m / 2))
