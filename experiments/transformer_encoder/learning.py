"""Deep stacks that learn to say a text backwards, with norms after or before, and with small kernels or a warm-up."""

import keras
import numpy as np
from keras import ops

from experiments.common.training import accuracy, loss_of_ids
from layers.on_device_embedding import OnDeviceEmbedding
from layers.transformer_encoder import TransformerEncoderBlock

T, SYMBOLS, M, H, F, DEPTH = 8, 16, 32, 4, 64, 8
STEPS, BATCH, WARM_UP = 200, 16, 100

ARMS = {"post-norm": (False, 1.0, 1), "post-norm, halved": (False, 0.5, 1), "post-norm, warm-up": (False, 1.0, WARM_UP)}
ARMS |= {"pre-norm": (True, 1.0, 1)}
"""{arm: (norms first, the blocks' kernels times so much, steps until the learning rate is reached)}."""


class Reverser(keras.Model):
    """Blocks between embeddings of tokens and places, and logits; the last one of a pre-norm stack is followed by a norm."""

    def __init__(self, norm_first, depth=DEPTH):
        super().__init__()
        self.token, self.place = OnDeviceEmbedding(SYMBOLS, M), OnDeviceEmbedding(T, M)
        options = {"norm_first": norm_first, "use_bias": False}
        self.blocks = [TransformerEncoderBlock(H, F, "relu", **options) for _ in range(depth)]
        self.last_norm = keras.layers.LayerNormalization(epsilon=1e-12) if norm_first else keras.layers.Identity()
        self.logits = keras.layers.Dense(SYMBOLS)

    def call(self, ids):
        x = self.token(ids) + self.place(ops.arange(T))
        for block in self.blocks:
            x = block(x)
        return self.logits(self.last_norm(x))


MODELS = {}


def model_of(norm_first):
    """A compiled model; all runs of a process share it, because its step takes longer to trace than a run to train."""
    if norm_first not in MODELS:
        model = MODELS[norm_first] = Reverser(norm_first)
        model(np.zeros((1, T), "int32"))
        model.compile(keras.optimizers.Adam(1e-3), loss_of_ids())
        model.optimizer.build(model.trainable_variables)
    return MODELS[norm_first]


def begin_anew(model, rng, size):
    """Draw all weights, as Glorot does; embeddings have standard deviation 1. The optimizer forgets what it has seen."""
    for variable in model.trainable_variables:
        shape = variable.shape
        if variable.path.endswith("embeddings"):
            drawn = rng.normal(size=shape)
        elif len(shape) == 1:
            drawn = np.full(shape, 1.0 if "gamma" in variable.path else 0.0)
        else:
            fans = sum(shape) if len(shape) == 2 else 2 * M
            drawn = rng.normal(size=shape) * np.sqrt(2 / fans) * (size if "block" in variable.path else 1.0)
        variable.assign(drawn)
    for variable in model.optimizer.variables:
        if "learning_rate" not in variable.path:
            variable.assign(np.zeros(variable.shape))


class WarmUp(keras.callbacks.Callback):
    """Raises the learning rate in even steps to `rate`, and keeps the loss of every step."""

    def __init__(self, rate, steps):
        super().__init__()
        self.rate, self.steps, self.sums = rate, steps, [0.0]

    def on_train_batch_begin(self, batch, logs=None):
        if batch < self.steps:
            self.model.optimizer.learning_rate.assign(self.rate * (batch + 1) / self.steps)

    def on_train_batch_end(self, batch, logs=None):
        self.sums.append(logs["loss"] * (batch + 1))  # Keras reports the mean so far


def train_reverser(arm, rate, seed, steps=STEPS):
    """{"accuracy": on new texts, "loss": the curve, each point the mean of ten steps}."""
    norm_first, size, warm_up = ARMS[arm]
    rng = np.random.default_rng(seed)
    model, watch = model_of(norm_first), WarmUp(rate, warm_up)
    begin_anew(model, rng, size)
    ids = rng.integers(0, SYMBOLS, (steps * BATCH, T)).astype("int32")
    model.fit(ids, ids[:, ::-1].copy(), batch_size=BATCH, shuffle=False, verbose=0, callbacks=[watch])
    losses = np.diff(watch.sums).reshape(-1, 10).mean(axis=1)
    ids = rng.integers(0, SYMBOLS, (256, T)).astype("int32")
    return {"accuracy": accuracy(model(ids), ids[:, ::-1]), "loss": [(10 * (i + 1), float(x)) for i, x in enumerate(losses)]}
