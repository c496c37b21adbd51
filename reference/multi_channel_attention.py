r"""Attention over several channels, such as the documents of one news story, and a vote that weights them.

Paper
    Gu et al. (2020), "Generating Representative Headlines for News Stories" (NHNet), on the decoder's attention to several
    articles and the self-voting-based article attention. https://arxiv.org/abs/2001.09386

Equations
    (1)  C_a = softmax(Q K_aᵀ / √d) V_a                                        the output of each channel, for each head
    (2)  MultiChannel(Q, K, V, w) = Concat(head_1, …, head_h) W^O,   head_i = Σ_a w_a C_a
    (3)  vote_a = Σ_{a' ≠ a} Σ_h q_a · k_a',   q = e W^Q,  k = e W^K              e_a the first vector of document a
    (4)  w = softmax(vote)

Axes
    b batch    t query position    s key position    h head    a channel
    m model    d key size          e value size

Differs from the paper
    - In (1) a query that may attend to nothing in a channel gets zeros from that channel; its w is not redistributed.
    - In (2) the weights may be any numbers. (4) makes them a distribution; (2) does not normalize them.
    - In (3) and (4) documents may be absent, as in a batch of stories of different sizes. An absent document casts no vote and
      has weight 0. A single document has no votes and weight 1. If all documents are absent, all weights are 0.
    - Projections have biases. As in the authors' published model, (3) is not divided by √d.

Layer: layers/multi_channel_attention.py    Notebook: notebooks/multi_channel_attention.ipynb
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray as Array

from reference.attention import AttentionWeights, attend_one
from reference.common.projection import Projection, into_heads, out_of_heads
from reference.masked_softmax import masked_softmax


class VotingWeights(NamedTuple):
    """Named as in the layer; both kernels are (m, h, d)."""

    query: Projection
    key: Projection


def attend_channels_one(
    q: Float[Array, " d"], k: Float[Array, "a s d"], v: Float[Array, "a s e"], w: Float[Array, " a"]
) -> Float[Array, " e"]:
    """Equations (1) and (2) for one query of one head: the definition everything else must match."""
    return sum(w_a * attend_one(q, k_a, v_a) for w_a, k_a, v_a in zip(w, k, v))


def attend_channels(
    q: Float[Array, "b t h d"],
    k: Float[Array, "b a s h d"],
    v: Float[Array, "b a s h e"],
    w: Float[Array, "#b #h #t a"],
    mask: Bool[Array, "#b #a #t #s"] | None = None,
) -> tuple[Float[Array, "b t h e"], Float[Array, "b a h t s"]]:
    """Equations (1) and (2) for every query of every head. Returns the outputs and each channel's attention weights."""
    scores = np.einsum("bthd,bashd->bahts", q, k) / np.sqrt(q.shape[-1])
    weights = masked_softmax(scores, None if mask is None else mask[:, :, None])
    channels = np.einsum("bahts,bashe->bathe", weights, v)
    return np.einsum("bhta,bathe->bthe", w, channels), weights


def multi_channel_attention(
    query: Float[Array, "b t m"],
    value: Float[Array, "b a s _"],
    weights: AttentionWeights,
    w: Float[Array, "#b #h #t a"],
    key: Float[Array, "b a s _"] | None = None,
    mask: Bool[Array, "#b #a #t #s"] | None = None,
) -> tuple[Float[Array, "b t _"], Float[Array, "b a h t s"]]:
    """Equation (2) with its projections. Keys come from `value` if no `key` is given.

    Returns the output and each channel's attention weights.
    """
    q = into_heads(query, weights.query)
    k = into_heads(value if key is None else key, weights.key)
    v = into_heads(value, weights.value)
    heads, attention = attend_channels(q, k, v, w, mask)
    return out_of_heads(heads, weights.attention_output), attention


def votes_by_loops(q: Float[Array, "a h d"], k: Float[Array, "a h d"], present: Bool[Array, " a"]) -> Float[Array, " a"]:
    """Equation (3) for one story, as written: each present document gets a vote from every other present document."""
    votes = np.zeros(len(q))
    for i, j in np.ndindex(len(q), len(q)):
        if i != j and present[i] and present[j]:
            votes[i] += sum(q[i, h] @ k[j, h] for h in range(q.shape[1]))
    return votes


def voting_attention(
    encoder_outputs: Float[Array, "b a s m"], weights: VotingWeights, present: Bool[Array, "#b a"] | None = None
) -> tuple[Float[Array, "b a"], Float[Array, "b a"]]:
    """Equations (3) and (4) for every story. Returns the documents' weights and their votes."""
    first = encoder_outputs[:, :, 0]
    q, k = into_heads(first, weights.query), into_heads(first, weights.key)
    if present is None:
        present = np.ones(first.shape[:2], bool)
    # The documents are a sequence that attends to itself: document t is voted for, document s votes.
    scores = np.einsum("bthd,bshd->bts", q, k)
    may_vote = present[:, :, None] & present[:, None, :] & ~np.eye(q.shape[1], dtype=bool)
    votes = np.where(may_vote, scores, 0).sum(axis=-1)
    return masked_softmax(votes, present), votes
