"""What the milestones of the project on an assistant ask."""

from functools import cache
from itertools import product
from math import inf

import numpy as np

from crosscheck.lesson.projects import Milestone, ask, demand, expect, halfway, numbers

FRAMES = {
    "weather": ("will it {} {}?", "do you think it will {} {}?", "should I expect it to {} {}?", "is it going to {} {}?"),
    "music": ("play {} {}.", "put on {} {}, please.", "I want to hear {} {}.", "could you start {} {}?"),
    "alarm": ("wake me {} {}.", "set an alarm {} {}.", "remind me to get up {} {}.", "can you ring a bell {} {}?"),
    "recipe": ("how do I cook {} {}?", "what goes into {} {}?", "tell me how to make {} {}.", "I need a recipe for {} {}."),
    "translation": ("how do you say {} in {}?", "translate {} into {}.", "what is {} in {}?", "what would {} be in {}?"),
    "money": ("how much is {} {}?", "what does {} cost {}?", "convert {} {}.", "tell me the value of {} {}."),
    "travel": ("book a {} to {}.", "I need a {} to {}.", "find me a cheap {} to {}.", "when is the next {} to {}?"),
    "health": ("my {} hurts {}, what helps?", "help me with a sore {} {}.", "why does my {} ache {}?", "who treats a {} {}?"),
}
WORDS = {
    "weather": (("rain", "snow", "freeze"), ("today", "on Friday", "in Paris")),
    "music": (("some jazz", "a piano song", "a loud rock album"), ("in the kitchen", "for the party", "quietly")),
    "alarm": (("at six", "at half past seven", "before sunrise"), ("tomorrow", "on weekdays", "this time")),
    "recipe": (("soup", "rice", "bread"), ("with tomatoes", "without salt", "for four people")),
    "translation": (("good morning", "thank you", "my friend"), ("French", "Japanese", "Spanish")),
    "money": (("a dollar", "ten pounds", "a thousand yen"), ("in euros", "at today's rate", "in Swiss francs")),
    "travel": (("train", "flight", "bus"), ("Berlin", "the airport", "London")),
    "health": (("knee", "head", "back"), ("at night", "after running", "since Monday")),
}
KINDS = tuple(FRAMES)
QUESTIONS = [
    (frame.format(*words), kind, number)
    for kind in KINDS
    for number, frame in enumerate(FRAMES[kind])
    for words in product(*WORDS[kind])
]
"""Each question, its kind, and which of the four ways to ask it is."""

TEXTS = [text for text, _, _ in QUESTIONS]
KIND = np.array([KINDS.index(kind) for _, kind, _ in QUESTIONS])
FRAME = np.array([number for _, _, number in QUESTIONS])
KNOWN = 6
"""Kinds that an assistant learns; the other two are unknown to it."""

REFUSED = 0.1
"""The share of questions of known kinds that it may refuse."""

PAIRS = (
    *("How do I bake bread at home?", "What is the recipe for a homemade loaf?"),
    *("It will rain all weekend.", "Expect wet weather on Saturday and Sunday."),
    *("My laptop will not start.", "The computer refuses to boot."),
    *("The match ended in a draw.", "Neither team managed to win the game."),
)


def judge_vectors(rng, vectors):
    texts = [PAIRS[place] for place in rng.permutation(len(PAIRS)).tolist()]
    found = numbers(ask(vectors, texts))
    demand(found.ndim == 2 and len(found) == len(texts), f"for 8 texts: the shape should be (8, m), not {found.shape}")
    lengths = np.linalg.norm(found, axis=1)
    demand(
        np.allclose(lengths, 1, atol=1e-3), f"every vector should have length 1, not {lengths.min():.3f} to {lengths.max():.3f}"
    )
    shortest = min(texts, key=len)
    alone = numbers(ask(vectors, [shortest]))[0]
    moved = np.abs(alone - found[texts.index(shortest)]).max()
    demand(moved < 1e-3, f"a vector should not depend on the other texts; with and without them it differs by {moved:.3f}")
    nearest = np.argmax(found @ found.T - 2 * np.eye(len(texts)), axis=1)
    right = np.mean([PAIRS.index(texts[n]) == PAIRS.index(text) ^ 1 for text, n in zip(texts, nearest)])
    return halfway(right, 1 / 7, "sentences whose nearest one says the same in other words")


def judge_area(rng, area):
    drawn = [(rng.normal(size=a), rng.normal(size=b) + 0.5, "random numbers") for a, b in ((5, 8), (20, 3))]
    cases = [
        *drawn,
        (rng.integers(0, 3, 12), rng.integers(0, 4, 9), "whole numbers, many of them equal"),
        (np.zeros(3), np.zeros(4), "numbers that are all equal"),
        (np.array([1.0]), np.array([2.0]), "one number each"),
        (np.arange(3.0) + 5, np.arange(3.0), "unknown questions that all have less doubt"),
    ]
    for known, unknown, name in cases:
        won = sum((u > k) + (u == k) / 2 for k, u in product(known.tolist(), unknown.tolist()))
        expect(float(ask(area, known, unknown)), won / (len(known) * len(unknown)), name)


