"""A made-up language whose entropy is known, and a model of one layer that learns it."""

import keras
import numpy as np
from keras import ops

from experiments.common.training import loss_of_ids
from experiments.gated_feedforward.networks import capped, curve_of, falling, network, prepared, restarted
from layers.attention import MultiHeadAttention
from layers.on_device_embedding import OnDeviceEmbedding

N, LENGTH, NOISE, M = 11, 8, 0.1, 24
"""Words, words of a sentence from which one is predicted, share of random words, model size."""

BATCH, STEPS, EARLY = 64, 800, 150
"""Sentences of a step, steps, and those after which speed is told."""

GUESS = float(np.log(N))
"""The loss of a guess."""

TESTED = 1000

LIKELY = 1 - NOISE + NOISE / N
FLOOR = float(-LIKELY * np.log(LIKELY) - (1 - LIKELY) * np.log(NOISE / N))
"""The entropy of the noise, in nats."""


def sentences(rng, count):
    """Each word follows from the two before it, and one in ten is random. The first that can be predicted is the third."""
    words = rng.integers(0, N, (count, LENGTH + 1)).astype("int32")
    random = rng.random(words.shape) < NOISE
    for t in range(2, LENGTH + 1):
        words[:, t] = np.where(random[:, t], words[:, t], (2 * words[:, t - 1] + 3 * words[:, t - 2]) % N)
    return words[:, :-1], words[:, 2:]


class LanguageModel(keras.Model):
    """One layer of attention and one network between embeddings and logits."""

    def __init__(self, kind):
        super().__init__()
        self.word, self.place = OnDeviceEmbedding(N, M), OnDeviceEmbedding(LENGTH, M)
        self.attention, self.norm = MultiHeadAttention(4, M // 4), keras.layers.LayerNormalization()
        self.network, self.logits = network(kind, 3 * M), keras.layers.Dense(N)

    def call(self, ids):
        x = self.word(ids) + self.place(ops.arange(LENGTH))
        return self.logits(self.network(self.norm(x + self.attention(x, x, use_causal_mask=True))))[:, 1:]


def language_model(kind):
    return prepared(LanguageModel(kind), np.zeros((1, LENGTH), "int32"), loss_of_ids())


def of_truth(ids, answers):
    """The loss, on these sentences, of a model that knows the rule and the noise."""
    rule = (2 * ids[:, 1:] + 3 * ids[:, :-1]) % N
    return float(-np.log(np.where(answers == rule, LIKELY, NOISE / N)).mean())


TEST = sentences(np.random.default_rng(12345), TESTED)
TRUTH = of_truth(*TEST)


def train_language(kind, rate, seed, steps=STEPS):
    """Train one kind of network. No sentence comes twice, so that the loss of training is that of new sentences.

    Returns:
        {"loss": the curve; "early": its point after `EARLY` steps; "end": the loss on test sentences after all steps}.
    """
    model, watch = restarted(language_model, kind, seed), falling(rate, steps)
    ids, answers = sentences(np.random.default_rng(seed), steps * BATCH)
    model.fit(ids, answers, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[watch])
    logits = ops.cast(ops.concatenate([model(part) for part in np.split(TEST[0], 5)]), "float32")
    return {"early": dict(curve_of(watch))[EARLY], "end": capped(loss_of_ids()(TEST[1], logits)), "loss": curve_of(watch)}
