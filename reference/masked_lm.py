r"""Masked language modeling: some tokens are hidden, and a head predicts for each of them which token it was.

Paper
    Devlin et al. (2018), "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", section 3.1, task 1,
    and appendix A.1. https://arxiv.org/abs/1810.04805

Equations
    (1)  h_t = LN(φ(x_{p_t} W + b_W))           p_t: the t-th requested position
    (2)  logits_t = E h_t + b                   E: the table in which the tokens were looked up
    (3)  log P(token | t) = log softmax(logits_t)
    (4)  15 % of all tokens are chosen; of these, 80 % become [MASK], 10 % become a random token, and 10 % stay
    (5)  of n tokens that may be chosen, round(0.15 n) are: those of the least random numbers, at least 1 and at most T

Axes
    b batch    s position in the sequence    t requested position    m model    n vocabulary

Differs from the paper
    - The text says only that hidden vectors go into a softmax over the vocabulary. The map, norm and bias of (1) and (2), and the
      shared table, are in the authors' code.
    - The model may be wider than the table; W then maps from one to the other.
    - (5) is one way to choose 15 %, with room for the T predictions of a sequence. Special tokens and padding are never chosen.
    - A position outside the sequence has logits of 0, so that every token is as likely as any other. The paper has no such case.

Layer: layers/masked_lm/    Notebook: notebooks/masked_lm.ipynb
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array

from reference.common.activations import gelu
from reference.common.normalization import LayerNorm, layer_norm
from reference.common.projection import Projection, dense

RATE, MASKED, RANDOM = 0.15, 0.8, 0.1


class MaskedLMWeights(NamedTuple):
    """Named as in the layer: W and b_W, the norm, b, and the shared table E."""

    dense: Projection
    layer_norm: LayerNorm
    bias: Float[Array, " n"]
    embeddings: Float[Array, "n _"]


def predict_one(x: Float[Array, "s m"], position: int, weights: MaskedLMWeights, phi: Callable = gelu) -> Float[Array, " n"]:
    """Equations (1) and (2) for one position of one sequence: the definition everything else must match."""
    if not 0 <= position < len(x):
        return np.zeros_like(weights.bias)
    h = layer_norm(phi(dense(x[position], weights.dense)), weights.layer_norm)
    return np.array([row @ h + b for row, b in zip(weights.embeddings, weights.bias)])


def masked_lm(
    x: Float[Array, "b s m"], positions: Int[Array, "b t"], weights: MaskedLMWeights, phi: Callable = gelu, epsilon: float = 1e-12
) -> tuple[Float[Array, "b t n"], Float[Array, "b t _"]]:
    """Equations (1) and (2) for the requested positions.

    Args:
        x: The encoder's output.
        positions: The same number for each sequence. Positions below 0, or `s` and above, are outside the sequence.
        weights: They include the table in which the tokens were looked up.
        phi: The activation φ.
        epsilon: The ε of the norm.

    Returns:
        The logits, which are 0 for a position outside the sequence, and h, the vectors that are multiplied by the table.
    """
    inside = (positions >= 0) & (positions < x.shape[1])
    found = np.take_along_axis(x, np.where(inside, positions, 0)[..., np.newaxis], axis=1)
    h = layer_norm(phi(dense(found, weights.dense)), weights.layer_norm, epsilon)
    logits = np.einsum("btm,nm->btn", h, weights.embeddings) + weights.bias
    return np.where(inside[..., np.newaxis], logits, 0), h


def log_softmax(logits: Float[Array, "*rows n"]) -> Float[Array, "*rows n"]:
    """Equation (3), shifted so that no exponent is positive."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def corrupt(
    ids: Int[Array, "b s"],
    choice: Float[Array, "b s"],
    fate: Float[Array, "b s"],
    random_ids: Int[Array, "b s"],
    mask_id: int,
    rate: float = RATE,
) -> tuple[Int[Array, "b s"], Bool[Array, "b s"]]:
    """Equation (4).

    Args:
        ids: Tokens.
        choice: Uniform in [0, 1): a token below `rate` is chosen.
        fate: Uniform in [0, 1): decides how a chosen token is replaced.
        random_ids: The replacements for tokens that become random.
        mask_id: The id of [MASK].
        rate: The fraction of tokens that is chosen.

    Returns:
        The ids that the model reads, and a mask of the tokens in the loss: every chosen token, including those that stay.
    """
    chosen = choice < rate
    corrupted = np.where(fate < MASKED, mask_id, np.where(fate < MASKED + RANDOM, random_ids, ids))
    return np.where(chosen, corrupted, ids), chosen


def choose(may_be_chosen: Bool[Array, "b s"], choice: Float[Array, "b s"], most: int, rate: float = RATE) -> Bool[Array, "b s"]:
    """Equation (5), sequence by sequence. Of `rate`, three decimals count, and halves are rounded up."""
    chosen = np.zeros_like(may_be_chosen)
    for row, may, numbers in zip(chosen, may_be_chosen, choice):
        candidates = np.flatnonzero(may)
        count = (2 * len(candidates) * round(1000 * rate) + 1000) // 2000
        first = candidates[np.argsort(numbers[candidates], kind="stable")]
        row[first[: min(max(count, 1), most)]] = True
    return chosen


def predictions(
    ids: Int[Array, "b s"], chosen: Bool[Array, "b s"], most: int
) -> tuple[Int[Array, "b t"], Int[Array, "b t"], Float[Array, "b t"]]:
    """For each sequence the positions of the chosen tokens, their ids, and weights of 1; then zeros up to `most` of each."""
    positions, known, weights = (np.zeros((len(ids), most), kind) for kind in (int, int, float))
    for b, row in enumerate(chosen):
        (where,) = np.nonzero(row)
        positions[b, : len(where)], known[b, : len(where)], weights[b, : len(where)] = where, ids[b, where], 1
    return positions, known, weights
