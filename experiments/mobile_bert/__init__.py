"""MobileBERT: what a narrow student gains by copying a teacher's feature maps and attention, all at once or block by block."""

from functools import lru_cache
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from experiments.common.experiment import Experiment
from experiments.common.table import Claim, span
from experiments.common.training import train_again
from experiments.mobile_bert.model import FACTS, LOSSES, NAMES, WORDS, Student, Teacher, fresh, hidden, mean_output, sentences

TEACHING, STEPS, BATCH = 200, 200, 64
"""Steps of the teacher, and of each student in all."""

ARMS = {
    "teacher's answers": ("answers",),
    "feature maps": ("maps", "answers"),
    "attention": ("attention", "answers"),
    "both": ("both", "answers"),
    "both, block by block": ("both 0", "both 1", "answers"),
}
"""{arm: its stages}. All but the last stage take half of the steps together, and the last stage the rest."""

STAGES = {
    "answers": {"words": 0.5, "answers": 0.5},
    "maps": {"map 0": 1.0, "map 1": 1.0},
    "attention": {"attention 0": 1.0, "attention 1": 1.0},
    "both": {"map 0": 1.0, "map 1": 1.0, "attention 0": 1.0, "attention 1": 1.0},
    "both 0": {"map 0": 1.0, "attention 0": 1.0},
    "both 1": {"map 1": 1.0, "attention 1": 1.0},
}


class Lesson(NamedTuple):
    """What a teacher hands on: its parts, and what it makes of the sentences of training and of new ones."""

    teacher: Teacher
    seen: tuple
    new: tuple
    accuracy: float


@lru_cache(maxsize=1)
def lesson(seed, steps=STEPS):
    """A trained teacher, and its `view` of new sentences, and of those that students are trained with in so many steps."""
    keras.utils.set_random_seed(100 + seed)
    rng = np.random.default_rng(100 + seed)
    teacher, start = fresh(Teacher), fresh(Teacher)
    train_again(teacher, start, *sentences(BATCH * TEACHING, rng), 5e-3, BATCH)
    new, seen = (view(teacher, *sentences(count, rng)) for count in (256, BATCH * steps))
    return Lesson(teacher, seen, new, accuracy(new[3], new[4]))


def view(teacher, ids, words):
    """(x, maps, attention, answers, words): the inputs of `Student`, batch by batch."""
    rows = []
    for i in range(0, len(ids), 1024):
        x = teacher.embed(ids[i : i + 1024])
        found, weights = teacher.through(x)
        answers = ops.softmax(teacher.classify(hidden(found[-1])))
        parts = x, ops.stack(found, axis=1), ops.stack(weights, axis=1), answers
        rows.append([ops.convert_to_numpy(part) for part in parts])
    return *(np.concatenate(part) for part in zip(*rows)), words


def accuracy(answers, words):
    return float(np.mean(np.argmax(answers, axis=-1) == words))


traced = lru_cache(maxsize=1)(lambda: fresh(Student, keras.layers.Dense(WORDS, trainable=False)))
"""The student that is trained, again and again: all arms and stages are one program, which is traced once."""


def judged(student, new):
    """(accuracy, distance of the last map relative to its spread, divergence of attention) on new sentences."""
    x, maps, attention, _, words = new
    found, weights = (np.stack([ops.convert_to_numpy(part) for part in parts], axis=1) for parts in student.through(x))
    distance = np.mean((found[:, -1] - maps[:, -1]) ** 2) / maps[:, -1].var(axis=(0, 1)).mean()
    apart = np.sum(attention * np.log((attention + 1e-9) / (weights + 1e-9)), axis=-1).mean()
    return accuracy(ops.convert_to_numpy(student.classify(hidden(found[:, -1]))), words), distance, apart


