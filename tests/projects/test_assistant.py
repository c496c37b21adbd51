"""The project on an assistant: the solution reaches every milestone, and what a lazy student hands in reaches none."""

import numpy as np
import pytest

from crosscheck.lesson import projects

pytestmark = [pytest.mark.slow, pytest.mark.further]
task = projects.read(projects.FOLDER / "milestones" / "assistant.py")


def counted(texts):
    """Counts of letters, of length 1."""
    found = np.array([[text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts], float)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def shared_words(texts):
    words = sorted({word for text in texts for word in text.lower().split()})
    found = np.array([[word in text.lower().split() for word in words] for text in texts], float)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def linear(x, labels):
    """The logits of an ordinary classifier: least squares, ten times as large."""
    kernel = np.linalg.lstsq(x, np.eye(6)[labels] - 1 / 6, rcond=1e-2)[0]
    return lambda x: 10 * x @ kernel


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def unsure(x, labels):
    logits = linear(x, labels)
    return lambda x: 1 - softmax(logits(x)).max(axis=1)


def distance(x, labels):
    return lambda others: np.linalg.norm(others[:, None] - x, axis=2).min(axis=1)


def quantile(doubts, share):
    return np.quantile(doubts, 1 - share) if len(doubts) else np.inf


def rank(doubts, share, more=1):
    place = int(np.ceil((len(doubts) + more) * (1 - share)))
    return np.inf if place > len(doubts) else np.sort(doubts)[max(place, 1) - 1]


def always(value):
    """A function that learns nothing, and whose function says the same of everything."""
    return lambda *data: lambda texts: [value] * len(texts)


def told(texts, names):
    """Answers from the kinds that the questions have in the list of all questions."""
    return lambda others: [task.KINDS[task.KIND[task.TEXTS.index(text)]] for text in others]


def memory(refuses):
    """Learns each text by heart. What it has not learned it refuses, or else it says the first name."""

    def assistant(texts, names):
        known = dict(zip(texts, names))
        return lambda others: [known.get(text, None if refuses else names[0]) for text in others]

    return assistant


WRONG = {
    1: {
        "counts letters": lambda names: counted,
        "counts words": lambda names: lambda texts: shared_words([*task.PAIRS, *texts])[len(task.PAIRS) :],
        "one vector for all": lambda names: lambda texts: np.ones((len(texts), 4)) / 2,
        "not of length 1": lambda names: lambda texts: 3 * names["vectors"](texts),
        "depends on the other texts": lambda names: lambda texts: scaled(names["vectors"](texts)),
        "one vector for the list": lambda names: lambda texts: names["vectors"](texts)[0],
        "random": lambda names: lambda texts: scaled(np.random.default_rng(0).normal(size=(len(texts), 384))),
    },
    2: {
        "ties count as nothing": lambda names: lambda known, unknown: (unknown[:, None] > known).mean(),
        "ties count in full": lambda names: lambda known, unknown: (unknown[:, None] >= known).mean(),
        "the other way round": lambda names: lambda known, unknown: names["area"](unknown, known),
        "pairs in their order": lambda names: lambda known, unknown: np.mean([u > k for k, u in zip(known, unknown)]),
        "the means": lambda names: lambda known, unknown: float(unknown.mean() > known.mean()),
        "guessing": lambda names: lambda known, unknown: 0.5,
    },
    3: {
        "always the first desk": lambda names: lambda x, labels: lambda x: np.tile(np.eye(6)[0], (len(x), 1)),
        "all desks alike": lambda names: lambda x, labels: lambda x: np.full((len(x), 6), 1 / 6),
        "logits": lambda names: linear,
        "the number of the desk": lambda names: lambda x, labels: lambda x: linear_best(x, labels, x),
        "labels in another order": lambda names: lambda x, labels: names["classify"](x, np.roll(labels, 27)),
        "reversed labels": lambda names: lambda x, labels: names["classify"](x, 5 - labels),
    },
    4: {
        "one minus the largest probability": lambda names: unsure,
        "no doubt": lambda names: lambda x, labels: lambda x: np.zeros(len(x)),
        "random": lambda names: lambda x, labels: lambda x: np.random.default_rng(0).random(len(x)),
        "certainty": lambda names: lambda x, labels: lambda others: -distance(x, labels)(others),
        "the length of a vector": lambda names: lambda x, labels: lambda x: np.linalg.norm(x, axis=1),
        "a covariance": lambda names: lambda x, labels: lambda x: x @ x.T,
    },
    5: {
        "a quantile between two doubts": lambda names: quantile,
        "the greatest": lambda names: lambda doubts, share: max(doubts, default=np.inf),
        "without the gap of the new one": lambda names: lambda doubts, share: rank(doubts, share, more=0),
        "the share that is kept": lambda names: lambda doubts, share: rank(doubts, 1 - share),
        "refuse nothing": lambda names: lambda doubts, share: np.inf,
    },
    6: {
        "answers everything": lambda names: memory(refuses=False),
        "refuses everything": lambda names: always(None),
        "refuses what it has not read": lambda names: memory(refuses=True),
        "always the same desk": lambda names: always("desk 1"),
        "names of its own": lambda names: told,
        "refuses at random": lambda names: lambda texts, desks: lambda others: [desks[0] if len(t) % 2 else None for t in others],
    },
}


def scaled(x):
    moved = x - x.mean(axis=0) if len(x) > 1 else x
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def linear_best(x, labels, others):
    return np.argmax(others, axis=1) % 6


@pytest.fixture(scope="module")
def solved(run_solved):
    return run_solved("assistant")


def handed_in(number, function, names):
    return (function, names["vectors"]) if number in (3, 4, 6) else (function,)


def test_the_solution_reaches_every_milestone(solved):
    said, _ = solved
    assert [line.split(":")[0].strip() for line in said] == ["reached"] * 6


@pytest.mark.parametrize(("number", "what"), [(number, what) for number, wrong in WRONG.items() for what in wrong])
def test_a_wrong_answer_is_refused(number, what, solved):
    _, names = solved
    mine = handed_in(number, WRONG[number][what](names), names)
    for seed in range(3 if number in (2, 5) else 1):
        reached, line = projects.verdict(task.MILESTONES[number - 1], *mine, seed=seed)
        assert not reached and line and "it stopped with" not in line, line


def test_other_right_answers_are_accepted(solved):
    _, names = solved
    assert projects.verdict(task.MILESTONES[3], *handed_in(4, distance, names), seed=0)[0]
    assert projects.verdict(task.MILESTONES[4], lambda doubts, share: rank(doubts, share), seed=0)[0]
    probabilities = names["classify"]
    accepted = projects.verdict(
        task.MILESTONES[2], *handed_in(3, lambda *data: lambda x: np.asarray(probabilities(*data)(x)), names)
    )
    assert accepted[0]


def test_questions_are_as_the_statement_says():
    assert len(set(task.TEXTS)) == 288 and np.bincount(task.KIND).tolist() == [36] * 8
    assert all(np.bincount(task.FRAME[task.KIND == kind]).tolist() == [9] * 4 for kind in range(8))
