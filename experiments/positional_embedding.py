"""Positions: which of them still work in texts longer than those of training, and what that rests on."""

import keras
import numpy as np
from keras import ops

from experiments.common.experiment import Experiment
from experiments.common.table import Claim, span
from experiments.common.training import train
from layers.attention import MultiHeadAttention
from layers.on_device_embedding import OnDeviceEmbedding
from layers.positional_embedding import PositionalEmbedding, RelativePositionBias, RelativePositionEmbedding
from reference.positional_embedding import bucket

WORDS, T, LONGEST = 16, 16, 64
"""Ids, length of the texts of training, and of the longest test."""
LENGTHS = (T, 2 * T, LONGEST)
M, H = 32, 4

ARMS = {
    "no positions": {},
    "learned rows": {"place": "learned"},
    "sinusoids": {"place": "sinusoids"},
    "T5's bias": {"bias": "distances"},
    "a bias for each pair": {"bias": "pairs"},
    "T5's bias, up to 16": {"bias": "distances", "buckets": 16, "most": 16},
    "learned rows, begun anywhere": {"place": "learned", "anywhere": True},
    "sinusoids, begun anywhere": {"place": "sinusoids", "anywhere": True},
}
"""{arm: options of `Reader`}.

Ablations: a bias for each pair of places is added to the scores as T5's is, but two pairs of one distance do not share it; with
buckets up to 16, no distance meets a bucket that training left as it was drawn; texts that begin anywhere from 0 to 48 have no
place that training has not seen.
"""


class PairBias(keras.layers.Layer):
    """A trained bias `(1, h, t, s)` for each pair of places: equation (5) without its sharing."""

    def __init__(self, heads, longest):
        super().__init__()
        start = keras.initializers.TruncatedNormal(stddev=1.0)  # as T5's
        self.table = self.add_weight(shape=(heads, longest, longest), initializer=start)

    def call(self, query, key):
        return self.table[None, :, : query.shape[1], : key.shape[1]]


