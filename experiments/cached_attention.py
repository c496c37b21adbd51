"""Cached attention: whether outputs and decisions stay the same with a cache, and how much time it saves."""

import time
from functools import cache, partial
from itertools import pairwise

import numpy as np
from keras import ops

from crosscheck.case import TOLERANCE
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.measuring import seconds
from crosscheck.models import minilm
from crosscheck.weights import weights_of
from experiments.common import novel
from experiments.common.experiment import Experiment
from experiments.common.reader import LAYERS, after_attention, give_weights, weights_of_attention
from experiments.common.table import Claim
from layers.cached_attention import CachedAttention
from reference import cached_attention as ref
from reference.attention import AttentionWeights, attend, multi_head_attention
from reference.common.projection import into_heads, out_of_heads

STEPS = 12
ORDERS = {"one by one": [1] * STEPS, "a prompt first": [5] + [1] * 7, "blocks": [3, 2, 6, 1], "all at once": [STEPS]}
SLOTS = (None, STEPS, 20)
"""Tokens are appended, or written to one of so many slots."""


def in_blocks(layer, x, sizes, slots):
    """Outputs of the layer for x in blocks of these sizes: appended, or written to one of the slots."""
    found, outputs, start = layer.init_cache(batch=len(x), length=slots or 0), [], 0
    for size in sizes:
        block = x[:, start : start + size]
        y, found = layer(block, block, cache=found, decode_loop_step=None if slots is None else start)
        outputs.append(ops.convert_to_numpy(y))
        start += size
    return np.concatenate(outputs, axis=1)


def unmasked(x, weights):
    """Outputs for x, token by token, if the slots that are not filled yet are not masked."""
    found, outputs = ref.empty_cache(len(x), STEPS, weights), []
    for step in range(STEPS):
        token = x[:, step : step + 1]
        q, k, v = (into_heads(token, projection) for projection in weights[:3])
        found = ref.write(found, k, v, step)
        outputs.append(out_of_heads(attend(q, *found)[0], weights.attention_output))
    return np.concatenate(outputs, axis=1)


def order(arm, rate, seed):
    """Nothing is trained: random tokens come to the layer, in float64, in some order.

    Returns:
        {"off": the largest difference from one causal pass, relative to the largest output, "agrees": 1 if it is rounding}.
    """
    x = np.random.default_rng(seed).normal(size=(2, STEPS, 11))
    layer = CachedAttention(num_heads=4, key_dim=7, dtype="float64", kernel_initializer="random_normal")
    layer.build(x.shape, x.shape)
    weights = weights_of(layer, AttentionWeights)
    expected, _ = multi_head_attention(x, x, weights, mask=ref.up_to_itself(STEPS, STEPS, 0)[None])
    outputs = [in_blocks(layer, x, ORDERS[arm], slots) for slots in SLOTS] if arm in ORDERS else [unmasked(x, weights)]
    error = max(np.abs(output - expected).max() for output in outputs) / np.abs(expected).max()
    return {"off": error, "agrees": float(error < TOLERANCE["float64"])}


LENGTH, TEXTS = 48, 4
"""Pieces of a passage, and passages of a seed."""


@cache
def causal_layers():
    """MiniLM's layers in float32, as layers with a cache. They were not trained to write, but their numbers are real."""
    made = [CachedAttention(12, 32, dtype="float32") for _ in range(LAYERS)]
    for number, layer in enumerate(made):
        layer.build((1, 1, 384), (1, 1, 384))
        give_weights(layer, weights_of_attention(number))
    return made


def logits_of(x):
    """Of the next piece, by MiniLM's own embeddings."""
    return x @ minilm.load().tensors["embeddings.word_embeddings.weight"].T


def passages(seed):
    texts = (novel.TEXT[2000 + 5000 * (TEXTS * seed + i) :][:1000].replace("\n", " ") for i in range(TEXTS))
    return np.concatenate([minilm.embed(minilm.load(), minilm.wordpieces(minilm.load(), text)[:LENGTH]) for text in texts])


def in_one_pass(x):
    mask = ref.up_to_itself(LENGTH, LENGTH, 0)[None]
    for number, layer in enumerate(causal_layers()):
        y, _ = layer(x, x, attention_mask=mask)
        x = after_attention(number, x, ops.convert_to_numpy(y)).astype("float32")
    return logits_of(x)


def step_by_step(x, first=0, kept="float32"):
    """With a cache whose first slots may stay empty, and which may be kept in another format."""
    caches, outputs = [layer.init_cache(batch=TEXTS, length=LENGTH + first) for layer in causal_layers()], []
    for step in range(LENGTH):
        token = x[:, step : step + 1]
        for number, layer in enumerate(causal_layers()):
            y, found = layer(token, token, cache=caches[number], decode_loop_step=ops.convert_to_tensor(step + first))
            caches[number] = {name: ops.cast(ops.cast(of, kept), "float32") for name, of in found.items()}
            token = after_attention(number, token, ops.convert_to_numpy(y)).astype("float32")
        outputs.append(token)
    return logits_of(np.concatenate(outputs, axis=1))


READINGS = {"cache": {}, "cache in float16": {"kept": "float16"}, "an empty slot seen": {"first": 1}}


