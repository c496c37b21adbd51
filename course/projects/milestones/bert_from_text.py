"""What the milestones of the project on BERT ask."""

import numpy as np

from crosscheck.lesson.projects import Milestone, ask, demand, expect, halfway, numbers, shuffled_weights
from reference.bert_tokenizer import split_words, wordpieces

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LENGTH = 14
"""Pieces in a row."""

MOST_PIECES = 300
THINGS = ("film", "book", "song", "play", "lamp", "chair", "soup", "train")
ADJECTIVES = (
    *("dax", "blick", "fep", "toma", "wug", "zib", "larn", "mip", "gorp", "sefa", "kiv", "nool"),
    *("rusk", "tavi", "pell", "yim", "brox", "hoon", "quen", "dref", "lutt", "vash", "snig", "jolo"),
)
VERBS = ("returned", "kept")
TAUGHT = 8
"""Adjectives that occur in sentences with a label."""


class World:
    """Speakers of a language who write reviews. Which of its adjectives are praise is drawn with the world."""

    def __init__(self, rng):
        self.praise = dict(zip(rng.permutation(ADJECTIVES).tolist(), np.arange(len(ADJECTIVES)) % 2))

    def reviews(self, rng, count, adjectives=ADJECTIVES):
        """Texts of two sentences each: "The soup was dax and wug. They kept it.", if these adjectives are praise."""
        return [f"{first} {self.rest(rng, verdict)}" for first, verdict in self.openings(rng, count, adjectives)]

    def openings(self, rng, count, adjectives=ADJECTIVES):
        """First sentences of reviews, each with 1 if it is praise, and 0 if it is blame."""
        found = []
        for _ in range(count):
            verdict = rng.integers(0, 2)
            fitting = [word for word in adjectives if self.praise[word] == verdict]
            said = " and ".join(rng.permutation(fitting)[: rng.integers(1, 3)].tolist())
            start = f"The {THINGS[rng.integers(0, len(THINGS))]} {('is', 'was', 'seemed')[rng.integers(0, 3)]}"
            found.append((f"{start} {said}{'.!'[rng.integers(0, 2)]}", verdict))
        return found

    def rest(self, rng, verdict):
        return f"{('I', 'We', 'They')[rng.integers(0, 3)]} {VERBS[verdict]} it{'.!'[rng.integers(0, 2)]}"


def judge_pieces(rng, pieces):
    world = World(rng)
    texts = [*world.reviews(rng, 400), "Ωmega Ωmega was zib."]
    found = ask(pieces, texts)
    demand(isinstance(found, list | tuple), f"it should return a list of pieces, not a {type(found).__name__}")
    found = list(found)
    expect(found[: len(SPECIAL)], SPECIAL, "the first pieces")
    demand(len(set(found)) == len(found), f"{len(found) - len(set(found))} pieces come twice")
    demand(len(found) <= MOST_PIECES, f"there should be at most {MOST_PIECES} pieces, not {len(found)}")
    whole = {word for text in world.reviews(rng, 100) for word in split_words(text, lower_case=True)}
    for word in (*sorted(whole), "\u03c9mega"):
        cut = wordpieces(word, {piece: i for i, piece in enumerate(found)})
        demand("[UNK]" not in cut, f"every word of the texts should have pieces; {word!r} has none")
        demand(
            word not in whole or len(cut) == 1, f"every frequent word should be a piece of its own; {word!r} is cut into {cut}"
        )
    return f"{len(found)} pieces"


def judge_packed(rng, packed):
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = [*SPECIAL, ".", "!", *letters, *(f"##{letter}" for letter in letters), *rng.permutation(ADJECTIVES).tolist()[:9]]
    texts = [*World(rng).reviews(rng, 6), "Dax!", "", "the end the end the end the end"]
    found = ask(packed, vocabulary, texts)
    names = ("input_word_ids", "input_mask", "input_type_ids")
    demand(isinstance(found, dict) and set(found) == set(names), f"it should return a dictionary of {', '.join(names)}")
    known = {piece: i for i, piece in enumerate(vocabulary)}
    for row, text in enumerate(texts):
        inner = [known[piece] for word in split_words(text, lower_case=True) for piece in wordpieces(word, known)]
        ids = [2, *inner[: LENGTH - 2], 3]
        mask = np.arange(LENGTH) < len(ids)
        where = f"the text {text!r}, "
        expect(numbers(found["input_word_ids"])[row], np.array(ids + [0] * (LENGTH - len(ids))), where + "input_word_ids")
        expect(numbers(found["input_mask"])[row], mask.astype(int), where + "input_mask")
        expect(numbers(found["input_type_ids"])[row], np.zeros(LENGTH, int), where + "input_type_ids")


