"""Exercises of the lesson on multi-head attention."""

import numpy as np

from crosscheck.lesson.arguments import Draw
from crosscheck.lesson.constraints import Memory, SinglePass
from crosscheck.lesson.exercises import Exercise, edge
from reference import attention
from reference.masked_softmax import masked_softmax


def masked_attend_one(q, k, v, allowed):
    return masked_softmax(k @ q / np.sqrt(len(q)), allowed) @ v


def by_a_loop(q, k, v, allowed):
    keys = [s for s in range(len(k)) if allowed[s]]
    if not keys:
        return np.zeros(v.shape[1])
    scores = np.array([q @ k[s] for s in keys]) / len(q) ** 0.5
    exp = [np.exp(score - max(scores)) for score in scores]
    return sum(e * v[s] for e, s in zip(exp, keys)) / sum(exp)


def queries_and_masks(rng):
    d, s, e = rng.permutation([3, 4, 5, 6])[:3].tolist()

    def inputs(s, allowed, scores=None):
        q = rng.normal(size=d)
        k = rng.normal(size=(s, d)) if scores is None else with_scores(q, scores)
        return {"q": q, "k": k, "v": rng.normal(size=(s, e)), "allowed": allowed}

    return [
        inputs(s, np.ones(s, bool)),
        inputs(s + 4, rng.permutation(np.arange(s + 4) % 2 == 0)),
        edge("no key is allowed", **inputs(s, np.zeros(s, bool))),
        edge("a single key", **inputs(1, np.ones(1, bool))),
        edge("scores up to 1,000", **inputs(s, np.arange(s) != 1, scores=np.linspace(-1000, 1000, s))),
        edge("a forbidden score of 20,000", **inputs(s, np.arange(s) > 0, scores=np.append(20000, np.arange(1.0, s)))),
    ]


def with_scores(q, scores):
    """Keys whose scores with the query are these."""
    return np.outer(scores, q) / (q @ q) * np.sqrt(len(q))


def without_shift(q, k, v, allowed):
    exp = np.exp(k @ q / np.sqrt(len(q))) * allowed
    return exp / max(exp.sum(), 1e-300) @ v


def multi_query(q, k, v):
    weights = masked_softmax(np.einsum("bthd,bsd->bhts", q, k) / np.sqrt(q.shape[-1]))
    return np.einsum("bhts,bse->bthe", weights, v), weights


def repeated(q, k, v):
    return attention.attend(q, *(np.repeat(x[:, :, None], q.shape[2], axis=2) for x in (k, v)))


def queries_of_several_heads(rng):
    b, t, h, s, d, e = rng.permutation([2, 3, 4, 5, 6, 7]).tolist()

    def inputs(b, t, h, s, size=1.0):
        return {"q": size * rng.normal(size=(b, t, h, d)), "k": rng.normal(size=(b, s, d)), "v": rng.normal(size=(b, s, e))}

    return [
        inputs(b, t, h, s),
        inputs(1, t + 1, h, s),
        edge("a single head", **inputs(b, t, 1, s)),
        edge("a single key", **inputs(b, t, h, 1)),
        edge("no query", **inputs(b, 0, h, s)),
        edge("scores of about 1,000", **inputs(b, t, h, s, size=1000)),
    ]


def streaming(q, pairs):
    peak, total, mixture = -np.inf, 0.0, 0.0
    for k_s, v_s in pairs:
        score = q @ k_s / np.sqrt(len(q))
        higher = max(peak, score)
        shrink, weight = np.exp(peak - higher), np.exp(score - higher)
        peak, total, mixture = higher, shrink * total + weight, shrink * mixture + weight * v_s
    return mixture / total


def streaming_averages(q, pairs):
    """The output so far and the logarithm of its total: each pair moves the output towards its value."""
    output, log_total = 0.0, -np.inf
    for k_s, v_s in pairs:
        score = q @ k_s / np.sqrt(len(q))
        log_total = np.logaddexp(log_total, score)
        output = output + np.exp(score - log_total) * (v_s - output)
    return output


def keys_in_a_stream(rng):
    s, d, e = rng.permutation([4, 5, 6, 7])[:3].tolist()
    q = rng.normal(size=d)

    def scored(scores):
        return {"q": q, "pairs": (with_scores(q, scores), rng.normal(size=(len(scores), e)))}

    return [
        {"q": q, "pairs": (rng.normal(size=(s, d)), rng.normal(size=(s, e)))},
        {"q": 2 * q, "pairs": (rng.normal(size=(s + 5, d)), rng.normal(size=(s + 5, e)))},
        edge("a single key", **scored([0.5])),
        edge("scores that rise", **scored(np.arange(s) - 2.0)),
        edge("scores that fall", **scored(-np.arange(s) - 2.0)),
        edge("scores up to 1,000", **scored(np.linspace(-1000, 1000, s))),
        edge("scores from 1,000 down to -1,000", **scored(np.linspace(1000, -1000, 3))),
        edge("scores below -1,000", **scored(-1000.0 - np.arange(s))),
    ]


