"""The project on BERT: the solution reaches every milestone, and what a lazy student hands in reaches none."""

import numpy as np
import pytest

from crosscheck.lesson import projects

pytestmark = [pytest.mark.slow, pytest.mark.further]
task = projects.read(projects.FOLDER / "milestones" / "bert_from_text.py")
LETTERS = [letter for code in range(97, 123) for letter in (chr(code), f"##{chr(code)}")]


class Program:
    """What answers as a model does, and has learned nothing."""

    def __init__(self, logits):
        self.logits = logits

    def __call__(self, inputs):
        return self.logits(inputs)

    def get_weights(self):
        return []

    def set_weights(self, weights):
        pass


def changed(function, **changes):
    """A function whose result, a dictionary, has some entries changed."""

    def wrong(*arguments):
        found = function(*arguments)
        return found | {name: change(found) for name, change in changes.items()}

    return wrong


def known_words(texts):
    return [
        *task.SPECIAL,
        *sorted({word for text in texts for word in task.split_words(text, lower_case=True) if word.isascii()}),
    ]


def short(packed, length):
    return lambda *arguments: {name: x[:, :length] for name, x in packed(*arguments).items()}


def without_end(packed):
    return changed(packed, input_word_ids=lambda found: np.where(found["input_word_ids"] == 3, 0, found["input_word_ids"]))


def all_hidden(ids, vocabulary):
    places = np.tile(np.arange(ids.shape[1]), (len(ids), 1))
    fine = (ids > 4) * 1.0
    return {"token_ids": np.where(ids > 4, 4, ids), "mask_positions": places, "mask_ids": ids, "mask_weights": fine}


def same_each_time(hide):
    kept = {}
    return lambda ids, vocabulary: kept.setdefault(ids.tobytes(), hide(ids, vocabulary))


def always_mask(found):
    read = found["token_ids"].copy()
    rows, columns = np.nonzero(found["mask_weights"])
    read[rows, found["mask_positions"][rows, columns]] = 4
    return read


def frequencies(names):
    """The logits of a model that knows how frequent each piece is, and nothing else."""
    counts = np.bincount(names["packed"](names["vocabulary"], names["texts"])["input_word_ids"].ravel(), minlength=300) + 1
    return Program(lambda inputs: np.tile(np.log(counts[: len(names["vocabulary"])]), (len(inputs["input_mask"]), 1, 1)))


def by_length(names):
    """Praise if the row is long."""
    n = len(names["vocabulary"])
    kept = names["vocabulary"].index("kept")
    return Program(lambda inputs: (inputs["input_mask"].sum(axis=1) % 2)[:, None, None] * np.eye(n)[kept][None, None])


def most_frequent(model, texts, labels):
    return lambda texts: np.full(len(texts), np.bincount(labels).argmax())


def by_shared_words(model, texts, labels):
    """The label of the sentence that shares most words."""
    known = [set(text.lower().strip(".!").split()) for text in texts]
    return lambda texts: np.array(
        [labels[np.argmax([len(own & set(text.lower().strip(".!").split())) for own in known])] for text in texts]
    )


def from_the_world(names):
    """Looks up what is praise, and finds out from the labels which label means it."""

    def classify(model, texts, labels):
        def praised(texts):
            return np.array([any(names["world"].praise.get(word.strip(".!")) for word in text.split()) for text in texts], int)

        agree = (praised(texts) == labels).mean() > 0.5
        return lambda texts: praised(texts) ^ (not agree)

    return classify


WRONG = {
    1: {
        "letters": lambda names: lambda texts: [*task.SPECIAL, *LETTERS, ".", "!", "ω", "##ω"],
        "the words of the reviews alone": lambda names: known_words,
        "special pieces at the end": lambda names: lambda texts: names["pieces"](texts)[::-1],
        "60 pieces": lambda names: lambda texts: names["pieces"](texts)[:60],
        "each piece twice": lambda names: lambda texts: names["pieces"](texts) * 2,
        "those of other texts": lambda names: lambda texts: names["vocabulary"],
    },
    2: {
        "without [SEP]": lambda names: without_end(names["packed"]),
        "everything is a token": lambda names: changed(names["packed"], input_mask=lambda f: np.ones_like(f["input_mask"])),
        "[CLS] counts as padding": lambda names: changed(names["packed"], input_mask=lambda f: (f["input_word_ids"] > 2) * 1),
        "types of a second segment": lambda names: changed(names["packed"], input_type_ids=lambda f: f["input_mask"]),
        "shorter rows": lambda names: short(names["packed"], 10),
        "ids alone": lambda names: lambda *given: names["packed"](*given)["input_word_ids"],
    },
    3: {
        "everything": lambda names: all_hidden,
        "always [MASK]": lambda names: changed(names["hide"], token_ids=always_mask),
        "the same each time": lambda names: same_each_time(names["hide"]),
        "says where and not what": lambda names: changed(names["hide"], mask_ids=lambda found: 0 * found["mask_ids"]),
        "special pieces too": lambda names: lambda ids, vocabulary: names["hide"](np.where(ids < 5, 7, ids), vocabulary),
        "counts unused places": lambda names: changed(names["hide"], mask_weights=lambda f: np.ones_like(f["mask_weights"])),
        "nothing": lambda names: lambda ids, vocabulary: {**all_hidden(ids, vocabulary), "token_ids": ids},
    },
    4: {
        "untrained": lambda names: names["pretrain"](names["texts"], names["vocabulary"], steps=1),
        "frequencies": frequencies,
        "the length of the row": by_length,
        "all pieces alike": lambda names: Program(
            lambda inputs: np.zeros((len(inputs["input_mask"]), 1, len(names["vocabulary"])))
        ),
    },
    5: {
        "the most frequent label": lambda names: most_frequent,
        "the sentence that shares most words": lambda names: by_shared_words,
        "looks up what is praise": from_the_world,
        "random": lambda names: lambda model, texts, labels: lambda texts: np.random.default_rng(0).integers(0, 2, len(texts)),
        "the other label": lambda names: lambda model, texts, labels: names["classify"](model, texts, 1 - labels),
    },
}


@pytest.fixture(scope="module")
def solved(run_solved):
    return run_solved("bert_from_text")


def handed_in(number, mine, names):
    rest = {4: (names["packed"], names["vocabulary"], names["world"]), 5: (names["model"], names["world"])}
    return (mine, *rest.get(number, ()))


def test_the_solution_reaches_every_milestone(solved):
    said, _ = solved
    assert [line.split(":")[0].strip() for line in said] == ["reached"] * 5


@pytest.mark.parametrize(("number", "what"), [(number, what) for number, wrong in WRONG.items() for what in wrong])
def test_a_wrong_answer_is_refused(number, what, solved):
    _, names = solved
    mine = handed_in(number, WRONG[number][what](names), names)
    reached, line = projects.verdict(task.MILESTONES[number - 1], *mine, seed=0)
    assert not reached and line and "it stopped with" not in line, line


def test_reviews_are_as_the_statement_says(rng):
    world = task.World(rng)
    assert sum(world.praise.values()) == 12
    for text in world.reviews(rng, 100):
        said = [world.praise[word.strip(".!")] for word in text.split() if word.strip(".!") in world.praise]
        assert 1 <= len(said) <= 2 and {*said} == {int("kept" in text)} and ("kept" in text) != ("returned" in text)
