"""Talking-heads attention: what heads of one number each cannot do alone, and which of the two mixings gives it back."""

import keras
import numpy as np
from keras import ops

from experiments.common.experiment import Experiment
from experiments.common.table import Claim
from experiments.common.training import accuracy, train
from layers.on_device_embedding import OnDeviceEmbedding
from layers.talking_heads_attention import TalkingHeadsAttention, mix


def mixing(heads, key_dim, value_dim, pre, post, m, at_random=False):
    """A layer whose mixing matrices start as identities, so that it is multi-head attention. `pre`, `post`: which are trained.

    With `at_random`, the first is drawn instead.
    """
    layer = TalkingHeadsAttention(num_heads=heads, key_dim=key_dim, value_dim=value_dim)
    layer.build((None, None, m), (None, None, m))
    drawn = np.random.default_rng(0).normal(size=(heads, heads)) / heads**0.5
    layer.pre_softmax_weight.assign(drawn if at_random else np.eye(heads))
    layer.post_softmax_weight.assign(np.eye(heads))
    layer.pre_softmax_weight.trainable, layer.post_softmax_weight.trainable = pre, post
    return layer


# ---- Fetch a token by its place ------------------------------------------------------------------------------------------------

T, M = 16, 64
"""Tokens, as many as there are ids and places; model size."""

FETCHERS = {
    "1 head of 16": (1, 16, 16, False, False),
    "16 heads of 1": (16, 1, 1, False, False),
    "16 heads of 1, mixed before": (16, 1, 1, True, False),
    "16 heads of 1, mixed after": (16, 1, 1, False, True),
    "16 heads of 1, mixed twice": (16, 1, 1, True, True),
    "16 heads of 1, mixed at random": (16, 1, 1, False, False),
    "16 heads of 1, values of 16": (16, 1, 16, False, False),
    "4 heads of 1, values of 16": (4, 1, 16, False, False),
    "4 heads of 1, values of 16, mixed before": (4, 1, 16, True, False),
    "4 heads of 1, values of 16, mixed after": (4, 1, 16, False, True),
}
"""{arm: (heads, numbers of a key, of a value, is P^l trained, is P^w trained)}.

Ablations: "mixed at random" has a first mixing that nobody trains. Those with long values have heads of which each may carry a
whole token, so that what is left to lack is in queries and keys.
"""


class Fetcher(keras.Model):
    """One attention layer between embeddings of tokens and places, and logits."""

    def __init__(self, arm):
        super().__init__()
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.token, self.place = (OnDeviceEmbedding(T, M, initializer=normal) for _ in range(2))
        self.attention = mixing(*FETCHERS[arm], M, at_random="at random" in arm)
        self.logits = keras.layers.Dense(T)

    def embed(self, ids):
        return self.token(ids) + self.place(ops.arange(T))

    def call(self, ids):
        x = self.embed(ids)
        return self.logits(self.attention(x, x))


