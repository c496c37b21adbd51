"""Token embeddings: how far one step of Adam moves a row whose token occurs several times, and whether a model learns by it."""

from functools import cache

import keras
import numpy as np
from keras import ops

from experiments.common import novel
from experiments.common.experiment import Experiment
from experiments.common.table import Claim, span
from experiments.common.training import forget
from layers.on_device_embedding import OnDeviceEmbedding

# Keras's own layer is here to be measured: no lesson and no other experiment trains with it.
KINDS = {
    "our layer": OnDeviceEmbedding,
    "our layer, one-hot": lambda n, m: OnDeviceEmbedding(n, m, use_one_hot=True),
    "Keras's layer": keras.layers.Embedding,
}

# ---- One step ------------------------------------------------------------------------------------------------------------------

TIMES = (1, 4, 16, 64)
"""How often each token occurs in the batch."""
RATE, SIZE = 0.01, 8


def step_of(kind, seed):
    """How far each number of each row goes in the first step of Adam, in units of the rate: `(len(TIMES), SIZE)`.

    Every occurrence of a token has the same slope, which is random; so the sum has its sign.
    """
    rng = np.random.default_rng(seed)
    layer = KINDS[kind](len(TIMES), SIZE)
    model = keras.Sequential([keras.Input((sum(TIMES),), dtype="int32"), layer])
    model.compile(keras.optimizers.Adam(RATE), lambda slopes, rows: ops.sum(slopes * rows))
    ids = rng.permutation(np.repeat(np.arange(len(TIMES)), TIMES)).astype("int32")
    slopes = rng.normal(size=(len(TIMES), SIZE)).astype("float32")
    before = layer.get_weights()[0]
    model.train_on_batch(ids[None], slopes[ids][None])
    return np.abs(layer.get_weights()[0] - before) / RATE


def measure_step(arm, rate, seed):
    """Nothing is trained for long. Returns {"moved": for each of `TIMES`, the mean over the row; "most": for the last}."""
    moved = step_of(arm, seed).mean(axis=1)
    return {"moved": moved, "most": moved[-1]}


# ---- A model that is one table -------------------------------------------------------------------------------------------------

LENGTH, BATCH, STEPS, STRETCHES = 32, 32, 600, 10
READERS = ("our layer", "Keras's layer")


@cache
def compiled(kind):
    """The row of a character is the logits of the next one: nothing else is trained."""
    count = len(novel.SYMBOLS)
    model = keras.Sequential([keras.Input((LENGTH,), dtype="int32"), KINDS[kind](count, count)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    jit = keras.backend.backend() == "jax"
    model.compile(keras.optimizers.Adam(1e-3), loss, steps_per_execution=10, jit_compile=jit)
    model.optimizer.build(model.trainable_variables)
    return model


def train_reader(arm, rate, seed, steps=STEPS):
    """{"bits": a character on the held-out text, "loss": the curve}."""
    model, rng = compiled(arm), np.random.default_rng(seed)
    seen, new = novel.halves()
    (table,) = model.trainable_variables
    table.assign(rng.normal(scale=0.05, size=table.shape))
    forget(model.optimizer, rate)
    curve, per = [], steps // STRETCHES
    for stretch in range(STRETCHES):
        x, y = novel.pieces(seen, LENGTH, per * BATCH, rng)
        found = model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
        curve.append((per * (stretch + 1), found.history["loss"][0]))
    x, y = novel.every_piece(new, LENGTH)
    return {"bits": model.evaluate(x, y, batch_size=BATCH, verbose=0) / np.log(2), "loss": curve}


# ---- What is run ---------------------------------------------------------------------------------------------------------------

EXPERIMENTS = [
    Experiment("step", measure_step, tuple(KINDS), (0.0,), "most", lower_is_better=True, elsewhere="our layer"),
    Experiment(
        "characters",
        train_reader,
        READERS,
        (3e-3, 1e-2, 3e-2, 1e-1),
        "bits",
        lower_is_better=True,
        seeds=(0, 1, 2),
        elsewhere="our layer",
    ),
]


# ---- What the lesson says of it ------------------------------------------------------------------------------------------------

SQUARES = np.sqrt(TIMES)
"""How far a token moves if the squares of its entries are added, in units of the rate."""


def moves_by_the_rate(found):
    """How far the token goes that occurs most often, in each kind of layer."""
    most = {arm: found.values("most", arm) for arm in KINDS}
    ours = ", ".join(f"{arm} {span(values)}" for arm, values in most.items())
    ours = f"{ours}; our layer on JAX {found.elsewhere('most')[1]:.2f}"
    once = found.values("moved", "Keras's layer")[:, 0]
    sums = all(np.allclose(most[arm], 1, rtol=0.01) for arm in ("our layer", "our layer, one-hot"))
    squares = np.allclose(most["Keras's layer"], SQUARES[-1], rtol=0.01) and np.allclose(once, 1, rtol=0.01)
    return ours, "yes" if sums and squares else "no"


def trains_differently(found):
    """The bits of both layers at every rate, and the rates at which their seeds do not overlap."""
    rates, ours, apart = found.experiment.rates, [], []
    for rate in rates:
        one, other = (found.values("bits", arm, rate) for arm in READERS)
        ours.append(f"rate {rate:g}: {one.min():.3f} to {one.max():.3f} and {other.min():.3f} to {other.max():.3f}")
        if one.max() < other.min() or other.max() < one.min():
            apart.append(f"{rate:g}")
    if len(apart) == len(rates):
        return "; ".join(ours), "yes"
    return "; ".join(ours), f"only at a learning rate of {' or '.join(apart)}" if apart else "no"


CLAIMS = [
    Claim(
        f"In one step of Adam a token that occurs {TIMES[-1]} times moves by the rate; with Keras's layer on TensorFlow by more",
        "step",
        moves_by_the_rate,
        bound=f"the rate 1; squares of entries added √{TIMES[-1]} = {SQUARES[-1]:g}",
        ablation="the other occurrences: a token that occurs once moves by the rate in every layer",
        paper="1412.6980, section 2.1: a step is at most about the rate",
    ),
    Claim(
        "At the same rate, a model of characters ends elsewhere with Keras's layer than with ours",
        "characters",
        trains_differently,
        bound=f"counts after 1 character: {novel.bits_of_counts(1):.2f} bits",
        ablation="the squares of entries, with the square of their sum in their place",
        paper="none",
    ),
]
