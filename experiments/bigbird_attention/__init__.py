"""BigBird: what a model can learn with each part of the graph, and what is left of a trained model that is cut to it."""

from functools import cache

import keras
import numpy as np
from keras import ops

from experiments.bigbird_attention.cutting import cut
from experiments.bigbird_attention.graphs import BLOCKS, GRAPHS, graph_of, layers_of, reached
from experiments.common.experiment import Experiment
from experiments.common.table import Claim, span
from experiments.common.training import forget, loss_of_ids
from layers.attention import MultiHeadAttention
from layers.on_device_embedding import OnDeviceEmbedding

MARKED = tuple(arm for arm in GRAPHS if arm not in ("window + global elsewhere", "window + block 0"))
CUT = tuple(arm for arm in GRAPHS if arm != "window + random, 3 layers")

SYMBOLS, STRETCH = 12, 25
"""Different tokens, and steps over which the loss is averaged."""


class Finder(keras.Model):
    """A small encoder whose attention keeps to a graph, which can be changed. A block is one token."""

    def __init__(self, layers, m=32, heads=2):
        super().__init__()
        self.graph = self.add_weight(shape=(BLOCKS, BLOCKS), initializer="ones", trainable=False)
        self.token = OnDeviceEmbedding(2 * SYMBOLS, m)  # the second half is for marked tokens
        self.attention = [MultiHeadAttention(heads, m // heads) for _ in range(layers)]
        self.norms = [keras.layers.LayerNormalization() for _ in range(2 * layers)]
        self.wide = [keras.layers.Dense(2 * m, "relu") for _ in range(layers)]
        self.narrow = [keras.layers.Dense(m) for _ in range(layers)]
        self.logits = keras.layers.Dense(SYMBOLS)
        self(np.zeros((1, BLOCKS), "int32"))

    def call(self, ids):
        x = self.token(ids)
        for i, attention in enumerate(self.attention):
            x = self.norms[2 * i](x + attention(x, x, attention_mask=self.graph[None]))
            x = self.norms[2 * i + 1](x + self.narrow[i](self.wide[i](x)))
        return self.logits(x)


@cache
def program(layers):
    """A compiled model. It is made once, because making it takes longer than a training."""
    model = Finder(layers)
    model.compile(keras.optimizers.Adam(), loss_of_ids())
    model.optimizer.build(model.trainable_variables)
    return model


def fresh(arm, rate, seed):
    """The compiled model with new weights and the graph of an arm."""
    model = program(layers_of(arm))
    keras.utils.set_random_seed(seed)
    model.set_weights(Finder(layers_of(arm)).get_weights())
    model.graph.assign(graph_of(arm, seed))
    forget(model.optimizer, rate)
    return model


def draw(rng, count):
    """Tokens of which one is marked, the marked one for each place, and where it stands."""
    ids, marked = rng.integers(0, SYMBOLS, (count, BLOCKS)).astype("int32"), rng.integers(0, BLOCKS, count)
    answers = np.repeat(ids[np.arange(count), marked][:, None], BLOCKS, axis=1)
    return ids + SYMBOLS * (np.arange(BLOCKS) == marked[:, None]), answers, marked


def train_finder(arm, rate, seed, steps=250):
    """Every place has to say which token is marked.

    Returns:
        {"accuracy": on new examples, "bound": what the graph allows on them, "near" and "far": the accuracy of the places that
        the marked token can reach and of the others, "loss": the curve}; "far" is missing if there are no others.
    """
    model, rng, curve = fresh(arm, rate, seed), np.random.default_rng(seed), []
    for step in range(STRETCH, steps + 1, STRETCH):
        ids, answers, _ = draw(rng, 32 * STRETCH)
        history = model.fit(ids, answers, batch_size=32, shuffle=False, verbose=0)
        curve.append((step, history.history["loss"][0]))
    ids, answers, marked = draw(rng, 512)
    right = np.argmax(ops.convert_to_numpy(model(ids)), axis=-1) == answers
    can = reached(arm, seed)[:, marked].T
    found = {"accuracy": right.mean(), "bound": np.mean(can + (1 - can) / SYMBOLS), "near": right[can].mean(), "loss": curve}
    return found if can.all() else found | {"far": right[~can].mean()}


# ---- What is run, and what the lesson says of it -------------------------------------------------------------------------------

EXPERIMENTS = [
    Experiment("marked", train_finder, MARKED, (1e-3, 3e-3, 1e-2), "accuracy", seeds=(0, 1, 2), elsewhere="BigBird"),
    Experiment("cut", cut, CUT, (0.0,), "cosine", seeds=tuple(range(9))),
]

EXAMPLES = 512
"""New examples that a run is judged by."""

ADDED, EQUAL = MARKED[:4], ("wide window", "more random", "window + more random")
"""The parts of BigBird, added up, and rivals with as many pairs as BigBird."""


def beyond(found, arm):
    """The accuracy of places that the marked token cannot reach, and its standard error if they guess: `(seeds,)` both.

    All such places of an example may guess the same, so that the number of examples counts, not that of places.
    """
    rate, chance, rows = found.best_rate(arm), 1 / SYMBOLS, []
    for seed in found.experiment.seeds:
        places = (~reached(arm, seed)).sum(axis=0)  # for each place of the marked token
        if places.any():
            error = np.sqrt(chance * (1 - chance) * np.mean(places**2) / (EXAMPLES * np.mean(places) ** 2))
            rows.append((found.found["tensorflow", arm, rate, seed]["far"], error))
    return np.array(rows).reshape(-1, 2).T


def reach(found):
    """The worst seed of places within reach, and how far those beyond it are from guessing."""
    near = min(found.worst("near", arm) for arm in MARKED)
    far, error = np.concatenate([beyond(found, arm) for arm in MARKED], axis=1)
    away = np.max(abs(far - 1 / SYMBOLS) / error)
    ours = (
        f"within reach at least {near:.2f}; beyond it {far.min():.2f} to {far.max():.2f}, at most {away:.1f} standard errors away"
    )
    return ours, "yes" if near > (1 + 1 / SYMBOLS) / 2 and away < 4 else "no"


def spans(found, what, arms):
    values = {arm: found.values(what, arm) for arm in arms}
    return values, ", ".join(map(span, values.values()))


def allowed(arms):
    """What the graphs of the first seed allow, as text."""
    shares = [reached(arm, 0).mean() for arm in arms]
    return f"for the first seed: {', '.join(f'{share + (1 - share) / SYMBOLS:.2f}' for share in shares)}"


def order(found):
    """The parts, added up: the best seed of each beside the worst of the next."""
    values, ours = spans(found, "accuracy", (*ADDED, "full"))
    holds = all(values[ADDED[k]].max() < values[ADDED[k + 1]].min() for k in range(3))
    return ours, "yes" if holds else "no"


def equal_pairs(found):
    """Window, random blocks, and both, with as many pairs as BigBird."""
    values, ours = spans(found, "accuracy", EQUAL)
    return ours, "yes" if values[EQUAL[2]].min() > max(values[arm].max() for arm in EQUAL[:2]) else "no"


def two_layers(found):
    """BigBird beside its rivals with as many pairs, and window + random with a third layer."""
    values, _ = spans(found, "accuracy", MARKED)
    rivals, third = max(values[arm].max() for arm in EQUAL), values[MARKED[-1]].min()
    ours = (
        f"{values['BigBird'].min():.3f} (worst seed); rivals {rivals:.3f} (best); few pairs and a third layer {third:.3f} (worst)"
    )
    if values["BigBird"].min() <= rivals:
        return ours, "no"
    made_good = third > (values["window + random"].max() + 1) / 2  # nearer to all right than to two layers
    return ours, "only if there are no more than two layers" if made_good else "yes"


def near_and_far(found):
    """What is left of a trained model: window, random, both; and both beside the better of the two, averaged over passages."""
    added, ours = spans(found, "cosine", ADDED[:3])
    equal, ours_equal = spans(found, "cosine", EQUAL)
    gain = equal[EQUAL[2]] - np.maximum(equal[EQUAL[0]], equal[EQUAL[1]])
    certain = gain.mean() > 3 * gain.std(ddof=1) / np.sqrt(len(gain))
    holds = max(added[arm].max() for arm in ADDED[:2]) < added[ADDED[2]].min() and certain
    ours = f"{ours} (null {found.values('null', 'full').max():.2f})"
    by_passage = f"better by {gain.mean():.2f} on average, in a passage by {gain.min():.3f} to {gain.max():.3f}"
    return f"{ours}; with equal pairs {ours_equal}, {by_passage}", "yes" if holds else "no"


def block_zero(found):
    """What is left of a trained model with global blocks, at the ends and elsewhere, with block 0 seen by all, and of rivals."""
    arms = ("BigBird", "window + global", "window + global elsewhere", "window + block 0", *EQUAL)
    values, ours = spans(found, "cosine", arms)
    rivals = max(values[arm].max() for arm in EQUAL)
    if min(values[arm].min() for arm in arms[:2]) <= rivals:
        return ours, "no"
    if values[arms[2]].min() > rivals:
        return ours, "yes"
    return ours, "only if block 0, with [CLS], is global" if values[arms[3]].min() > rivals else "only at the ends"


TABLE_1 = "Table 1, masked tokens: window 58.3, random 60.1, both 62.7, BERT 64.2"

CLAIMS = [
    Claim(
        "A model learns what its graph brings to a place within its layers, and nothing else",
        "marked",
        reach,
        bound=f"within reach 1; beyond it 1/{SYMBOLS} = {1 / SYMBOLS:.3f}, but for guessing",
        ablation="pairs taken away: nine graphs",
        paper="none",
    ),
    Claim(
        "Added up, the parts of the graph come in the order of Table 1",
        "marked",
        order,
        bound=allowed(ADDED),
        ablation="each part",
        paper=TABLE_1,
    ),
    Claim(
        "With equal numbers of pairs, window and random blocks together do better than either alone where only reach counts",
        "marked",
        equal_pairs,
        bound=allowed(EQUAL),
        ablation="each part, its pairs given to the other",
        paper=TABLE_1,
    ),
    Claim(
        "Global blocks bring every token to every place; windows and random blocks with as many pairs do not",
        "marked",
        two_layers,
        bound="all right 1",
        ablation="their pairs given to window and random blocks; and a third layer",
        paper="none",
    ),
    Claim(
        "In a trained model, window and random blocks together keep more of full attention than either alone, on average",
        "cut",
        near_and_far,
        bound="full attention 1; null: its outputs on another passage, beside ours",
        ablation="each part, its pairs given to the other",
        paper=TABLE_1,
    ),
    Claim(
        "In a trained model, global blocks keep more of full attention than any other use of their pairs",
        "cut",
        block_zero,
        bound="full attention 1; null: its outputs on another passage, beside ours",
        ablation="the global blocks moved away from the ends; and all taken away but block 0 as keys",
        paper="none",
    ),
]
