"""Exercises of the lesson on kernel attention."""

import numpy as np

from crosscheck.lesson.arguments import Draw
from crosscheck.lesson.constraints import Memory, NoLoop, SinglePass
from crosscheck.lesson.exercises import Exercise, edge


def one_head(phi_q, phi_k, v, allowed):
    phi_k = phi_k * allowed[:, None]
    total = phi_q @ phi_k.sum(axis=0)
    return phi_q @ (phi_k.T @ v) / np.where(total > 0, total, 1)[:, None]


def with_ones(phi_q, phi_k, v, allowed):
    """Sums and denominators in one product."""
    sums = phi_q @ (phi_k[allowed].T @ np.column_stack([v, np.ones(len(v))])[allowed])
    return np.divide(sums[:, :-1], sums[:, -1:], out=np.zeros_like(sums[:, :-1]), where=sums[:, -1:] > 0)


def by_pairs(phi_q, phi_k, v, allowed):
    kernel = phi_q @ phi_k.T * allowed
    total = kernel.sum(axis=1, keepdims=True)
    return kernel @ v / np.where(total > 0, total, 1)


def features_and_values(rng):
    t, s, r, e = rng.permutation([3, 4, 5, 6]).tolist()

    def inputs(allowed, t=t):
        phi_q, phi_k = rng.uniform(0.1, 1, size=(t, r)), rng.uniform(0.1, 1, size=(len(allowed), r))
        return {"phi_q": phi_q, "phi_k": phi_k, "v": rng.normal(size=(len(allowed), e)), "allowed": allowed}

    return [
        inputs(np.ones(s, bool)),
        inputs(rng.permutation(np.arange(s + 3) > 2), t=t + 2),
        edge("no key is allowed", **inputs(np.zeros(s, bool))),
        edge("a single key", **inputs(np.ones(1, bool))),
        edge("no keys", **inputs(np.zeros(0, bool))),
        edge("a single query", **inputs(np.arange(s) > 0, t=1)),
    ]


def gated(tokens):
    state, z, outputs = 0.0, 0.0, []
    for q, k, v_t, gate in tokens:
        state, z = gate * state + (1 - gate) * np.outer(k, v_t), gate * z + (1 - gate) * k
        outputs.append(q @ state / (q @ z))
    return np.array(outputs)


def gated_in_one_state(tokens):
    state, outputs = 0.0, []
    for q, k, v_t, gate in tokens:
        state = state + (1 - gate) * (np.outer(k, np.append(v_t, 1)) - state)
        sums = q @ state
        outputs.append(sums[:-1] / sums[-1])
    return np.array(outputs)


def gated_pairs(tokens):
    """Keeps all tokens, and weighs each key by the gates after it."""
    phi_q, phi_k, v, gate = (np.array(part) for part in zip(*tokens))
    products = np.diag(1 - gate)
    for i in range(1, len(gate)):
        products[i, :i] = gate[i] * products[i - 1, :i]
    kernel = phi_q @ phi_k.T * products
    return kernel @ v / kernel.sum(axis=1, keepdims=True)


def gated_wrongly(tokens, keep=lambda gate: gate, take=lambda gate: 1 - gate, keep_z=None, late=False):
    state, z, outputs = 0.0, 0.0, []
    for q, k, v_t, gate in tokens:
        before = state, z
        state = keep(gate) * state + take(gate) * np.outer(k, v_t)
        z = (keep_z or keep)(gate) * z + take(gate) * k
        state_read, z_read = before if late and len(outputs) else (state, z)
        outputs.append(q @ state_read / (q @ z_read))
    return np.array(outputs)


