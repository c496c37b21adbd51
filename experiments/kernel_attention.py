"""Kernel attention: what a layer learns whose weights come from features, and what becomes of it when the features change."""

import keras
import numpy as np
from keras import ops

from experiments.common.experiment import Experiment
from experiments.common.table import Claim, span
from experiments.common.training import accuracy, train
from layers.kernel_attention import KernelAttention
from layers.on_device_embedding import OnDeviceEmbedding
from reference import kernel_attention as ref
from reference.kernel_attention.features import draw_projection

N, SYMBOLS, M, D = 32, 16, 64, 16
"""Places, symbols, model size, key size."""

STEPS, TUNING, NEW = 300, 40, 5
"""Steps of training, steps after a softmax was replaced, and how many new projections a trained layer is tried with."""

ARMS = {
    "softmax": {"feature_transform": "exp", "is_short_seq": True},
    "softmax, unit vectors": {"feature_transform": "rfa", "is_short_seq": True, "num_random_features": 128, "scale": 4.0},
    "elu + 1": {"feature_transform": "elu"},
    "positive, 16": {"feature_transform": "exp", "num_random_features": 16},
    "positive, 64": {"feature_transform": "exp", "num_random_features": 64},
    "positive, 256": {"feature_transform": "exp", "num_random_features": 256},
    "positive, 256, redrawn": {"feature_transform": "exp", "num_random_features": 256, "redraw": True},
}
"""{arm: options of the layer}. With `is_short_seq`, "exp" is the softmax, and "rfa" the softmax of vectors of length 1."""

DRAWN = ("softmax", "elu + 1", "positive, 16", "positive, 256")
"""The arms whose weights on one example are stored, for one rate and seed."""


class Copier(keras.Model):
    """Says symbols again. The queries are places; keys and values are the symbols and their places."""

    def __init__(self, arm):
        super().__init__()
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.token, self.place, self.asked = (OnDeviceEmbedding(n, M, initializer=normal) for n in (SYMBOLS, N, N))
        self.attention = KernelAttention(**({"num_heads": 1, "key_dim": D} | ARMS[arm]))
        self.logits = keras.layers.Dense(SYMBOLS)

    def inputs(self, ids):
        """Queries and values."""
        x = self.token(ids) + self.place(ops.arange(N))
        return ops.broadcast_to(self.asked(ops.arange(N)), ops.shape(x)), x

    def call(self, ids, training=None):
        return self.logits(self.attention(*self.inputs(ids), training=training))


def weights_on(model, ids):
    """The weights `(b, n, n)` of the one head, by the reference, and ‖x + y‖² of each query and the key that it needs."""
    layer, (query, value) = model.attention, model.inputs(ids)
    q, k = (ops.convert_to_numpy(x).astype("float64") for x in layer.scaled(layer.query_dense(query), layer.key_dense(value)))
    if layer.is_short_seq:
        q, k = q[:, :, 0], k[:, :, 0]
        exponents = np.einsum("btd,bsd->bts", q, k)  # for "rfa" too, up to a factor that is the same for all keys
        kernel = np.exp(exponents - exponents.max(axis=-1, keepdims=True))
    else:
        rows = None if layer.projection is None else ops.convert_to_numpy(layer.projection).astype("float64")
        features = ref.features_of(layer.feature_transform, q, k, rows, np.ones(ids.shape, bool))
        kernel, q, k = ref.kernel_of(*features)[:, 0], q[:, :, 0], k[:, :, 0]
    return kernel / kernel.sum(axis=-1, keepdims=True), np.sum((q + k) ** 2, axis=-1)


def with_new_features(model, ids):
    """The mean accuracy with projections that the layer was not trained with; its own one is put back."""
    layer, found = model.attention, []
    own = ops.convert_to_numpy(layer.projection)
    for seed in range(NEW):
        layer.projection.assign(draw_projection(np.random.default_rng(1000 + seed), *own.shape))
        found.append(accuracy(model(ids), ids))
    layer.projection.assign(own)
    return float(np.mean(found))


