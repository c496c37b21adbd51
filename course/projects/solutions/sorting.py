"""A solution of the project on sorting: each cell replaces the stub of one milestone."""

import keras
import numpy as np
from milestones import sorting as task

import layers

rng = np.random.default_rng(0)


# %%
def rows(given):
    b, t = given.shape
    whole = np.concatenate([given, np.full((b, 1), task.SEPARATOR), np.sort(given, axis=1)], axis=1)
    weights = np.tile(np.arange(2 * t) >= t, (b, 1)).astype("float32")
    return whole[:, :-1], whole[:, 1:], weights


# %%
import math


def already_sorted(length, numbers):
    return math.comb(length + numbers - 1, length) / numbers**length


# %%
def build():
    ids = keras.Input((None,), dtype="int32")
    decoder = layers.TransformerDecoder(
        task.VOCABULARY, 32, num_layers=1, num_attention_heads=4, intermediate_size=64, max_length=16, name="decoder"
    )
    return keras.Model(ids, decoder(ids)[0])


# %%
def train(model, steps=500):
    x, y, weights = rows(task.lists(rng, 64 * steps))
    rate = keras.optimizers.schedules.CosineDecay(1e-2, steps)
    model.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, sample_weight=weights, batch_size=64, verbose=0)
    return model


# %%
def sort(model, given):
    prompts = np.pad(given, ((0, 0), (0, 1)), constant_values=task.SEPARATOR)
    return layers.generate(model.get_layer("decoder"), prompts, length=given.shape[1])[:, prompts.shape[1] :]
