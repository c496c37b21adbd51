"""Two functions to be learned: products of linear maps, and a ReLU network."""

import keras
import numpy as np
from keras import ops

from experiments.gated_feedforward.networks import capped, curve_of, falling, network, prepared, restarted

WIDTH, UNITS, FITTED = 24, 96, 500
"""Numbers of an input, units without a gate, steps."""

FITTERS = ("ReLU", "ReGLU", "Bilinear")
TARGETS = ("products", "a ReLU network")
FITS = {f"{kind} learns {target}": (kind, target) for target in TARGETS for kind in FITTERS}


def fitter(kind):
    model = keras.Sequential([network(kind, UNITS, apply_output_layer_norm=False)])
    return prepared(model, np.zeros((1, WIDTH), "float32"), "mse")


def target_of(which, seed):
    """A function of `(count, WIDTH)` whose outputs have variance 1."""
    rng = np.random.default_rng(1000 + seed)
    a, b, inner, outer = (rng.normal(size=size) for size in ((24, 24), (24, 24), (24, 32), (32, 24)))
    raw = {"products": lambda x: (x @ a) * (x @ b), "a ReLU network": lambda x: np.maximum(x @ inner, 0) @ outer}[which]
    size = raw(rng.normal(size=(10_000, WIDTH))).std()
    return lambda x: raw(x) / size


def train_fitter(arm, rate, seed, steps=FITTED):
    """{"left": the squared error on new inputs, of a variance of 1; "loss": the curve of training}."""
    kind, which = FITS[arm]
    model, target = restarted(fitter, kind, seed), target_of(which, seed)
    rng, watch = np.random.default_rng(seed), falling(rate, steps)
    x = rng.normal(size=(steps * 128, WIDTH)).astype("float32")
    model.fit(x, x + target(x), batch_size=128, shuffle=False, verbose=0, callbacks=[watch])  # the layer adds x
    new = rng.normal(size=(2000, WIDTH)).astype("float32")
    left = np.mean((ops.convert_to_numpy(model(new)) - new - target(new)) ** 2)
    return {"left": capped(left), "loss": curve_of(watch)}