def decide(arm, rate, seed):
    """Nothing is trained: MiniLM's layers, made causal, read passages of a novel at once and with a cache.

    Returns:
        {"same": the share of places where both find the same next piece most likely, "parted": how many do not, "beyond": how
        many of these were won by more than twice the difference of the logits there, "rounding": the largest difference of two
        logits, "closest": the least by which a decision was won, "kinds": how many different pieces were chosen}.
    """
    x = passages(seed).astype("float32")
    first, second = in_one_pass(x), step_by_step(x, **READINGS[arm])
    apart = np.abs(first - second).max(axis=-1)
    margins = np.diff(np.partition(first, -2, axis=-1)[..., -2:], axis=-1)[..., 0]
    chosen = first.argmax(axis=-1)
    same = chosen == second.argmax(axis=-1)
    found = {"same": same.mean(), "parted": int((~same).sum()), "beyond": int((~same & (margins > 2 * apart)).sum())}
    return found | {"rounding": apart.max(), "closest": margins.min(), "kinds": len(np.unique(chosen))}


TOKENS = {"16 tokens": 16, "32 tokens": 32, "64 tokens": 64, "128 tokens": 128}


def clock(arm, rate, seed):
    """Nothing is trained: a layer in NumPy decodes random tokens, with and without a cache.

    Returns {"ratio": of the times without and with it, "null": of two times with it, "counted": of the multiply-adds}.
    """
    length = TOKENS[arm]
    layer = CachedAttention(num_heads=4, key_dim=16, dtype="float64")
    layer.build((1, 1, 64), (1, 1, 64))
    weights, x = weights_of(layer, AttentionWeights), np.random.default_rng(seed).normal(size=(1, length, 64))
    ways, counts = [partial(decode, x, weights) for decode in (ref.decode_by_recomputing, ref.decode)], []
    for way in ways:
        with multiply_adds() as counted:
            way()
        counts.append(sum(counted))
    again, cached, twice = (seconds(way, 3 + 128 // length, time.process_time) for way in (*ways, ways[1]))
    return {"ratio": again / cached, "null": cached / twice, "counted": counts[0] / counts[1]}


EXPERIMENTS = [
    Experiment("orders", order, (*ORDERS, "empty slots seen"), (0.0,), "agrees", elsewhere="blocks"),
    Experiment("decisions", decide, tuple(READINGS), (0.0,), "same", seeds=(0, 1, 2), elsewhere="cache"),
    Experiment("time", clock, tuple(TOKENS), (0.0,), "ratio"),
]


# ---- What the lesson says of it ------------------------------------------------------------------------------------------------


def exact(found):
    """The largest error of any order, and what the forgotten mask does."""
    error = max(found.values("off", arm).max() for arm in ORDERS)
    forgotten = found.values("off", "empty slots seen").min()
    return f"at most {error:.0e}; empty slots seen at least {forgotten:.2f}", "yes" if error < TOLERANCE["float64"] else "no"


def alike(found):
    """Decisions that differ, beside the margins of those that might."""
    parted, closest, rounding, beyond = (found.values(what, "cache") for what in ("parted", "closest", "rounding", "beyond"))
    half, seen = "cache in float16", "an empty slot seen"
    ours = (
        f"{parted.sum()} of {LENGTH * TEXTS * len(parted)} decisions differ; logits by at most {rounding.max():.0e}, the closest "
        f"was won by {closest.min():.0e}; cache in float16: {found.values('parted', half).sum()} differ, of which "
        f"{found.values('beyond', half).sum()} were won by more than twice the difference; "
        f"an empty slot seen: {found.values('parted', seen).sum()} differ"
    )
    if beyond.any() or found.values("beyond", half).any():
        return ours, "no"
    return ours, "yes" if not parted.any() else "only where a decision is won by more than rounding"


def faster(found):
    """The ratio of times at each length."""
    ratios = [found.values("ratio", arm) for arm in TOKENS]
    counted = ", ".join(f"{found.values('counted', arm)[0]:.0f}" for arm in TOKENS)
    ours = ", ".join(f"{ratio.min():.1f} to {ratio.max():.1f}" for ratio in ratios)
    null = np.array([found.values("null", arm) for arm in TOKENS])
    ours = f"{', '.join(TOKENS)}: {ours}; null {null.min():.2f} to {null.max():.2f}; multiply-adds {counted}"
    grows = all(short.max() < long.min() for short, long in pairwise(ratios))
    return ours, "yes" if grows and ratios[0].min() > null.max() else "no"


CLAIMS = [
    Claim(
        "However tokens come, all at once, in blocks or one by one, the outputs are those of one causal pass",
        "orders",
        exact,
        bound=f"rounding in float64: {TOLERANCE['float64']:.0e}",
        ablation="the mask of the slots that are not filled yet",
        paper="none",
    ),
    Claim(
        "A model decides for the same next pieces with a cache, and can part only where a decision is won by rounding",
        "decisions",
        alike,
        bound="two logits that each move by δ change places only if they are less than 2 δ apart",
        ablation="the precision of the cache; and the mask of one empty slot",
        paper="none",
    ),
    Claim(
        "Decoding is faster with a cache, and the more so the longer the text",
        "time",
        faster,
        bound="null: two times of the same, beside ours; counted multiply-adds, beside ours",
        ablation="the cache",
        paper="2006.16236, Table 5: 72.6 s and 7.4 s for 784 pixels (ratio 10), 8651.4 s and 71.9 s for 3,072 (120)",
    ),
]
