"""A model that reads a text in segments, and hands its memory on."""

import keras
import numpy as np
from keras import ops

from layers.on_device_embedding import OnDeviceEmbedding
from layers.transformer_xl import TransformerXL
from reference.relative_attention import relative_position_encoding

SYMBOLS, LENGTH, SEGMENTS = 16, 8, 3
"""Of the made-up texts; tokens of a segment, and segments of a text, the last of which is predicted."""


class Reader(keras.Model):
    """Reads a text in segments of `LENGTH`, each with the memory of those before, and predicts in the last one.

    `how` is "relative"; "absolute", which adds the place in the segment to the token, and has no distances in the scores; or
    "through", which lets gradients flow through the memory.
    """

    def __init__(self, symbols, layers, memory_length, how="relative", size=32):
        super().__init__()
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.token, self.logits = OnDeviceEmbedding(symbols, size, initializer=normal), keras.layers.Dense(symbols)
        self.place = OnDeviceEmbedding(LENGTH, size, initializer=normal) if how == "absolute" else None
        options = {"inner_size": 2 * size, "dropout_rate": 0.0, "attention_dropout_rate": 0.0, "initializer": "glorot_uniform"}
        self.xl = TransformerXL(symbols, layers, size, 4, size // 4, memory_length=memory_length, **options)
        self.how, self.size = how, size

    def call(self, ids):
        """The logits `(b, LENGTH, n)` of the token after each of the last segment."""
        return self.logits(self.read(ids[:, -LENGTH:], self.memories(ids[:, :-LENGTH]))[0])

    def memories(self, ids):
        """What is remembered of whole segments; None without a memory."""
        state = None
        for start in range(0, ids.shape[1] if self.xl.memory_length else 0, LENGTH):
            _, state = self.read(ids[:, start : start + LENGTH], state)
        return state

    def read(self, ids, state):
        """The output for one segment, and the memories after it."""
        h = self.token(ids) if self.place is None else self.token(ids) + self.place(ops.arange(LENGTH))
        s = LENGTH + (state[0].shape[1] if state else 0)
        encoding = relative_position_encoding(LENGTH, s, self.size, causal=True).astype("float32")
        if self.how == "absolute":
            encoding = 0 * encoding  # how many rows it has still says which keys come after the query
        if self.how == "through":
            return self.read_through(h, encoding, state)
        return self.xl(h, encoding, state=state)

    def read_through(self, h, encoding, state):
        """What `self.xl` computes; but the memories are not cut off from what they were computed from."""
        if not self.xl.built:
            self.xl.build(h.shape, encoding.shape)
        memories, biases = [], (self.xl.content_attention_bias, self.xl.positional_attention_bias)
        for block, memory in zip(self.xl.blocks, state or [None] * self.xl.num_layers):
            both = h if memory is None else ops.concatenate([memory, h], axis=1)
            memories.append(both[:, -self.xl.memory_length :])
            h = block(h, *biases, encoding, state=memory)["content_attention"]
        return h, memories

    def test(self, ids, memory_length):
        """The logits with another length of memory than that of training."""
        own, self.xl.memory_length = self.xl.memory_length, memory_length
        logits = ops.convert_to_numpy(self(ids))
        self.xl.memory_length = own
        return logits

    def with_other_memory(self, ids):
        """The logits with the memory of another text."""
        state = self.memories(ids[:, :-LENGTH])
        state = [ops.roll(memory, 1, axis=0) for memory in state] if state else None
        return ops.convert_to_numpy(self.logits(self.read(ids[:, -LENGTH:], state)[0]))


def nats(logits, answers):
    """−log p of each answer."""
    logits = logits.astype("float64") - logits.max(axis=-1, keepdims=True)
    picked = np.take_along_axis(logits, answers[..., None], axis=-1)[..., 0]
    return np.log(np.exp(logits).sum(axis=-1)) - picked
