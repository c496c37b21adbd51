"""The project on long documents: the solution reaches every milestone, and what a lazy student hands in reaches none."""

import keras
import numpy as np
import pytest
from keras import ops

import layers
from crosscheck.lesson import projects

pytestmark = [pytest.mark.slow, pytest.mark.further]
task = projects.read(projects.FOLDER / "milestones" / "long_documents.py")
ATTENTION = {"num_heads": 2, "key_dim": 4}


def reader(mix, take=lambda x: x[:, 0]):
    """A function that builds a model whose words are mixed by one layer, and whose answer comes from what `take` takes."""

    def build():
        ids = keras.Input((None,), dtype="int32")
        x = layers.OnDeviceEmbedding(task.VOCABULARY, 8)(ids)
        return keras.Model(ids, keras.layers.Dense(8)(take(mix(x))))

    return build


def all_pairs(x):
    return layers.MultiHeadAttention(**ATTENTION)(x, x)


def table(rule):
    """A function that returns who sees whom by a rule of row, column and the last block."""

    def seen(blocks):
        at = np.arange(blocks)
        return rule(at[:, None], at, blocks - 1)

    return seen


def near(row, column):
    return abs(row - column) <= 1


class Program:
    """What answers as a model does, and has learned nothing."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, ids):
        return np.eye(8)[self.answer(np.asarray(ids))]

    def get_weights(self):
        return []

    def set_weights(self, weights):
        pass


def first_color(ids):
    colored = (ids >= task.FIRST_COLOR) & (ids < task.FIRST_COLOR + 8)
    return ids[np.arange(len(ids)), np.argmax(colored, axis=1)] - task.FIRST_COLOR


def behind_the_mark(ids):
    places = np.minimum(np.argmax(ids == task.MARK, axis=1) + 1, ids.shape[1] - 1)
    return np.clip(ids[np.arange(len(ids)), places] - task.FIRST_COLOR, 0, 7)


WRONG = {
    1: {
        "neighbors alone": table(lambda row, column, last: near(row, column)),
        "no last block": table(lambda row, column, last: near(row, column) | (row * column == 0)),
        "global blocks see but are not seen": table(
            lambda row, column, last: near(row, column) | ((row == 0) | (row == last)) & (column >= 0)
        ),
        "only neighbors before": table(
            lambda row, column, last: (
                (row - column <= 1) & (row >= column) | (row * column == 0) | (row == last) | (column == last)
            )
        ),
        "everything": table(lambda row, column, last: row + column >= 0),
        "for 8 blocks alone": lambda blocks: np.ones((8, 8), bool),
    },
    2: {
        "all pairs": reader(all_pairs),
        "only the first word": reader(lambda x: x),
        "a window": reader(lambda x: keras.layers.Conv1D(8, 5, padding="same")(x)),
        "the first 128 words": reader(lambda x: all_pairs(x[:, :128])),
        "logits for every word": reader(lambda x: x, take=lambda x: x),
        "constant logits": lambda: lambda ids: ops.ones((len(ids), 8)),
    },
    3: {
        "untrained": lambda names: names["build"](),
        "always red": lambda names: Program(lambda ids: 0 * ids[:, 0]),
        "the first color": lambda names: Program(first_color),
        "the number of words before the mark": lambda names: Program(lambda ids: np.argmax(ids == task.MARK, axis=1) % 8),
        "a program that searches": lambda names: Program(behind_the_mark),
    },
    4: {
        "a program that searches": lambda model, ids: behind_the_mark(ids),
        "the first color": lambda model, ids: first_color(ids),
        "the first 128 words": lambda model, ids: np.argmax(np.asarray(model(ids[:, :128])), axis=-1),
        "always red": lambda model, ids: np.zeros(len(ids), int),
        "logits": lambda model, ids: model(ids),
    },
    5: {
        "a program that searches": lambda model, ids: np.argmax(ids == task.MARK, axis=1),
        "the first color": lambda model, ids: np.argmax((ids >= 3) & (ids < 11), axis=1),
        "always the middle": lambda model, ids: np.full(len(ids), 64),
        "the color, not the place": lambda model, ids: np.argmax(np.asarray(model(ids)), axis=-1),
    },
}


@pytest.fixture(scope="module")
def solved(run_solved):
    return run_solved("long_documents")


def test_the_solution_reaches_every_milestone(solved):
    said, _ = solved
    assert [line.split(":")[0].strip() for line in said] == ["reached"] * 5


@pytest.mark.parametrize(("number", "what"), [(number, what) for number, wrong in WRONG.items() for what in wrong])
def test_a_wrong_answer_is_refused(number, what, solved):
    _, names = solved
    wrong = WRONG[number][what]
    mine = (wrong(names),) if number == 3 else (wrong, names["model"]) if number > 3 else (wrong,)
    for seed in range(3 if number == 1 else 1):
        reached, line = projects.verdict(task.MILESTONES[number - 1], *mine, seed=seed)
        assert not reached and line and "it stopped with" not in line, line


def test_an_array_for_each_pair_of_words_is_seen():
    reached, line = projects.verdict(task.MILESTONES[1], reader(all_pairs), seed=0)
    assert not reached and line.endswith("should be 2 times as large, not 4.00 times")


def test_documents_are_as_the_statement_says(rng):
    ids, answers = task.documents(rng, 200, 40)
    colored = (ids >= task.FIRST_COLOR) & (ids < task.FIRST_COLOR + len(task.COLORS))
    assert (colored.sum(axis=1) == task.NOTES).all() and not (colored[:, 1:] & colored[:, :-1]).any()
    assert ((ids == task.MARK).sum(axis=1) == 1).all() and (ids[:, 0] == task.QUESTION).all()
    assert (behind_the_mark(ids) == answers).all()
    assert (first_color(ids) == answers).mean() < 0.4
    assert all(len(set(row[of])) == task.NOTES for row, of in zip(ids, colored))
