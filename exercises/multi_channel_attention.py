"""Exercises of the lesson on multi-channel attention."""

import numpy as np

from crosscheck.lesson.arguments import Draw
from crosscheck.lesson.constraints import Memory, Time
from crosscheck.lesson.exercises import Exercise, edge
from reference.masked_softmax import masked_softmax


def channels_one(q, k, v, w, allowed):
    p = masked_softmax(k @ q / np.sqrt(len(q)), allowed)
    return np.einsum("a,as,ase->e", w, p, v)


def channel_by_channel(q, k, v, w, allowed):
    output = np.zeros(v.shape[-1])
    for w_a, k_a, v_a, allowed_a in zip(w, k, v, allowed):
        if allowed_a.any():
            scores = (k_a @ q / len(q) ** 0.5)[allowed_a]
            exp = np.exp(scores - scores.max())
            output += w_a * (exp / exp.sum()) @ v_a[allowed_a]
    return output


def as_one_text(q, k, v, w, allowed):
    scores = np.where(allowed, k @ q / np.sqrt(len(q)), -np.inf)
    p = masked_softmax(scores, axes=(0, 1))
    return np.einsum("a,as,ase->e", w, p, v)


def shared_out(q, k, v, w, allowed):
    """The weight of a channel with nothing to see goes to the others."""
    left = w * allowed.any(axis=1)
    return channels_one(q, k, v, left / (left.sum() or 1) * w.sum(), allowed)


def channels_of_texts(rng):
    a, s, d, e = rng.permutation([3, 4, 5, 6]).tolist()

    def inputs(allowed, size=1.0):
        a, s = allowed.shape
        k, v = rng.normal(size=(a, s, d)), rng.normal(size=(a, s, e))
        return {"q": size * rng.normal(size=d), "k": k, "v": v, "w": rng.normal(size=a), "allowed": allowed}

    some = rng.random((a, s)) < 0.6
    some[:, 0] = True
    return [
        inputs(np.ones((a, s), bool)),
        inputs(some),
        inputs(np.ones((a + 2, s + 1), bool)),
        edge("a channel with no key allowed", **inputs(some & (np.arange(a) != 1)[:, None])),
        edge("nothing is allowed", **inputs(np.zeros((a, s), bool))),
        edge("a single channel", **inputs(np.ones((1, s), bool))),
        edge("scores of about 1,000", **inputs(some, size=2000)),
    ]


def shares(q, k):
    scores = k @ q / np.sqrt(len(q))
    z = np.exp(scores - scores.max()).sum(axis=-1)
    return z / z.sum()


def by_logarithms(q, k):
    log_z = np.logaddexp.reduce(k @ q / np.sqrt(len(q)), axis=-1)
    return np.exp(log_z - np.logaddexp.reduce(log_z))


def own_peaks(q, k):
    scores = k @ q / np.sqrt(len(q))
    z = np.exp(scores - scores.max(axis=-1, keepdims=True)).sum(axis=-1)
    return z / z.sum()


def without_shift(q, k):
    z = np.exp(k @ q / np.sqrt(len(q))).sum(axis=-1)
    return z / z.sum()


def loud_channels(rng):
    a, s, d = rng.permutation([3, 4, 5]).tolist()
    q = rng.normal(size=d)
    along = q / (q @ q) * np.sqrt(d)
    return [
        {"q": q, "k": rng.normal(size=(a, s, d))},
        {"q": q, "k": rng.normal(size=(a + 3, s + 1, d))},
        edge("a single channel", q=q, k=rng.normal(size=(1, s, d))),
        edge("one key in each channel", q=q, k=rng.normal(size=(a, 1, d))),
        edge("scores of ±1,000", q=q, k=rng.choice([-1000.0, 1000.0], size=(a, s))[..., None] * along),
        edge("every score is -1,000", q=q, k=np.full((a, s, 1), -1000.0) * along),
        edge("a channel far below the others", q=q, k=np.array([[1.0, 2.0], [-800.0, -900.0], [0.0, 1.0]])[..., None] * along),
    ]


def votes_without_pairs(q, k, present):
    k = k * present[:, None, None]
    return present * np.einsum("ahd,ahd->a", q, k.sum(axis=0) - k)


