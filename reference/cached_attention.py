r"""Attention that caches the keys and values of earlier tokens, for decoding one token at a time.

Paper
    Shazeer (2019), "Fast Transformer Decoding: One Write-Head is All You Need", section 2.4 (and 2.4.1 for the cost).
    https://arxiv.org/abs/1911.02150

Equations
    (1)  k_t = x_t W^K,   v_t = x_t W^V,   K_t = [K_{t−1}; k_t],   V_t = [V_{t−1}; v_t]
    (2)  y_t = Concat_i(softmax(x_t W_i^Q K_{t,i}ᵀ / √d) V_{t,i}) W^O
    (3)  a static cache has all its slots from the start: k_t and v_t are written to slot t, and y_t attends to slots 0 … t

Axes
    b batch    t query position    s key position    h head
    m model    d key size          e value size

Differs from the paper
    - Several tokens, such as a prompt, may be passed at once. After `p` cached tokens, new token i (counted from 0) has position
      p + i. It attends to the cached tokens and to the new ones up to itself, so one call with T tokens equals T calls with one.
    - Scores are divided by √d, as in Vaswani et al. (2017); the paper leaves that out. Projections may have biases.
    - The paper's cache grows, as in (1). The static cache (3) keeps the same shape at every step, as compilers require.
    - A mask may exclude further keys. A query that may attend to no key gets the zero vector.

Layer: layers/cached_attention.py    Notebook: notebooks/cached_attention.ipynb
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray as Array

from reference.attention import AttentionWeights, attend, attend_one, for_every_head
from reference.common.projection import into_heads, out_of_heads


class Cache(NamedTuple):
    """The projected keys and values of earlier tokens; it may be empty."""

    key: Float[Array, "*batch s h d"]
    value: Float[Array, "*batch s h e"]


def next_token(x: Float[Array, " m"], cache: Cache, weights: AttentionWeights) -> tuple[Float[Array, " _"], Cache]:
    """Equations (1) and (2) for one token of one example: the definition everything else must match."""
    q, k, v = (into_heads(x, weights[i]) for i in range(3))
    cache = Cache(np.concatenate([cache.key, k[None]]), np.concatenate([cache.value, v[None]]))
    heads = np.stack([attend_one(q[i], cache.key[:, i], cache.value[:, i]) for i in range(len(q))])
    return out_of_heads(heads, weights.attention_output), cache


def empty_cache(b: int, s: int, weights: AttentionWeights) -> Cache:
    """A cache of `s` slots, for equation (3). With s = 0, the initial cache of equation (1)."""
    return Cache(*(np.zeros((b, s, *kernel.shape[1:]), kernel.dtype) for kernel in (weights.key.kernel, weights.value.kernel)))


def append(cache: Cache, k: Float[Array, "b t h d"], v: Float[Array, "b t h e"]) -> Cache:
    """Equation (1): the new keys and values come after those that are there."""
    return Cache(np.concatenate([cache.key, k], axis=1), np.concatenate([cache.value, v], axis=1))


def write(cache: Cache, k: Float[Array, "b t h d"], v: Float[Array, "b t h e"], step: int) -> Cache:
    """Equation (3): the new keys and values replace what is in slots `step`, `step` + 1 and so on of a copy.

    Raises:
        ValueError: if there are no such slots.
    """
    t, slots = k.shape[1], cache.key.shape[1]
    if not 0 <= step <= slots - t:
        raise ValueError(f"step must be from 0 to {slots} - {t}. Received: step={step}")
    keys, values = cache.key.copy(), cache.value.copy()
    keys[:, step : step + t], values[:, step : step + t] = k, v
    return Cache(keys, values)


def up_to_itself(t: int, s: int, position: int) -> Bool[Array, "t s"]:
    """Which of `s` keys each of `t` queries may attend to; the first query is at `position`."""
    return np.arange(s)[None, :] <= position + np.arange(t)[:, None]


def cached_attention(
    query: Float[Array, "b t m"],
    value: Float[Array, "b _ _"],
    weights: AttentionWeights,
    key: Float[Array, "b _ _"] | None = None,
    mask: Bool[Array, "#b #t #s"] | Bool[Array, "#b #h #t #s"] | None = None,
    cache: Cache | None = None,
    step: int | None = None,
    bias: Float[Array, "#b #h #t #s"] | None = None,
) -> tuple[Float[Array, "b t _"], Float[Array, "b h t s"], Cache]:
    """Equation (2) for a batch. The cache is updated by (1), or by (3) if `step` is given.

    Without `cache`, attention is restricted by `mask` alone, and the new cache holds the keys and values of this call.
    The bias is that of `reference/attention.py`, over all keys of the new cache.

    Returns:
        The output, the attention weights and the new cache.
    """
    q = into_heads(query, weights.query)
    k = into_heads(value if key is None else key, weights.key)
    v = into_heads(value, weights.value)
    if cache is None:
        new, allowed = Cache(k, v), None
    else:
        new = append(cache, k, v) if step is None else write(cache, k, v, step)
        position = cache.key.shape[1] if step is None else step
        allowed = up_to_itself(q.shape[1], new.key.shape[1], position)[None, None]
    if mask is not None:
        allowed = for_every_head(mask) & (True if allowed is None else allowed)
    heads, attention = attend(q, new.key, new.value, allowed, bias)
    return out_of_heads(heads, weights.attention_output), attention, new


def decode(x: Float[Array, "b t m"], weights: AttentionWeights) -> Float[Array, "b t _"]:
    """Outputs for `x`, processed one token at a time: each token is projected once and attends to the cache."""
    cache, outputs = empty_cache(len(x), 0, weights), []
    for t in range(x.shape[1]):
        y, _, cache = cached_attention(x[:, t : t + 1], x[:, t : t + 1], weights, cache=cache)
        outputs.append(y)
    return np.concatenate(outputs, axis=1)


def decode_by_recomputing(x: Float[Array, "b t m"], weights: AttentionWeights) -> Float[Array, "b t _"]:
    """The same without a cache: each new token takes a causal pass over all tokens so far, and only the last output is kept."""
    outputs = []
    for t in range(1, x.shape[1] + 1):
        y, _, _ = cached_attention(x[:, :t], x[:, :t], weights, mask=up_to_itself(t, t, 0)[None])
        outputs.append(y[:, -1:])
    return np.concatenate(outputs, axis=1)
