"""Exercises of the lesson on the whole of BERT."""

import numpy as np

from crosscheck.lesson.arguments import Draw
from crosscheck.lesson.constraints import Memory, NoLoop
from crosscheck.lesson.exercises import Exercise, edge


def mean_of_tokens(z, mask):
    return np.einsum("btm,bt->bm", z, mask) / np.maximum(mask.sum(axis=1, keepdims=True), 1)


def one_by_one(z, mask):
    means = [row[m == 1].mean(axis=0) if m.any() else np.zeros(z.shape[2]) for row, m in zip(z, mask)]
    return np.array(means).reshape(len(z), z.shape[2])


def by_where(z, mask):
    kept = np.where(mask[..., None] == 1, z, 0)
    return kept.sum(axis=1) / np.where(mask.any(axis=1), mask.sum(axis=1), 1)[:, None]


def texts_and_masks(rng):
    b, t, m = rng.permutation([3, 4, 5]).tolist()

    def inputs(lengths, t=t):
        lengths = np.array(lengths, int)
        return {"z": rng.normal(size=(len(lengths), t, m)), "mask": (np.arange(t) < lengths[:, None]).astype(int)}

    holes = inputs([t] * b)
    holes["mask"] = np.array(rng.permutation(np.arange(b * t) % 2).reshape(b, t))
    holes["mask"][:, 1] = 1
    return [
        inputs(1 + rng.permutation(b) % t),
        inputs(rng.integers(2, t + 4, size=b + 2), t=t + 3),
        edge("padding in between", **holes),
        edge("no padding", **inputs([t, t])),
        edge("a text without tokens", **inputs([2, 0, 1])),
        edge("texts of one token", **inputs([1, 1, 1])),
        edge("one text", **inputs([2])),
        edge("no texts", **inputs([])),
    ]


def nearest(queries, embeddings, k):
    return np.argsort(-queries @ embeddings.T, axis=1)[:, :k]


def query_by_query(queries, embeddings, k):
    found = []
    for query in queries:
        cosines = embeddings @ query
        best = np.argpartition(-cosines, k - 1)[:k]
        found.append(best[np.argsort(-cosines[best])])
    return found


def by_all_differences(queries, embeddings, k):
    distances = ((queries[:, None] - embeddings[None]) ** 2).sum(axis=-1)
    return np.argsort(distances, axis=1)[:, :k]


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def queries_and_embeddings(rng):
    b, m = rng.integers(8, 12), rng.integers(5, 8)

    def inputs(count, b, k):
        return {"queries": unit(rng.normal(size=(count, m))), "embeddings": unit(rng.normal(size=(b, m))), "k": k}

    known = inputs(2, b, 3)
    return [
        inputs(3, b, 2),
        inputs(5, b + 4, 4),
        edge("the nearest alone", **inputs(3, b, 1)),
        edge("all of them", **inputs(2, b, b)),
        edge("one query", **inputs(1, b, 3)),
        edge("one embedding", **inputs(3, 1, 1)),
        edge("queries that are among the embeddings", **known | {"queries": known["embeddings"][[4, 1]]}),
        edge("opposite embeddings", **known | {"embeddings": np.append(known["embeddings"], -known["queries"], axis=0)}),
    ]


def parameters(m, f, layers, n, positions):
    return (n + positions + 4) * m + layers * (4 * m**2 + 2 * m * f + 9 * m + f)


def part_by_part(m, f, layers, n, positions):
    block = 4 * (m * m + m) + (m * f + f) + (f * m + m) + 2 * (m + m)
    return (n * m + positions * m + 2 * m) + (m + m) + sum(block for _ in range(layers))