def judge_threshold(rng, threshold):
    for count, share in ((20, 0.11), (7, 0.33), (rng.integers(30, 60), 0.07), (1, 0.6)):
        doubts = rng.permutation(rng.normal(size=count))
        best = next(d for place, d in enumerate(sorted(doubts.tolist()), 1) if count + 1 - place <= share * (count + 1))
        expect(float(ask(threshold, doubts, share)), best, f"{count} doubts and a share of {share}")
    for doubts, share, name in ((rng.normal(size=5), 0.1, "5 doubts and a share of 0.1"), (np.zeros(0), 0.5, "no doubts")):
        expect(float(ask(threshold, doubts, share)), inf, name)


@cache
def encoded(vectors):
    """The vectors of all questions, in float32."""
    return numbers(ask(vectors, list(TEXTS))).astype("float32")


def split(rng):
    """Two unknown kinds; the labels of the others, in a new order; rows to learn from, and rows of a new way to ask."""
    known = rng.permutation(len(KINDS))[:KNOWN]
    labels = np.full(len(KINDS), -1)
    labels[known] = np.arange(KNOWN)
    new_way = FRAME == rng.integers(0, 4)
    is_known = np.isin(KIND, known)
    return labels[KIND], np.flatnonzero(is_known & ~new_way), np.flatnonzero(is_known & new_way), np.flatnonzero(~is_known)


def judge_classify(rng, classify, vectors):
    x = encoded(vectors)
    labels, seen, new, _ = split(rng)
    probabilities = answers(ask(classify, x[seen], labels[seen]), x[new], (KNOWN,))
    total = probabilities.sum(axis=1)
    fine = np.allclose(total, 1, atol=1e-3) and (probabilities >= 0).all()
    demand(fine, f"the probabilities of a question should be at least 0 and sum to 1; those of the first sum to {total[0]:.3f}")
    right = (probabilities.argmax(axis=1) == labels[new]).mean()
    return halfway(right, 1 / KNOWN, "right answers to questions that are asked in a new way")


def answers(function, x, shape=()):
    """What a function that has learned says of some vectors: an array of this shape for each."""
    found = numbers(ask(function, x))
    expected = (len(x), *shape)
    demand(found.shape == expected, f"for {len(x)} vectors: the shape should be {expected}, not {found.shape}")
    return found


def judge_doubt(rng, doubt, vectors):
    x = encoded(vectors)
    labels, seen, new, unknown = split(rng)
    doubted = ask(doubt, x[seen], labels[seen])
    known = answers(doubted, x[new])
    nowhere = rng.normal(size=(100, x.shape[1])).astype("float32")
    others = {
        "questions of unknown kinds": x[unknown],
        "random vectors of length 1": nowhere / np.linalg.norm(nowhere, axis=1, keepdims=True),
        "vectors five times as long": 5 * x[new],
    }
    said = [halfway(won(known, answers(doubted, far)), 0.5, f"more doubt about {what}") for what, far in others.items()]
    return said[0]


def won(known, unknown):
    """How often a doubt about the unknown is the greater one, ties being halves."""
    return (np.sign(unknown[:, None] - known) / 2 + 0.5).mean()


def judge_assistant(rng, assistant, vectors):
    labels, *_, unknown = split(rng)
    known = rng.permutation(np.flatnonzero(labels >= 0))
    new, seen = known[:60], known[60:]
    names = [f"desk {number}" for number in rng.choice(100, KNOWN, replace=False).tolist()]
    reply = ask(assistant, [TEXTS[i] for i in seen], [names[label] for label in labels[seen].tolist()])
    said = {what: list(ask(reply, [TEXTS[i] for i in rows])) for what, rows in (("known", new), ("unknown", unknown))}
    for what, rows in (("known", new), ("unknown", unknown)):
        demand(len(said[what]) == len(rows), f"there should be {len(rows)} replies, not {len(said[what])}")
    replied = [(reply, names[label]) for reply, label in zip(said["known"], labels[new].tolist()) if reply is not None]
    refused = 1 - len(replied) / len(new)
    most = REFUSED + 3 * np.sqrt(REFUSED * (1 - REFUSED) * (1 / len(new) + 1 / 30))
    came = f"of new questions of known kinds, {refused:.3f} are refused"
    demand(refused <= most, f"{came}; the milestone is {REFUSED} and three standard errors, {most:.3f}")
    right = halfway(np.mean([reply == name for reply, name in replied]), 1 / KNOWN, "right replies, where there is one")
    silent = np.mean([reply is None for reply in said["unknown"]])
    return halfway(silent, REFUSED, "questions of unknown kinds that are refused") + f". {right}"


MILESTONES = (
    Milestone("vectors", judge_vectors),
    Milestone("area", judge_area),
    Milestone("classify", judge_classify),
    Milestone("doubt", judge_doubt),
    Milestone("threshold", judge_threshold),
    Milestone("assistant", judge_assistant),
)
