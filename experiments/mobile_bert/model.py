"""A language of facts and questions, a teacher that is wide inside its blocks, and a student that is narrow."""

import keras
import numpy as np
from keras import ops

from layers.mobile_bert import MobileBertEmbedding, MobileBertTransformer

NAMES, FACTS, QUESTIONS = 8, 4, 2
WORDS, MASK, LENGTH = 2 * NAMES, 2 * NAMES, 2 * (FACTS + QUESTIONS)
"""Words are names, then as many colors; then the id of [MASK]. A sentence gives colors of four names and asks for two of them."""

M, INSIDE, BLOCKS = 32, 8, 2
"""Size between the blocks, inside the student's, and how many blocks."""


def sentences(count, rng):
    """Ids `(count, LENGTH)`, such as "name color name color … name [MASK] name [MASK]", and the colors that are hidden."""
    names = rng.permuted(np.tile(np.arange(NAMES), (count, 1)), axis=1)[:, :FACTS]
    colors = NAMES + rng.integers(0, NAMES, (count, FACTS))
    asked = rng.permuted(np.tile(np.arange(FACTS), (count, 1)), axis=1)[:, :QUESTIONS]
    facts = np.stack([names, colors], axis=-1).reshape(count, -1)
    questions = np.stack([np.take_along_axis(names, asked, axis=1), np.full(asked.shape, MASK)], axis=-1).reshape(count, -1)
    return np.concatenate([facts, questions], axis=1).astype("int32"), np.take_along_axis(colors, asked, axis=1).astype("int32")


def hidden(x):
    """The vectors at the hidden words."""
    return x[:, 2 * FACTS + 1 :: 2]


class Reader(keras.Model):
    """Embedding, blocks and classifier. The teacher is wide inside, with LayerNorm and GELU; the student narrow, with NoNorm."""

    def __init__(self, is_teacher):
        super().__init__()
        options = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_attention_heads": 4}
        options |= {"initializer": "glorot_uniform"} if is_teacher else {}
        shape = (4 * M, "gelu", 2 * M, "layer_norm", 1) if is_teacher else (M, "relu", INSIDE, "no_norm", 4)
        names = (
            "intermediate_size",
            "intermediate_act_fn",
            "intra_bottleneck_size",
            "normalization_type",
            "num_feedforward_networks",
        )
        options |= dict(zip(names, shape))
        self.blocks = [MobileBertTransformer(M, **options) for _ in range(BLOCKS)]

    def through(self, x, gate=1.0):
        """What each block returns, and its attention weights. With a gate of 0 no gradient passes from block to block."""
        found, weights = [], []
        for block in self.blocks:
            x, scores = block(gate * x + (1 - gate) * ops.stop_gradient(x), return_attention_scores=True)
            found.append(x)
            weights.append(scores)
        return found, weights


class Teacher(Reader):
    def __init__(self):
        super().__init__(is_teacher=True)
        normal = keras.initializers.RandomNormal(stddev=0.3)
        self.embed = MobileBertEmbedding(WORDS + 1, 16, 1, M, LENGTH, "layer_norm", normal, dropout_rate=0.0)
        self.classify = keras.layers.Dense(WORDS)

    def call(self, ids):
        return self.classify(hidden(self.through(self.embed(ids))[0][-1]))


class Student(Reader):
    """Its output is its loss, a mixture of those in `LOSSES`; how much of each is a weight that is not trained."""

    def __init__(self, classify):
        super().__init__(is_teacher=False)
        self.classify = classify
        self.mixture = self.add_weight(shape=(len(LOSSES),), initializer="zeros", trainable=False)
        self.gate = self.add_weight(shape=(), initializer="ones", trainable=False)

    def call(self, inputs):
        x, maps, attention, answers, words = inputs
        found, weights = self.through(x, self.gate)
        predicted = ops.log_softmax(self.classify(hidden(found[-1])))
        losses = [ops.mean((found[i] - maps[:, i]) ** 2, axis=(1, 2)) for i in range(BLOCKS)]
        losses += [divergence(attention[:, i], ops.log(weights[i] + 1e-9), (1, 2)) for i in range(BLOCKS)]
        losses.append(divergence(answers, predicted, 1))
        losses.append(-ops.mean(ops.sum(ops.one_hot(words, WORDS) * predicted, axis=-1), axis=1))
        return ops.sum(ops.stack(losses, axis=-1) * self.mixture, axis=-1)


LOSSES = ("map 0", "map 1", "attention 0", "attention 1", "answers", "words")


def divergence(wanted, log_found, axes):
    """Kullback–Leibler divergence of distributions on the last axis, averaged over other axes."""
    return ops.mean(ops.sum(wanted * (ops.log(wanted + 1e-9) - log_found), axis=-1), axis=axes)


def mean_output(_, output):
    return ops.mean(output)


def fresh(kind, *parts):
    """A model whose variables are made."""
    model = kind(*parts)
    ids = np.zeros((1, LENGTH), "int32")
    if kind is Teacher:
        model(ids)
    else:
        t, heads = LENGTH, np.full((1, BLOCKS, 4, LENGTH, LENGTH), 1 / LENGTH, "float32")
        answers = np.zeros((1, QUESTIONS, WORDS), "float32")
        model((np.zeros((1, t, M), "float32"), np.zeros((1, BLOCKS, t, M), "float32"), heads, answers, ids[:, :QUESTIONS]))
    return model
