"""Exercises of the lesson on the decoder block."""

import numpy as np

from crosscheck.lesson.exercises import Exercise, edge
from reference.masked_softmax import masked_softmax


def parameters(m, h, d, f, s):
    own = 3 * (m * h * d + h * d) + (h * d * m + m)
    cross = (m * h * d + h * d) + 2 * (s * h * d + h * d) + (h * d * m + m)
    return own + cross + (m * f + f) + (f * m + m) + 3 * 2 * m


def map_by_map(m, h, d, f, s):
    inner = h * d
    maps = [(m, inner)] * 4 + [(s, inner)] * 2 + [(inner, m)] * 2 + [(m, f), (f, m)]
    return sum((rows + 1) * columns for rows, columns in maps) + 6 * m


def sizes(rng):
    def inputs(m, h, d, f, s):
        return dict(zip(("m", "h", "d", "f", "s"), (m, h, d, f, s)))

    drawn = [rng.permutation([3, 5, 7, 11, 13]).tolist() for _ in range(3)]
    return [
        *(inputs(*numbers) for numbers in drawn),
        edge("a memory as wide as the model", **inputs(8, 2, 4, 32, 8)),
        edge("a single head", **inputs(6, 1, 6, 10, 7)),
        edge("everything is 1", **inputs(1, 1, 1, 1, 1)),
    ]


def cross_step(x, k, v, w_q, w_o, mask):
    q = np.einsum("btm,mhd->bthd", x, w_q)
    p = masked_softmax(np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(k.shape[-1]), mask[:, None, None])
    return np.einsum("bhts,bshe,hem->btm", p, v, w_o)


def head_by_head(x, k, v, w_q, w_o, mask):
    output = np.zeros(x.shape)
    for h in range(w_q.shape[1]):
        scores = x @ w_q[:, h] @ k[:, :, h].swapaxes(1, 2) / k.shape[-1] ** 0.5
        output += masked_softmax(scores, mask[:, None]) @ v[:, :, h] @ w_o[h]
    return output


def causal(x, k, v, w_q, w_o, mask):
    """Lets word t see the memory up to place t."""
    rows = [cross_step(x[:, i : i + 1], k, v, w_q, w_o, mask & (np.arange(k.shape[1]) <= i)) for i in range(x.shape[1])]
    return np.concatenate(rows, axis=1)


def words_and_memories(rng):
    b, t, s, m, h, d = rng.permutation([2, 3, 4, 5, 6, 7]).tolist()

    def inputs(mask, t=t, h=h, size=1.0):
        b, s = mask.shape
        arrays = {"x": (b, t, m), "k": (b, s, h, d), "v": (b, s, h, d + 1), "w_q": (m, h, d), "w_o": (h, d + 1, m)}
        drawn = {name: rng.normal(size=shape) for name, shape in arrays.items()}
        return {**drawn, "k": size * drawn["k"], "mask": mask}

    some = rng.random((b, s)) < 0.6
    some[:, 0] = True
    return [
        inputs(np.ones((b, s), bool)),
        inputs(some, t=t + 1),
        edge("a text without memory", **inputs(some & (np.arange(b) > 0)[:, None])),
        edge("a single head", **inputs(some, h=1)),
        edge("a single word", **inputs(some, t=1)),
        edge("scores of about 1,000", **inputs(some, size=300)),
    ]


def best_beams(scores, log_p, done, k):
    b, beams, n = log_p.shape
    ended = np.where(np.arange(n) == 0, 0.0, -np.inf)
    total = (scores[..., None] + np.where(done[..., None], ended, log_p)).reshape(b, beams * n)
    best = np.argsort(-total, axis=1, kind="stable")[:, :k]
    return best // n, best % n, np.take_along_axis(total, best, axis=1)


def text_by_text(scores, log_p, done, k):
    found = [[], [], []]
    for row, table, ended in zip(scores, log_p, done):
        candidates = []
        for i, score in enumerate(row):
            tokens = [(0, 0.0)] if ended[i] else list(enumerate(table[i]))
            candidates += [(-(score + p), i, token) for token, p in tokens]
        best = sorted(candidates, key=lambda candidate: candidate[0])[:k]
        found[0].append([i for _, i, _ in best])
        found[1].append([token for _, _, token in best])
        found[2].append([-cost for cost, _, _ in best])
    return tuple(np.array(part) for part in found)


