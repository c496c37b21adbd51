"""OnDeviceEmbedding beside reference/on_device_embedding.py."""

import math
from functools import partial

import numpy as np

from crosscheck.case import B, Case, M, S, T
from crosscheck.catalogue import Chapter
from layers.on_device_embedding import OnDeviceEmbedding
from reference.on_device_embedding import OnDeviceEmbeddingWeights, embed, embed_by_one_hot

N = 17


def ids(rng, shape=(B, T), least=0, end=N, dtype="int64"):
    return {"inputs": rng.integers(least, end, shape).astype(dtype)}


def partly_unknown(rng):
    """Ids inside the vocabulary, at its ends, just outside, and far outside on both sides."""
    drawn = rng.permutation([-(2**40), -N, -1, 0, 3, N - 1, N, 2**32 + 3])
    return {"inputs": np.stack([drawn, drawn[::-1]])}


def reference(weights, inputs, of, scale):
    return of(inputs.astype("int64"), weights.embeddings, 1.0 if scale is None else scale)


def case(variant, inputs=ids, use_one_hot=False, scale_factor=None):
    return Case(
        f"on_device_embedding/{variant}",
        partial(OnDeviceEmbedding, N, M, use_one_hot=use_one_hot, scale_factor=scale_factor),
        inputs,
        OnDeviceEmbeddingWeights,
        partial(reference, of=embed_by_one_hot if use_one_hot else embed, scale=scale_factor),
        unknown=(T,),
    )


def both(variant, *options, **more):
    """One case with a look-up and one with a product."""
    return case(f"{variant}", *options, **more), case(f"{variant}-one-hot", *options, use_one_hot=True, **more)


CHAPTER = Chapter(
    number=19,
    name="on_device_embedding",
    title="Token embedding",
    part="Embeddings and heads",
    sentence="From a token's id to its vector, by a look-up or as a matrix product.",
    paper="Vaswani et al., 2017, §3.4",
    link="https://arxiv.org/abs/1706.03762",
    classes=("OnDeviceEmbedding",),
    functions=("embed_one", "embed", "embed_by_one_hot", "gradient_by_loops", "gradient_by_one_hot"),
    cases=(
        *both("plain"),
        *both("scaled", scale_factor=math.sqrt(M)),
        *both("scaled-to-zero", scale_factor=0.0),
        *both("outside", partly_unknown),
        *both("bytes", partial(ids, dtype="uint8")),
        *both("one-axis", partial(ids, shape=(B,))),
        *both("three-axes", partial(ids, shape=(B, T, S), least=-2, end=N + 2, dtype="int32")),
    ),
)
