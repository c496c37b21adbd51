"""MultiHeadAttention beside reference/attention.py."""

from functools import partial

import numpy as np

from crosscheck.case import B, Case, D, E, H, M, S, T
from crosscheck.catalogue import Chapter
from crosscheck.models import minilm
from layers.attention import MultiHeadAttention
from reference.attention import AttentionWeights, attention_over_axes, multi_head_attention
from reference.self_attention_mask import causal_mask, padding_mask

LAYER = partial(MultiHeadAttention, num_heads=H, key_dim=D, value_dim=E)
ROWS, COLUMNS = 3, 5


def cross(rng):
    return {"query": rng.normal(size=(B, T, M)), "value": rng.normal(size=(B, S, M))}


def with_key(rng):
    return cross(rng) | {"key": rng.normal(size=(B, S, M + 1))}


def masked(rng):
    mask = rng.random((B, T, S)) < 0.6
    mask[0, 1] = False  # one query that may attend to nothing
    return cross(rng) | {"attention_mask": mask}


def masked_per_head(rng):
    return cross(rng) | {"attention_mask": rng.random((B, H, T, S)) < 0.6}


def causal(rng):
    return cross(rng) | {"use_causal_mask": True, "attention_mask": rng.random((B, 1, S)) < 0.8}


def biased(rng):
    return masked(rng) | {"attention_bias": rng.normal(size=(B, H, T, S)), "return_attention_scores": True}


def biased_alike(rng):
    """The bias of T5 has no batch axis."""
    return causal(rng) | {"attention_bias": 9 * rng.normal(size=(1, H, T, S))}


def with_scores(rng):
    return masked(rng) | {"return_attention_scores": True}


def over_axes(rng):
    sides = {"query": rng.normal(size=(B, ROWS, COLUMNS, 6, M)), "value": rng.normal(size=(B, ROWS, COLUMNS, 6, M))}
    return sides | {"attention_mask": rng.random((B, 6, ROWS, COLUMNS, ROWS, COLUMNS)) < 0.7, "return_attention_scores": True}


SENTENCES = ("the cat sat on the mat because it was warm .", "paris is the capital of france")


def real_sentences(rng):
    """Two real sentences, the second padded to the length of the first."""
    model = minilm.load()
    pieces = [minilm.wordpieces(model, sentence) for sentence in SENTENCES]
    length = max(map(len, pieces))
    x = np.concatenate([minilm.embed(model, row + ["[PAD]"] * (length - len(row))) for row in pieces])
    lengths = np.array([len(row) for row in pieces])
    return {"query": x, "value": x, "attention_mask": padding_mask(lengths, length)[:, None]}


def give_real_weights(layer, rng):
    weights = minilm.attention_weights(minilm.load(), layer=0)
    for name, projection in weights._asdict().items():
        dense = getattr(layer, "output_dense" if name == "attention_output" else f"{name}_dense")
        dense.kernel.assign(projection.kernel)
        dense.bias.assign(projection.bias)


def reference(
    weights,
    query,
    value,
    key=None,
    attention_mask=None,
    use_causal_mask=False,
    return_attention_scores=False,
    attention_bias=None,
):
    mask = attention_mask
    if use_causal_mask:
        mask = causal_mask(query.shape[1], value.shape[1]) & (True if mask is None else mask)
    output = multi_head_attention(query, value, weights, key, mask, attention_bias)
    return output if return_attention_scores else output[0]


def reference_over_axes(weights, query, value, attention_mask, return_attention_scores):
    return attention_over_axes(query, value, weights, (1, 2), attention_mask)


def case(variant, layer, inputs, reference=reference):
    return Case(f"attention/{variant}", layer, inputs, AttentionWeights, reference, unknown=(T, S))


CHAPTER = Chapter(
    number=3,
    name="attention",
    title="Multi-head attention",
    part="Attention",
    sentence="Each position computes a weighted mean of the values of all positions.",
    paper="Vaswani et al., 2017, §3.2",
    link="https://arxiv.org/abs/1706.03762",
    classes=("MultiHeadAttention",),
    functions=("attend_one", "attend", "multi_head_attention", "attention_over_axes"),
    cases=(
        case("cross", LAYER, cross),
        case("key", LAYER, with_key),
        case("masked", LAYER, masked),
        case("masked-per-head", LAYER, masked_per_head),
        case("causal", LAYER, causal),
        case("scores", LAYER, with_scores),
        case("bias", LAYER, biased),
        case("bias-causal", LAYER, biased_alike),
        case("no-bias", partial(LAYER, use_bias=False, output_shape=M + 2), masked),
        Case(
            "attention/axes",
            partial(LAYER, attention_axes=(1, 2)),
            over_axes,
            AttentionWeights,
            reference_over_axes,
        ),
        Case(
            "attention/minilm",
            partial(MultiHeadAttention, num_heads=12, key_dim=32),
            real_sentences,
            AttentionWeights,
            reference,
            prepare=give_real_weights,
        ),
    ),
)
