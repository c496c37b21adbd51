"""Exercises of the lesson on spectral normalization."""

import numpy as np

from crosscheck.lesson.exercises import Exercise, edge


def one_step(w, u):
    v = w @ u / np.linalg.norm(w @ u)
    new = v @ w / np.linalg.norm(v @ w)
    return v @ w @ new, new, v


def by_lengths(w, u):
    v = w @ u
    v = v / np.sqrt(v @ v)
    back = w.T @ v
    sigma = np.sqrt(back @ back)
    return sigma, back / sigma, v


def unnormalized(w, u):
    v = w @ u
    new = v @ w
    return v @ w @ new, new, v


def kernels_and_vectors(rng):
    m, f = rng.permutation([3, 4, 5]).tolist()[:2]

    def inputs(m, f):
        return {"w": rng.normal(size=(m, f)), "u": rng.normal(size=f)}

    left, right = rng.normal(size=m), rng.normal(size=f)
    return [
        inputs(m, f),
        inputs(f + 3, m + 1),
        edge("a vector that is not of length one", **inputs(m, f) | {"u": 100 * rng.normal(size=f)}),
        edge("rank one", w=np.outer(left, right), u=rng.normal(size=f)),
        edge("one row", **inputs(1, f)),
        edge("one column", **inputs(m, 1)),
        edge("a negative number", w=np.array([[-3.0]]), u=np.array([1.0])),
    ]


def out_of_heads_norm(kernel):
    h, e, m = kernel.shape
    return np.linalg.norm(kernel.reshape(h * e, m), 2)


def by_gram_matrix(kernel):
    return np.sqrt(np.linalg.eigvalsh(np.einsum("hem,hen->mn", kernel, kernel))[-1])


def kernels_of_heads(rng):
    h, e, m = rng.permutation([2, 3, 4]).tolist()
    return [
        {"kernel": rng.normal(size=(h, e, m))},
        {"kernel": 3 * rng.normal(size=(h + 2, e, m + 3))},
        edge("a single head", kernel=rng.normal(size=(1, e, m))),
        edge("heads of one number", kernel=rng.normal(size=(h, 1, m))),
        edge("equal heads", kernel=np.repeat(rng.normal(size=(1, e, m)), h, axis=0)),
        edge("a kernel of zeros", kernel=np.zeros((h, e, m))),
        edge("one number", kernel=np.full((1, 1, 1), -2.0)),
    ]


def through_the_norm(w, u, v, g, c):
    sigma = v @ w @ u
    return c / sigma * (g - np.sum(g * w) / sigma * np.outer(v, u))


def number_by_number(w, u, v, g, c):
    sigma, slope = v @ w @ u, np.zeros(w.shape)
    for i, j in np.ndindex(w.shape):
        change = -v[i] * u[j] / sigma**2
        slope[i, j] = c * (g[i, j] / sigma + sum(g[k, n] * w[k, n] for k, n in np.ndindex(w.shape)) * change)
    return slope


def slopes(rng):
    m, f = rng.permutation([3, 4, 5]).tolist()[:2]

    def inputs(m, f, c):
        w = rng.normal(size=(m, f))
        _, u, v = one_step(w, rng.normal(size=f))
        return {"w": w, "u": u, "v": v, "g": rng.normal(size=(m, f)), "c": c}

    along = inputs(m, f, 0.9)
    return [
        inputs(m, f, rng.uniform(0.3, 0.9)),
        inputs(f + 3, m + 2, rng.uniform(1, 2)),
        edge("a square kernel", **inputs(4, 4, 0.5)),
        edge("one number", **inputs(1, 1, 0.5)),
        edge("no slope", **inputs(m, f, 0.5) | {"g": np.zeros((m, f))}),
        edge("a slope along the kernel", **along | {"g": along["w"]}),
        edge("a bound of 1", **inputs(m, f, 1.0)),
    ]


EXERCISES = (
    Exercise(
        "one_step",
        one_step,
        kernels_and_vectors,
        wrong={
            "no vector has length one": unnormalized,
            "u stays as it was": lambda w, u: (one_step(w, u)[0], u, one_step(w, u)[2]),
            "the old u in the estimate": lambda w, u: (np.linalg.norm(w @ u), *one_step(w, u)[1:]),
            "v before u": lambda w, u: (one_step(w, u)[0], one_step(w, u)[2], one_step(w, u)[1]),
            "the exact singular value": lambda w, u: (np.linalg.norm(w, 2), *one_step(w, u)[1:]),
            "two steps": lambda w, u: one_step(w, one_step(w, u)[1]),
            "divided by the largest number": lambda w, u: (
                (v := w @ u / np.abs(w @ u).max()) @ w @ (z := v @ w / np.abs(v @ w).max()),
                z,
                v,
            ),
        },
        right={"by lengths": by_lengths},
    ),
    Exercise(
        "out_of_heads_norm",
        out_of_heads_norm,
        kernels_of_heads,
        wrong={
            "the root of the sum of squares": lambda kernel: np.sqrt((kernel**2).sum()),
            "the largest of the heads": lambda kernel: max(np.linalg.norm(head, 2) for head in kernel),
            "the sum of the heads": lambda kernel: sum(np.linalg.norm(head, 2) for head in kernel),
            "heads as rows": lambda kernel: np.linalg.norm(kernel.reshape(len(kernel), -1), 2),
            "heads beside each other": lambda kernel: np.linalg.norm(np.concatenate(kernel, axis=1), 2),
            "the largest number": lambda kernel: np.abs(kernel).max(),
            "the square": lambda kernel: out_of_heads_norm(kernel) ** 2,
        },
        right={"by a Gram matrix": by_gram_matrix},
    ),
    Exercise(
        "through_the_norm",
        through_the_norm,
        slopes,
        wrong={
            "the norm taken for a constant": lambda w, u, v, g, c: c / (v @ w @ u) * g,
            "the other sign": lambda w, u, v, g, c: c / (v @ w @ u) * (g + np.sum(g * w) / (v @ w @ u) * np.outer(v, u)),
            "divided by the norm once": lambda w, u, v, g, c: c / (v @ w @ u) * (g - np.sum(g * w) * np.outer(v, u)),
            "without the bound": lambda w, u, v, g, c: through_the_norm(w, u, v, g, 1.0) + 0 * c,
            "the slope along v and u": lambda w, u, v, g, c: c / (v @ w @ u) * (g - (v @ g @ u) * np.outer(v, u)),
            "the norm is not in it": lambda w, u, v, g, c: c * g,
            "without the product with W": lambda w, u, v, g, c: c / (s := v @ w @ u) * (g - np.sum(g) / s * np.outer(v, u)),
        },
        right={"number by number": number_by_number},
    ),
)
