"""What is run: vocabularies are learned from four fifths of a novel and read the last one; words are cut; pieces are pruned."""

import re
from collections import Counter
from functools import cache

import numpy as np

from crosscheck.models.sentencepiece import read, train
from crosscheck.tree import as_lists
from experiments.common import novel
from layers.sentencepiece_tokenizer import SentencepieceTokenizer
from reference.sentencepiece_tokenizer import log_probability, viterbi
from reference.sentencepiece_tokenizer import training as unigram
from reference.sentencepiece_tokenizer.model import lattice_of
from reference.sentencepiece_tokenizer.normalizer import SPACE

SIZES = (250, 500, 1000, 2000, 4000)
FOLDS = 5
MODELS = {"unigram": "unigram", "merges": "bpe", "characters": "char"}


@cache
def lines():
    """The novel's paragraphs of one line."""
    return [line.strip() for line in novel.TEXT.splitlines() if line.strip()]


def fold(seed):
    """(what is learned from, what is read): every fifth stretch of 100 lines is held out, seed by seed."""
    groups = [lines()[i : i + 100] for i in range(0, len(lines()), 100)]
    seen = [line for i, group in enumerate(groups) if i % FOLDS != seed % FOLDS for line in group]
    return seen, [line for i, group in enumerate(groups) if i % FOLDS == seed % FOLDS for line in group]


def words_of(text):
    """Words and marks of punctuation, each by itself."""
    return re.findall(r"\w+|[^\w\s]", " ".join(text))


@cache
def model_of(kind, size, seed):
    """The bytes of a model, learned from four fifths of the novel."""
    return train(fold(seed)[0], vocab_size=size, model_type=MODELS[kind], hard_vocab_limit=False)


def measure(arm, rate, seed):
    """A vocabulary of each size is learned from four fifths of the novel, and reads the last one.

    Returns:
        Curves over sizes: "ids" for each word or mark, and "unknown", the share of ids; "shortest" and "lost", their ends.
    """
    seen, new = fold(seed)
    words, ids, unknown = words_of(new), [], []
    for size in SIZES:
        if arm == "words":
            known = {word for word, _ in Counter(words_of(seen)).most_common(size)}
            ids.append((size, 1.0))
            unknown.append((size, np.mean([word not in known for word in words])))
        else:
            layer = SentencepieceTokenizer(False, model_serialized_proto=model_of(arm, size, seed))
            found = [i for row in as_lists(layer(np.array(new, object))) for i in row]
            ids.append((size, len(found) / len(words)))
            unknown.append((size, found.count(0) / len(found)))
    return {"ids": ids, "unknown": unknown, "shortest": ids[-1][1], "lost": unknown[-1][1]}


def greedy(text, lattice):
    """The longest piece, again and again."""
    pieces = []
    while text:
        end = max((n for n in range(1, lattice.longest + 1) if text[:n] in lattice.scores), default=1)
        pieces.append(text[:end])
        text = text[end:]
    return pieces


def at_random(text, lattice, rng):
    """One of the pieces that may come next, again and again."""
    pieces = []
    while text:
        end = rng.choice([n for n in range(1, lattice.longest + 1) if text[:n] in lattice.scores] or [1])
        pieces.append(text[:end])
        text = text[end:]
    return pieces


def search(arm, rate, seed):
    """Each different word of the held-out fifth is cut with a unigram model of 2,000 pieces, learned from the rest.

    Returns:
        "nats" of a word on average, −log P; "pieces" of a word; "other", the share of words that Viterbi cuts otherwise.
    """
    lattice, rng = lattice_of(read(model_of("unigram", 2000, seed))), np.random.default_rng(seed)
    words = sorted({SPACE + word for word in words_of(fold(seed)[1])})
    best = [viterbi(word, lattice) for word in words]
    if arm == "Viterbi":
        cuts = best
    else:
        cuts = [greedy(word, lattice) if arm == "greedy" else at_random(word, lattice, rng) for word in words]
    nats = -np.mean([log_probability(tuple(cut), lattice) for cut in cuts])
    other = np.mean([cut != found for cut, found in zip(cuts, best)])
    return {"nats": nats, "pieces": np.mean([len(cut) for cut in cuts]), "other": other}


COMMON, LONGEST, KEPT = 120, 6, (80, 120, 160, 200)


def common_words(seed):
    """The commonest words of a fifth of the novel, in lower case, and how often each of them occurs."""
    counts = Counter(SPACE + word.lower() for word in words_of(fold(seed)[1]) if word.isalpha())
    return dict(counts.most_common(COMMON))


def climb(arm, rate, seed, steps=8):
    """Expectation maximization without pruning. Returns "L": its curve for each word; "first": the first step's share."""
    words = common_words(seed)
    p = unigram.seed_pieces(words, LONGEST)
    if arm == "all alike":
        p = dict.fromkeys(p, 1 / len(p))
    curve = []
    for step in range(steps + 1):
        curve.append((step, unigram.log_likelihood(words, p) / sum(words.values())))
        p = unigram.em_step(words, p)
    levels = [level for _, level in curve]
    share = (levels[1] - levels[0]) / (levels[-1] - levels[0])
    return {"L": curve, "first": share, "least rise": min(np.diff(levels)), "end": levels[-1]}


def prune(arm, rate, seed):
    """The training of small unigram models, whose pieces are pruned in one way or another.

    Returns {"L": a curve over sizes, for each word; "end": at the second size}.
    """
    words, curve = common_words(seed), []
    for kept in KEPT:
        rng, p = np.random.default_rng(seed), unigram.seed_pieces(words, LONGEST)
        while True:
            for _ in range(2):
                p = unigram.em_step(words, p)
            if len(p) <= kept:
                break
            worth = p if arm == "by probability" else dict(zip(p, rng.random(len(p))))
            worth = unigram.losses(words, p) if arm == "by loss" else worth
            order = sorted((piece for piece in p if len(piece) > 1), key=worth.get)
            doomed = set(order[: len(p) - max(kept, int(0.8 * len(p)))])
            p = unigram.normalized({piece: max(value, unigram.LEAST) for piece, value in p.items() if piece not in doomed})
        curve.append((kept, unigram.log_likelihood(words, p) / sum(words.values())))
    return {"L": curve, "end": curve[1][1]}
