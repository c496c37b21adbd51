"""Additive margin softmax: what a margin does for pairs that were not trained on, at which scale, and what else would do it."""

from functools import cache

import keras
import numpy as np
from keras import ops

from experiments.common.experiment import Experiment
from experiments.common.table import Claim
from experiments.common.training import draw_uniform, forget
from layers.mat_mul_with_margin import MatMulWithMargin

BATCH, STRETCHES = 128, 10
MARGIN = 0.3


def arms_of(scales):
    """{arm: (scale, margin)}, without and with a margin."""
    return {f"scale {scale:g}, {name}": (scale, margin) for scale in scales for name, margin in WITH_AND_WITHOUT}


WITH_AND_WITHOUT = (("no margin", 0.0), (f"margin {MARGIN}", MARGIN))


@cache
def compiled(size, scale, margin):
    """Two encoders, and the model that trains them with the loss in both directions."""

    def tower():
        layers = keras.layers.Dense(64, "tanh"), keras.layers.Dense(32), keras.layers.UnitNormalization()
        return keras.Sequential([keras.Input((size,)), *layers])

    towers, inputs = [tower(), tower()], [keras.Input((size,)), keras.Input((size,))]
    logits = MatMulWithMargin(scale, margin)(*(encode(x) for encode, x in zip(towers, inputs)))
    model = keras.Model(inputs, logits)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    jit = keras.backend.backend() == "jax"
    model.compile(keras.optimizers.Adam(1e-3), [loss, loss], steps_per_execution=10, jit_compile=jit)
    model.optimizer.build(model.trainable_variables)
    return model, towers


def fitted(pairs, scale, margin, rate, rng, steps):
    """The encoders after training on `pairs`, two arrays `(t, m)`, and the curve of the loss."""
    model, towers = compiled(pairs[0].shape[1], scale, margin)
    draw_uniform(model, rng)
    forget(model.optimizer, rate)
    curve, per = [], steps // STRETCHES
    for stretch in range(STRETCHES):
        order = np.concatenate([rng.choice(len(pairs[0]), BATCH, replace=False) for _ in range(per)])
        answers = np.tile(np.arange(BATCH), per)
        found = model.fit([x[order] for x in pairs], [answers, answers], batch_size=BATCH, shuffle=False, verbose=0)
        curve.append((per * (stretch + 1), found.history["loss"][0]))
    return towers, curve


def cosines(towers, pairs):
    left, right = (ops.convert_to_numpy(encode(x)) for encode, x in zip(towers, pairs))
    return left @ right.T


def gaps(found):
    """By how much the cosine of each right pair beats the best wrong one, from left to right: `(t,)`."""
    return np.diagonal(found) - np.where(np.eye(len(found), dtype=bool), -np.inf, found).max(axis=1)


def judged(towers, curve, pairs):
    found = gaps(cosines(towers, pairs))
    return {"found": np.mean(found > 0), "gap": found.mean(), "close": np.mean(abs(found) < 0.05), "loss": curve}


# ---- Meanings in groups, said in two made-up languages -------------------------------------------------------------------------

GROUPS, ALIKE, HIDDEN, SIZE = 200, 4, 16, 48
"""`GROUPS` groups of `ALIKE` meanings that are nearly alike."""

LANGUAGES = arms_of((1.0, 5.0, 20.0, 50.0))


def languages(rng):
    """(training pairs, new pairs): each language is a bent view of the hidden meanings, with some noise."""
    views = [rng.normal(size=(HIDDEN, SIZE)) / 2 for _ in range(2)]

    def speak():
        meanings = rng.normal(size=(GROUPS, 1, HIDDEN)) + 0.6 * rng.normal(size=(GROUPS, ALIKE, HIDDEN))
        said = [np.tanh(meanings.reshape(-1, HIDDEN) @ view) for view in views]
        return [(words + 0.1 * rng.normal(size=words.shape)).astype("float32") for words in said]

    return speak(), speak()


def train_languages(arm, rate, seed, steps=300):
    """{"found": share of new pairs whose nearest neighbor is the partner, "gap", "close", "loss": the curve}."""
    rng = np.random.default_rng(seed)
    seen, new = languages(rng)
    return judged(*fitted(seen, *LANGUAGES[arm], rate, rng, steps), new)


LONGER = tuple(arm for arm, (scale, _) in LANGUAGES.items() if scale == 50)


def train_longer(arm, rate, seed):
    """The same with four times as many steps."""
    return train_languages(arm, rate, seed, steps=1200)


# ---- What is run ---------------------------------------------------------------------------------------------------------------

RATES, ELSEWHERE = (1e-3, 3e-3, 1e-2), f"scale 50, margin {MARGIN}"
EXPERIMENTS = [
    Experiment("languages", train_languages, tuple(LANGUAGES), RATES, "found", seeds=(0, 1, 2), elsewhere=ELSEWHERE),
    Experiment("longer", train_longer, LONGER, RATES, "found", seeds=(0, 1, 2), elsewhere=ELSEWHERE),
]


