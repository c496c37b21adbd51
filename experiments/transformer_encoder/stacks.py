"""Stacks of blocks whose weights are random: how much still differs between tokens, and how large the last gradient is."""

from typing import NamedTuple

import numpy as np

from crosscheck.models import minilm
from experiments.common.reader import LAYERS, rest_of, sentences_of, through, weights_of_attention
from reference.attention import AttentionWeights, multi_head_attention
from reference.common.normalization import LayerNorm, layer_norm
from reference.common.projection import Projection
from reference.transformer_encoder import EncoderWeights, feed_forward

B, T, M, H, F = 4, 16, 64, 4, 128
"""Sequences, tokens, model size, heads, feed-forward size."""

DEPTH = 16


class Kind(NamedTuple):
    """What a block has: its norm ("no", "post" or "pre"), residual connections, a feed-forward network."""

    norm: str
    residual: bool = True
    feed_forward: bool = True


REMOVED = {"": (), ", no feed-forward": ("feed_forward",), ", no residual": ("residual",)}
REMOVED[", attention alone"] = ("feed_forward", "residual")
KINDS = {
    f"{n}-norm{what}": Kind(n)._replace(**dict.fromkeys(parts, False))
    for n in ("no", "post", "pre")
    for what, parts in REMOVED.items()
}
SIZES = (0.25, 0.5, 0.7, 1.0, 1.4)
"""All kernels of the blocks times so much."""


def plain(m):
    return LayerNorm(np.ones(m), np.zeros(m))


