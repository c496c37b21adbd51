"""Sentences of a novel as the inputs of MiniLM, and two older ways to compare texts."""

from functools import cache

import keras
import numpy as np

from crosscheck.models import minilm
from crosscheck.models.bert_checkpoint import load_bert
from experiments.common import novel

LAYERS, M = 6, 384


@cache
def encoder(dtype="float32"):
    return load_bert(dtype=dtype)


@cache
def shuffled(seed):
    """MiniLM whose layers have the numbers of their kernels in random order. Its embeddings are as they were."""
    rng, of = np.random.default_rng(seed), load_bert()
    for block in of.transformer_blocks:
        for weight in (weight for weight in block.weights if weight.path.endswith("kernel")):
            numbers = keras.ops.convert_to_numpy(weight)
            weight.assign(rng.permutation(numbers.ravel()).reshape(numbers.shape))
    return of


def packed(rows, length=None):
    """Inputs of `BertEncoder`, as arrays, for rows of pieces that begin with [CLS] and end with [SEP]."""
    length = length or max(map(len, rows))
    ids, mask = np.zeros((2, len(rows), length), "int32")
    for i, row in enumerate(rows):
        ids[i, : len(row)] = [minilm.load().vocabulary[piece] for piece in row]
        mask[i, : len(row)] = 1
    return {"input_word_ids": ids, "input_mask": mask, "input_type_ids": 0 * ids}


def in_parts(call, inputs, size=64):
    """The array that `call` makes of the inputs, so many rows at a time."""
    parts = [{name: ids[i : i + size] for name, ids in inputs.items()} for i in range(0, len(inputs["input_mask"]), size)]
    return np.concatenate([keras.ops.convert_to_numpy(call(tensors(part))) for part in parts])


def tensors(inputs):
    return {name: keras.ops.convert_to_tensor(ids) for name, ids in inputs.items()}


@cache
def spoken_and_told():
    """Sentences of 21 to 59 characters in the order of the novel, as pieces, and 1 for those in quotation marks (cut off)."""
    text = novel.TEXT[novel.TEXT.index("CHAPTER I") :].replace("\n", " ")
    for mark in ".?!":
        text = text.replace(f"{mark} ", f"{mark}\n")
    first, *parts = text.split('"')
    # A mark before a letter opens what is said; any other one closes it. A few are missing in the book.
    parts = [(first, 0)] + [(part, int(part[:1].isalnum())) for part in parts]
    found = [(of.strip(" ,-"), spoken) for part, spoken in parts for of in part.split("\n")]
    found = [(minilm.wordpieces(minilm.load(), of), spoken) for of, spoken in found if 20 < len(of) < 60]
    pieces, spoken = zip(*found)
    return list(pieces), np.array(spoken)


@cache
def rarity():
    """{piece: ln(sentences / those with the piece)} in the novel; a piece that does not occur counts as if it did once."""
    texts = [set(row) for row in spoken_and_told()[0]]
    pieces = sorted(set().union(*texts))
    return {piece: np.log(len(texts) / sum(piece in text for text in texts)) for piece in pieces}


def bags(rows, weighted):
    """Counts of pieces `(b, n)`, weighted by rarity (TF-IDF) or not, each row of length 1."""
    rows = [row[1:-1] for row in rows]
    places = {piece: i for i, piece in enumerate(sorted(set().union(*map(set, rows))))}
    found = np.zeros((len(rows), len(places)))
    for row, numbers in zip(rows, found):
        for piece in row:
            numbers[places[piece]] += 1
    if weighted:
        found *= [rarity().get(piece, np.log(len(spoken_and_told()[0]))) for piece in places]
    return found / np.linalg.norm(found, axis=1, keepdims=True)
