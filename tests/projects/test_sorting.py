"""The project on sorting: the solution reaches every milestone, and what a lazy student hands in reaches none."""

import math

import keras
import numpy as np
import pytest

import layers
from crosscheck.lesson import projects

pytestmark = pytest.mark.slow
task = projects.read(projects.FOLDER / "milestones" / "sorting.py")
one_hot = np.eye(task.VOCABULARY)


class Program:
    """What answers as a model does, and has learned nothing."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, ids):
        return one_hot[self.answer(np.asarray(ids))]

    def get_weights(self):
        return []

    def set_weights(self, weights):
        pass


def ordered(x):
    return np.sort(x, axis=1)


def laid_out(x, order=ordered, weights=None, separator=task.SEPARATOR):
    whole = np.concatenate([x, np.full((len(x), 1), separator), order(x)], axis=1)
    return (
        whole[:, :-1],
        whole[:, 1:],
        np.tile(np.arange(2 * x.shape[1]) >= x.shape[1], (len(x), 1)) if weights is None else weights,
    )


def stack(attention):
    """A function that builds a model whose tokens attend as `attention` says."""

    def build():
        ids = keras.Input((None,), dtype="int32")
        x = layers.OnDeviceEmbedding(task.VOCABULARY, 8)(ids)
        return keras.Model(ids, keras.layers.Dense(task.VOCABULARY)(attention(x)))

    return build


def attended(x):
    return x + layers.MultiHeadAttention(2, 4)(x, x)


def sorted_by_a_program(ids):
    """The right number at every place, whatever was written before."""
    found = np.zeros_like(ids)
    found[:, task.LENGTH :] = ordered(ids[:, : task.LENGTH])[:, : ids.shape[1] - task.LENGTH]
    return found


def teacher_forced(model, x):
    """What the model says if it is shown the right numbers."""
    return np.argmax(np.asarray(model(laid_out(x)[0])), axis=-1)[:, x.shape[1] :]


def drawn(length, numbers):
    lists = np.random.default_rng(0).integers(0, numbers, (10_000, length))
    return (np.diff(lists, axis=1) >= 0).all(axis=1).mean()


WRONG = {
    1: {
        "every place counts": lambda x: laid_out(x, weights=np.ones((len(x), 2 * x.shape[1]))),
        "the separator counts": lambda x: laid_out(x, weights=np.tile(np.arange(2 * x.shape[1]) >= x.shape[1] - 1, (len(x), 1))),
        "falling order": lambda x: laid_out(x, order=lambda x: -ordered(-x)),
        "the list twice": lambda x: laid_out(x, order=lambda x: x),
        "always 0 to 7": lambda x: laid_out(x, order=lambda x: np.tile(np.arange(x.shape[1]), (len(x), 1))),
        "sorts all lists together": lambda x: laid_out(x, order=lambda x: np.sort(x, axis=None).reshape(x.shape)),
        "0 separates": lambda x: laid_out(x, separator=0),
        "targets are the inputs": lambda x: (laid_out(x)[0], *laid_out(x)[::2]),
        "for lists of 8 alone": lambda x: (*laid_out(x)[:2], np.tile(np.arange(16) >= 8, (len(x), 1))),
        "no weights": lambda x: laid_out(x)[:2],
    },
    2: {
        "as if no number came twice": lambda length, numbers: 1 / math.factorial(length),
        "one list of all": lambda length, numbers: 1 / numbers**length,
        "rising lists alone": lambda length, numbers: math.comb(numbers, length) / numbers**length,
        "counted on random lists": drawn,
        "each pair for itself": lambda length, numbers: ((numbers + 1) / (2 * numbers)) ** (length - 1),
        "zero": lambda length, numbers: 0.0,
    },
    3: {
        "no causal mask": stack(attended),
        "no attention": stack(lambda x: x),
        "sees later tokens by their mean": stack(lambda x: x + keras.ops.mean(x, axis=1, keepdims=True)),
        "a logit too few": lambda: lambda ids: np.zeros((*ids.shape, 10)),
        "constant logits": lambda: lambda ids: np.ones((*ids.shape, 11)),
        "logits for the last place alone": lambda: lambda ids: np.ones((len(ids), 11)),
    },
    4: {
        "untrained": lambda s: s["build"](),
        "always 5": lambda s: Program(lambda ids: 0 * ids + 5),
        "repeats what it wrote": lambda s: Program(lambda ids: ids),
        "the list itself": lambda s: Program(lambda ids: np.roll(ids, task.LENGTH, axis=1)),
        "peeks at the next number": lambda s: Program(lambda ids: np.concatenate([ids[:, 1:], ids[:, :1]], axis=1)),
        "a program that sorts": lambda s: Program(sorted_by_a_program),
        "no model": lambda s: 0.99,
    },
    5: {
        "a program that sorts": lambda model, x: ordered(x),
        "the list itself": lambda model, x: x,
        "always 0 to 7": lambda model, x: np.tile(np.arange(x.shape[1]), (len(x), 1)),
        "is shown the right numbers": teacher_forced,
        "falling order": lambda model, x: -ordered(-x),
        "one number": lambda model, x: x[:, :1],
        "for 200 lists alone": lambda model, x: ordered(x) if len(x) == 200 else ordered(np.zeros((200, 8))),
    },
}


@pytest.fixture(scope="module")
def solved(run_solved):
    return run_solved("sorting")


def test_the_solution_reaches_every_milestone(solved):
    said, _ = solved
    assert [line.split(":")[0].strip() for line in said] == ["reached"] * 5


@pytest.mark.parametrize(("number", "what"), [(number, what) for number, wrong in WRONG.items() for what in wrong])
def test_a_wrong_answer_is_refused(number, what, solved):
    _, names = solved
    wrong = WRONG[number][what]
    mine = {4: lambda: (wrong(names),), 5: lambda: (wrong, names["model"])}.get(number, lambda: (wrong,))()
    for seed in range(3 if number < 4 else 1):
        reached, line = projects.verdict(task.MILESTONES[number - 1], *mine, seed=seed)
        assert not reached and line, line


def test_a_program_that_sorts_is_told_from_a_model_by_its_weights():
    reached, line = projects.verdict(task.MILESTONES[3], Program(sorted_by_a_program), seed=0)
    assert not reached and line.startswith("with shuffled weights, 1.000 are right too")


def test_the_best_guess_without_the_list_is_what_a_model_without_it_gets(rng):
    """The bound of milestone 4, computed here in another way: from the distribution of order statistics, for two numbers."""
    found = task.share_without_the_list(rng, count=20_000)
    assert 0.4 < found < 0.5
    most_frequent_first = max((1 - k / 10) ** 8 - (1 - (k + 1) / 10) ** 8 for k in range(10))
    assert found > most_frequent_first / 8