def train_copier(arm, rate, seed, steps=STEPS):
    """Train one arm, then change its features.

    Returns:
        {"accuracy": on new examples, "right": the mean weight on the key that is needed, "square": the median ‖x + y‖² of query
        and that key, "loss": the curve, "new": the accuracy with new features, "other": with the softmax in place of its
        estimate or the reverse, "tuned": the loss after that, for a softmax, "map": the weights on one example}.
    """
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = Copier(arm)

    def draw(count=32):
        ids = rng.integers(0, SYMBOLS, (count, N)).astype("int32")
        return ids, ids

    found = {"loss": train(model, draw, rate, steps, points=steps // 10)}
    ids, _ = draw(256)
    p, squares = weights_on(model, ids[:16])
    found |= {"accuracy": accuracy(model(ids), ids), "right": np.mean(np.trace(p, axis1=1, axis2=2)) / N}
    found |= {"square": np.median(squares), "map": np.round(p[0], 2) if (arm in DRAWN and seed == 0 and rate == 0.01) else []}
    if model.attention.projection is not None:
        found["new"] = with_new_features(model, ids)
        model.attention.is_short_seq = not model.attention.is_short_seq
        found["other"] = accuracy(model(ids), ids)
    if arm == "softmax":
        found["tuned"] = train(model, draw, rate, TUNING, points=TUNING // 10)
    return found


# ---- What is run, and what the lesson says of it -------------------------------------------------------------------------------

EXPERIMENTS = [
    Experiment(
        "copy", train_copier, tuple(ARMS), (1e-3, 3e-3, 1e-2, 3e-2), "accuracy", seeds=(0, 1, 2), elsewhere="positive, 256"
    ),
]

TRAINED = ("positive, 16", "positive, 64", "positive, 256")
FEATURES = {"elu + 1": D, "positive, 16": 16, "positive, 64": 64, "positive, 256": 256, "positive, 256, redrawn": 256}
"""{arm: its number of features r}."""


def features_needed(found):
    """Accuracy with 16, 64 and 256 features, and the weight on the right key beside its bound."""
    few, several, many = (found.values("accuracy", arm) for arm in TRAINED)
    arms = "; ".join(f"{arm.split(', ')[1]} features: {span(found.values('accuracy', arm))}" for arm in TRAINED)
    weight, holds = found.values("right", TRAINED[0]).max(), few.max() < several.min() and several.max() < many.min()
    return f"{arms}; weight on the right key with 16 at most {weight:.2f}", "yes" if holds else "no"


def own_features(found):
    """Accuracy after the projection is drawn anew, in the layers that kept one and in the one that did not."""
    lost = min(found.worst("accuracy", arm) - found.values("new", arm).max() for arm in TRAINED)
    redrawn = "positive, 256, redrawn"
    change = np.abs(found.values("new", redrawn) - found.values("accuracy", redrawn)).max()
    ours = f"256 features: {span(found.values('accuracy', TRAINED[2]))}, with a new W {span(found.values('new', TRAINED[2]))}"
    ours += f"; redrawn: changes by at most {change:.2f}, with the softmax {span(found.values('other', redrawn))}"
    return ours, "yes" if lost > change else "no"


def exchanged(found):
    """Accuracy of two trained softmaxes with features in their place."""
    long, short = (found.values("other", arm) for arm in ("softmax", "softmax, unit vectors"))
    ours = f"{span(long)}; unit vectors: {span(short)}"
    kept = short.min() > (1 + long.max()) / 2
    lost = long.max() < found.worst("accuracy", "softmax")
    return ours, ("only without RFA's recipe" if kept else "yes") if lost else "no"


def head_start(found):
    """The loss in the second ten steps from a softmax's weights, by rate, and from scratch with the best rate at that time."""
    scratch = min(found.curves("loss", TRAINED[2], rate)[1][:, 1].min() for rate in found.experiment.rates)
    tuned = {rate: found.curves("tuned", "softmax", rate)[1][:, 1].max() for rate in found.experiment.rates}
    faster = [rate for rate, loss in tuned.items() if loss < scratch]
    ours = f"{', '.join(f'{loss:.2f} (rate {rate:g})' for rate, loss in tuned.items())}; from scratch at best {scratch:.2f}"
    if not faster:
        return ours, "no"
    return ours, "yes" if len(faster) == len(
        tuned
    ) else f"only at a learning rate of {' or '.join(f'{rate:g}' for rate in faster)}"


CLAIMS = [
    Claim(
        "One head needs more random features than 16 to copy 32 symbols, and 256 are enough",
        "copy",
        features_needed,
        bound=f"the mean weight on the right key is at most r/n = {16 / N:.2f} with 16; chance 0.15; all right 1",
        ablation="features taken away: 256, 64, 16",
        paper="2006.16236, Table 1 (MNIST, bits a dimension): softmax 0.621, linear 0.644",
    ),
    Claim(
        "A layer trained with one draw of random features has learned these, not the softmax",
        "copy",
        own_features,
        bound="a layer that uses the softmax loses nothing with a new draw",
        ablation="the one draw: if each step has its own, a new one changes little",
        paper="none",
    ),
    Claim(
        "256 positive features cannot replace a trained softmax",
        "copy",
        exchanged,
        bound="e^‖x+y‖² features for a relative error of 1; chance 0.15; all right 1",
        ablation="long vectors and positive features: RFA's recipe has unit vectors, sines and cosines",
        paper="none",
    ),
    Claim(
        "A trained softmax's weights are a head start for features",
        "copy",
        head_start,
        bound="random guesses: ln 16 = 2.77 nats",
        ablation="from scratch; softmax and features are trained with the same rate, so which of the two fails at 0.03 is open",
        paper="none",
    ),
]
