"""Heads that are trained on vectors of a frozen encoder, with poolers and without."""

from functools import cache, lru_cache

import keras
import numpy as np

from crosscheck.models import minilm
from experiments.classification_head.encoded import CLASSES, EACH, LAYERS, labels, pairs, states, vectors_of
from experiments.common.training import accuracy, forget, in_stretches, loss_of_ids
from layers.classification_head import ClassificationHead

# ---- Training ----------------------------------------------------------------------------------------------------------------


class Heads(keras.Model):
    """Heads side by side, each on vectors of its own: `(b, heads, m)` to `(b, heads, c)`."""

    def __init__(self, count, inner_dim=0, classes=CLASSES):
        super().__init__()
        self.heads = [ClassificationHead(inner_dim, classes) for _ in range(count)]

    def call(self, x):
        return keras.ops.stack([head(x[:, i]) for i, head in enumerate(self.heads)], axis=1)


@cache
def program(*sizes):
    """A model that is compiled once, and trained again and again from new weights."""
    model = Heads(*sizes)
    model(np.zeros((1, sizes[0], 384), "float32"))
    model.compile(keras.optimizers.Adam(), loss_of_ids())
    model.optimizer.build(model.trainable_variables)
    return model


def train(sizes, x, y, rate, seed, pooler=None, steps=200, points=10):
    """Train heads from the beginning with Adam, all examples in every step. A pooler may be given to begin with.

    Returns:
        The model, which the next call changes, and [(step, mean loss of the stretch that ends there)].
    """
    model = program(*sizes)  # before the seed is set, because it takes random numbers only the first time
    keras.utils.set_random_seed(seed)
    new = Heads(*sizes)
    new(x[:1])
    model.set_weights(new.get_weights())
    if pooler:
        for weight, value in zip(model.heads[0].pooler_dense.weights, pooler):
            weight.assign(value)
    forget(model.optimizer, rate)

    x, y = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)
    losses = [float(model.train_on_batch(x, y)) for _ in range(steps)]
    return model, in_stretches(losses, points)


# ---- Which token, after which layer ------------------------------------------------------------------------------------------

TOKENS = ("[CLS]", "the word after [CLS]", "the noun", "mean of all tokens")
ABLATIONS = ("[CLS], noun hidden", "[CLS], layers shuffled", "[CLS], kinds mixed")


def train_heads(arm, rate, seed):
    """A head without a pooler on the vectors of each layer, all nouns of training in every step.

    Returns:
        {"accuracy": on new nouns, for 0 to 6 layers, "last": after six, "loss": the curve of all heads}.
    """
    kinds, order = labels(seed, arm.endswith("mixed"))
    x, y = np.moveaxis(vectors_of(arm, seed), 0, 1), np.repeat(kinds[:, None], LAYERS + 1, axis=1)
    seen = order < EACH // 2
    model, curve = train((LAYERS + 1,), x[seen], y[seen], rate, seed)
    right = np.argmax(keras.ops.convert_to_numpy(model(x[~seen])), axis=-1) == y[~seen]
    return {"accuracy": right.mean(axis=0), "last": right[:, -1].mean(), "loss": curve}


# ---- Poolers -----------------------------------------------------------------------------------------------------------------

FROZEN = ("no pooler", "MiniLM's", "a random one", "another random one", "pre-trained on the novel")
TRAINED = ("a new one, trained", "pre-trained, trained on")
POOLERS = FROZEN + TRAINED
FEW = 2
"""Nouns of each kind to learn from, in place of half of them."""


def pre_train(arm, rate, seed):
    """Train a pooler and a head to tell whether a sentence follows another. MiniLM's layers are frozen.

    Returns:
        {"accuracy": on pairs from two tenths of the novel that are held out, "seen": on the others, "loss": the curve}, and the
        pooler's kernel and bias.
    """
    x, follows, group = pairs()
    y = np.random.default_rng(seed).permutation(follows) if arm == "answers mixed" else follows
    x, y, new = x[:, None], y[:, None], np.isin(group, [seed % 10, (seed + 5) % 10])
    model, curve = train((1, x.shape[-1], 2), x[~new], y[~new], rate, seed)
    found = {"accuracy": accuracy(model(x[new]), y[new]), "seen": accuracy(model(x[~new]), y[~new]), "loss": curve}
    return found, *map(keras.ops.convert_to_numpy, model.heads[0].pooler_dense.weights)


def next_sentence(arm, rate, seed):
    return pre_train(arm, rate, seed)[0]


PRETRAINING_RATE = 1e-3


@lru_cache(maxsize=1)
def pooler_of_novel(seed):
    return pre_train("next sentence", PRETRAINING_RATE, seed)[1:]


def pooler_of(arm, seed):
    """The kernel and bias that an arm begins with, or None."""
    tensors = minilm.load().tensors
    kernel, bias = tensors["pooler.dense.weight"].T, tensors["pooler.dense.bias"]
    if arm == "MiniLM's":
        return kernel, bias
    if arm.endswith("random one"):  # as large as MiniLM's
        rng = np.random.default_rng([seed, len(arm)])
        return rng.normal(size=kernel.shape) * kernel.std(), bias
    return pooler_of_novel(seed) if arm.startswith("pre-trained") else None


def train_pooled(arm, rate, seed):
    """A head on [CLS] after six layers, with a pooler that is frozen or trained, from few nouns and from half of them.

    Returns:
        {"few", "many": accuracy on new nouns, "both": their mean, "loss": the curve of both heads}.
    """
    kinds, order = labels(seed)
    x, pooler, trained = states()[-1, :, 0], pooler_of(arm, seed), arm.endswith(("trained", "trained on"))
    if pooler and not trained:
        x = np.tanh(x @ pooler[0] + pooler[1]).astype("float32")
    found, curves, new = {}, [], order >= EACH // 2
    for name, count in (("few", FEW), ("many", EACH // 2)):
        some, sizes = order < count, (1, x.shape[-1] if trained else 0)
        model, curve = train(sizes, x[some, None], kinds[some, None], rate, seed, pooler if trained else None)
        curves.append(curve)
        found[name] = accuracy(model(x[new, None]), kinds[new, None])
    return found | {"both": (found["few"] + found["many"]) / 2, "loss": [(s, (a + b) / 2) for (s, a), (_, b) in zip(*curves)]}