def gated_texts(rng):
    t, r, e = rng.permutation([5, 6, 7]).tolist()

    def inputs(gate):
        t = len(gate)
        phi = (rng.uniform(0.1, 1, size=(t, r)) for _ in range(2))
        return {"tokens": (*phi, rng.normal(size=(t, e)), gate)}

    return [
        inputs(rng.uniform(0.1, 0.9, size=t)),
        inputs(rng.uniform(0.1, 0.9, size=t + 4)),
        edge("a single token", **inputs(np.array([0.5]))),
        edge("gates of 0, which forget everything", **inputs(np.zeros(t))),
        edge("a gate of 1, which takes nothing", **inputs(np.append(rng.uniform(0.1, 0.9, size=t), 1.0))),
        edge("gates near 1", **inputs(np.full(t, 0.999))),
    ]


def chunked(phi_q, phi_k, v, size):
    u, outputs, states = np.concatenate([v, np.ones((len(v), 1))], axis=1), [], []
    state = np.zeros((phi_k.shape[1], u.shape[1]))
    for i in range(0, len(v), size):
        q, k, part = (x[i : i + size] for x in (phi_q, phi_k, u))
        outputs.append(np.tril(q @ k.T) @ part + q @ state)
        state = state + k.T @ part
        states.append(state[:, :-1])
    sums = np.concatenate(outputs)
    return sums[:, :-1] / sums[:, -1:], np.array(states)


def chunked_in_two_sums(phi_q, phi_k, v, size):
    state, z, output, states = np.zeros((phi_k.shape[1], v.shape[1])), np.zeros(phi_k.shape[1]), np.empty(v.shape), []
    for start in range(0, len(v), size):
        part = slice(start, min(start + size, len(v)))
        kernel = phi_q[part] @ phi_k[part].T * np.tri(part.stop - part.start)
        total = kernel.sum(axis=1) + phi_q[part] @ z
        output[part] = (kernel @ v[part] + phi_q[part] @ state) / total[:, None]
        state, z = state + phi_k[part].T @ v[part], z + phi_k[part].sum(axis=0)
        states.append(state)
    return output, states


def states_after_chunks(phi_k, v, size):
    ends = [*range(size, len(v), size), len(v)]
    return [phi_k[:end].T @ v[:end] for end in ends]


def in_one_chunk(phi_q, phi_k, v, size, mask=np.tri):
    kernel = phi_q @ phi_k.T * mask(len(v))
    return kernel @ v / kernel.sum(axis=1, keepdims=True), states_after_chunks(phi_k, v, size)


def token_by_token(phi_q, phi_k, v, size):
    return chunked(phi_q, phi_k, v, 1)[0], states_after_chunks(phi_k, v, size)


def a_state_for_each_token(phi_q, phi_k, v, size):
    states = np.cumsum(phi_k[:, :, None] * v[:, None], axis=0)
    outputs = np.einsum("tr,tre->te", phi_q, states) / np.einsum("tr,tr->t", phi_q, np.cumsum(phi_k, axis=0))[:, None]
    return outputs, states[[*range(size - 1, len(v) - 1, size), len(v) - 1]]


def both_ways_in_a_chunk(phi_q, phi_k, v, size):
    place = np.arange(len(v)) // size
    return in_one_chunk(phi_q, phi_k, v, size, lambda t: place <= place[:, None])


def own_chunk_alone(phi_q, phi_k, v, size):
    place = np.arange(len(v)) // size
    return in_one_chunk(phi_q, phi_k, v, size, lambda t: np.tri(t) * (place == place[:, None]))


def whole_chunks_alone(phi_q, phi_k, v, size):
    whole = len(v) // size * size
    return chunked(phi_q[:whole], phi_k[:whole], v[:whole], size) if whole else (v[:0], [])


def texts_in_chunks(rng):
    t, r, e = rng.permutation([7, 8, 9]).tolist()

    def inputs(t, size):
        phi = {name: rng.uniform(0.1, 1, size=(t, r)) for name in ("phi_q", "phi_k")}
        return {**phi, "v": rng.normal(size=(t, e)), "size": size}

    return [
        inputs(t, 3),
        inputs(t + 6, 5),
        edge("the last chunk has one token", **inputs(9, 4)),
        edge("whole chunks alone", **inputs(8, 4)),
        edge("chunks of one token", **inputs(t, 1)),
        edge("a chunk longer than the text", **inputs(t, t + 5)),
        edge("a single token", **inputs(1, 3)),
    ]


