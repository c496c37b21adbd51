"""CachedAttention beside reference/cached_attention.py."""

from functools import partial

import numpy as np

from crosscheck.case import B, Case, D, E, H, M, S, T
from crosscheck.catalogue import Chapter
from layers.cached_attention import CachedAttention
from reference.attention import AttentionWeights
from reference.cached_attention import Cache, cached_attention

LAYER = partial(CachedAttention, num_heads=H, key_dim=D, value_dim=E)
BEFORE, SLOTS, STEP = 9, 8, 4
OPEN = (T, S, BEFORE, BEFORE + 1, BEFORE + T, SLOTS)


def uncached(rng):
    mask = rng.random((B, T, S)) < 0.6
    mask[0, 1] = False  # one query that may attend to nothing
    return {"query": rng.normal(size=(B, T, M)), "value": rng.normal(size=(B, S, M)), "attention_mask": mask}


def with_key(rng):
    return uncached(rng) | {"key": rng.normal(size=(B, S, M + 1))}


def new_tokens(rng, t, length):
    """`t` new tokens, and a cache of `length` slots."""
    x = rng.normal(size=(B, t, M))
    cache = {"cached_key": rng.normal(size=(B, length, H, D)), "cached_value": rng.normal(size=(B, length, H, E))}
    return {"query": x, "value": x} | cache


def appended(rng):
    return new_tokens(rng, T, BEFORE)


def appended_masked(rng):
    return appended(rng) | {"attention_mask": rng.random((B, 1, BEFORE + T)) < 0.7}


def appended_one(rng):
    return new_tokens(rng, 1, BEFORE)


def appended_to_none(rng):
    return new_tokens(rng, T, 0)


def written(rng):
    return new_tokens(rng, T, SLOTS) | {"decode_loop_step": STEP}


def written_by_tensor(rng):
    return new_tokens(rng, T, SLOTS) | {"decode_loop_step": np.array(STEP, "int32")}


def written_one(rng):
    return new_tokens(rng, 1, SLOTS) | {"decode_loop_step": np.array(SLOTS - 1, "int32")}


def written_masked(rng):
    mask = rng.random((B, H, T, SLOTS)) < 0.6
    mask[1, :, 0] = False  # one query that may attend to nothing
    return written_by_tensor(rng) | {"attention_mask": mask, "key": rng.normal(size=(B, T, M + 1))}


def written_one_biased(rng):
    mask = rng.random((B, 1, SLOTS)) < 0.6
    return written_one(rng) | {"attention_mask": mask, "attention_bias": rng.normal(size=(1, H, 1, SLOTS))}


def appended_biased(rng):
    return appended_masked(rng) | {"attention_bias": rng.normal(size=(1, H, T, BEFORE + T))}


def with_scores(inputs):
    return lambda rng: inputs(rng) | {"return_attention_scores": True}


def call(layer, cached_key=None, cached_value=None, **inputs):
    cache = None if cached_key is None else {"key": cached_key, "value": cached_value}
    return layer(cache=cache, **inputs)


def reference(
    weights,
    query,
    value,
    key=None,
    attention_mask=None,
    cached_key=None,
    cached_value=None,
    decode_loop_step=None,
    return_attention_scores=False,
    attention_bias=None,
):
    cache = None if cached_key is None else Cache(cached_key, cached_value)
    step = None if decode_loop_step is None else int(decode_loop_step)
    output, scores, cache = cached_attention(query, value, weights, key, attention_mask, cache, step, attention_bias)
    return (output, scores, cache._asdict()) if return_attention_scores else (output, cache._asdict())


def case(variant, inputs, layer=LAYER, unknown=OPEN):
    return Case(f"cached_attention/{variant}", layer, inputs, AttentionWeights, reference, call, unknown=unknown)


CHAPTER = Chapter(
    number=5,
    name="cached_attention",
    title="Cached attention",
    part="Attention",
    sentence="Text is generated token by token without recomputing the keys and values of earlier tokens.",
    paper="Shazeer, 2019, §2.4",
    link="https://arxiv.org/abs/1911.02150",
    classes=("CachedAttention",),
    functions=("next_token", "append", "write", "cached_attention", "decode", "decode_by_recomputing"),
    cases=(
        case("uncached", uncached),
        case("uncached-key-scores", with_scores(with_key)),
        case("appended", appended),
        case("appended-masked-scores", with_scores(appended_masked)),
        case("appended-one", appended_one),
        case("appended-to-none", appended_to_none),
        case("written", written, unknown=(SLOTS,)),
        case("written-by-tensor", written_by_tensor),
        case("written-masked-scores", with_scores(written_masked)),
        case("written-one", written_one),
        case("written-one-bias", with_scores(written_one_biased)),
        case("appended-bias", appended_biased),
        case("no-bias", written_by_tensor, partial(LAYER, use_bias=False, output_shape=M + 2)),
        case("dropout-inactive", appended, partial(LAYER, dropout=0.5)),
    ),
)
