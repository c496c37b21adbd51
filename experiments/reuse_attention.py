"""Reuse attention: how alike the layers of a real model are, and whether one can borrow from another."""

from functools import cache

import numpy as np
from scipy.optimize import linear_sum_assignment

from experiments.common.experiment import Experiment
from experiments.common.reader import HEADS, LAYERS, read, sentences, weights_of_attention
from experiments.common.table import Claim, span
from reference import reuse_attention as ref
from reference.attention import multi_head_attention
from reference.common.projection import Projection

COUNT = 8
"""Pairs of sentences of a seed."""


@cache
def pairs():
    """Pairs of sentences with equally many pieces; no sentence is in two."""
    by_length = {}
    for pieces in sentences():
        by_length.setdefault(len(pieces), []).append(pieces)
    return [(of[i], of[i + 1]) for of in by_length.values() for i in range(0, len(of) - 1, 2)]


@cache
def read_pair(number):
    """What `read` returns for the two sentences of a pair. Neighbors in the list are equally long, so pairs lie far apart."""
    return tuple(map(read, pairs()[13 * number]))


def pairs_of(seed):
    return [read_pair(COUNT * seed + i) for i in range(COUNT)]


def similarity(one, other):
    """For each two heads of maps `(h, t, s)`: 1 − ½ Σ |difference|, averaged over queries."""
    return 1 - np.abs(one[:, None] - other[None]).sum(axis=-1).mean(axis=-1) / 2


def words_only(attention):
    """What is left without [CLS] and [SEP], by equation (3)."""
    words = np.arange(attention.shape[-1]) % (attention.shape[-1] - 1) > 0
    return ref.renormalized(attention[None], words[None, None, None])[0][:, 1:-1]


DISTANCES = {f"distance {i}": i for i in range(1, LAYERS)}


def compare(arm, rate, seed):
    """Nothing is trained: MiniLM reads pairs of sentences, and heads of layers so far apart are compared.

    Returns:
        For each pair, averaged over layers {"match": the overlap with the most similar head, "any": with any head, "other": with
        the most similar one if the lower layer reads the pair's other sentence}; and "excess", match less other, on average.
    """
    rows, apart = [], DISTANCES[arm]
    for (_, maps), (_, others) in pairs_of(seed):
        maps, others = (list(map(words_only, of)) for of in (maps, others))
        same = [similarity(maps[i], maps[i + apart]) for i in range(LAYERS - apart)]
        null = [similarity(others[i], maps[i + apart]) for i in range(LAYERS - apart)]
        rows.append([np.mean([of.max(0).mean() for of in same]), np.mean(same), np.mean([of.max(0).mean() for of in null])])
    match, any_two, other = np.transpose(rows)
    return {"match": match, "any": any_two, "other": other, "excess": np.mean(match - other)}


COUNTS = (2, 4, 6, 8, 10)
BORROWED = ("best matches", "head i for head i", "uniform", "best matches, another sentence")
UPPER = tuple(range(1, LAYERS))
"""The seeds are the layers that borrow."""


def borrowing(layer, targets):
    """A layer of MiniLM with its heads `targets` reused and the others new."""
    weights, rest = weights_of_attention(layer), np.setdiff1d(range(HEADS), targets)
    query, key, value = (Projection(part.kernel[:, rest], part.bias[rest]) for part in weights[:3])
    reused = Projection(weights.value.kernel[:, targets], weights.value.bias[targets])
    kernel, bias = weights.attention_output
    output = Projection(kernel[targets], bias), Projection(kernel[rest], None)
    return ref.ReuseAttentionWeights(query, key, reused, value, *output, None)


def borrow(arm, rate, seed):
    """Nothing is trained: a layer of MiniLM, the seed, takes weights of the layer below for 2, 4, … of its heads.

    Which heads match is told by the other sentences of the pairs. Returns {"moved": how far the output moves, relative to how
    far its tokens are spread, for each of `COUNTS`, "six": that for six heads}.
    """
    found = [pair for part in range(3) for pair in pairs_of(part)]
    alike = np.mean([similarity(maps[seed - 1], maps[seed]) for _, (_, maps) in found], axis=0)
    matched = np.array(linear_sum_assignment(-alike))
    sources, targets = matched[:, np.argsort(-alike[*matched])]
    if arm == "head i for head i":
        sources = targets = np.arange(HEADS)
    moved, spread = np.zeros(len(COUNTS)), 0
    for (inputs, maps), (_, others) in found:
        x = inputs[seed]
        expected, weights = multi_head_attention(x, x, weights_of_attention(seed))
        below = others if arm.endswith("another sentence") else maps
        before = np.full_like(weights, 1 / weights.shape[-1]) if arm == "uniform" else below[seed - 1][None, sources]
        spread += ((expected - expected.mean(1)) ** 2).sum()
        for i, count in enumerate(COUNTS):
            output, _ = ref.reuse_attention(x, x, borrowing(seed, targets[:count]), before)
            moved[i] += ((output - expected) ** 2).sum()
    moved = np.sqrt(moved / spread)
    return {"moved": moved, "six": moved[2]}


