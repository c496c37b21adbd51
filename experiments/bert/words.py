"""Hidden words: what MiniLM's weights make of a [MASK], with and without a head that is trained on a novel."""

from functools import cache

import keras
import numpy as np

from crosscheck.models import minilm
from experiments.bert.texts import M, encoder, in_parts, packed
from experiments.common import reader
from experiments.common.training import forget, in_stretches, loss_of_ids
from layers.masked_lm import MaskedLM
from layers.on_device_embedding import OnDeviceEmbedding

SENTENCES, CANDIDATES, HIDDEN = 600, 400, 2
"""Of the novel; the most frequent pieces, among which a head chooses; how many of them are hidden in a sentence."""

ARMS = ("as it is", "head trained", "head trained, sentences mixed", "counts", "frequency")


def sentences():
    return reader.sentences()[:SENTENCES]


@cache
def vocabulary():
    """The candidates, the most frequent first."""
    pieces, counts = np.unique([piece for row in sentences() for piece in row[1:-1]], return_counts=True)
    return {piece: i for i, piece in enumerate(pieces[np.argsort(-counts, kind="stable")][:CANDIDATES].tolist())}


@cache
def holes():
    """Sentences with hidden pieces; and for each the places of these, their numbers, the pieces before, and its tenth."""
    rng, rows, found = np.random.default_rng(0), [], []
    for number, row in enumerate(sentences()):
        places = [place for place in range(1, len(row) - 1) if row[place] in vocabulary()]
        if len(places) < HIDDEN:
            continue
        chosen = rng.choice(places, HIDDEN, replace=False)
        rows.append([("[MASK]" if place in chosen else piece) for place, piece in enumerate(row)])
        before = [vocabulary().get(row[place - 1], CANDIDATES) for place in chosen]  # CANDIDATES: any other piece
        found.append((chosen, [vocabulary()[row[place]] for place in chosen], before, [number * 10 // len(sentences())] * HIDDEN))
    return rows, *map(np.array, zip(*found))


@cache
def vectors():
    """The last block's vectors at the [MASK]s, `(b, m)`."""
    rows, places, *_ = holes()
    z = in_parts(lambda part: encoder()(part)["sequence_output"], packed(rows))
    return z[np.arange(len(rows))[:, None], places].reshape(-1, M)


def rows_of_candidates():
    table = minilm.load().tensors["embeddings.word_embeddings.weight"]
    return table[[minilm.load().vocabulary[piece] for piece in vocabulary()]]


class Guesser(keras.Model):
    """BERT's head for hidden words over the candidates, whose rows are MiniLM's and stay as they are."""

    def __init__(self):
        super().__init__()
        self.table = OnDeviceEmbedding(CANDIDATES, M, trainable=False)
        self.head = MaskedLM(self.table, activation="gelu")

    def call(self, x):
        return self.head(x[:, None], keras.ops.zeros_like(x[:, :1], dtype="int32"))[:, 0]


@cache
def program():
    model = Guesser()
    model(np.zeros((1, M), "float32"))
    model.table.embeddings.assign(rows_of_candidates())
    model.compile(keras.optimizers.Adam(), loss_of_ids())
    model.optimizer.build(model.trainable_variables)
    return model


def restart(rate, seed):
    model = program()  # before the seed is set, because it takes random numbers only the first time
    keras.utils.set_random_seed(seed)
    new = Guesser()
    new(np.zeros((1, M), "float32"))
    for variable, value in zip(model.trainable_variables, new.trainable_variables):
        variable.assign(value)
    forget(model.optimizer, rate)
    return model


def by_counts(answers, before, seen, order):
    """Log probabilities `(b, n)`: frequencies in training, mixed as Witten and Bell do with those after the piece before."""
    table = np.zeros((CANDIDATES + 1, CANDIDATES))
    np.add.at(table, (before[seen], answers[seen]), 1)
    p = (table.sum(axis=0) + 1) / (table.sum() + CANDIDATES)
    if order == 0:
        return np.log(np.broadcast_to(p, (len(answers), CANDIDATES)))
    kinds = np.count_nonzero(table, axis=1)[:, None]
    return np.log((table + kinds * p) / np.maximum(table.sum(axis=1, keepdims=True) + kinds, 1e-9) + 1e-12)[before]


def guess(arm, rate, seed, steps=200, points=20):
    """Guess hidden pieces on the tenths `seed` and `seed` + 5 of the novel, from the rest.

    Returns:
        {"right": the share of pieces that get the largest logit, "five": that are among the first five, "bits": a piece, "loss":
        the curve, if a head was trained}.
    """
    _, _, answers, before, group = (np.ravel(x) if i else x for i, x in enumerate(holes()))
    new, rng, curve = np.isin(group, [seed % 10, (seed + 5) % 10]), np.random.default_rng(seed), []
    if arm in ("counts", "frequency"):
        logits = by_counts(answers, before, ~new, order=int(arm == "counts"))[new]
    elif arm == "as it is":
        logits = vectors()[new] @ rows_of_candidates().T
    else:
        x, model, losses = vectors(), restart(rate, seed), []
        if arm.endswith("mixed"):
            x = rng.permutation(x)
        for _ in range(steps):
            some = rng.choice(np.flatnonzero(~new), 128, replace=False)
            losses.append(float(model.train_on_batch(x[some], answers[some])))
        curve = in_stretches(losses, points)
        logits = keras.ops.convert_to_numpy(model(x[new]))
    mine = logits[np.arange(new.sum()), answers[new]][:, None]
    rank = (logits > mine).sum(axis=1)
    peak = logits.max(axis=1, keepdims=True)
    nats = np.log(np.exp(logits - peak).sum(axis=1)) - (mine - peak)[:, 0]
    return {"right": (rank == 0).mean(), "five": (rank < 5).mean(), "bits": nats.mean() / np.log(2), "loss": curve}