def sizes_of_models(rng):
    def inputs(m, f, layers, n, positions):
        return {"m": m, "f": f, "layers": layers, "n": n, "positions": positions}

    return [
        inputs(*rng.permutation([24, 36, 7, 100, 50]).tolist()),
        inputs(*rng.permutation([12, 17, 5, 60, 30]).tolist()),
        inputs(*(rng.integers(2, 40, size=5)).tolist()),
        edge("BERT base", **inputs(768, 3072, 12, 30522, 512)),
        edge("MiniLM", **inputs(384, 1536, 6, 30522, 512)),
        edge("no layers", **inputs(8, 16, 0, 30, 10)),
        edge("everything is 1", **inputs(1, 1, 1, 1, 1)),
    ]


FEW, MANY = ({"z": np.ones((b, 3, 2)), "mask": np.ones((b, 3), int)} for b in (4, 204))
SEARCH = {"queries": Draw((50, 64)), "embeddings": Draw((400, 64)), "k": 3}

EXERCISES = (
    Exercise(
        "mean_of_tokens",
        mean_of_tokens,
        texts_and_masks,
        constraints=(NoLoop(FEW, MANY, more=200, axis="the texts"),),
        wrong={
            "a loop over texts": one_by_one,
            "the mean with padding": lambda z, mask: z.mean(axis=1),
            "divided by the length of the row": lambda z, mask: (z * mask[..., None]).mean(axis=1),
            "NaN for a text without tokens": lambda z, mask: (z * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True),
            "the first token": lambda z, mask: z[:, 0],
            "the sum": lambda z, mask: (z * mask[..., None]).sum(axis=1),
            "the largest numbers": lambda z, mask: np.where(mask[..., None] == 1, z, -np.inf).max(axis=1),
            "padding in front of the end alone": lambda z, mask: mean_of_tokens(
                z, (np.arange(z.shape[1]) < mask.sum(axis=1)[:, None]).astype(int)
            ),
        },
        right={"by np.where": by_where},
    ),
    Exercise(
        "nearest",
        nearest,
        queries_and_embeddings,
        constraints=(Memory(SEARCH, most=1_500_000, forbids="a vector for each pair"),),
        wrong={
            "all differences": by_all_differences,
            "the farthest": lambda queries, embeddings, k: np.argsort(queries @ embeddings.T, axis=1)[:, :k],
            "the nearest last": lambda queries, embeddings, k: np.argsort(queries @ embeddings.T, axis=1)[:, -k:],
            "by the cosine's size": lambda queries, embeddings, k: np.argsort(-np.abs(queries @ embeddings.T), axis=1)[:, :k],
            "cosines instead of places": lambda queries, embeddings, k: -np.sort(-queries @ embeddings.T, axis=1)[:, :k],
            "the nearest query of each embedding": lambda queries, embeddings, k: nearest(embeddings, queries, k),
            "one too few": lambda queries, embeddings, k: nearest(queries, embeddings, k - 1),
        },
        right={"query by query": query_by_query},
    ),
    Exercise(
        "parameters",
        parameters,
        sizes_of_models,
        wrong={
            "no biases": lambda m, f, layers, n, positions: parameters(m, f, layers, n, positions) - layers * (5 * m + f),
            "no norms": lambda m, f, layers, n, positions: parameters(m, f, layers, n, positions) - 2 * m - layers * 4 * m,
            "no norm of the embeddings": lambda m, f, layers, n, positions: parameters(m, f, layers, n, positions) - 2 * m,
            "no segments": lambda m, f, layers, n, positions: parameters(m, f, layers, n, positions) - 2 * m - 0 * f,
            "no positions": lambda m, f, layers, n, positions: parameters(m, f, layers, n, 0),
            "one layer": lambda m, f, layers, n, positions: parameters(m, f, 1, n, positions),
            "f is 4 m": lambda m, f, layers, n, positions: parameters(m, 4 * m, layers, n, positions),
            "three maps of attention": lambda m, f, layers, n, positions: (
                parameters(m, f, layers, n, positions) - layers * (m * m + m)
            ),
        },
        right={"part by part": part_by_part},
    ),
)
