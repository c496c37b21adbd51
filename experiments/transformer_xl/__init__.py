"""Transformer-XL: what a memory lets a model know, and what it learns to remember."""

import keras
import numpy as np
from keras import ops

from experiments.common import novel
from experiments.common.experiment import Experiment
from experiments.common.table import Claim
from experiments.common.training import train
from experiments.transformer_xl.reader import LENGTH, SEGMENTS, SYMBOLS, Reader, nats

# ---- A text that only a memory can predict -------------------------------------------------------------------------------------

DISTANCE, COPIED = 12, 0.95
"""The next token is, with probability `COPIED`, the one `DISTANCE` back from the token before it; else any symbol."""

TESTED = (0, 4, 8, 12, 16)
"""Lengths of memory at test."""

RIGHT = COPIED + (1 - COPIED) / SYMBOLS
FLOOR = float(np.exp(-RIGHT * np.log(RIGHT) - (1 - RIGHT) * np.log((1 - COPIED) / SYMBOLS)))
"""The probability of the likeliest token, and the perplexity of who knows it."""

COPIERS = {"memory of 12": (12, "relative"), "no memory": (0, "relative"), "memory of 12, absolute places": (12, "absolute")}
"""{arm: (length of memory, how)}. One layer is enough."""


def write(rng, count):
    """Texts `(count, SEGMENTS · LENGTH)`, and the token that follows each of the last segment."""
    ids = rng.integers(0, SYMBOLS, (count, SEGMENTS * LENGTH + 1)).astype("int32")
    copied, lag = rng.random(ids.shape) < COPIED, DISTANCE + 1
    for t in range(lag, ids.shape[1]):
        ids[:, t] = np.where(copied[:, t], ids[:, t - lag], ids[:, t])
    return ids[:, :-1], ids[:, -LENGTH:]


def in_reach(memory_length):
    """Whether each place `(LENGTH,)` of a segment has the answer in the memory of its own layer."""
    return np.arange(LENGTH) - DISTANCE >= -memory_length


def of_two():
    """The perplexity of who knows two tokens of which one is the answer, but not which: each gets half of `COPIED`."""
    both = 1 / SYMBOLS  # that the two are equal
    likely, less, rest = COPIED + (1 - COPIED) / SYMBOLS, COPIED / 2 + (1 - COPIED) / SYMBOLS, (1 - COPIED) / SYMBOLS
    equal = -likely * np.log(likely) - (1 - likely) * np.log(rest)
    unlike = -2 * less * np.log(less) - (1 - 2 * less) * np.log(rest)
    return float(np.exp(both * equal + (1 - both) * unlike))


def measured(model, rng, memory_length):
    """{"nats", "accuracy", "right": by place, "tested": nats for each length of memory in `TESTED`} on new texts."""
    ids, answers = write(rng, 512)
    logits = model.test(ids, memory_length)
    right = (logits.argmax(-1) == answers).mean(axis=0)
    tested = [nats(model.test(ids, length), answers).mean() for length in TESTED]
    return {"nats": nats(logits, answers).mean(), "accuracy": right.mean(), "right": right, "tested": tested}


def train_copier(arm, rate, seed, steps=200):
    """What `measured` returns, and "loss": the curve."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    memory_length, how = COPIERS[arm]
    model = Reader(SYMBOLS, 1, memory_length, how)
    curve = train(model, lambda: write(rng, 64), rate, steps)
    return measured(model, rng, memory_length) | {"loss": curve}


# ---- Two hops ------------------------------------------------------------------------------------------------------------------

HOPPERS = {
    "one layer": (1, "relative", 600),
    "two layers": (2, "relative", 600),
    "two layers, gradients through": (2, "through", 600),
    "two layers, four times the steps": (2, "relative", 2400),
}
"""With a memory of `LENGTH`, which is too short for one layer and long enough for two: {arm: (layers, how, steps)}."""


def train_hopper(arm, rate, seed):
    """As `train_copier`."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    layers, how, steps = HOPPERS[arm]
    model = Reader(SYMBOLS, layers, LENGTH, how)
    curve = train(model, lambda: write(rng, 64), rate, steps)
    return measured(model, rng, LENGTH) | {"loss": curve}


# ---- Real text -----------------------------------------------------------------------------------------------------------------

NOVEL_READERS = {"memory of 16": 16, "no memory": 0}