def softmax_streaming(q, pairs, shrinks, latest=False):
    """`streaming` in which the total or the mixture does not shrink with the peak, or the peak is the latest score."""
    peak, total, mixture = -np.inf, 0.0, 0.0
    for k_s, v_s in pairs:
        score = q @ k_s / np.sqrt(len(q))
        higher = score if latest else max(peak, score)
        shrink, weight = np.exp(peak - higher), np.exp(score - higher)
        total = total * (shrink if "total" in shrinks else 1.0) + weight
        mixture, peak = mixture * (shrink if "mixture" in shrinks else 1.0) + weight * v_s, higher
    return mixture / total


def all_at_once(q, pairs):
    k, v = (np.array(part) for part in zip(*pairs))
    return masked_softmax(k @ q / np.sqrt(len(q))) @ v


def without_a_peak(q, pairs):
    total, mixture = 0.0, 0.0
    for k_s, v_s in pairs:
        weight = np.exp(q @ k_s / np.sqrt(len(q)))
        total, mixture = total + weight, mixture + weight * v_s
    return mixture / total


def peak_first(q, pairs):
    peak = max(q @ k_s for k_s, _ in pairs)
    weights = [(np.exp((q @ k_s - peak) / np.sqrt(len(q))), v_s) for k_s, v_s in pairs]
    return sum(w * v_s for w, v_s in weights) / sum(w for w, _ in weights)


EXERCISES = (
    Exercise(
        "masked_attend_one",
        masked_attend_one,
        queries_and_masks,
        wrong={
            "ignores the mask": lambda q, k, v, allowed: masked_softmax(k @ q / np.sqrt(len(q))) @ v,
            "scores of forbidden keys are 0": lambda q, k, v, allowed: masked_softmax(allowed * (k @ q) / np.sqrt(len(q))) @ v,
            "divides by d": lambda q, k, v, allowed: masked_softmax(k @ q / len(q), allowed) @ v,
            "divides by the root of s": lambda q, k, v, allowed: masked_softmax(k @ q / np.sqrt(len(k)), allowed) @ v,
            "overflows": without_shift,
            "a score of -1e4 for forbidden keys": lambda q, k, v, allowed: (
                masked_softmax(k @ q / np.sqrt(len(q)) - 1e4 * ~allowed) @ v
            ),
        },
        right={"by a loop": by_a_loop},
    ),
    Exercise(
        "multi_query",
        multi_query,
        queries_of_several_heads,
        constraints=(
            Memory(
                {"q": Draw((1, 2, 64, 16)), "k": Draw((1, 400, 16)), "v": Draw((1, 400, 16))},
                most=4_000_000,
                forbids="a copy of the keys for each head",
            ),
        ),
        wrong={
            "repeats the keys": repeated,
            "returns no weights": lambda q, k, v: multi_query(q, k, v)[0],
            "does not scale": lambda q, k, v: multi_query(q * np.sqrt(q.shape[-1]), k, v),
            "weights with the heads last": lambda q, k, v: (
                multi_query(q, k, v)[0],
                multi_query(q, k, v)[1].transpose(0, 2, 3, 1),
            ),
            "the mean over heads": lambda q, k, v: multi_query(np.broadcast_to(q.mean(axis=2, keepdims=True), q.shape), k, v),
            "the softmax over heads": lambda q, k, v: (
                w := masked_softmax(np.einsum("bthd,bsd->bhts", q, k) / np.sqrt(q.shape[-1]), axes=1),
                np.einsum("bhts,bse->bthe", w, v),
            )[::-1],
        },
        right={
            "a view of the keys": lambda q, k, v: attention.attend(
                q, *(np.broadcast_to(x[:, :, None], (*x.shape[:2], q.shape[2], x.shape[2])) for x in (k, v))
            ),
        },
    ),
    Exercise(
        "streaming",
        streaming,
        keys_in_a_stream,
        constraints=(
            SinglePass("pairs"),
            Memory({"q": Draw((8,)), "pairs": (Draw((3000, 8)), Draw((3000, 8)))}, most=100_000, forbids="all keys or scores"),
        ),
        wrong={
            "has no running peak": without_a_peak,
            "takes the latest score for the peak": lambda q, pairs: softmax_streaming(q, pairs, "total mixture", latest=True),
            "keeps all keys": all_at_once,
            "looks for the peak first": peak_first,
            "the total does not shrink": lambda q, pairs: softmax_streaming(q, pairs, "mixture"),
            "the mixture does not shrink": lambda q, pairs: softmax_streaming(q, pairs, "total"),
            "nothing shrinks": lambda q, pairs: softmax_streaming(q, pairs, ""),
        },
        right={"moves an average": streaming_averages},
    ),
)