def flat(q, k, present):
    q, k = q.reshape(len(q), -1), np.where(present[:, None], k.reshape(len(k), -1), 0)
    return np.where(present, q @ k.sum(axis=0) - (q * k).sum(axis=1), 0)


def by_pairs(q, k, present):
    scores = np.einsum("ahd,chd->ac", q, k) * present * present[:, None]
    return (scores * ~np.eye(len(q), dtype=bool)).sum(axis=1)


def by_hidden_pairs(q, k, present):
    """No array of pairs, but a sum over them."""
    k = k * present[:, None, None]
    return present * (np.einsum("ahd,chd->a", q, k) - np.einsum("ahd,ahd->a", q, k))


def documents(rng):
    a, h, d = rng.permutation([4, 5, 6]).tolist()

    def inputs(a, present, h=h):
        return {"q": rng.normal(size=(a, h, d)), "k": rng.normal(size=(a, h, d)), "present": present}

    return [
        inputs(a, np.ones(a, bool)),
        inputs(a + 3, np.ones(a + 3, bool), h=h + 1),
        inputs(a + 1, rng.permutation(np.arange(a + 1) > 1)),
        edge("two documents", **inputs(2, np.ones(2, bool))),
        edge("a single document", **inputs(1, np.ones(1, bool))),
        edge("one document is present", **inputs(a, np.arange(a) == 1)),
        edge("no document is present", **inputs(a, np.zeros(a, bool))),
    ]


def many(a):
    return {"q": Draw((a, 1, 4)), "k": Draw((a, 1, 4)), "present": np.ones(a, bool)}


EXERCISES = (
    Exercise(
        "channels_one",
        channels_one,
        channels_of_texts,
        wrong={
            "reads all channels as one text": as_one_text,
            "shares out the weight of an empty channel": shared_out,
            "ignores the weights": lambda q, k, v, w, allowed: channels_one(q, k, v, np.ones(len(w)), allowed),
            "makes the weights a distribution": lambda q, k, v, w, allowed: channels_one(q, k, v, masked_softmax(w), allowed),
            "ignores the mask": lambda q, k, v, w, allowed: channels_one(q, k, v, w, np.ones_like(allowed)),
            "does not scale": lambda q, k, v, w, allowed: channels_one(q * np.sqrt(len(q)), k, v, w, allowed),
            "adds up the keys of the channels": lambda q, k, v, w, allowed: (
                masked_softmax(np.einsum("a,asd,d->s", w, k, q) / np.sqrt(len(q)), allowed.any(axis=0)) @ v.sum(axis=0)
            ),
        },
        right={"channel by channel": channel_by_channel},
    ),
    Exercise(
        "shares",
        shares,
        loud_channels,
        wrong={
            "a peak for each channel": own_peaks,
            "overflows": without_shift,
            "the mean instead of the sum of scores": lambda q, k: masked_softmax((k @ q).mean(axis=-1) / np.sqrt(len(q))),
            "the largest score alone": lambda q, k: masked_softmax((k @ q).max(axis=-1) / np.sqrt(len(q))),
            "does not scale": lambda q, k: shares(q * np.sqrt(len(q)), k),
            "equal shares": lambda q, k: np.full(len(k), 1 / len(k)),
        },
        right={"by logarithms": by_logarithms},
    ),
    Exercise(
        "votes_without_pairs",
        votes_without_pairs,
        documents,
        constraints=(
            Memory(many(500), most=400_000, forbids="a number for each pair of documents"),
            Time(many(100), many(2000), factor=60, demands="time in proportion to the documents"),
        ),
        wrong={
            "an array of pairs": by_pairs,
            "a sum over pairs": by_hidden_pairs,
            "counts the document's own vote": lambda q, k, present: (
                present * np.einsum("ahd,hd->a", q, (k * present[:, None, None]).sum(axis=0))
            ),
            "absent documents vote": lambda q, k, present: present * votes_without_pairs(q, k, np.ones_like(present)),
            "absent documents get votes": lambda q, k, present: np.einsum(
                "ahd,ahd->a", q, (k * present[:, None, None]).sum(axis=0) - k * present[:, None, None]
            ),
            "the votes that a document casts": lambda q, k, present: votes_without_pairs(k, q, present),
            "the mean vote": lambda q, k, present: votes_without_pairs(q, k, present) / max(present.sum() - 1, 1),
        },
        right={"heads in a row": flat},
    ),
)