def train_student(arm, rate, seed, copying_only=False):
    """Train a student of one teacher by the stages of an arm, or by those that show it no hidden word.

    Returns:
        {"right": the accuracy on hidden words of new sentences, "teacher": the teacher's, "copied": the student's before the
        last stage, when no hidden word was shown to it, "distance": how far its last map then is from the teacher's, relative
        to its spread, "apart": the divergence of its attention, "end": both after the last stage, "untrained": accuracy,
        distance and divergence before the first, "learned": the curve of the accuracy}.
    """
    of, student = lesson(seed, STEPS // 2 if copying_only else STEPS), traced()
    keras.utils.set_random_seed(seed)  # again, because the teacher and the tracing take random numbers only the first time
    start = fresh(Student, of.teacher.classify)
    stages, curve, done = ARMS[arm], [], 0
    student.set_weights(start.get_weights())
    untrained = before = judged(student, of.new)
    for stage in stages[:-1] if copying_only else stages:
        steps = STEPS if len(stages) == 1 else STEPS // 2 // (len(stages) - 1 if stage != stages[-1] else 1)
        start.mixture.assign([STAGES[stage].get(loss, 0.0) for loss in LOSSES])
        start.gate.assign(0.0 if stage[-1].isdigit() else 1.0)
        part = [array[BATCH * done : BATCH * (done + steps)] for array in of.seen]
        before = judged(student, of.new)

        def watch(step, done=done):
            curve.append((done + step, judged(student, of.new)[0]))

        train_again(student, start, tuple(part), np.zeros(len(part[0])), rate, BATCH, steps // 25, mean_output, watch)
        start.set_weights(student.get_weights())
        done += steps
    right, distance, apart = judged(student, of.new)
    return {
        "right": right,
        "teacher": of.accuracy,
        "copied": before[0],
        "distance": before[1],
        "apart": before[2],
        "end": (distance, apart),
        "untrained": untrained,
        "learned": curve,
    }


# ---- What is run, and what the lesson says of it -------------------------------------------------------------------------------

EXPERIMENTS = [
    Experiment(
        "copying", train_student, tuple(ARMS), (3e-3, 1e-2, 3e-2), "right", seeds=(0, 1, 2), elsewhere="both", together=True
    ),
]

PLAIN, MAPS, ATTENTION, BOTH, STEPWISE = ARMS
"""The arms by name."""


def at_best(found, what, arm, by="right"):
    """`what` of each seed, with the learning rate that is best for `by`: what is right after copying, or at the end."""
    return found.values(what, arm, best_rate(found, by, arm))


def best_rate(found, by, arm):
    return max(found.experiment.rates, key=lambda rate: np.median(found.values(by, arm, rate)))


def best_span(found, what, arm, by="right"):
    return span(at_best(found, what, arm, by))


def guessing():
    """How often a color of the sentence, picked at random, is right: one is, and each other may be the same by chance."""
    return (1 + (FACTS - 1) / NAMES) / FACTS


def beats(found, what, arm, rival):
    return above(at_best(found, what, arm, what), at_best(found, what, rival, what))


def above(ours, theirs):
    """Whether the worst seed is above the rival's range, widened by its width, because a few seeds do not reach its ends."""
    return ours.min() > theirs.max() + np.ptp(theirs)


def unseen(found):
    """Accuracy before any hidden word was shown."""
    ours = "; ".join(f"{arm} {best_span(found, 'copied', arm, 'copied')}" for arm in (MAPS, BOTH, STEPWISE, ATTENTION))
    good = min(at_best(found, "copied", arm, "copied").min() for arm in (MAPS, BOTH))
    alone = at_best(found, "copied", ATTENTION, "copied").max()
    return ours, "yes" if good > (1 + guessing()) / 2 and alone < guessing() else "no"


def sooner(found):
    """Accuracy at the end, with the same number of steps, with and without copying."""
    ours = "; ".join(f"{arm} {best_span(found, 'right', arm)} (rate {best_rate(found, 'right', arm):g})" for arm in ARMS)
    kept = [arm for arm in (MAPS, ATTENTION, BOTH, STEPWISE) if beats(found, "right", arm, PLAIN)]
    return ours, "yes" if len(kept) == 4 else f"only with {', '.join(kept)}" if kept else "no"


def added(found):
    """What attention adds to feature maps: each at its best rate, and seed by seed at one rate, where all else is equal."""
    told, slow, names = [], [], {"copied": "right after copying", "right": "right at the end"}
    for what, name in (names | {"apart": "divergence"}).items():
        both, maps = (best_span(found, what, arm, "right" if what == "right" else "copied") for arm in (BOTH, MAPS))
        told.append(f"{name} {both}, maps alone {maps}")
    for what, name in names.items():
        more = {rate: found.values(what, BOTH, rate) - found.values(what, MAPS, rate) for rate in found.experiment.rates}
        told.append(f"{name}, more in each seed: " + ", ".join(f"rate {rate:g} {span(more[rate])}" for rate in more))
        rates = [f"{rate:g}" for rate, values in more.items() if values.min() > np.ptp(values)]
        slow += [f"{name}, with a rate of {' or '.join(rates)}"] if rates else []
    survives = verdict([what for what in names if beats(found, what, BOTH, MAPS)])
    return "; ".join(told), f"only {'; '.join(slow)}" if survives == "no" and slow else survives


def progressive(found):
    """Block by block beside all blocks at once, after copying and at the end."""
    ours = "; ".join(
        f"{name} {best_span(found, what, STEPWISE, by)}, at once {best_span(found, what, BOTH, by)}"
        for what, name, by in (
            ("distance", "distance of maps", "copied"),
            ("copied", "right after copying", "copied"),
            ("right", "in the end right", "right"),
        )
    )
    return ours, verdict([what for what in ("copied", "right") if beats(found, what, STEPWISE, BOTH)])


def verdict(better):
    """From the list of measures, of two, by which something is better."""
    where = {"copied": "right after copying", "right": "at the end"}
    return {0: "no", 2: "yes"}.get(len(better)) or f"only {where[better[0]]}"


FLOOR = f"chance 1/{NAMES}; guessing among the colors of the sentence {guessing():.2f}; all right 1"

CLAIMS = [
    Claim(
        "A student that copies its teacher's feature maps fills in hidden words before it has been shown one",
        "copying",
        unseen,
        bound=FLOOR,
        ablation="the feature maps: attention alone is copied",
        paper="2004.02984: GLUE 77.7 for MobileBERT, 78.3 for BERT-base (its ablation of transfer was not at hand)",
    ),
    Claim(
        "With the same number of steps, a student that copies first ends better than one that learns from words and answers only",
        "copying",
        sooner,
        bound=FLOOR,
        ablation="copying; feature maps or attention of it",
        paper="2004.02984, section 3, trains so (no number at hand)",
    ),
    Claim(
        "Copying attention adds to copying feature maps",
        "copying",
        added,
        bound="a copy: distance 0, divergence 0",
        ablation="attention",
        paper="2004.02984, section 3, trains so (no number at hand)",
    ),
    Claim(
        "Copying block by block is better than copying all blocks at once",
        "copying",
        progressive,
        bound="a copy: distance 0; all right 1",
        ablation="the order: all blocks at once, with as many steps",
        paper="2004.02984, section 3, trains so (no number at hand)",
    ),
]
