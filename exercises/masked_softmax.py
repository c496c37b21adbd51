"""Exercises of the lesson on the masked softmax."""

import numpy as np

from crosscheck.lesson.arguments import Draw
from crosscheck.lesson.constraints import Memory, SinglePass
from crosscheck.lesson.exercises import Exercise, edge


def softmax(x):
    exp = np.exp(x - x.max())
    return exp / exp.sum()


def log_softmax(x):
    shifted = x - x.max()
    return shifted - np.log(np.exp(shifted).sum())


def vectors(rng):
    s = rng.integers(3, 8)
    return [
        {"x": rng.normal(size=s)},
        {"x": rng.normal(size=s + 5) - 20},
        edge("a single score", x=rng.normal(size=1)),
        edge("two equal scores", x=np.full(2, rng.normal())),
        edge("scores of 1,000", x=np.append(1000 * rng.choice([-1.0, 1.0], size=s), [1000, -1000])),
        edge("scores of -1,000", x=rng.normal(size=s) - 1000),
    ]


def gradient(x, allowed, c):
    p = np.zeros(len(x))
    if allowed.any():
        p[allowed] = softmax(x[allowed])
    return p * (c - p @ c)


def gradient_by_matrix(x, allowed, c):
    p = np.where(allowed, np.exp(x - np.max(x, where=allowed, initial=-np.inf)), 0.0)
    p = p / max(p.sum(), 1e-300)
    return (np.diag(p) - np.outer(p, p)) @ c


def rows_and_weights(rng):
    s = rng.integers(4, 8)
    some = np.arange(s) % 3 > 0
    return [
        {"x": rng.normal(size=s), "allowed": rng.permutation(some), "c": rng.normal(size=s)},
        {"x": rng.normal(size=s + 3), "allowed": rng.permutation(np.arange(s + 3) > 2), "c": 3 * rng.normal(size=s + 3)},
        {"x": rng.normal(size=s), "allowed": np.ones(s, bool), "c": rng.normal(size=s)},
        edge("no position is allowed", x=rng.normal(size=s), allowed=np.zeros(s, bool), c=rng.normal(size=s)),
        edge("one position is allowed", x=rng.normal(size=s), allowed=np.arange(s) == 1, c=rng.normal(size=s)),
        edge(
            "a forbidden score of 1,000",
            x=np.append(rng.normal(size=s), 1000),
            allowed=np.arange(s + 1) < s,
            c=np.arange(s + 1.0),
        ),
        edge("allowed scores of 1,000", x=1000 + rng.normal(size=s), allowed=some, c=rng.normal(size=s)),
    ]


def log_total(pieces):
    peak, total = -np.inf, 0.0
    for piece in pieces:
        if len(piece):
            higher = max(peak, piece.max())
            total = total * np.exp(peak - higher) + np.exp(piece - higher).sum()
            peak = higher
    return peak + np.log(total)


def log_total_pairwise(pieces):
    total = -np.inf
    for piece in pieces:
        total = np.logaddexp(total, np.logaddexp.reduce(piece))
    return total


def arriving_pieces(rng):
    count, size = rng.integers(3, 6), rng.integers(2, 5)
    return [
        {"pieces": rng.normal(size=(count, size))},
        {"pieces": rng.normal(size=(count + 3, size + 1)) + np.arange(count + 3.0)[:, None]},
        edge("the largest score comes first", pieces=-np.sort(-rng.normal(size=(count, 1)), axis=0)),
        edge("one piece of one score", pieces=rng.normal(size=(1, 1))),
        edge("scores of 1,000", pieces=1000 * rng.choice([-1.0, 1.0], size=(count, size))),
        edge("rising from -1,000 to 1,000", pieces=np.linspace(-1000, 1000, 2 * count).reshape(count, 2)),
        edge("falling from 1,000 to -1,000", pieces=np.linspace(1000, -1000, 3).reshape(3, 1)),
        edge("every score is -1,000", pieces=np.full((count, size), -1000.0)),
    ]


EXERCISES = (
    Exercise(
        "log_softmax",
        log_softmax,
        vectors,
        wrong={
            "the logarithm of a finished softmax is -inf for far scores": lambda x: np.log(softmax(x)),
            "without a shift, exponentials overflow": lambda x: x - np.log(np.exp(x).sum()),
            "a constant shift": lambda x: x - 100 - np.log(np.exp(x - 100).sum()),
            "the softmax without a logarithm": softmax,
            "a small number against log 0": lambda x: np.log(softmax(x) + 1e-9),
        },
        right={
            "logaddexp": lambda x: x - np.logaddexp.reduce(x),
            "by a loop": lambda x: [x_i - x.max() - np.log(sum(np.exp(x_j - x.max()) for x_j in x)) for x_i in x],
        },
    ),
    Exercise(
        "gradient",
        gradient,
        rows_and_weights,
        wrong={
            "ignores the mask": lambda x, allowed, c: softmax(x) * (c - softmax(x) @ c),
            "only the diagonal of the Jacobian": lambda x, allowed, c: (p := softmax(np.where(allowed, x, -1e9))) * (1 - p) * c,
            "a large negative number instead of a mask": lambda x, allowed, c: (p := softmax(x - 1e3 * ~allowed)) * (c - p @ c),
            "NaN where nothing is allowed": lambda x, allowed, c: (p := softmax(np.where(allowed, x, -np.inf))) * (c - p @ c),
            "the mask after the softmax": lambda x, allowed, c: (p := softmax(x) * allowed) * (c - p @ c),
        },
        right={"the whole Jacobian": gradient_by_matrix},
    ),
    Exercise(
        "log_total",
        log_total,
        arriving_pieces,
        constraints=(
            SinglePass("pieces"),
            Memory({"pieces": Draw((4000, 40))}, most=200_000, forbids="all pieces at once"),
        ),
        wrong={
            "adds exponentials, which overflow": lambda pieces: np.log(sum(np.exp(piece).sum() for piece in pieces)),
            "keeps all pieces": lambda pieces: np.logaddexp.reduce(np.concatenate(list(pieces))),
            "takes the latest piece's largest score for the peak": lambda pieces: without_a_running_peak(pieces),
            "does not shrink the total when the peak rises": lambda pieces: without_shrinking(pieces),
            "adds the logarithms": lambda pieces: sum(np.logaddexp.reduce(piece) for piece in pieces),
            "looks for the peak first": lambda pieces: two_passes(pieces),
        },
        right={"logaddexp of the pieces": log_total_pairwise},
    ),
)


def without_shrinking(pieces):
    peak, total = -np.inf, 0.0
    for piece in pieces:
        peak = max(peak, piece.max())
        total += np.exp(piece - peak).sum()
    return peak + np.log(total)


def without_a_running_peak(pieces):
    peak, total = -np.inf, 0.0
    for piece in pieces:
        total, peak = total * np.exp(peak - piece.max()) + np.exp(piece - piece.max()).sum(), piece.max()
    return peak + np.log(total)


def two_passes(pieces):
    peak = max(piece.max() for piece in pieces)
    return peak + np.log(sum(np.exp(piece - peak).sum() for piece in pieces))
