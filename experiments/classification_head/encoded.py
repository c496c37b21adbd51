"""Sentences with nouns of four kinds, pairs of a novel's sentences, and what MiniLM's layers make of them."""

from functools import cache, lru_cache

import keras
import numpy as np

from crosscheck.models import minilm
from crosscheck.models.bert_checkpoint import load_bert
from experiments.common import novel

KINDS = {
    "animal": "cat dog horse cow sheep goat pig lion tiger bear wolf fox "
    "rabbit mouse monkey elephant deer duck eagle whale snake frog shark camel",
    "food": "bread cheese butter soup cake pie rice pasta pizza sandwich salad sausage "
    "apple banana lemon potato onion carrot bean honey chocolate cookie steak corn",
    "clothing": "shirt hat coat dress skirt jacket sweater scarf glove boot shoe sock "
    "belt blouse cap robe tie vest jeans hood cloak trousers uniform apron",
    "vehicle": "car truck bus train boat ship plane bicycle motorcycle tractor van taxi "
    "tram ferry helicopter canoe yacht jeep limousine wagon subway ambulance rocket submarine",
}
FRAMES = ("i saw the {} yesterday .", "she drew a {} for him .", "we talk about this {} often .", "he has a {} at home .")
NOUNS = [(noun, kind) for kind, nouns in enumerate(KINDS.values()) for noun in nouns.split()]
SENTENCES = [frame.format(noun) for noun, _ in NOUNS for frame in FRAMES]
PLACES = np.array([1 + frame.split().index("{}") for _ in NOUNS for frame in FRAMES])
"""Where the noun begins, behind [CLS]."""
CLASSES, EACH = len(KINDS), len(NOUNS) // len(KINDS)
LAYERS = 6


def packed(rows):
    """Inputs of `BertEncoder` for rows of pieces; a row of two lists has two segments."""
    length = max(map(len, rows))
    ids, mask, types = np.zeros((3, len(rows), length), "int32")
    for i, row in enumerate(rows):
        ids[i, : len(row)] = [minilm.load().vocabulary[piece] for piece in row]
        mask[i, : len(row)] = 1
        second = row.index("[SEP]") + 1
        types[i, second : len(row)] = 1
    return {"input_word_ids": ids, "input_mask": mask, "input_type_ids": types}


@cache
def encoder():
    return load_bert()


def shuffled(rng):
    """MiniLM whose layers have the numbers of their kernels in random order. Its embeddings are as they were."""
    of = load_bert()
    for block in of.transformer_blocks:
        for weight in (weight for weight in block.weights if weight.path.endswith("kernel")):
            numbers = keras.ops.convert_to_numpy(weight)
            weight.assign(rng.permutation(numbers.ravel()).reshape(numbers.shape))
    return of


def all_states(model, inputs, size=64):
    """What goes into the first layer and comes out of each: `(7, b, t, m)`."""
    parts = []
    for start in range(0, len(inputs["input_mask"]), size):
        part = {name: keras.ops.convert_to_tensor(ids[start : start + size]) for name, ids in inputs.items()}
        first = model.embed_inputs(part["input_word_ids"], part["input_type_ids"], False)
        parts.append(np.stack([keras.ops.convert_to_numpy(x) for x in (first, *model(part)["encoder_outputs"])]))
    return np.concatenate(parts, axis=1)


@lru_cache(maxsize=3)
def states(how="", seed=0):
    """The states of all sentences; with the noun hidden from all tokens, or from a shuffled model."""
    inputs = packed([minilm.wordpieces(minilm.load(), sentence) for sentence in SENTENCES])
    if how == "noun hidden":
        inputs["input_mask"][np.arange(len(PLACES)), PLACES] = 0
    return all_states(shuffled(np.random.default_rng(seed)) if how == "layers shuffled" else encoder(), inputs)


def vectors_of(arm, seed):
    """What the heads of an arm read: `(7, b, m)`."""
    token, _, how = arm.partition(", ")
    found = states(how, seed * (how == "layers shuffled")) if how in ("noun hidden", "layers shuffled") else states()
    if token == "mean of all tokens":
        return found.mean(axis=2)  # all sentences have the same length
    places = {"[CLS]": 0, "the word after [CLS]": 1, "the noun": PLACES}
    return found[:, np.arange(len(SENTENCES)), places[token]]


def labels(seed, mixed=False):
    """The kind of each sentence's noun, and which nouns are seen, half of each kind; `mixed` gives nouns the kinds of others."""
    rng = np.random.default_rng(seed)
    order = np.argsort(rng.random((CLASSES, EACH)), axis=1).ravel()  # each noun's number within its kind, at random
    kinds = np.array([kind for _, kind in NOUNS])
    if mixed:
        kinds = rng.permutation(kinds)
        order = np.argsort(np.argsort(kinds + rng.random(len(kinds)))) % EACH
    return np.repeat(kinds, len(FRAMES)), np.repeat(order, len(FRAMES))


@cache
def pairs():
    """[CLS] of MiniLM, which is frozen, for pairs of a novel's sentences, `(b, m)`; 1 where the second follows; and the group.

    Of each two sentences that follow each other, the first stands beside the second, and once beside one from elsewhere. Groups
    are tenths of the novel.
    """
    text = novel.TEXT[novel.TEXT.index("CHAPTER I") :].replace("\n", " ").replace('"', "")
    sentences = text.replace("?", ".").replace("!", ".").split(". ")
    firsts = [i for i in range(len(sentences) - 1) if all(20 < len(of) < 70 for of in sentences[i : i + 2])]
    elsewhere = np.roll(firsts, len(firsts) // 2) + 1  # half the novel away
    pieces = [minilm.wordpieces(minilm.load(), sentence) for sentence in sentences]
    rows = [pieces[i] + pieces[j][1:] for i, other in zip(firsts, elsewhere) for j in (i + 1, other)]
    follows, group = np.tile([1, 0], len(firsts)), np.repeat(np.arange(len(firsts)) * 10 // len(firsts), 2)
    return all_states(encoder(), packed(rows))[-1, :, 0], follows, group
