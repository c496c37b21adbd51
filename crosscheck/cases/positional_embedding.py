"""PositionalEmbedding, RelativePositionEmbedding and RelativePositionBias beside reference/positional_embedding.py."""

from functools import partial
from typing import NamedTuple

import numpy as np

from crosscheck.case import B, Case, H, M, S, T
from crosscheck.catalogue import Chapter
from layers.positional_embedding import PositionalEmbedding, RelativePositionBias, RelativePositionEmbedding
from reference import positional_embedding as ref

as_tensor = partial(np.array, dtype="int32")
LONG = 700  # three digits to the base 256 are not reached, two are


class NoWeights(NamedTuple):
    """Sines and cosines have no weights."""


def tokens(rng, shape=(B, T, M)):
    return {"inputs": rng.normal(size=shape)}


def two_sequences(rng, t, s):
    return {"query": rng.normal(size=(B, t, M)), "key": rng.normal(size=(B, s, M))}


def with_offset(inputs, offset):
    return lambda rng: inputs(rng) | {"offset": offset}


def learned(variant, axis=1, inputs=tokens):
    return Case(
        f"positional_embedding/{variant}",
        partial(PositionalEmbedding, max_length=T + 2, seq_axis=axis),
        inputs,
        ref.PositionalEmbeddingWeights,
        lambda weights, inputs, offset=0: ref.learned(inputs, weights.embeddings, axis, int(offset)),
        unknown=(T,),
    )


def sinusoid(variant, m=M + 1, length=T, least=1.0, most=1e4, convention="interleaved", offset=0):
    formula = {"interleaved": ref.interleaved, "concatenated": ref.concatenated}[convention]
    return Case(
        f"positional_embedding/{variant}",
        partial(RelativePositionEmbedding, m, least, most, convention=convention),
        with_offset(partial(tokens, shape=(B, length, M)), offset),
        NoWeights,
        lambda weights, inputs, offset: formula(int(offset) + np.arange(length), m, least, most),
        unknown=(length,),
    )


def bias(variant, buckets=8, most=4, both_ways=True, t=T, s=S, offset=0):
    return Case(
        f"positional_embedding/{variant}",
        partial(RelativePositionBias, H, buckets, most, both_ways),
        with_offset(partial(two_sequences, t=t, s=s), offset),
        ref.RelativePositionBiasWeights,
        lambda weights, query, key, offset: ref.relative_position_bias(t, s, weights.embeddings, most, both_ways, int(offset)),
        unknown=(t, s),
    )


CHAPTER = Chapter(
    number=4,
    name="positional_embedding",
    title="Positions",
    part="Attention",
    sentence="Attention ignores order, so positions are added: learned rows, sines and cosines, or a bias per distance.",
    paper="Devlin et al., 2018, §3; Vaswani et al., 2017, §3.5; Raffel et al., 2019, §2.1",
    link="https://arxiv.org/abs/1706.03762",
    classes=("PositionalEmbedding", "RelativePositionEmbedding", "RelativePositionBias"),
    functions=("learned", "interleaved", "concatenated", "rotation", "bucket", "relative_position_bias"),
    cases=(
        learned("learned"),
        learned("learned-image", 2, partial(tokens, shape=(B, S, T, M))),
        learned("learned-from-the-end", -2, partial(tokens, shape=(B, S, T, M))),
        learned("learned-time-first", 0, partial(tokens, shape=(T, S, M))),
        learned("learned-offset", inputs=with_offset(tokens, 2)),
        learned("learned-offset-tensor", -2, with_offset(partial(tokens, shape=(B, S, T, M)), as_tensor(2))),
        sinusoid("sinusoid"),
        sinusoid("sinusoid-odd", M),
        sinusoid("sinusoid-of-two", 2),
        sinusoid("sinusoid-timescales", least=3.0, most=50.0),
        sinusoid("sinusoid-long", length=LONG),
        sinusoid("concatenated", convention="concatenated"),
        sinusoid("concatenated-odd", M, convention="concatenated"),
        sinusoid("concatenated-of-two", 2, convention="concatenated"),
        sinusoid("concatenated-timescales", least=3.0, most=50.0, convention="concatenated"),
        sinusoid("concatenated-long", length=LONG, convention="concatenated"),
        sinusoid("sinusoid-offset", offset=3_000),
        sinusoid("concatenated-offset-tensor", offset=as_tensor(3_000), convention="concatenated"),
        bias("bias"),
        bias("bias-backwards", both_ways=False, most=6),
        bias("bias-offset", offset=9),
        bias("bias-offset-tensor", offset=as_tensor(3)),
        bias("bias-of-t5", 32, 128, t=150, s=140),
        bias("bias-of-t5-backwards", 32, 128, both_ways=False, t=150, s=140),
    ),
)