def train_novel(arm, rate, seed, steps=300):
    """{"bits": a character of the held-out text, "by_place": those of each place in a segment, "other": the same with the memory
    of another place of the novel, "loss": the curve}."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    seen, new = novel.halves()
    model = Reader(len(novel.SYMBOLS), 1, NOVEL_READERS[arm], size=64)

    def draw():
        ids, following = novel.pieces(seen, SEGMENTS * LENGTH, 64, rng)
        return ids, following[:, -LENGTH:]

    curve = train(model, draw, rate, steps)
    starts = np.arange(0, len(new) - SEGMENTS * LENGTH - 1, LENGTH)
    pieces = new[starts[:, None] + np.arange(SEGMENTS * LENGTH + 1)]
    ids, answers = pieces[:, :-1], pieces[:, -LENGTH:]
    own, other = ops.convert_to_numpy(model(ids)), model.with_other_memory(ids)
    own, other = ((nats(logits, answers) / np.log(2)).mean(axis=0) for logits in (own, other))
    return {"bits": own.mean(), "by_place": own, "other": other, "loss": curve}


# ---- What is run, and what the lesson says of it -------------------------------------------------------------------------------

RATES, SEEDS = (1e-3, 3e-3, 1e-2), (0, 1, 2)
LOSS = {"lower_is_better": True, "seeds": SEEDS}
EXPERIMENTS = [
    Experiment("copy", train_copier, tuple(COPIERS), RATES, "nats", elsewhere="memory of 12", **LOSS),
    Experiment("hops", train_hopper, tuple(HOPPERS), RATES, "nats", elsewhere="two layers", **LOSS),
    Experiment("novel", train_novel, tuple(NOVEL_READERS), RATES, "bits", elsewhere="memory of 16", **LOSS),
]


def accuracy_of_two():
    """What who knows two tokens, one of which is the answer, can be right: they are equal with the probability 1 / SYMBOLS."""
    return COPIED * (0.5 + 0.5 / SYMBOLS) + (1 - COPIED) / SYMBOLS


def halfway_to_floor(found):
    """The best and the worst perplexity with and without a memory; the claim holds if they are on different sides of halfway."""
    own, none = (found.values("nats", arm) for arm in ("memory of 12", "no memory"))
    holds = own.max() < (np.log(FLOOR) + np.log(SYMBOLS)) / 2 < none.min()
    return f"worst seed with it {np.exp(own.max()):.2f}, best without {np.exp(none.min()):.2f}", "yes" if holds else "no"


def one_of_two(found):
    """The accuracy with absolute places, below halfway from an even mixture of two tokens to that with distances."""
    distances, places = (found.values("accuracy", arm) for arm in ("memory of 12", "memory of 12, absolute places"))
    holds = places.max() < (accuracy_of_two() + RIGHT) / 2 < distances.min()
    return f"best seed {places.max():.2f}; with distances, worst {distances.min():.2f}", "yes" if holds else "no"


def beyond_one_memory(found):
    """{arm: accuracy `(seeds,)` at the places whose answer is further back than one memory reaches}."""
    return {arm: found.values("right", arm)[:, ~in_reach(LENGTH)].mean(axis=1) for arm in HOPPERS}


def two_hops(found):
    """Whether two layers with a memory that is too short for one come halfway from chance to all right, with the paper's SG."""
    by_arm, halfway_up = beyond_one_memory(found), (1 / SYMBOLS + RIGHT) / 2
    ours = "; ".join(f"{arm} {values.min():.2f} to {values.max():.2f}" for arm, values in by_arm.items())
    one, two, through, longer = by_arm.values()
    if one.max() > halfway_up or through.min() < halfway_up:
        return ours, "no"
    if two.min() > halfway_up:
        return ours, "yes"
    if longer.min() > halfway_up:
        return ours, "only with four times the steps, or if gradients flow through the memory"
    return ours, "only if gradients flow through the memory"


def first_character(found):
    """Bits of the first character of a segment with and without a memory, and of the whole segment."""
    own, none = (found.values("by_place", arm) for arm in NOVEL_READERS)
    bound = novel.bits_of_counts(1)
    holds = own[:, 0].max() < bound and own.mean(axis=1).max() < none.mean(axis=1).min()
    ours = f"first character {own[:, 0].max():.2f} (worst seed), without {none[:, 0].min():.2f} (best); all places"
    return f"{ours} {own.mean(axis=1).max():.2f} and {none.mean(axis=1).min():.2f}", "yes" if holds else "no"


CLAIMS = [
    Claim(
        "A model that was trained with a memory predicts a text whose answers all lie before the segment; one without does not",
        "copy",
        halfway_to_floor,
        bound=f"perplexity of who knows all that helps {FLOOR:.2f}; chance {SYMBOLS}",
        ablation="the memory",
        paper="1901.02860, Table 6: perplexity 27.02 with recurrence, 29.59 without",
    ),
    Claim(
        "With absolute places in place of distances, a memory cannot tell its segments apart",
        "copy",
        one_of_two,
        bound=f"an even mixture of two tokens: accuracy {accuracy_of_two():.2f}; all that can be known {RIGHT:.2f}",
        ablation="the distances",
        paper="none (section 3.3 argues it)",
    ),
    Claim(
        "Every seed of two layers learns to find what lies further back than one memory reaches",
        "hops",
        two_hops,
        bound=f"chance 1/{SYMBOLS}; all that can be known {RIGHT:.2f}",
        ablation="the second layer; the stop of gradients; and the number of steps",
        paper="1901.02860, section 3.2: the longest dependency is O(N · L)",
    ),
    Claim(
        "On real text, a memory spares the first characters of a segment what their missing context costs",
        "novel",
        first_character,
        bound=f"counts after the one character that is left: {novel.bits_of_counts(1):.2f} bits",
        ablation="the memory; and, at test, its text: with that of another one it is worse than without",
        paper="1901.02860, Table 7 (One Billion Word): perplexity 25.2 with recurrence, 27.1 without",
    ),
]
