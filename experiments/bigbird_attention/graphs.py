"""Which blocks see which: the graph of BigBird, its parts, and graphs with as many pairs."""

import numpy as np

from reference import bigbird_attention as ref

BLOCKS, RANDOM = 32, 3
"""Blocks of a sequence, and random blocks of a row, in BigBird's graph."""


def window(width):
    """Each block sees `width` blocks around it."""
    i, j = np.indices((BLOCKS, BLOCKS))
    return abs(i - j) <= width // 2


def with_random(graph, count, rng):
    """`graph` with `count` more blocks in each row, drawn from those that the row does not see."""
    graph = graph.copy()
    for row in graph:
        row[rng.permutation(np.flatnonzero(~row))[:count]] = True
    return graph


def with_global(graph, places=(0, BLOCKS - 1)):
    """`graph` with global blocks, which see all, and which all see."""
    graph, places = graph.copy(), list(places)
    graph[places] = graph[:, places] = True
    return graph


def bigbird(rng):
    return ref.block_graph(BLOCKS, ref.draw(rng, 1, BLOCKS, RANDOM))[0]


GRAPHS = {
    "window": lambda rng: window(3),
    "random": lambda rng: with_random(window(1), RANDOM, rng),
    "window + random": lambda rng: with_random(window(3), RANDOM, rng),
    "BigBird": bigbird,
    "full": lambda rng: np.ones((BLOCKS, BLOCKS), bool),
    "wide window": lambda rng: window(11),
    "more random": lambda rng: with_random(window(1), 9, rng),
    "window + more random": lambda rng: with_random(window(3), 7, rng),
    "window + global": lambda rng: with_global(window(7)),
    "window + global elsewhere": lambda rng: with_global(window(7), (10, 21)),
    "window + block 0": lambda rng: window(9) | (np.arange(BLOCKS) == 0),
    "window + random, 3 layers": lambda rng: with_random(window(3), RANDOM, rng),
}
"""{arm: its graph}. The first five are parts and whole, as in the paper's Table 1. Of the others, all but the last have about as
many pairs as BigBird, and the last has one layer more."""


def graph_of(arm, seed):
    """The graph `(BLOCKS, BLOCKS)` of an arm; seeds differ in what is random in it."""
    return GRAPHS[arm](np.random.default_rng(100 + seed))


def layers_of(arm):
    return 3 if arm.endswith("3 layers") else 2


def reached(arm, seed):
    """Whether what block s knew at the start can be known by block t at the end: `(t, s)`."""
    step = graph_of(arm, seed) | np.eye(BLOCKS, dtype=bool)  # a residual connection keeps what a token knew
    return np.linalg.matrix_power(step.astype(int), layers_of(arm)) > 0