# ---- What the lesson says of it ------------------------------------------------------------------------------------------------


def added(found, what, arm, other):
    """Seed by seed, each arm at its best rate."""
    return found.values(what, arm) - found.values(what, other)


def signed(values):
    return f"{np.min(values):+.3f} to {np.max(values):+.3f}"


def by_margin(found, what, scale):
    with_it, without = (f"scale {scale:g}, {name}" for name, _ in reversed(WITH_AND_WITHOUT))
    return added(found, what, with_it, without)


def at_scales(found, what, least):
    """What a margin adds at every scale, as text, and whether it adds more than `least(values without it)` in every seed."""
    scales = sorted({scale for scale, _ in LANGUAGES.values()}, reverse=True)
    by_scale = {scale: by_margin(found, what, scale) for scale in scales}
    enough = {scale: least(found.values(what, f"scale {scale:g}, no margin")) for scale in scales}
    helping = [f"{scale:g}" for scale, values in by_scale.items() if values.min() > enough[scale]]
    survives = "yes" if len(helping) == len(scales) else f"only at a scale of {' or '.join(helping)}" if helping else "no"
    return ", ".join(f"scale {scale:g} {signed(values)}" for scale, values in by_scale.items()), survives


def finds_more(found):
    """P@1, in which a difference is one if it is larger than a standard error."""
    return at_scales(found, "found", lambda share: np.sqrt(np.mean(share) * (1 - np.mean(share)) / (GROUPS * ALIKE)))


def wins_by_more(found):
    """The mean gap, in units of the cosine."""
    return at_scales(found, "gap", lambda gap: 0.0)


def after_longer(found):
    """What the margin adds to P@1 at each rate, and whether it adds at all of them."""
    without, with_it = LONGER
    rates = found.experiment.rates
    by_rate = {rate: found.values("found", with_it, rate) - found.values("found", without, rate) for rate in rates}
    adding = [f"{rate:g}" for rate, values in by_rate.items() if values.min() > 0]
    best = f"each at its best rate {signed(added(found, 'found', with_it, without))}"
    ours = "; ".join([*(f"rate {rate:g} {signed(values)}" for rate, values in by_rate.items()), best])
    if len(adding) == len(rates):
        return ours, "yes"
    return ours, f"only at a rate of {' or '.join(adding)}" if adding else "no"


def nothing_at_one(found):
    """The largest change of P@1 and of the mean gap at a scale of 1, beside the spread of P@1 between seeds."""
    most = max(abs(by_margin(found, what, 1.0)).max() for what in ("found", "gap"))
    spread = np.ptp(found.values("found", "scale 1, no margin"))
    return f"changes by at most {most:.4f}; between seeds {spread:.3f}", "yes" if most < spread else "no"


def smaller_scale(found):
    """P@1 at a scale of 5 without a margin, less that at larger scales with one; a standard error is no difference."""
    less = {scale: added(found, "found", "scale 5, no margin", f"scale {scale}, margin {MARGIN}") for scale in (20, 50)}
    ours = ", ".join(f"less scale {scale} {signed(values)}" for scale, values in less.items())
    return ours, "yes" if min(values.min() for values in less.values()) > -STANDARD_ERROR else "no"


STANDARD_ERROR = np.sqrt(0.95 * 0.05 / (GROUPS * ALIKE))
PAPER = "1902.08564, abstract: P@1 of 86% or more on the United Nations corpus (with a margin; without: not in the abstract)"

CLAIMS = [
    Claim(
        f"With a margin of {MARGIN}, more new translations are found",
        "languages",
        finds_more,
        bound=f"all 1; the group found and a guess in it 1/{ALIKE}; standard error of 0.95 {STANDARD_ERROR:.3f}",
        ablation="the scale, lowered step by step",
        paper=PAPER,
    ),
    Claim(
        f"With a margin of {MARGIN}, new translations win by more",
        "languages",
        wins_by_more,
        bound="no change 0",
        ablation="the scale, lowered step by step",
        paper="none",
    ),
    Claim(
        f"After four times as many steps, at a scale of 50, a margin of {MARGIN} still finds more",
        "longer",
        after_longer,
        bound="no change 0",
        ablation="the margin",
        paper="none",
    ),
    Claim(
        "At a scale of 1 a margin changes nothing",
        "languages",
        nothing_at_one,
        bound=f"no gradient grows by more than {(1 - np.exp(-MARGIN)) / ((BATCH - 1) * np.exp(-2) + np.exp(-MARGIN)):.1%}",
        ablation="the scale, raised to 5, 20 and 50",
        paper="none (its formula has no scale)",
    ),
    Claim(
        "A smaller scale without a margin finds as many as a large one with a margin",
        "languages",
        smaller_scale,
        bound=f"all 1; the group found and a guess in it 1/{ALIKE}",
        ablation="the margin, with a scale of 5 in its place",
        paper="none",
    ),
]
