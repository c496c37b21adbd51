"""A trained model that reads a novel, MiniLM, when its attention is cut to a graph of blocks."""

from functools import cache

import keras
import numpy as np

from crosscheck.models import minilm
from experiments.bigbird_attention.graphs import BLOCKS, GRAPHS, graph_of
from experiments.common import novel
from experiments.common.reader import LAYERS, rest_of, through, weights_of_attention
from reference.attention import multi_head_attention

WIDTH = 4
"""Tokens of a block, in passages of a novel that MiniLM reads."""


def passage(number):
    """[CLS], wordpieces of the novel, and [SEP]: `WIDTH` for each block."""
    text = novel.TEXT[2000 + 20_000 * number :].replace("\n", " ")[:2000]
    return [*minilm.wordpieces(minilm.load(), text)[: WIDTH * BLOCKS - 1], "[SEP]"]


@cache
def layers_of_minilm():
    """For each layer its attention and what follows it; in float32."""
    layers = [(weights_of_attention(layer), rest_of(layer)) for layer in range(LAYERS)]
    return keras.tree.map_structure(lambda x: x.astype("float32"), layers)


def read(pieces, graph):
    """The outputs `(t, m)` of MiniLM whose attention keeps to a graph of blocks, and the mean weights between blocks."""
    mask = graph.repeat(WIDTH, axis=0).repeat(WIDTH, axis=1)[None]
    x, maps = minilm.embed(minilm.load(), pieces).astype("float32"), []
    for weights, rest in layers_of_minilm():
        y, attention = multi_head_attention(x, x, weights, mask=mask)
        maps.append(attention[0].reshape(-1, BLOCKS, WIDTH, BLOCKS, WIDTH).sum(axis=-1).mean(axis=(0, 2)))
        x = through(x, y, *rest)
    return x[0], np.mean(maps, axis=0)


@cache
def uncut(number):
    return read(passage(number), GRAPHS["full"](None))


def cosine(a, b):
    return np.mean(np.sum(a * b, axis=-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1))


def cut(arm, rate, seed):
    """Nothing is trained: a passage of the novel is read by MiniLM with an arm's graph.

    Returns:
        {"cosine": the mean cosine of its outputs with those of full attention, "null": that of full attention on this passage
        and on the next one, "weight": where the full attention of all layers and heads looks, `(BLOCKS, BLOCKS)`}.
    """
    output, weight = read(passage(seed), graph_of(arm, seed))
    found = {"cosine": cosine(output, uncut(seed)[0]), "null": cosine(uncut(seed)[0], uncut(seed + 1)[0])}
    return found | {"weight": np.round(weight, 4) if arm == "full" else []}
