"""ReuseMultiHeadAttention beside reference/reuse_attention.py."""

from functools import partial

import numpy as np

from crosscheck.case import B, Case, D, E, M, S, T
from crosscheck.catalogue import Chapter
from layers.reuse_attention import ReuseMultiHeadAttention
from reference.masked_softmax import masked_softmax
from reference.reuse_attention import ReuseAttentionWeights, reuse_attention
from reference.self_attention_mask import causal_mask

HEADS, REUSED = 6, 2
NONE = partial(ReuseMultiHeadAttention, num_heads=HEADS, key_dim=D, value_dim=E)
SOME, ALL = partial(NONE, reuse_attention=REUSED), partial(NONE, reuse_attention=-1)
NEAR = 3
"""A `pe_max_seq_length` that T queries and S keys exceed on one side."""

ROWS, COLUMNS, OTHERS = 3, 5, 4


def cross(rng):
    return {"query": rng.normal(size=(B, T, M)), "value": rng.normal(size=(B, S, M))}


def earlier(rng, heads=HEADS):
    """Attention weights, as a previous layer would return them."""
    return {"reuse_attention_scores": masked_softmax(rng.normal(size=(B, heads, T, S)))}


def masked(rng):
    mask = rng.random((B, T, S)) < 0.6
    mask[0, 1] = False  # one query that may attend to nothing
    return cross(rng) | {"attention_mask": mask, "return_attention_scores": True}


def reusing(rng):
    return cross(rng) | earlier(rng)


def reusing_masked(rng):
    return masked(rng) | earlier(rng)


def reusing_masked_per_head(rng):
    return cross(rng) | earlier(rng) | {"attention_mask": rng.random((B, HEADS, T, S)) < 0.6}


def reusing_causal(rng):
    return reusing(rng) | {"use_causal_mask": True, "attention_mask": rng.random((B, 1, S)) < 0.8}


def reusing_biased(rng):
    return reusing_masked(rng) | {"attention_bias": rng.normal(size=(1, HEADS, T, S))}


def reusing_with_key(rng):
    return reusing(rng) | {"key": rng.normal(size=(B, S, M + 1)), "return_attention_scores": True}


def reusing_of_more_heads(rng):
    return cross(rng) | earlier(rng, HEADS + 3) | {"return_attention_scores": True}


def over_axes(rng):
    shape = (B, ROWS, COLUMNS, OTHERS, M)
    lengths = (ROWS, COLUMNS, ROWS, COLUMNS)
    weights = masked_softmax(rng.normal(size=(B, OTHERS, HEADS, *lengths)), axes=(-2, -1))
    given = {"query": rng.normal(size=shape), "value": rng.normal(size=shape), "reuse_attention_scores": weights}
    return given | {"attention_mask": rng.random((B, OTHERS, *lengths)) < 0.7, "return_attention_scores": True}


def reference(
    weights,
    query,
    value,
    key=None,
    attention_mask=None,
    return_attention_scores=False,
    reuse_attention_scores=None,
    use_causal_mask=False,
    attention_bias=None,
):
    mask = attention_mask
    if use_causal_mask:
        mask = causal_mask(query.shape[1], value.shape[1]) & (True if mask is None else mask)
    output = reuse_attention(query, value, weights, reuse_attention_scores, key, mask, attention_bias)
    return output if return_attention_scores else output[0]


def reference_over_axes(weights, query, value, attention_mask, return_attention_scores, reuse_attention_scores):
    """Rows and columns as one sequence; the other axis joins the batch."""
    n = ROWS * COLUMNS
    x, y = (np.moveaxis(side, 3, 1).reshape(-1, n, M) for side in (query, value))
    mask, reused = attention_mask.reshape(-1, n, n), reuse_attention_scores.reshape(-1, HEADS, n, n)
    output, attention = reuse_attention(x, y, weights, reused, mask=mask)
    output = output.reshape(len(query), OTHERS, ROWS, COLUMNS, M)
    return np.moveaxis(output, 1, 3), attention.reshape(reuse_attention_scores.shape)


def case(variant, layer, inputs):
    return Case(f"reuse_attention/{variant}", layer, inputs, ReuseAttentionWeights, reference, unknown=(T, S))


CHAPTER = Chapter(
    number=8,
    name="reuse_attention",
    title="Reuse attention",
    part="Attention",
    sentence="Some heads reuse the attention weights of the previous layer instead of computing their own.",
    paper="Bhojanapalli et al., 2021",
    link="https://arxiv.org/abs/2110.06821",
    classes=("ReuseMultiHeadAttention",),
    functions=("reuse_attention_one", "reuse_attention", "renormalized", "relative_bias"),
    cases=(
        case("none", NONE, cross),
        case("none-masked", NONE, masked),
        case("none-relative", partial(NONE, use_relative_pe=True, pe_max_seq_length=NEAR), masked),
        case("some", SOME, reusing),
        case("some-masked", SOME, reusing_masked),
        case("some-masked-per-head", SOME, reusing_masked_per_head),
        case("some-causal", SOME, reusing_causal),
        case("some-key", SOME, reusing_with_key),
        case("some-bias", SOME, reusing_biased),
        case("some-relative", partial(SOME, use_relative_pe=True, pe_max_seq_length=NEAR), reusing_masked),
        case("some-dropout", partial(SOME, dropout=0.5), reusing_masked),
        case("some-no-bias", partial(SOME, use_bias=False, output_shape=M + 2), reusing),
        case("some-of-more-heads", SOME, reusing_of_more_heads),
        case("all", ALL, reusing),
        case("all-masked", ALL, reusing_masked),
        case("all-masked-per-head", ALL, reusing_masked_per_head),
        case("all-relative", partial(ALL, use_relative_pe=True, use_bias=False), reusing_masked),
        Case(
            "reuse_attention/axes",
            partial(SOME, attention_axes=(1, 2)),
            over_axes,
            ReuseAttentionWeights,
            reference_over_axes,
        ),
    ),
)
