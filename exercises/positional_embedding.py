"""Exercises of the lesson on positions."""

import numpy as np

from crosscheck.lesson.constraints import NoLoop
from crosscheck.lesson.exercises import Exercise, edge
from reference import positional_embedding as ref


def waves_of(t, m):
    angles = t / 10000 ** (np.arange(0, m, 2) / m)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).ravel()


def waves_one_by_one(t, m):
    return [(np.cos if i % 2 else np.sin)(t * 10000 ** -((i - i % 2) / m)) for i in range(m)]


def positions_and_sizes(rng):
    t, m = rng.integers(3, 40), 2 * rng.integers(3, 7)
    return [
        {"t": t, "m": m},
        {"t": t + 100, "m": m + 4},
        edge("position 0", t=0, m=m),
        edge("a single wave", t=t, m=2),
        edge("a position far away", t=100000 + t, m=m),
        edge("a position before the text", t=-t, m=m),
    ]


def later(y, k):
    m = y.shape[1]
    turned = (y[:, 1::2] + 1j * y[:, ::2]) * np.exp(1j * k / 10000 ** (np.arange(0, m, 2) / m))
    return np.stack([turned.imag, turned.real], axis=-1).reshape(y.shape)


def by_sums_of_angles(y, k):
    angle = k / 10000 ** (np.arange(0, y.shape[1], 2) / y.shape[1])
    sin, cos, out = y[:, ::2], y[:, 1::2], np.empty(y.shape)
    out[:, ::2] = sin * np.cos(angle) + cos * np.sin(angle)
    out[:, 1::2] = cos * np.cos(angle) - sin * np.sin(angle)
    return out


def by_recovered_position(y, k):
    """The position from the first wave, which only says it up to a multiple of 2π."""
    t = np.arctan2(y[:, 0], y[:, 1])
    return ref.interleaved(t + k, y.shape[1])


def rows_of_waves(rng):
    m, k = 2 * rng.integers(2, 6), rng.integers(2, 9)

    def inputs(positions, m, k):
        return {"y": ref.interleaved(np.array(positions), m), "k": k}

    return [
        inputs(rng.integers(10, 90, size=4), m, k),
        inputs(rng.integers(10, 90, size=3), m + 4, k + 30),
        edge("0 places later", **inputs(rng.integers(10, 90, size=3), m, 0)),
        edge("earlier instead of later", **inputs(rng.integers(10, 90, size=5), m, -k)),
        edge("a single wave", **inputs(rng.integers(10, 90, size=3), 2, k)),
        edge("no rows", **inputs(np.zeros(0, int), m, k)),
    ]


def buckets_of(n, buckets, most):
    table = np.array([ref.place(distance, buckets // 2, most) for distance in range(most + 1)])
    return buckets // 2 * (n > 0) + table[np.minimum(np.abs(n), most)]


def by_starts(n, buckets, most):
    r = buckets // 2
    e = r // 2
    far = np.ceil(np.round(e * (most / e) ** (np.arange(1, r - e) / (r - e)), 9))
    starts = np.concatenate([np.arange(1, e + 1), far])
    return r * (n > 0) + np.searchsorted(starts, np.abs(n), side="right")


def by_logarithm(n, buckets, most, nudge=1e-9, at_most=True, after=lambda n: n > 0):
    r = buckets // 2
    e = r // 2
    far = np.abs(np.where(n == 0, 1, n))
    steps = e + np.floor((r - e) * np.log(far / e) / np.log(most / e) + nudge).astype(int)
    place = np.where(np.abs(n) < e, np.abs(n), np.minimum(r - 1, steps) if at_most else steps)
    return r * after(n) + place


def one_by_one(n, buckets, most):
    return np.array([ref.bucket(int(distance), buckets, most) for distance in n], int)


def distances(rng):
    near = rng.integers(-7, 8, size=6)
    return [
        {"n": near, "buckets": 32, "most": 128},
        {"n": rng.integers(-300, 300, size=40), "buckets": 32, "most": 128},
        {"n": rng.integers(-100, 100, size=30), "buckets": 16, "most": 64},
        {"n": rng.integers(-600, 600, size=50), "buckets": 64, "most": 512},
        edge("the distances at which buckets begin", n=np.array([-8, 8, 16, -16, 32, 64, -64, 90, 91]), buckets=32, most=128),
        edge("a distance of 0", n=np.zeros(1, int), buckets=32, most=128),
        edge("the longest distance", n=np.array([127, 128, -128, 129]), buckets=32, most=128),
        edge("distances of 1,000,000", n=np.array([1000000, -1000000]), buckets=32, most=128),
        edge("no distances", n=np.zeros(0, int), buckets=32, most=128),
    ]


MANY = {"n": np.arange(-100, 104), "buckets": 32, "most": 128}

EXERCISES = (
    Exercise(
        "waves_of",
        waves_of,
        positions_and_sizes,
        wrong={
            "all sines first": lambda t, m: waves_of(t, m).reshape(-1, 2).T.ravel(),
            "cosines before sines": lambda t, m: waves_of(t, m).reshape(-1, 2)[:, ::-1].ravel(),
            "wavelengths twice as dense": lambda t, m: waves_of(t, 2 * m)[:m],
            "positions from 1": lambda t, m: waves_of(t + 1, m),
            "every number has a wavelength of its own": lambda t, m: np.where(
                np.arange(m) % 2, np.cos(t / 10000 ** (np.arange(m) / m)), np.sin(t / 10000 ** (np.arange(m) / m))
            ),
            "the longest wavelength one step later": lambda t, m: ref.concatenated(np.array([t]), m)[0].reshape(2, -1).T.ravel(),
        },
        right={"one by one": waves_one_by_one},
    ),
    Exercise(
        "later",
        later,
        rows_of_waves,
        wrong={
            "turns the other way": lambda y, k: later(y, -k),
            "one angle for all waves": lambda y, k: np.concatenate(
                [later(y[:, i : i + 2], k) for i in range(0, y.shape[1], 2)], 1
            ),
            "takes sines and cosines for halves": lambda y, k: np.concatenate(
                [later(np.stack([x, z], axis=1), k) for x, z in zip(*np.split(y.T, 2))], axis=1
            ),
            "moves the rows": lambda y, k: np.roll(y, -k, axis=0),
            "reads the position off the first wave": by_recovered_position,
            "adds the waves of k": lambda y, k: y + waves_of(k, y.shape[1]),
        },
        right={
            "a matrix": lambda y, k: y @ ref.rotation(k, y.shape[1]).T,
            "sums of angles": by_sums_of_angles,
        },
    ),
    Exercise(
        "buckets_of",
        buckets_of,
        distances,
        constraints=(NoLoop(MANY | {"n": np.arange(4)}, MANY, more=200, axis="n"),),
        wrong={
            "a loop over distances": one_by_one,
            "a logarithm that is rounded down": lambda n, buckets, most: by_logarithm(n, buckets, most, nudge=-1e-9),
            "a distance of 0 among the later keys": lambda n, buckets, most: by_logarithm(
                n, buckets, most, after=lambda n: n >= 0
            ),
            "later and earlier swapped": lambda n, buckets, most: by_logarithm(-n, buckets, most),
            "no last bucket": lambda n, buckets, most: by_logarithm(n, buckets, most, at_most=False),
            "32 buckets to 128, always": lambda n, buckets, most: by_logarithm(n, 32, 128),
            "no bucket of its own for near distances": lambda n, buckets, most: by_logarithm(n // 2 * 2, buckets, most),
        },
        right={"by their starts": by_starts, "a logarithm, nudged": by_logarithm},
    ),
)
