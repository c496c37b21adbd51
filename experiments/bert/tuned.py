"""MiniLM's last block, or only a head, trained to tell what is said in a novel from what is told."""

from functools import cache

import keras
import numpy as np
from keras import ops

from crosscheck.models.bert_checkpoint import load_bert
from experiments.bert.texts import M, bags, encoder, in_parts, packed, shuffled, spoken_and_told
from experiments.common.training import forget, in_stretches, loss_of_ids
from layers.classification_head import ClassificationHead

ARMS = {"last block": 5, "last block, shuffled": 5, "head alone": 6, "head alone, answers mixed": 6, "TF-IDF": None}
"""{arm: the first block that is trained; what follows is, too}. In the second, that block has its numbers in random order."""

STEPS, BATCH = 60, 16
LONGER = 10
"""How many times as many steps an arm gets that trains a head alone, until its curve is flat."""


@cache
def inputs():
    return packed(spoken_and_told()[0])


@cache
def states(first):
    """What goes into block `first` `(b, t, m)`; the mean over tokens, if it is the head."""

    def call(part):
        z = encoder().embed_inputs(part["input_word_ids"], part["input_type_ids"], False)
        allowed = encoder().mask_layer(z, part["input_mask"])
        for block in encoder().transformer_blocks[:first]:
            z, _ = block([z, allowed])
        return z

    return in_parts(call, inputs())


class Reader(keras.Model):
    """The blocks of MiniLM from `first` on, the mean over tokens, and a head; or a head alone on vectors."""

    def __init__(self, first):
        super().__init__()
        self.blocks = [] if first is None else load_bert(output_dropout=0.0, attention_dropout=0.0).transformer_blocks[first:]
        self.head = ClassificationHead(0, 2)

    def call(self, x):
        z, mask = x
        for block in self.blocks:
            z, _ = block([z, ops.repeat(mask[:, None], ops.shape(z)[1], axis=1)])
        return self.head(ops.einsum("btm,bt->bm", z, mask) / ops.sum(mask, axis=1, keepdims=True))


@cache
def program(first, size):
    """A model that is compiled once, and trained again and again from its first weights."""
    model = Reader(first)
    model((np.zeros((1, 2, size), "float32"), np.ones((1, 2), "float32")))
    model.compile(keras.optimizers.Adam(), loss_of_ids())
    model.optimizer.build(model.trainable_variables)
    return model, model.get_weights()


def restart(first, size, rate, seed):
    model, weights = program(first, size)
    keras.utils.set_random_seed(seed)
    new = ClassificationHead(0, 2)
    new.build((None, size))
    model.set_weights([*weights[:-2], *new.get_weights()])
    forget(model.optimizer, rate)
    return model


def tune(arm, rate, seed, points=20):
    """Train with Adam on four fifths of the novel.

    Returns:
        {"right": the share of sentences that is right, of those spoken and of those told, averaged over the two, on the tenths
        `seed` and `seed` + 5 of the novel, "loss": the curve}.
    """
    first, (pieces, spoken) = ARMS[arm], spoken_and_told()
    if first is None:
        x = np.sqrt(M) * bags(pieces, weighted=True)[:, None].astype("float32")  # about as long as MiniLM's vectors
        mask = np.ones((len(pieces), 1), "float32")
    else:
        x, mask = states(first), inputs()["input_mask"].astype("float32")
    new = np.isin(np.arange(len(pieces)) * 10 // len(pieces), [seed % 10, (seed + 5) % 10])
    rng = np.random.default_rng(seed)
    answers = np.where(new, spoken, spoken[rng.permutation(len(spoken))]) if arm.endswith("mixed") else spoken

    model = restart(first, x.shape[-1], rate, seed)
    if arm.endswith("shuffled"):
        for block, of in zip(model.blocks, shuffled(seed).transformer_blocks[first:]):
            block.set_weights(of.get_weights())
    losses, steps = [], STEPS * (1 if model.blocks else LONGER)
    for _ in range(steps):
        some = rng.choice(np.flatnonzero(~new), BATCH, replace=False)
        losses.append(float(model.train_on_batch((x[some], mask[some]), answers[some])))
    parts = np.array_split(np.flatnonzero(new), 4)
    guesses = np.concatenate([ops.convert_to_numpy(model((x[part], mask[part]))) for part in parts]).argmax(axis=-1)
    right = np.mean([(guesses[spoken[new] == kind] == kind).mean() for kind in (0, 1)])
    return {"right": right, "loss": in_stretches(losses, points)}