class Reader(keras.Model):
    """One attention layer that says, at each place, the word before."""

    def __init__(self, place=None, bias=None, buckets=32, most=128, anywhere=False):
        super().__init__()
        self.token, self.anywhere = OnDeviceEmbedding(WORDS, M), anywhere
        self.place = {"learned": PositionalEmbedding(LONGEST), "sinusoids": RelativePositionEmbedding(M)}.get(place)
        biases = {"distances": lambda: RelativePositionBias(H, buckets, most), "pairs": lambda: PairBias(H, LONGEST)}
        self.bias = biases[bias]() if bias else None
        self.attention, self.logits = MultiHeadAttention(num_heads=H, key_dim=M // H), keras.layers.Dense(WORDS)

    def call(self, inputs):
        ids, first = inputs  # `first`: the place of the first word, a number for the whole batch
        x = self.token(ids)
        if self.place is not None:
            x = x + self.place(x, offset=first[0, 0])
        bias = None if self.bias is None else self.bias(x, x)
        return self.logits(x + self.attention(x, x, attention_bias=bias))


def train_reader(arm, rate, seed, steps=300, keep=False):
    """Train on texts of 16 words, then read longer ones.

    Returns:
        {"right 16", "right 32", "right 64": the share of words that are right in texts of that length, after the first; "seen":
        the same in texts of 32 at the places that training has seen, "beyond": at those that it has not; "at 16", "at 32", "at
        64": by place; "loss": the curve}; with `keep`, the model too.
    """
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = Reader(**ARMS[arm])

    def draw(count=64, length=T):
        text = rng.integers(0, WORDS, (count, length + 1)).astype("int32")
        first = rng.integers(0, LONGEST - T + 1) if model.anywhere and length == T else 0
        return (text[:, 1:], np.full((count, 1), first, "int32")), text[:, :-1]

    found = {"loss": train(model, draw, rate, steps, points=30)}
    for length in LENGTHS:
        inputs, expected = draw(256, length)
        # What came before the first word is not to be known.
        right = (np.argmax(ops.convert_to_numpy(model(inputs)), axis=-1) == expected)[:, 1:].mean(axis=0)
        found |= {f"right {length}": right.mean(), f"at {length}": right}
    seen = found[f"at {2 * T}"]
    found |= {"seen": seen[: T - 1].mean(), "beyond": seen[T - 1 :].mean()}
    return found | {"model": model} if keep else found


# ---- What is run, and what the lesson says of it -------------------------------------------------------------------------------

EXPERIMENTS = [
    Experiment(
        "longer",
        train_reader,
        tuple(ARMS),
        (3e-3, 1e-2, 3e-2),
        f"right {2 * T}",
        elsewhere="T5's bias",
    ),
]


def with_buckets_redrawn(model, length, count=20, value=None):
    """What is right from `T` on, in texts of `length`, for new draws of the buckets that training leaves alone.

    They are drawn as at the start, or all set to `value`; nothing else of the trained model changes.
    """
    bias, rng = model.bias, np.random.default_rng(0)
    own = ops.convert_to_numpy(bias.embeddings)
    far = [i for i in range(len(own)) if i not in {bucket(n) for n in range(1 - T, T)}]
    text, found = rng.integers(0, WORDS, (128, length + 1)).astype("int32"), []
    for _ in range(count if value is None else 1):
        drawn = own.copy()
        drawn[far] = [[truncated(rng) if value is None else value for _ in row] for row in drawn[far]]
        bias.embeddings.assign(drawn)
        logits = ops.convert_to_numpy(model((text[:, 1:], np.zeros((128, 1), "int32"))))
        found.append((np.argmax(logits, axis=-1) == text[:, :-1])[:, T:].mean())
    bias.embeddings.assign(own)
    return np.array(found)


def truncated(rng):
    """A normal number that is not beyond 2, as T5's start."""
    return next(x for x in iter(rng.normal, None) if abs(x) < 2)


def right_within(model, most):
    """What is right in texts of `LONGEST` words if no word may attend to one that is more than `most` places away."""
    rng, places = np.random.default_rng(0), np.arange(LONGEST)
    text = rng.integers(0, WORDS, (256, LONGEST + 1)).astype("int32")
    x = model.token(text[:, 1:])
    x = x + model.place(x, offset=0)
    mask = np.abs(places[:, None] - places) <= most
    logits = ops.convert_to_numpy(model.logits(x + model.attention(x, x, attention_mask=mask[None])))
    return (np.argmax(logits, axis=-1) == text[:, :-1])[:, 1:].mean()


HALFWAY = (1 / WORDS + 1) / 2
"""From chance to no fault."""
UNSHARED = ("learned rows", "sinusoids", "a bias for each pair")


def alike(found):
    """Accuracy at the length of training."""
    arms = ("learned rows", "sinusoids", "T5's bias")
    worst, none = min(found.worst(f"right {T}", arm) for arm in arms), found.values(f"right {T}", "no positions")
    holds = 1 - worst < np.ptp(none) and none.max() < HALFWAY  # equally well: closer to no fault than two seeds are to each other
    ours = ", ".join(f"{arm} {span(found.values(f'right {T}', arm))}" for arm in (*arms, "no positions"))
    return ours, "yes" if holds else "no"


def distances_go_on(found):
    """Accuracy at places that training has not seen, at every rate."""
    rates = found.experiment.rates
    bias = min(found.worst("beyond", "T5's bias, up to 16", rate) for rate in rates)
    others = max(found.values("beyond", arm, rate).max() for arm in UNSHARED for rate in rates)
    ours = f"worst rate and seed {bias:.2f}; best rate and seed of the others {others:.2f}"
    return ours, "yes" if others < HALFWAY < bias else "no"


def sinusoids_go_on(found):
    """The same for sinusoids, whose texts of training begin at 0 or anywhere."""
    fixed, anywhere = (found.values("beyond", arm) for arm in ("sinusoids", "sinusoids, begun anywhere"))
    ours = f"{span(fixed)}; begun anywhere {span(anywhere)}"
    cured = anywhere.min() > HALFWAY > fixed.max()
    return ours, "yes" if fixed.min() > HALFWAY else "only if training has shown every position" if cured else "no"


def every_bucket(found):
    """Accuracy of T5's bias in longer texts, with buckets that training does not reach and without them."""
    ours, whole, cut = [], "T5's bias", "T5's bias, up to 16"
    for length in LENGTHS[1:]:
        both = [span(found.values(f"right {length}", arm)) for arm in (whole, cut)]
        ours.append(f"{length} words: {both[0]}, up to 16 {both[1]}")
    longest = f"right {LONGEST}"
    if found.worst(longest, whole) >= found.worst(f"right {T}", whole):
        return "; ".join(ours), "yes"
    # At every seed: closer to no fault than two seeds of T5's bias are to each other.
    better = 1 - found.worst(longest, cut) < np.ptp(found.values(longest, whole))
    return "; ".join(ours), "only if training has reached every bucket" if better else "no"


CLAIMS = [
    Claim(
        "At the length of training, learned rows, sinusoids and T5's bias read equally well, and no positions do not",
        "longer",
        alike,
        bound=f"chance 1/{WORDS}; no fault 1",
        ablation="the positions",
        paper="1706.03762, Table 3 (E): learned rows perplexity 4.92, BLEU 25.7; sinusoids 4.92, 25.8",
    ),
    Claim(
        "In texts twice as long, a bias for distances up to 16 goes on; learned rows, sinusoids and a bias for each pair do not",
        "longer",
        distances_go_on,
        bound=f"halfway from chance to no fault: {HALFWAY:.2f}",
        ablation="the sharing: a bias for each pair of places",
        paper="none",
    ),
    Claim(
        "Sinusoids let a model read texts longer than those of training",
        "longer",
        sinusoids_go_on,
        bound=f"halfway from chance to no fault: {HALFWAY:.2f}",
        ablation="the newness of positions: texts of training begin anywhere",
        paper="a guess in 1706.03762, section 3.5",
    ),
    Claim(
        "T5's bias, for distances up to 128, reads longer texts nearly without fault, whatever the seed",
        "longer",
        every_bucket,
        bound="no fault 1",
        ablation="the buckets that training does not reach; drawn anew, they alone change what is read",
        paper="none",
    ),
]
