"""Deep stacks that learn to say a text backwards, with norms after or before, and with small kernels or a warm-up."""

import keras
import numpy as np
from keras import ops

from experiments.common.training import Stretches, accuracy, draw_normal, forget, loss_of_ids
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
    """The model has weights of its own again, with the kernels of its blocks times `size`, and the optimizer has seen nothing."""
    draw_normal(model, rng, M)
    for kernel in (weight for block in model.blocks for weight in block.weights if "kernel" in weight.path):
        kernel.assign(size * kernel)
    forget(model.optimizer)


def train_reverser(arm, rate, seed, steps=STEPS):
    """{"accuracy": on new texts, "loss": the curve, each point the mean of ten steps}."""
    norm_first, size, warm_up = ARMS[arm]
    rng = np.random.default_rng(seed)
    model, watch = model_of(norm_first), Stretches(lambda done: rate * min(1.0, (done + 1) / warm_up))
    begin_anew(model, rng, size)
    ids = rng.integers(0, SYMBOLS, (steps * BATCH, T)).astype("int32")
    model.fit(ids, ids[:, ::-1].copy(), batch_size=BATCH, shuffle=False, verbose=0, callbacks=[watch])
    losses = watch.losses.reshape(-1, 10).mean(axis=1)
    ids = rng.integers(0, SYMBOLS, (256, T)).astype("int32")
    return {"accuracy": accuracy(model(ids), ids[:, ::-1]), "loss": [(10 * (i + 1), float(x)) for i, x in enumerate(losses)]}
