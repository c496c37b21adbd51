"""Two streams: a pair of words that belongs together."""

import keras
import numpy as np
from keras import ops

from experiments.common.training import train
from experiments.transformer_xl.reader import nats
from layers.on_device_embedding import OnDeviceEmbedding
from layers.transformer_xl import TransformerXL
from reference.relative_attention import relative_position_encoding

WORDS, BETWEEN = 8, 4
"""Words, and the length of a text `c a a d`: a mark, a pair of words, a mark."""

PAIRS = {
    "each by itself": (True, False),
    "in a random order": (True, True),
    "in a random order, unlike words": (False, True),
}
"""{arm: (are both words the same, is one predicted after the other)}. Unlike words are drawn one by one: an order cannot help."""

PAIR_FLOORS = {"each by itself": 2 * np.log(WORDS), "in a random order": np.log(WORDS)}
"""Nats of both words of a pair of the same words, for who knows everything that the masks let through."""


class Pair(keras.Model):
    """A two-stream block that predicts the two words in the middle. Ranks say who sees whom: `rank` `(b, t)`."""

    def __init__(self, size=32):
        super().__init__()
        self.token, self.logits = OnDeviceEmbedding(WORDS + 2, size), keras.layers.Dense(WORDS)
        options = {"dropout_rate": 0.0, "attention_dropout_rate": 0.0, "initializer": "glorot_uniform", "two_stream": True}
        self.xl = TransformerXL(WORDS + 2, 1, size, 2, size // 2, 2 * size, **options)
        self.asked = self.add_weight(name="asked", shape=(size,), initializer="normal")
        self.encoding = relative_position_encoding(BETWEEN, BETWEEN, size).astype("float32")

    def call(self, inputs):
        ids, rank = inputs
        h = self.token(ids)
        g = ops.ones_like(h[:, :2]) * self.asked
        targets = ops.ones_like(h[:, :1, :1]) * np.eye(BETWEEN, dtype="float32")[[1, 2]]
        masks = {"content_attention_mask": rank[:, None, :] <= rank[:, :, None]}
        masks["query_attention_mask"] = rank[:, None, :] < rank[:, :, None]
        output, _ = self.xl(h, self.encoding, query_stream=g, target_mapping=targets, **masks)
        return self.logits(output)


def draw_pairs(rng, count, same, in_order):
    """((ids, ranks), the two words)."""
    words = rng.integers(0, WORDS, (count, 2))
    if same:
        words[:, 1] = words[:, 0]
    marks = np.full((count, 1), WORDS)
    ids = np.concatenate([marks, words, marks + 1], axis=1).astype("int32")
    orders = np.array([[0, 1, 2, 0], [0, 2, 1, 0]] if in_order else [[0, 1, 1, 0]], "int32")
    return (ids, orders[rng.integers(0, len(orders), count)]), ids[:, 1:3]


def train_pair(arm, rate, seed, steps=100):
    """{"nats": of both words together, on new texts, "loss": the curve}."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = Pair()
    curve = train(model, lambda: draw_pairs(rng, 64, *PAIRS[arm]), rate, steps)
    inputs, answers = draw_pairs(rng, 512, *PAIRS[arm])
    return {"nats": nats(ops.convert_to_numpy(model(inputs)), answers).sum(axis=1).mean(), "loss": curve}
