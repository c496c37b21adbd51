"""Transformer-XL: a segment is predicted from the memory of the segment before it."""

from pathlib import Path

import keras
import numpy as np

import layers

keras.utils.set_random_seed(0)
FOLDER = Path("build")
TOKENS, LENGTH, SIZE = 8, 6, 32  # the vocabulary, a segment, the model


def draw(rng, count):
    """Rows of random tokens that are said twice, in two segments; and for each token the one after it."""
    once = rng.integers(0, TOKENS, (count, LENGTH), "int32")
    rows = np.concatenate([once, once, once[:, :1]], axis=1)
    return rows[:, :-1], rows[:, 1:]


def encodings(s):
    """Sinusoids of the distances s, …, 0 between queries and s keys."""
    angles = np.arange(s, -1, -1)[:, None] / 10000 ** np.linspace(0, 1, SIZE // 2, endpoint=False)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)[None].astype("float32")


ids = keras.Input((2 * LENGTH,), dtype="int32")
xl = layers.TransformerXL(
    vocab_size=TOKENS,
    num_layers=1,
    hidden_size=SIZE,
    num_attention_heads=4,
    head_size=SIZE // 4,
    inner_size=64,
    dropout_rate=0.0,
    attention_dropout_rate=0.0,
    initializer="glorot_uniform",
    memory_length=LENGTH,
)
x = layers.OnDeviceEmbedding(TOKENS, SIZE)(ids)
first, memories = xl(x[:, :LENGTH], encodings(LENGTH))
second, _ = xl(x[:, LENGTH:], encodings(2 * LENGTH), state=memories)  # no gradient flows into the memories
model = keras.Model(ids, keras.layers.Dense(TOKENS)(keras.ops.concatenate([first, second], axis=1)))

rng = np.random.default_rng(0)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
model.fit(*draw(rng, 4096), epochs=4, batch_size=128, verbose=0)

FOLDER.mkdir(exist_ok=True)
model.save(FOLDER / "transformer_xl_memory.keras")
loaded = keras.saving.load_model(FOLDER / "transformer_xl_memory.keras")
given, wanted = draw(rng, 128)
predicted = loaded.predict(given, verbose=0)
right = np.argmax(predicted, axis=-1) == wanted
parts = {"new": right[:, : LENGTH - 1].mean(), "remembered": right[:, LENGTH:].mean()}
print(f"right: {parts['new']:.2f} of the tokens that are new, {parts['remembered']:.2f} of those that are in the memory")
