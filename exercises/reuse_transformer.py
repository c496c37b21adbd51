"""Exercises of the lesson on the reuse transformer."""

import numpy as np

from crosscheck.lesson.constraints import NoLoop
from crosscheck.lesson.exercises import Exercise, edge


def saved_parameters(reuses, h, m, d):
    return sum(h if count == -1 else count for count in reuses[1:]) * 2 * (m + 1) * d


def block_by_block(reuses, h, m, d):
    saved = 0
    for i, count in enumerate(reuses):
        reused = 0 if i == 0 else h if count < 0 else count
        saved += reused * (m * d + d) * 2
    return saved


def stacks(rng):
    h, m, d = rng.permutation([4, 6, 9]).tolist()

    def inputs(reuses, h=h):
        return {"reuses": [int(count) for count in reuses], "h": h, "m": m, "d": d}

    return [
        inputs(rng.integers(1, h + 1, size=4)),
        inputs(rng.integers(-1, h + 1, size=6)),
        edge("all heads, by -1", **inputs([2, -1, 1, -1])),
        edge("the first block is asked to reuse", **inputs([-1, 0, 1])),
        edge("a single block", **inputs([3])),
        edge("nothing is reused", **inputs([0, 0, 0])),
        edge("a single head", **inputs([0, 1, -1], h=1)),
    ]


def mixed(a, x, k):
    return np.linalg.matrix_power(a, k) @ x


def by_eigenvalues(a, x, k):
    values, vectors = np.linalg.eig(a)
    return (vectors @ (values**k * np.linalg.solve(vectors, x.astype(complex)).T).T).real


def step_by_step(a, x, k):
    for _ in range(k):
        x = a @ x
    return x


def repeated_mixings(rng):
    t, m = rng.permutation([4, 5, 6]).tolist()[:2]

    def inputs(t, k):
        # an independent part of each token keeps the matrix well conditioned
        return {"a": 0.5 * np.eye(t) + 0.5 * rng.dirichlet(np.ones(t), size=t), "x": rng.normal(size=(t, m)), "k": k}

    return [
        inputs(t, rng.integers(2, 4)),
        inputs(t + 2, rng.integers(5, 9)),
        edge("no blocks", **inputs(t, 0)),
        edge("one block", **inputs(t, 1)),
        edge("a single token", **inputs(1, 3)),
        edge("1,000 blocks", **inputs(t, 1000)),
    ]


def as_matrix(a, v, w_o):
    return np.einsum("hts,mhe,hef->tfsm", a, v, w_o).reshape(a.shape[1] * w_o.shape[2], a.shape[2] * len(v))


def by_kronecker(a, v, w_o):
    return sum(np.kron(a[h], (v[:, h] @ w_o[h]).T) for h in range(len(a)))


def column_by_column(a, v, w_o):
    s, m = a.shape[2], len(v)
    columns = [np.einsum("hts,sm,mhe,hef->tf", a, unit.reshape(s, m), v, w_o).ravel() for unit in np.eye(s * m)]
    return np.stack(columns, axis=-1)


def heads_and_maps(rng):
    h, t, s, m, e = rng.permutation([2, 3, 4, 5, 6]).tolist()

    def inputs(h, t, s, m, e):
        return {"a": rng.dirichlet(np.ones(s), size=(h, t)), "v": rng.normal(size=(m, h, e)), "w_o": rng.normal(size=(h, e, m))}

    return [
        inputs(h, t, s, m, e),
        inputs(h + 1, t, t, m, e),
        edge("a single head", **inputs(1, t, s, m, e)),
        edge("a single query", **inputs(h, 1, s, m, e)),
        edge("a single key", **inputs(h, t, 1, m, e)),
        edge("a model of one number", **inputs(h, t, s, 1, e)),
    ]


def square(k):
    return {"a": np.eye(3), "x": np.ones((3, 2)), "k": k}


def wide(t):
    return {"a": np.ones((1, t, t)), "v": np.ones((2, 1, 2)), "w_o": np.ones((1, 2, 2))}


EXERCISES = (
    Exercise(
        "saved_parameters",
        saved_parameters,
        stacks,
        wrong={
            "counts the first block": lambda reuses, h, m, d: saved_parameters([0, *reuses], h, m, d),
            "takes -1 for a number": lambda reuses, h, m, d: sum(reuses[1:]) * 2 * (m + 1) * d,
            "no biases": lambda reuses, h, m, d: saved_parameters(reuses, h, m, d) // (m + 1) * m,
            "queries alone": lambda reuses, h, m, d: saved_parameters(reuses, h, m, d) // 2,
            "values and outputs too": lambda reuses, h, m, d: 2 * saved_parameters(reuses, h, m, d),
            "all heads or none": lambda reuses, h, m, d: saved_parameters([-1 if k else 0 for k in reuses], h, m, d),
        },
        right={"block by block": block_by_block},
    ),
    Exercise(
        "mixed",
        mixed,
        repeated_mixings,
        constraints=(NoLoop(square(4), square(1004), more=1000, axis="the stack"),),
        wrong={
            "a loop over blocks": step_by_step,
            "a power of each weight": lambda a, x, k: a**k @ x,
            "one block too many": lambda a, x, k: mixed(a, x, k + 1),
            "k times one block": lambda a, x, k: k * (a @ x),
            "the weights transposed": lambda a, x, k: mixed(a.T, x, k),
            "one block, because the weights are the same": lambda a, x, k: a @ x,
        },
        right={"by eigenvalues": by_eigenvalues},
    ),
    Exercise(
        "as_matrix",
        as_matrix,
        heads_and_maps,
        constraints=(NoLoop(wide(3), wide(23), more=20, axis="tokens"),),
        wrong={
            "column by column": column_by_column,
            "numbers outside, tokens inside": lambda a, v, w_o: np.einsum("hts,mhe,hef->ftms", a, v, w_o).reshape(
                a.shape[1] * w_o.shape[2], a.shape[2] * len(v)
            ),
            "transposed": lambda a, v, w_o: as_matrix(a, v, w_o).T,
            "the mean of the heads": lambda a, v, w_o: as_matrix(a, v, w_o) / len(a),
            "no values": lambda a, v, w_o: as_matrix(a, np.ones_like(v), w_o),
            "four axes": lambda a, v, w_o: np.einsum("hts,mhe,hef->tfsm", a, v, w_o),
        },
        right={"by Kronecker products": by_kronecker},
    ),
)