def judge_hide(rng, hide):
    count, size = 500, 60
    ids = rng.integers(len(SPECIAL), size, (count, LENGTH)).astype("int32")
    ids[:, 0] = 2
    for row, end in zip(ids, rng.integers(4, LENGTH, count)):
        row[end:] = 3, *[0] * (LENGTH - end - 1)
    vocabulary = [*SPECIAL, *map(str, range(size - len(SPECIAL)))]
    found, again = ({name: numbers(x) for name, x in ask(hide, ids, vocabulary).items()} for _ in range(2))
    read, places, weights = found["token_ids"], found["mask_positions"], found["mask_weights"] > 0
    demand(read.shape == ids.shape, f"token_ids should be {ids.shape}, not {read.shape}")
    hidden = np.zeros(ids.shape, bool)
    hidden[np.nonzero(weights)[0], places[weights]] = True
    demand((ids[hidden] >= len(SPECIAL)).all(), "[CLS], [SEP] and [PAD] should never be hidden")
    changed = (read != ids) & ~hidden
    demand(not changed.any(), f"{changed.sum()} pieces have changed that nobody has to predict")
    expect(found["mask_ids"][weights], np.take_along_axis(ids, places, axis=1)[weights], "the hidden pieces, mask_ids")
    share = hidden.sum() / (ids >= len(SPECIAL)).sum()
    demand(0.12 < share < 0.22, f"about 0.15 of the pieces should be hidden, and at least one of each row; {share:.3f} are")
    for what, rate, is_so in (("become [MASK]", 0.8, read == 4), ("stay as they are", 0.1, read == ids)):
        came, error = is_so[hidden].mean(), np.sqrt(rate * (1 - rate) / hidden.sum())
        demand(abs(came - rate) < 4 * error + 0.01, f"{rate} of the hidden pieces should {what}; {came:.3f} do")
    demand((again["token_ids"] != read).any(), "other pieces should be hidden in each call; two calls agree")


def judge_model(rng, model, packed, vocabulary, world):
    texts = world.reviews(rng, 300)
    said = halfway(share_of_verbs(model, packed, vocabulary, texts), 1 / 2, "hidden verbs that are told from the other one")
    with shuffled_weights(model, rng):
        without = share_of_verbs(model, packed, vocabulary, texts)
    demand(without < 3 / 4, f"with shuffled weights, {without:.3f} are right too: it is not learned")
    return said


def share_of_verbs(model, packed, vocabulary, texts):
    """How often the right one of the two verbs has the greater logit where the verb is hidden."""
    inputs = {name: numbers(x).copy() for name, x in ask(packed, vocabulary, texts).items()}
    verbs = np.array([list(vocabulary).index(verb) for verb in VERBS])
    ids = inputs["input_word_ids"]
    places = np.argmax(np.isin(ids, verbs), axis=1)[:, None].astype("int32")
    right = np.take_along_axis(ids, places, axis=1) == verbs[1]
    np.put_along_axis(ids, places, SPECIAL.index("[MASK]"), axis=1)
    logits = numbers(model({**inputs, "masked_positions": places}))
    demand(logits.shape[:2] == places.shape, f"the logits should be {(*places.shape, len(vocabulary))}, not {logits.shape}")
    margin = logits[..., verbs[1]] - logits[..., verbs[0]]
    return np.mean(np.where(margin == 0, 1 / 2, (margin > 0) == right))


def judge_classify(rng, classify, model, world):
    by_verdict = [[word for word in rng.permutation(ADJECTIVES).tolist() if world.praise[word] == v] for v in (0, 1)]
    taught = [word for half in by_verdict for word in half[: TAUGHT // 2]]
    other = [word for word in ADJECTIVES if word not in taught]
    flip = rng.integers(0, 2)
    texts, labels = zip(*world.openings(rng, 200, taught))
    new, wanted = zip(*world.openings(rng, 300, other))

    def share():
        predict = ask(classify, model, list(texts), np.array(labels) ^ flip)
        found = numbers(ask(predict, list(new)))
        demand(found.shape == (len(new),), f"for {len(new)} sentences: the shape should be {(len(new),)}, not {found.shape}")
        return (found == np.array(wanted) ^ flip).mean()

    said = halfway(share(), 1 / 2, "right labels of sentences with adjectives that no label has taught")
    with shuffled_weights(model, rng):
        without = share()
    most = 1 / 2 + 3 / 2 / np.sqrt(len(other))
    demand(without < most, f"with shuffled weights, {without:.3f} are right, more than three standard errors above guessing")
    return said


MILESTONES = (
    Milestone("pieces", judge_pieces),
    Milestone("packed", judge_packed),
    Milestone("hide", judge_hide),
    Milestone("model", judge_model),
    Milestone("classify", judge_classify),
)