EXPERIMENTS = [
    Experiment("alike", compare, tuple(DISTANCES), (0.0,), "excess"),
    Experiment("borrow", borrow, BORROWED, (0.0,), "six", lower_is_better=True, seeds=UPPER),
]


# ---- What the lesson says of it ------------------------------------------------------------------------------------------------


def explained(found):
    """(overlap, what the sentence explains of it): both `(distances, sentences)`."""
    match, other = (np.array([found.values(what, arm).ravel() for arm in DISTANCES]) for what in ("match", "other"))
    return match, match - other


def mostly_general(found):
    """The overlap of neighboring layers, and how much of it is there with another sentence."""
    match, excess = explained(found)
    share = 1 - excess[0] / match[0]
    any_two = found.values("any", "distance 1")
    ours = f"overlap {span(match[0])}; any two heads {span(any_two)}; share without the sentence {span(share)}"
    return ours, "yes" if excess[0].min() > 0 and share.min() > 1 / 2 else "no"


def nearest(found):
    """What the sentence explains, by distance: in every sentence, and averaged over those of a seed."""
    _, excess = explained(found)
    rivals, wins = excess[1:].max(axis=0), np.mean(excess[0] > excess[1:].max(axis=0))
    ours = ", ".join(f"{middle:.3f}" for middle in np.median(excess, axis=1))
    ours = f"{ours} (medians, distances 1 to {LAYERS - 1}); distance 1 is the largest in {wins:.0%} of sentences"
    if (excess[0] > rivals).all():
        return ours, "yes"
    averages = excess.reshape(len(excess), -1, COUNT).mean(axis=-1)
    if (averages[0] > averages[1:].max(axis=0)).all():
        return ours, f"only on average over {COUNT} sentences"
    return ours, "only beside the mean of the other distances" if (excess[0] > excess[1:].mean(axis=0)).all() else "no"


def costly(found):
    """How far outputs move in each layer."""
    best, same, uniform, other = (found.values("moved", arm) for arm in BORROWED)
    ours = f"layers {UPPER[0]} to {UPPER[-1]}, two heads {span(best[:, 0])}, six {span(best[:, 2])}; rivals with six: "
    ours += f"head i for head i {span(same[:, 2])}, uniform {span(uniform[:, 2])}, another sentence {span(other[:, 2])}"
    least = (best < np.minimum(same, uniform))[:, :3].all(axis=1)
    holds = least & (best[:, 2] > 1 / 2)
    if holds.all():
        return ours, "yes"
    kept = [str(layer) for layer, good in zip(UPPER, holds) if good]
    return ours, f"only in layers {', '.join(kept)}" if kept else "no"


SIMILAR = "none (2110.06821 compares heads by the same distance; its numbers were not at hand)"

CLAIMS = [
    Claim(
        "Heads of neighboring layers look alike, and most of that is also there with another sentence",
        "alike",
        mostly_general,
        bound="same places 1; null: any two heads, beside ours",
        ablation="the sentence: the lower layer reads another one of the same length",
        paper=SIMILAR,
    ),
    Claim(
        "What the sentence explains of the likeness is largest between neighboring layers",
        "alike",
        nearest,
        bound="nothing 0",
        ablation="the neighborhood: distances 2 to 5",
        paper="2110.06821: neighboring layers are the most alike (its numbers were not at hand)",
    ),
    Claim(
        "A trained layer cannot simply borrow: its best six matches move its output by over half its spread, others by more",
        "borrow",
        costly,
        bound="its own weights 0; all tokens alike 1",
        ablation="the choice of heads; the weights, made uniform; and the sentence",
        paper="none (2110.06821 trains with reuse from the start)",
    ),
]