def draw_block(rng, m=M, h=H, f=F, size=1.0):
    """Weights of a block as Glorot draws them, which is what our layer does unless it is told otherwise, times `size`."""

    def drawn(*shape, fans):
        return Projection(size * np.sqrt(2 / fans) * rng.normal(size=shape))

    into = [drawn(m, h, m // h, fans=2 * m) for _ in range(3)]
    attention = AttentionWeights(*into, drawn(h, m // h, m, fans=2 * m))
    return EncoderWeights(attention, plain(m), drawn(m, f, fans=m + f), drawn(f, m, fans=m + f), plain(m))


def sublayer(x, transform, kind, norm):
    """One sublayer with its residual connection and its norm, if the block has them."""
    y = transform(layer_norm(x, norm) if kind.norm == "pre" else x)
    y = x + y if kind.residual else y
    return layer_norm(y, norm) if kind.norm == "post" else y


def block(x, w, kind):
    """A block of this kind; with everything, equation (2) or (3) of `reference/transformer_encoder.py`."""
    x = sublayer(x, lambda x: multi_head_attention(x, x, w.self_attention)[0], kind, w.self_attention_layer_norm)
    if kind.feed_forward:
        x = sublayer(x, lambda x: feed_forward(x, w.intermediate, w.output), kind, w.output_layer_norm)
    return x


def differing(x):
    """The share of the mean square of `x` `(b, t, m)` that differs between tokens."""
    return np.mean((x - x.mean(axis=1, keepdims=True)) ** 2) / np.mean(x**2)


def shares(kind, seed, size=1.0):
    """[(blocks, share that differs)] in a stack of random blocks that reads random vectors."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(B, T, M))
    found = [(0, differing(x))]
    for number in range(DEPTH):
        x = block(x, draw_block(rng, size=size), kind)
        found.append((number + 1, differing(x)))
    return found


def expected(kind, size=1.0):
    """What `shares` must come to if attention gives equal weights and all sizes are large: no number in it is fitted.

    `own` is the mean square of a token, `common` the mean product of two tokens; a norm divides both by `own`.
    """
    own, common, found = 1.0, 0.0, [1 - 1 / T]
    for _ in range(DEPTH):
        for which in ("attention", "feed_forward") if kind.feed_forward else ("attention",):
            scale = own if kind.norm == "pre" else 1.0
            if which == "attention":
                added = (size**4 * (own / T + common * (T - 1) / T) / scale,) * 2
            else:
                widened = size**4 * 4 * M * F / (M + F) ** 2 * own / 2 / scale
                added = widened, widened * alike_after_relu(common / own)
            own, common = (own * kind.residual + added[0], common * kind.residual + added[1])
            if kind.norm == "post":
                own, common = 1.0, common / own
        found.append((1 - 1 / T) * (own - common) / own)
    return np.array(found)


def alike_after_relu(cosine):
    """The mean product of relu(u) and relu(v) over the mean square, for normal u and v with this correlation."""
    cosine = min(cosine, 1.0)
    return (np.sqrt(1 - cosine**2) + (np.pi - np.arccos(cosine)) * cosine) / np.pi


def distinct(arm, rate, seed):
    """Nothing is trained. Returns {"shares": the curve over blocks, "end": the last share}."""
    found = shares(KINDS[arm], seed)
    return {"shares": found, "end": found[-1][1]}


def scaled(arm, rate, seed):
    """The same for an arm such as "post-norm, × 0.5"."""
    norm, size = arm.split(", × ")
    return {"end": shares(KINDS[norm], seed, float(size))[-1][1]}


# ---- A trained model ---------------------------------------------------------------------------------------------------------

COUNT = 8
"""Sentences of a seed."""


def shuffled(projection, rng):
    return projection._replace(kernel=rng.permutation(projection.kernel.ravel()).reshape(projection.kernel.shape))


def read(arm, rate, seed):
    """Nothing is trained here: MiniLM, whose blocks are post-norm, reads sentences; or its kernels are shuffled first.

    Returns:
        {"shares": [(blocks, share that differs)], averaged over sentences, "end": the last of them}.
    """
    rng = np.random.default_rng(seed)
    xs = [minilm.embed(minilm.load(), pieces) for pieces in sentences_of(seed, COUNT)]
    found = [(0, np.mean([differing(x) for x in xs]))]
    for layer in range(LAYERS):
        attention, (norm, wide, narrow, last) = weights_of_attention(layer), rest_of(layer)
        if arm == "shuffled":
            attention = AttentionWeights(*(shuffled(projection, rng) for projection in attention))
            wide, narrow = shuffled(wide, rng), shuffled(narrow, rng)
        xs = [through(x, multi_head_attention(x, x, attention)[0], norm, wide, narrow, last) for x in xs]
        found.append((layer + 1, np.mean([differing(x) for x in xs])))
    return {"shares": found, "end": found[-1][1]}


# ---- The gradient of the last feed-forward network ---------------------------------------------------------------------------

DEPTHS = (2, 4, 8, 16, 32)
CLASSES = 64
GRADIENTS = {"post-norm": (Kind("post"), 1.0), "pre-norm": (Kind("pre"), 1.0), "post-norm, halved": (Kind("post"), 0.5)}
"""{arm: (kind, the blocks' kernels times so much)}."""


def last_gradient(kind, depth, seed, size=1.0, sequences=16, f=4 * M):
    """The norm of the cross-entropy's gradient for the last block's W_2, at random labels.

    Returns:
        (the norm, what it would be if the parts of different tokens were at right angles). By hand: the gradient is Σ h_t g_t,
        with h_t the activations below W_2 and g_t the gradient for what W_2 adds, which comes through the last norm.
    """
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(sequences, T, M)), rng.integers(0, CLASSES, (sequences, T))
    logits = rng.normal(size=(M, CLASSES)) * np.sqrt(2 / (M + CLASSES))
    for number in range(depth):
        w = draw_block(rng, f=f, size=size)
        x = block(x, w, kind._replace(feed_forward=number < depth - 1))
    h = np.maximum((layer_norm(x, plain(M)) if kind.norm == "pre" else x) @ w.intermediate.kernel, 0)
    summed = x + h @ w.output.kernel
    output = layer_norm(summed, plain(M))  # the block's own norm, or the one at the end of a pre-norm stack
    p = np.exp(output @ logits)
    g = (p / p.sum(axis=-1, keepdims=True) - np.eye(CLASSES)[labels]) @ logits.T / labels.size
    g = g - g.mean(axis=-1, keepdims=True) - output * (g * output).mean(axis=-1, keepdims=True)
    h, g = h.reshape(-1, f), (g / summed.std(axis=-1, keepdims=True)).reshape(-1, M)
    return np.linalg.norm(h.T @ g), np.sqrt(np.sum((h**2).sum(axis=1) * (g**2).sum(axis=1)))


def slope(depths, values):
    return np.polyfit(np.log(depths), np.log(values), 1)[0]


def gradients(arm, rate, seed):
    """{"norm", "apart": [(depth, value)] for the two of `last_gradient`, "slope", "slope apart": in log over log depth}."""
    kind, size = GRADIENTS[arm]
    norms, apart = np.array([last_gradient(kind, depth, seed, size) for depth in DEPTHS]).T
    curves = {"norm": list(zip(DEPTHS, norms)), "apart": list(zip(DEPTHS, apart))}
    return curves | {"slope": slope(DEPTHS, norms), "slope apart": slope(DEPTHS, apart)}