def long_text(t, r, e, size):
    return {"phi_q": Draw((t, r), "positive"), "phi_k": Draw((t, r), "positive"), "v": Draw((t, e)), "size": size}


PAIRS = {"phi_q": Draw((1000, 8), "positive"), "phi_k": Draw((1000, 8), "positive"), "v": Draw((1000, 8))}
STREAM = (Draw((600, 128), "positive"), Draw((600, 128), "positive"), Draw((600, 2)), Draw((600,), "positive"))

EXERCISES = (
    Exercise(
        "one_head",
        one_head,
        features_and_values,
        constraints=(Memory(PAIRS | {"allowed": np.ones(1000, bool)}, most=1_000_000, forbids="a matrix of t times s"),),
        wrong={
            "a matrix of all pairs": by_pairs,
            "ignores the mask": lambda phi_q, phi_k, v, allowed: one_head(phi_q, phi_k, v, np.ones_like(allowed)),
            "masks the values alone": lambda phi_q, phi_k, v, allowed: one_head(
                phi_q, phi_k, v * allowed[:, None], np.ones_like(allowed)
            ),
            "NaN where no key is allowed": lambda phi_q, phi_k, v, allowed: (
                phi_q @ (phi_k[allowed].T @ v[allowed]) / (phi_q @ phi_k[allowed].sum(axis=0))[:, None]
            ),
            "does not divide": lambda phi_q, phi_k, v, allowed: phi_q @ (phi_k[allowed].T @ v[allowed]),
            "divides by the number of keys": lambda phi_q, phi_k, v, allowed: (
                phi_q @ (phi_k[allowed].T @ v[allowed]) / max(allowed.sum(), 1)
            ),
        },
        right={"a column of ones": with_ones},
    ),
    Exercise(
        "gated",
        gated,
        gated_texts,
        constraints=(SinglePass("tokens"), Memory({"tokens": STREAM}, most=300_000, forbids="all keys")),
        wrong={
            "keeps all tokens": gated_pairs,
            "the gate and its rest swapped": lambda tokens: gated_wrongly(tokens, lambda gate: 1 - gate, lambda gate: gate),
            "takes the whole of a new key": lambda tokens: gated_wrongly(tokens, take=lambda gate: 1),
            "no gate in the denominator": lambda tokens: gated_wrongly(tokens, keep_z=lambda gate: 1),
            "no gate at all": lambda tokens: gated_wrongly(tokens, lambda gate: 1, lambda gate: 1),
            "asks how many tokens there are": lambda tokens: gated(tokens)[: len(tokens)],
            "reads before it writes": lambda tokens: gated_wrongly(tokens, late=True),
        },
        right={"one state with a column of ones": gated_in_one_state},
    ),
    Exercise(
        "chunked",
        chunked,
        texts_in_chunks,
        constraints=(
            Memory(long_text(1000, 32, 16, 20), most=3_000_000, forbids="all pairs, or a state for each token"),
            NoLoop(long_text(20, 3, 2, 5), long_text(820, 3, 2, 205), more=800, axis="the tokens of a chunk"),
        ),
        wrong={
            "all pairs": in_one_chunk,
            "token by token": token_by_token,
            "a state for each token": a_state_for_each_token,
            "the state of each chunk alone": lambda phi_q, phi_k, v, size: (
                chunked(phi_q, phi_k, v, size)[0],
                np.diff(chunked(phi_q, phi_k, v, size)[1], axis=0, prepend=0),
            ),
            "a chunk looks both ways": both_ways_in_a_chunk,
            "forgets the earlier chunks": own_chunk_alone,
            "leaves out what is no whole chunk": whole_chunks_alone,
        },
        right={"two sums": chunked_in_two_sums},
    ),
)
