"""Exercises of the lesson on ReZero."""

import numpy as np

from crosscheck.lesson.constraints import NoLoop
from crosscheck.lesson.exercises import Exercise, edge


def deep(x, alpha, w, layers):
    return x * (1 + alpha * w) ** layers


def one_by_one(x, alpha, w, layers):
    for _ in range(layers):
        x = x + alpha * (w * x)
    return x


def depths(rng):
    def inputs(alpha, layers, w=None):
        return {
            "x": rng.normal(size=rng.integers(2, 6)),
            "alpha": alpha,
            "w": rng.uniform(0.5, 2) if w is None else w,
            "layers": layers,
        }

    return [
        inputs(rng.uniform(0.05, 0.3), rng.integers(5, 9)),
        inputs(-rng.uniform(0.05, 0.3), rng.integers(10, 20)),
        edge("alpha is 0", **inputs(0.0, 12)),
        edge("no layers", **inputs(0.3, 0)),
        edge("one layer", **inputs(0.3, 1)),
        edge("a factor below 0", **inputs(1.0, 5, w=-3.0)),
        edge("100 layers", **inputs(0.05, 100)),
    ]


def slopes_of(x, y, alpha, w):
    error = x + alpha * w @ x - y
    return error @ (w @ x), alpha * np.outer(error, x)


def number_by_number(x, y, alpha, w):
    error = [x[i] + alpha * sum(w[i, j] * x[j] for j in range(len(x))) - y[i] for i in range(len(x))]
    by_alpha = sum(error[i] * w[i, j] * x[j] for i in range(len(x)) for j in range(len(x)))
    return by_alpha, [[alpha * error[i] * x[j] for j in range(len(x))] for i in range(len(x))]


def errors_of_a_layer(rng):
    m = rng.integers(3, 6)

    def inputs(m, alpha):
        return {"x": rng.normal(size=m), "y": rng.normal(size=m), "alpha": alpha, "w": rng.normal(size=(m, m))}

    perfect = inputs(m, 0.5)
    return [
        inputs(m, rng.uniform(0.1, 0.5)),
        inputs(m + 3, -rng.uniform(0.5, 2)),
        edge("alpha is 0", **inputs(m, 0.0)),
        edge("a single number", **inputs(1, 0.3)),
        edge("no error", **perfect | {"y": perfect["x"] + 0.5 * perfect["w"] @ perfect["x"]}),
        edge("x is 0", **inputs(m, 0.3) | {"x": np.zeros(m)}),
    ]


def singular_values(alphas, ws):
    jacobian = np.eye(ws.shape[-1])
    for alpha, w in zip(alphas, ws):
        jacobian = (np.eye(len(w)) + alpha * w) @ jacobian
    return np.linalg.svd(jacobian, compute_uv=False)


def by_columns(alphas, ws):
    columns = np.eye(ws.shape[-1])
    for alpha, w in zip(alphas, ws):
        columns = columns + alpha * (w @ columns)
    return np.sqrt(np.maximum(np.linalg.eigvalsh(columns.T @ columns)[::-1], 0))


def in_reverse(alphas, ws):
    return singular_values(alphas[::-1], ws[::-1])


def stacks(rng):
    m, layers = rng.integers(3, 6), rng.integers(3, 6)

    def inputs(layers, m=m, size=0.5):
        return {"alphas": size * rng.normal(size=layers), "ws": rng.normal(size=(layers, m, m))}

    return [
        inputs(layers),
        inputs(layers + 2, m=m + 1),
        edge("every alpha is 0", **inputs(layers, size=0)),
        edge("one layer", **inputs(1)),
        edge("no layers", **inputs(0)),
        edge("one number", **inputs(layers, m=1)),
    ]


FEW, MANY = ({"x": np.ones(3), "alpha": 0.001, "w": 1.0, "layers": layers} for layers in (4, 504))

EXERCISES = (
    Exercise(
        "deep",
        deep,
        depths,
        constraints=(NoLoop(FEW, MANY, more=500, axis="the stack"),),
        wrong={
            "a loop over layers": one_by_one,
            "without the identity": lambda x, alpha, w, layers: x * (alpha * w) ** layers,
            "the first order alone": lambda x, alpha, w, layers: x * (1 + layers * alpha * w),
            "the exponential": lambda x, alpha, w, layers: x * np.exp(layers * alpha * w),
            "the identity outside": lambda x, alpha, w, layers: x + x * (alpha * w) ** layers,
            "alpha counts once": lambda x, alpha, w, layers: x + alpha * x * ((1 + w) ** layers - 1),
        },
        right={"by logarithms of complex numbers": lambda x, alpha, w, layers: x * (complex(1 + alpha * w) ** layers).real},
    ),
    Exercise(
        "slopes_of",
        slopes_of,
        errors_of_a_layer,
        wrong={
            "W is not multiplied by alpha": lambda x, y, alpha, w: (
                slopes_of(x, y, alpha, w)[0],
                slopes_of(x, y, alpha, w)[1] / alpha,
            ),
            "the outer product transposed": lambda x, y, alpha, w: (slopes_of(x, y, alpha, w)[0], slopes_of(x, y, alpha, w)[1].T),
            "twice as much": lambda x, y, alpha, w: tuple(2 * part for part in slopes_of(x, y, alpha, w)),
            "the other sign": lambda x, y, alpha, w: tuple(-part for part in slopes_of(x, y, alpha, w)),
            "alpha twice": lambda x, y, alpha, w: (alpha * slopes_of(x, y, alpha, w)[0], slopes_of(x, y, alpha, w)[1]),
            "the error without x": lambda x, y, alpha, w: (
                (alpha * w @ x - y) @ (w @ x),
                alpha * np.outer(alpha * w @ x - y, x),
            ),
            "W transposed": lambda x, y, alpha, w: slopes_of(x, y, alpha, w.T),
        },
        right={"number by number": number_by_number},
    ),
    Exercise(
        "singular_values",
        singular_values,
        stacks,
        wrong={
            "the last layer first": in_reverse,
            "from the smallest up": lambda alphas, ws: singular_values(alphas, ws)[::-1],
            "sizes of the eigenvalues": lambda alphas, ws: np.sort(
                np.abs(
                    np.linalg.eigvals(
                        np.linalg.multi_dot(
                            [np.eye(ws.shape[-1])] * 2 + [np.eye(len(w)) + a * w for a, w in zip(alphas, ws)][::-1]
                        )
                    )
                )
            )[::-1],
            "without the identity": lambda alphas, ws: singular_values(
                np.ones(len(ws)), alphas[:, None, None] * ws - np.eye(ws.shape[-1])
            ),
            "every alpha is 1": lambda alphas, ws: singular_values(np.ones_like(alphas), ws),
            "their squares": lambda alphas, ws: singular_values(alphas, ws) ** 2,
        },
        right={"by columns": by_columns},
    ),
)