def train_fetcher(arm, rate, seed, steps=400, keep=False):
    """{"accuracy": on new examples, "loss": the curve}; with `keep`, the model and an example too."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    order, model = rng.permutation(T), Fetcher(arm)

    def draw(count):
        ids = rng.integers(0, T, (count, T)).astype("int32")
        return ids, ids[:, order]

    curve = train(model, lambda: draw(32), rate, steps)
    ids, expected = draw(512)
    found = {"accuracy": accuracy(model(ids), expected), "loss": curve}
    return found | {"model": model, "ids": ids[:1]} if keep else found


# ---- Wanted attention weights --------------------------------------------------------------------------------------------------

N, TOTAL = 32, 16
"""Queries, and as many keys; numbers that all heads together have for one of them."""

FITS = {f"{heads} heads, {how}": (heads, how) for heads in (4, 8, 16) for how in ("alone", "mixed")}
FITS["16 heads, more numbers"] = (16, "more numbers")
"""The last has no mixing, but some heads have a number more, so that there are as many in all as with the mixing."""


class Fit(keras.Model):
    """Queries and keys whose scores shall have wanted softmaxes."""

    def __init__(self, heads, how, rng):
        super().__init__()
        size = TOTAL // heads
        more = heads**2 // (2 * N) if how == "more numbers" else 0  # so many heads get one more
        shape = (1, N, heads, size + bool(more))
        exists = np.ones(shape, "float32")
        exists[:, :, more:, size:] = 0
        self.q, self.k = (self.add_weight(name=name, shape=shape) for name in "qk")
        for weight in (self.q, self.k):
            weight.assign(rng.normal(size=shape))
        self.exists, self.size = exists, size
        self.pre = self.add_weight(
            name="pre", shape=(heads, heads), initializer=keras.initializers.Identity(), trainable=how == "mixed"
        )

    def call(self, inputs):
        scores = ops.einsum("bthd,bshd->bhts", self.q * self.exists, self.k * self.exists) / self.size**0.5
        return mix(scores, self.pre)


def train_fit(arm, rate, seed, steps=400):
    """{"left": the Kullback–Leibler divergence from the wanted weights, nats a row; "even": that of equal weights; "still": what
    the last tenth of the steps took off}."""
    heads, how = FITS[arm]
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    wanted = rng.dirichlet([0.1] * N, size=(1, heads, N)).astype("float32")
    entropy = -np.sum(wanted * np.log(np.maximum(wanted, 1e-30)), axis=-1).mean()
    model, nothing = Fit(heads, how, rng), np.zeros((1, 1), "float32")
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    curve = train(model, lambda: (nothing, wanted), rate, steps, loss)
    left = ops.convert_to_numpy(loss(wanted, model(nothing)))
    return {"left": float(left - entropy), "even": float(np.log(N) - entropy), "still": curve[-6][1] - curve[-1][1]}


# ---- What is run, and what the lesson says of it -------------------------------------------------------------------------------

SEEDS = (0, 1, 2)
EXPERIMENTS = [
    Experiment(
        "fetch",
        train_fetcher,
        tuple(FETCHERS),
        (3e-3, 1e-2, 3e-2),
        "accuracy",
        seeds=SEEDS,
        elsewhere="16 heads of 1, mixed twice",
    ),
    Experiment(
        "fit", train_fit, tuple(FITS), (0.03, 0.1, 0.3), "left", lower_is_better=True, seeds=SEEDS, elsewhere="8 heads, mixed"
    ),
]


def widest(found):
    """The widest range that three seeds of one arm have, at its best rate."""
    return max(np.ptp(found.values("accuracy", arm)) for arm in FETCHERS)


def given_back(found):
    """Best seed of heads of one number alone, and worst of the others."""
    alone = found.values("accuracy", "16 heads of 1").max()
    mixed = (f"16 heads of 1, mixed {how}" for how in ("before", "after", "twice", "at random"))
    others = min(found.worst("accuracy", arm) for arm in ("1 head of 16", *mixed))
    holds = others - alone > widest(found)
    return f"alone {alone:.2f} (best seed); one head, and each mixing {others:.2f} (worst)", "yes" if holds else "no"


def for_keys(found):
    """Whether heads of one number that have long values still lack something, for 16 and for 4 heads."""
    many = found.worst("accuracy", "16 heads of 1, values of 16"), found.values("accuracy", "16 heads of 1").max()
    few = "4 heads of 1, values of 16"
    rivals = max(found.values("accuracy", arm).max() for arm in (few, f"{few}, mixed after"))
    before = found.worst("accuracy", f"{few}, mixed before")
    holds = many[0] < many[1]
    ours = f"16 heads with long values {many[0]:.2f} (worst seed); 4: {rivals:.2f} (best), mixed before {before:.2f} (worst)"
    return ours, "yes" if holds else "only with 4 heads, not with 16" if before - rivals > widest(found) else "no"


def not_parameters(found):
    """What mixing takes off, for each number of heads, and what as many parameters elsewhere do."""
    alone = found.values("left", "16 heads, alone")
    gains = [found.values("left", f"{h} heads, alone") - found.values("left", f"{h} heads, mixed") for h in (4, 8, 16)]
    more = alone - found.values("left", "16 heads, more numbers")
    ours = ", ".join(f"{gain.min():.2f} to {gain.max():.2f}" for gain in gains)
    holds = more.max() < gains[-1].min() and all(gain.min() > 0 for gain in gains)
    even = found.values("even", "16 heads, alone").mean()
    ours = f"4, 8, 16 heads: {ours} nats; more numbers: {more.min():.2f} to {more.max():.2f}; equal weights leave {even:.1f}"
    return ours, "yes" if holds else "no"


CLAIMS = [
    Claim(
        "Sixteen heads of one number fetch fewer tokens than one head of sixteen, and either mixing gives it back",
        "fetch",
        given_back,
        bound=f"chance 1/{T}; all right 1",
        ablation="both mixings; and training of the first, which is not needed",
        paper="Table 1, first part: too many small heads become counterproductive (its numbers were not at hand)",
    ),
    Claim(
        "Heads of one number fail because their queries and keys are short",
        "fetch",
        for_keys,
        bound="4 heads of one number have 8 ends for 16 places, 16 heads have 32",
        ablation="values as long as in one head: 16 heads need no mixing then, 4 heads need the first; the second does nothing",
        paper="none (a belief in section 1)",
    ),
    Claim(
        "Mixing scores fits wanted weights better than as many parameters elsewhere",
        "fit",
        not_parameters,
        bound="0 nats are left at best; those of equal weights, beside ours",
        ablation="the mixing, its 256 parameters spent on longer queries and keys",
        paper="none",
    ),
]
