"""A decoder block that translates made-up sentences with extra words, whole and with parts removed."""

import keras
import numpy as np
from keras import ops

from experiments.common.training import draw_normal, forget, loss_of_ids
from layers.cached_attention import CachedAttention
from layers.on_device_embedding import OnDeviceEmbedding
from layers.transformer_decoder import TransformerDecoderBlock

M, F = 64, 128


@keras.saving.register_keras_serializable(package="experiments")
class Peeking(CachedAttention):
    """Self-attention that is not told of its mask: what happens where the causal mask is forgotten."""

    def call(self, query, value, attention_mask=None, cache=None, decode_loop_step=None, training=None):
        return super().call(query, value, cache=cache, decode_loop_step=decode_loop_step, training=training)


PARTS = {"all three parts": {}, "no self-attention": {"own": False}, "no cross-attention": {"source": False}}
PARTS |= {"no feed-forward": {"inner": False}, "no causal mask": {"causal": False}}
"""{arm: what is removed}. Without self-attention, a position still has its own token, which is the last word written."""


class Translator(keras.Model):
    """One decoder block. The memory has, for each word of the source, the word, the one before it, and its place.

    Args:
        words: How many ids there are; the last is the sign with which every text begins.
        length: Of source and target.
        heads: Of both attentions.
        own, source, inner, causal: Whether there is self-attention, cross-attention, a feed-forward network, a causal mask.
    """

    def __init__(self, words, length, heads=1, own=True, source=True, inner=True, causal=True):
        super().__init__()
        self.length, self.start, self.own, self.source = length, words - 1, own, source
        self.token, self.before, self.place = (OnDeviceEmbedding(n, M) for n in (words, words, length))
        options = {"norm_first": True, "norm_epsilon": 1e-6, "self_attention_cls": None if causal else Peeking}
        self.block = TransformerDecoderBlock(heads, F, "relu" if inner else ops.zeros_like, **options)
        self.logits = keras.layers.Dense(words)

    def memory(self, source):
        shifted = ops.concatenate([ops.full_like(source[:, :1], self.start), source[:, :-1]], axis=1)
        return self.token(source) + self.before(shifted) + self.place(ops.arange(self.length))

    def written(self, words, step=0):
        return self.token(words) + self.place(step + ops.arange(words.shape[1]))

    def call(self, inputs, cache=None, step=None):
        source, words = inputs
        reads = ops.ones((1, 1, self.length)) * self.source
        only_itself = None if self.own else np.eye(self.length, dtype=bool)[None, step or 0 :][:, : words.shape[1]]
        parts = [self.written(words, step or 0), self.memory(source), reads, only_itself]
        y, cache = self.block(parts, cache=cache, decode_loop_step=step)
        return self.logits(y) if step is None else (self.logits(y), cache)


def write(model, source):
    """Greedy decoding with a cache: the words `(b, t)`."""
    cache, words = model.block.init_cache(len(source), model.length), [np.full((len(source), 1), model.start, "int32")]
    for t in range(model.length):
        logits, cache = model([source, words[-1]], cache=cache, step=t)
        words.append(np.argmax(ops.convert_to_numpy(logits), axis=-1).astype("int32"))
    return np.concatenate(words[1:], axis=1)


def shifted(target, start):
    """What the decoder reads: the target, one place later, after the start sign."""
    return np.concatenate([np.full((len(target), 1), start, target.dtype), target[:, :-1]], axis=1)


def surprise(logits, answers):
    """-log p of each answer, in nats."""
    logits = logits.astype("float64") - logits.max(axis=-1, keepdims=True)
    return np.log(np.exp(logits).sum(axis=-1)) - np.take_along_axis(logits, answers[..., None], axis=-1)[..., 0]


MODELS = {}


def model_of(key, **options):
    """A compiled model; all runs of a process share it, because its step takes longer to trace than a run to train."""
    if key not in MODELS:
        model = MODELS[key] = Translator(**options)
        model([np.zeros((1, model.length), "int32")] * 2)
        model.compile(keras.optimizers.Adam(1e-3), loss_of_ids())
        model.optimizer.build(model.trainable_variables)
    return MODELS[key]


def fit(model, draw, steps, batch, points=12):
    """Train on examples that are drawn as it goes: [(step, mean loss of the stretch that ends there)]."""
    curve = []
    for point in range(points):
        source, target = draw(steps // points * batch)
        history = model.fit([source, shifted(target, model.start)], target, batch_size=batch, shuffle=False, verbose=0)
        curve.append((steps // points * (point + 1), float(history.history["loss"][0])))
    return curve


# ---- Sentences with extra words ----------------------------------------------------------------------------------------------

SYMBOLS, LENGTH, EXTRA = 16, 8, 0.25
"""Words, places, and how often an extra word stands where the next word of the source could; never two in a row."""

FILLER, STEPS, BATCH = SYMBOLS, 240, 64


def sentences(rng, count):
    """Sources `(count, LENGTH)` of different words, and targets: the same words in order, with the extra word now and then."""
    source = np.argsort(rng.random((count, SYMBOLS)), axis=1)[:, :LENGTH].astype("int32")
    target, number, extra = np.empty_like(source), np.zeros(count, int), np.zeros(count, bool)
    for t in range(LENGTH):
        extra = (rng.random(count) < EXTRA) & ~extra
        target[:, t] = np.where(extra, FILLER, source[np.arange(count), number])
        number += ~extra
    return source, target


def train_sentences(arm, rate, seed, steps=STEPS):
    """Train one arm.

    Returns:
        {"nats": the loss on new sentences, "accuracy": of the next word, the right words so far given, "after extra": the same
        where the last word was the extra one, "alone": see `in_order`, if the model writes by itself, "loss": the curve}.
    """
    rng = np.random.default_rng(seed)
    model = model_of(arm, words=SYMBOLS + 2, length=LENGTH, **PARTS[arm])
    draw_normal(model, rng, M)
    forget(model.optimizer, rate)
    curve = fit(model, lambda count: sentences(rng, count), steps, BATCH)
    source, target = sentences(rng, 1024)
    read = shifted(target, model.start)
    logits = ops.convert_to_numpy(model([source, read]))
    nats, right = surprise(logits, target), np.argmax(logits, axis=-1) == target
    found = {"nats": nats.mean(), "accuracy": right.mean(), "after extra": right[read == FILLER].mean()}
    return found | {"alone": in_order(write(model, source[:128]), source[:128]), "loss": curve}


def in_order(written, source):
    """The share of the written words, extra ones left out, that are the source's words in order; averaged over sentences."""
    words = [text[text != FILLER] for text in written]
    return float(np.mean([np.mean(text == words_of[: len(text)]) if len(text) else 0.0 for text, words_of in zip(words, source)]))