def one_of_each(scores, log_p, done, k):
    """The best continuation of each beam."""
    total = scores[..., None] + log_p
    tokens = total.argmax(axis=-1)
    order = np.argsort(-total.max(axis=-1), axis=1)[:, :k]
    picked = (np.take_along_axis(array, order, axis=1) for array in (tokens, total.max(axis=-1)))
    return order, *picked


def beams_of_texts(rng):
    b, beams, n = rng.permutation([3, 4, 5]).tolist()

    def inputs(beams, k, done):
        log_p = np.log(rng.dirichlet(np.ones(n), size=(len(done), beams)))
        return {"scores": -rng.uniform(0, 1, size=(len(done), beams)), "log_p": log_p, "done": done, "k": k}

    none = np.zeros((b, beams), bool)
    return [
        inputs(beams, 3, none),
        inputs(beams, 4, np.arange(beams) == rng.integers(beams, size=(b, 1))),
        inputs(beams + 2, 5, np.zeros((b + 1, beams + 2), bool)),
        edge("a single beam", **inputs(1, 2, np.zeros((b, 1), bool))),
        edge("only the best one is kept", **inputs(beams, 1, none)),
        edge("every text has ended", **inputs(beams, beams, ~none)),
        edge("a finished text that is the best", **inputs(beams, 3, np.arange(beams) == 1 + none) | {"scores": none - 0.01}),
        edge("scores of -1,000", **inputs(beams, 3, none) | {"scores": -1000 - rng.uniform(0, 1, size=(b, beams))}),
    ]


EXERCISES = (
    Exercise(
        "parameters",
        parameters,
        sizes,
        wrong={
            "heads as wide as the model": lambda m, h, d, f, s: parameters(m, 1, m, f, s),
            "no biases": lambda m, h, d, f, s: parameters(m, h, d, f, s) - 6 * h * d - f - 3 * m,
            "a memory as wide as the model": lambda m, h, d, f, s: parameters(m, h, d, f, m),
            "two norms": lambda m, h, d, f, s: parameters(m, h, d, f, s) - 2 * m,
            "one attention": lambda m, h, d, f, s: parameters(m, h, d, f, s) - 4 * m * h * d - 3 * h * d - m,
            "queries from the memory too": lambda m, h, d, f, s: parameters(m, h, d, f, s) + (s - m) * h * d,
        },
        right={"map by map": map_by_map},
    ),
    Exercise(
        "cross_step",
        cross_step,
        words_and_memories,
        wrong={
            "ignores the mask": lambda x, k, v, w_q, w_o, mask: cross_step(x, k, v, w_q, w_o, np.ones_like(mask)),
            "a causal mask on the memory": causal,
            "adds the word itself": lambda x, k, v, w_q, w_o, mask: x + cross_step(x, k, v, w_q, w_o, mask),
            "does not scale": lambda x, k, v, w_q, w_o, mask: cross_step(x * np.sqrt(k.shape[-1]), k, v, w_q, w_o, mask),
            "divides by the root of m": lambda x, k, v, w_q, w_o, mask: cross_step(
                x * np.sqrt(k.shape[-1] / x.shape[-1]), k, v, w_q, w_o, mask
            ),
            "the mean over heads": lambda x, k, v, w_q, w_o, mask: cross_step(x, k, v, w_q, w_o, mask) / k.shape[2],
        },
        right={"head by head": head_by_head},
    ),
    Exercise(
        "best_beams",
        best_beams,
        beams_of_texts,
        wrong={
            "the best continuation of each beam": one_of_each,
            "finished texts go on": lambda scores, log_p, done, k: best_beams(scores, log_p, np.zeros_like(done), k),
            "finished texts are dropped": lambda scores, log_p, done, k: best_beams(
                np.where(done, -1e9, scores), log_p, np.zeros_like(done), k
            ),
            "the last token's probability alone": lambda scores, log_p, done, k: best_beams(0 * scores, log_p, done, k),
            "the worst first": lambda scores, log_p, done, k: tuple(part[:, ::-1] for part in best_beams(scores, log_p, done, k)),
            "beams and tokens swapped": lambda scores, log_p, done, k: (
                (found := best_beams(scores, log_p, done, k))[1],
                found[0],
                found[2],
            ),
            "probabilities are added": lambda scores, log_p, done, k: best_beams(np.exp(scores), np.exp(log_p), done, k),
        },
        right={"text by text": text_by_text},
    ),
)
