"""The timed calls of the references of attention: `of_NAME` yields (variant, function) for the reference NAME.

A part of a chapter has two underscores in its name: `of_kernel_attention__features` is for kernel_attention/features.py.
"""

from functools import partial

import numpy as np

from reference import (
    attention,
    bigbird_attention,
    cached_attention,
    grouped_query_attention,
    kernel_attention,
    masked_softmax,
    multi_channel_attention,
    relative_attention,
    reuse_attention,
    self_attention_mask,
    talking_heads_attention,
)
from reference.common import activations
from reference.kernel_attention import exponents as kernel_exponents
from reference.kernel_attention import features as kernel_features
from reference.kernel_attention import structure as kernel_structure


def of_common__activations(draw):
    x = draw.array(draw.sizes.b, draw.sizes.t, draw.sizes.f)
    for name, activation in activations.ACTIVATIONS.items():
        yield name, partial(activation, x)


def of_masked_softmax(draw):
    b, t, _, h, *_ = draw.sizes
    yield "", partial(masked_softmax.masked_softmax, draw.array(b, h, t, t), draw.padding()[:, None, None])


def of_self_attention_mask(draw):
    b, t, *_ = draw.sizes
    segments = draw.ids(below=2)
    yield "padding", lambda: self_attention_mask.self_attention_mask(t, self_attention_mask.padding_mask(np.full(b, t // 2), t))
    yield "causal", partial(self_attention_mask.causal_mask, t, t)
    yield "segments", partial(self_attention_mask.segment_mask, segments, segments)


def of_attention(draw):
    x, weights, mask = draw.tokens(), draw.attention(), draw.padding()[:, None]
    image = x.reshape(draw.sizes.b, draw.sizes.t // 8, 8, -1)
    yield "masked", partial(attention.multi_head_attention, x, x, weights, x, mask)
    yield "axes", partial(attention.attention_over_axes, image, image, weights, (1, 2))


def of_grouped_query_attention(draw):
    x = draw.tokens()
    yield "", partial(grouped_query_attention.grouped_query_attention, x, x, draw.attention(shared=2), draw.padding()[:, None])


def of_talking_heads_attention(draw):
    x, mix = draw.tokens(), draw.array(2, draw.sizes.h, draw.sizes.h)
    weights = talking_heads_attention.TalkingHeadsWeights(*draw.attention(), *mix)
    yield "masked", partial(talking_heads_attention.talking_heads_attention, x, x, weights, x, draw.padding()[:, None])


def of_reuse_attention(draw):
    x, mask, h = draw.tokens(), draw.padding()[:, None], draw.sizes.h
    scores = masked_softmax.masked_softmax(draw.array(draw.sizes.b, h, draw.sizes.t, draw.sizes.t))
    yield "none", partial(reuse_attention.reuse_attention, x, x, draw.reuse_attention(0), mask=mask)
    yield "half", partial(reuse_attention.reuse_attention, x, x, draw.reuse_attention(h // 2), scores, mask=mask)


def of_relative_attention(draw):
    b, t, m, h, d, *_ = draw.sizes
    memory, s = draw.sizes.memory, t + draw.sizes.memory
    x, state, weights, targets = draw.tokens(), draw.tokens(memory), draw.relative_attention(), draw.targets(t // 4)
    order, encode = draw.rng.permutation(t), partial(relative_attention.relative_position_encoding, t, s, m)
    terms = relative_attention.Terms(*draw.array(2, h, d))
    segments = {"segment_encoding": draw.array(2, h, d), "segment_matrix": draw.rng.random((b, t, s)) < 0.5}
    segmented = terms._replace(b=draw.array(h, d), **segments)
    call = partial(relative_attention.relative_attention, x, x, weights, state=state)

    def two_streams():
        masks = [mask[None] for mask in relative_attention.permutation_masks(order, memory)]
        both = relative_attention.two_stream_relative_attention
        return both(x, x[:, : t // 4], weights, encode(), segmented, targets, state, *masks)

    yield "memory", lambda: call(terms, encoding=encode())
    yield "segments", lambda: call(segmented, encoding=encode())
    yield "causal", lambda: call(terms, encoding=encode(causal=True))
    yield "two-streams", two_streams


def of_multi_channel_attention(draw):
    b, t, m, h, *_ = draw.sizes
    x, documents, weights = draw.tokens(), draw.array(b, draw.sizes.a, t, m), draw.attention()
    voting = multi_channel_attention.VotingWeights(weights.query, weights.key)
    channels = masked_softmax.masked_softmax(draw.array(b, h, t, draw.sizes.a))
    yield "unmasked", partial(multi_channel_attention.multi_channel_attention, x, documents, weights, channels)
    yield "votes", partial(multi_channel_attention.voting_attention, documents, voting)


def of_cached_attention(draw):
    x, weights, t = draw.tokens(), draw.attention(), draw.sizes.t
    slots = cached_attention.empty_cache(draw.sizes.b, 2 * t, weights)
    half, call = cached_attention.empty_cache(draw.sizes.b, t, weights), partial(cached_attention.cached_attention, x, x, weights)
    yield "appended", partial(call, cache=half)
    yield "written", partial(call, cache=slots, step=t // 2)
    yield "token-by-token", partial(cached_attention.decode, x, weights)


def of_bigbird_attention(draw):
    b, t, _, h, d, *_ = draw.sizes
    x, mask, block = draw.tokens(), draw.padding(), draw.sizes.block
    drawn = partial(bigbird_attention.draw, draw.rng, h, t // block, 3)
    weights = bigbird_attention.BigBirdWeights(*draw.attention(), drawn())
    q, k, v = draw.array(3, b, t, h, d)
    yield "masked", partial(bigbird_attention.bigbird_attention, x, x, weights, block, x, mask)
    yield "by-blocks", partial(bigbird_attention.attend_by_blocks, q, k, v, block, weights.random_draws, mask)
    yield "draws", drawn
    yield "masks", partial(bigbird_attention.masks, mask, block)


def of_kernel_attention(draw):
    b, t, m, h, d, *_ = draw.sizes
    x, mask, block = draw.tokens(), draw.padding(), draw.sizes.block
    projection = kernel_features.draw_projection(draw.rng, draw.sizes.r, d)
    weights = kernel_attention.KernelAttentionWeights(*draw.attention(), projection)
    gated = weights._replace(gate=draw.projection(m, h), inverse_bandwidth=np.exp(draw.array(h, d) / 4))
    call, causal = partial(kernel_attention.kernel_attention, x, x), self_attention_mask.causal_mask(t, t).astype(float)
    yield "elu-no-projection", partial(call, weights._replace(projection=None), "elu", mask=mask)
    for transform in (*kernel_features.GENERALIZED, "exp", "expmod", "expplus", "rfa"):
        yield transform, partial(call, weights, transform, mask=mask, scale_by_length=True)
    for transform in ("exp", "expmod", "rfa"):
        yield f"{transform}-exact", partial(call, weights, transform, mask=mask, exact=True)
    yield "exp-begin", partial(call, weights, "exp", mask=mask, begin=t // 4)
    yield "exp-causal", partial(call, weights, "exp", mask=mask, structure=causal)
    yield "rfa-gate", partial(call, gated, "rfa", mask=mask, structure=causal)
    window = kernel_structure.window_structure
    yield "exp-window", lambda: call(weights, "exp", mask=mask, structure=window(t, block, 3, 0.9, left=True))
    q, k, v = draw.array(3, b, t, h, d)
    phi_q, phi_k = kernel_features.positive_features(np.stack([q, k]) * d**-0.25, projection)
    yield "over-all", partial(kernel_attention.factored, phi_q, phi_k, v)
    yield "recurrent", partial(kernel_attention.recurrent, phi_q, phi_k, v)
    yield "recurrent-gate", partial(kernel_attention.recurrent, phi_q, phi_k, v, draw.rng.random((b, t, h)))
    yield "windowed", partial(kernel_attention.windowed, phi_q, phi_k, v, block, 3, 0.9)


def of_kernel_attention__features(draw):
    b, t, _, h, d, *_ = draw.sizes
    drawn = partial(kernel_features.draw_projection, draw.rng, draw.sizes.r, d)
    x, projection = draw.array(b, t, h, d) * d**-0.25, drawn()
    yield "draws", drawn
    yield "hyperbolic", partial(kernel_features.hyperbolic_features, x, projection)
    yield "trigonometric", partial(kernel_features.trigonometric_features, x, projection)


def of_kernel_attention__exponents(draw):
    b, t, _, h, d, *_ = draw.sizes
    (a, k), v, mask = draw.array(2, b, t, h, draw.sizes.r), draw.array(b, t, h, d), draw.padding()
    yield "over-all", lambda: kernel_attention.factored(*kernel_exponents.stabilized(a, k, mask), v)
    yield "recurrent-gate", partial(kernel_exponents.recurrent, a, k, v, draw.rng.random((b, t, h)))
    yield "by-halves", partial(kernel_exponents.causal_by_halves, a[0, :, 0], k[0, :, 0], v[0, :, 0])
