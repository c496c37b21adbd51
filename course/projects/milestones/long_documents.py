"""What the milestones of the project on long documents ask."""

import re
from collections import Counter

import keras
import numpy as np

from crosscheck.lesson.projects import Milestone, ask, demand, expect, halfway, numbers, shuffled_weights
from experiments.common import novel

COLORS = ("red", "blue", "green", "yellow", "white", "black", "brown", "gray")
OTHER, QUESTION, MARK = range(3)
FIRST_COLOR = 3
SHORT, LONG = 128, 1024
"""Words in a document to learn from, and in one to read."""

NOTES = 4
"""Colors in a document. One of them stands behind the mark."""


def read_novel():
    """The ids of the novel's words, and the words that have an id of their own: the 500 most frequent ones, and ours."""
    words = [word for word in re.findall(r"[a-z]+", novel.TEXT.lower()) if word not in COLORS]
    known = ["(other)", "(question)", "password", *COLORS]
    known += [word for word, _ in Counter(words).most_common(500) if word not in known]
    ids = {word: i for i, word in enumerate(known)}
    return np.array([ids.get(word, OTHER) for word in words], "int32"), known


STORY, WORDS = read_novel()
STORY = np.where(STORY == MARK, OTHER, STORY).astype("int32")
VOCABULARY = len(WORDS)


def documents(rng, count, length=SHORT):
    """Passages of the novel, `(count, length)`, and for each the number of the color behind the mark.

    The first id is that of the question. Into the passage, four different colors are put, at random places, each with a word
    before it: for one color that is the mark, "password", and for the others it is whatever the novel has there.
    """
    starts = rng.integers(0, len(STORY) - length, count)
    ids = STORY[np.add.outer(starts, np.arange(length))]
    ids[:, 0] = QUESTION
    places = 2 + 2 * np.argsort(rng.random((count, length // 2 - 1)), axis=1)[:, :NOTES]  # no two side by side
    colors = np.argsort(rng.random((count, len(COLORS))), axis=1)[:, :NOTES]
    np.put_along_axis(ids, places, FIRST_COLOR + colors.astype("int32"), axis=1)
    ids[np.arange(count), places[:, 0] - 1] = MARK
    return ids, colors[:, 0].astype("int32")


def judge_seen(rng, seen):
    for blocks, name in ((8, "8 blocks"), (rng.integers(5, 12), "a document"), (3, "3 blocks"), (1, "a single block")):
        found = numbers(ask(seen, blocks))
        expected = np.array([[is_seen(row, column, blocks - 1) for column in range(blocks)] for row in range(blocks)])
        expect(found.astype("bool") if found.dtype.kind in "iuf" else found, expected, name)


def is_seen(row, column, last):
    return min(row, column) == 0 or max(row, column) == last or -1 <= row - column <= 1


def judge_build(rng, build):
    model = ask(build)
    ids, _ = documents(rng, 2, 256)
    logits = numbers(model(ids))
    demand(logits.shape == (2, len(COLORS)), f"for 2 documents: the logits should be {(2, len(COLORS))}, not {logits.shape}")
    for place in (1, rng.integers(2, 254), 255):
        other = ids.copy()
        other[:, place] = (other[:, place] + 1 + rng.integers(0, VOCABULARY - 1)) % VOCABULARY
        moved = np.abs(numbers(model(other)) - logits).max() / np.abs(logits).max()
        demand(moved > 1e-7, f"the answer should depend on every word; it does not on that at {place} of 256")
    sizes = [largest_array(model, length) for length in (2048, 4096)]
    grown = sizes[1] / sizes[0]
    demand(grown < 3, f"with twice as many words, the largest array should be 2 times as large, not {grown:.2f} times")
    return f"with twice as many words, the largest array is {grown:.2f} times as large; one of all pairs would be 4 times"


def largest_array(model, length):
    """How many numbers the largest array has that the model computes for one document."""
    if keras.backend.backend() == "jax":
        import jax

        return largest_of_equations(jax.make_jaxpr(model)(np.ones((1, length), "int32")).jaxpr)
    import tensorflow as tf

    graph = tf.function(model, autograph=False).get_concrete_function(tf.TensorSpec((1, length), "int32")).graph
    shapes = [tensor.shape for operation in graph.get_operations() for tensor in operation.outputs]
    return max(shape.num_elements() for shape in shapes if shape.is_fully_defined())


def largest_of_equations(program):
    """The same for a program of JAX and the programs within it."""
    own = [int(np.prod(variable.aval.shape)) for equation in program.eqns for variable in equation.outvars]
    inner = [value.jaxpr for equation in program.eqns for value in equation.params.values() if hasattr(value, "jaxpr")]
    return max([*own, *map(largest_of_equations, inner)], default=0)


def judge_model(rng, model):
    """Guessing is one of the colors that stand in the document."""
    return judge_reading(rng, model, lambda model, ids: np.argmax(numbers(model(ids)), axis=-1), SHORT)


def judge_read(rng, read, model):
    return judge_reading(rng, model, read, LONG)


def judge_reading(rng, model, read, length):
    ids, answers = documents(rng, 200, length)
    said = halfway(share_right(read, model, ids, answers), 1 / NOTES, f"right answers from documents of {length} words")
    with shuffled_weights(model, rng):
        without = share_right(read, model, ids, answers)
    demand(without < (1 + 1 / NOTES) / 2, f"with shuffled weights, {without:.3f} are right too: it is not learned")
    return said


def share_right(read, model, ids, answers):
    """Some documents at a time, because a reader may keep what it computes for each word until it is done."""
    right = 0
    for some, expected in zip(np.split(ids, 4), np.split(answers, 4)):
        found = numbers(ask(read, model, some))
        demand(
            found.shape == expected.shape, f"for {len(some)} documents: the shape should be {expected.shape}, not {found.shape}"
        )
        right += (found == expected).sum()
    return right / len(answers)


def judge_where(rng, where, model):
    ids, _ = documents(rng, 20)
    places = np.argmax(ids == MARK, axis=1)
    found = numbers(ask(where, model, ids))
    demand(found.shape == (20,), f"for 20 documents: the shape should be (20,), not {found.shape}")
    share = (np.abs(found - places - 0.5) < 1).mean()
    said = halfway(share, 1 / NOTES, "documents in which the place is that of the password or of its color")
    with shuffled_weights(model, rng):
        blind = numbers(ask(where, model, ids))
    share = (np.abs(blind - places - 0.5) < 1).mean()
    demand(share < (1 + 1 / NOTES) / 2, f"with shuffled weights, {share:.3f} are found too: it is not the model that reads there")
    return said


MILESTONES = (
    Milestone("seen", judge_seen),
    Milestone("build", judge_build),
    Milestone("model", judge_model),
    Milestone("read", judge_read),
    Milestone("where", judge_where),
)
