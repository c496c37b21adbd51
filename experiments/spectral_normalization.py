"""Spectral normalization: how steep a network is that learns wrong labels, and whether a bounded critic helps a small GAN."""

from functools import cache

import keras
import numpy as np
from keras import ops

from crosscheck.backends import differentiate
from experiments.common.experiment import Experiment
from experiments.common.table import Claim, span
from experiments.common.training import draw_uniform, forget
from layers.spectral_normalization import SpectralNormalization
from reference import spectral_normalization as ref

WIDTH = 32


def stack(widths, activation, bound=None):
    """Dense layers, the last without an activation; with a bound, one on each kernel."""
    layers = [keras.layers.Dense(width, activation) for width in widths[:-1]] + [keras.layers.Dense(widths[-1])]
    return keras.Sequential([SpectralNormalization(layer, norm_multiplier=bound) for layer in layers] if bound else layers)


def restart(model, stacks, rate, rng):
    """Draw new kernels (Glorot's), set biases and the optimizer's averages to 0, and warm the power iterations up."""
    draw_uniform(model, rng)
    for layer in (layer for part in stacks for layer in part.layers if isinstance(layer, SpectralNormalization)):
        layer.warm_start()
    forget(model.optimizer, rate)


# ---- Wrong labels --------------------------------------------------------------------------------------------------------------

POINTS, WRONG, DIMENSIONS, NEW, STEPS = 200, 20, 20, 500, 600
"""Of `POINTS` labels `WRONG` are wrong. The network is trained on all points at once, and judged on `NEW` ones."""

NETWORKS = {"no bound": (None, 0.0), "weight decay": (None, 1.0), "bound 1.5": (1.5, 0.0), "bound 3": (3.0, 0.0)}
"""{arm: (bound of each kernel, decay of the weights)}."""


@cache
def compiled_network(dimensions, bound, decay):
    model = stack((128, 128, 1), "relu", bound)
    model.build((None, dimensions))
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=decay)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer, loss, steps_per_execution=100, jit_compile=keras.backend.backend() == "jax")
    optimizer.build(model.trainable_variables)
    return model


def fitted(x, y, bound, decay, rate, seed, steps=STEPS):
    """A network after so many steps on all of `x` `(t, m)` with its labels `y` `(t,)`."""
    model = compiled_network(x.shape[1], bound, decay)
    restart(model, [model], rate, np.random.default_rng(seed))
    x, y = np.tile(x, (steps, 1)).astype("float32"), np.tile(y, steps).astype("float32")
    model.fit(x, y, batch_size=len(x) // steps, shuffle=False, verbose=0)
    return model


def steepness(model, x):
    """‖∂logit / ∂x‖ at every x."""
    inputs = {"x": ops.convert_to_tensor(x, "float32")}
    return np.linalg.norm(differentiate(lambda f, x: f(x), model, inputs, {"output": np.ones((len(x), 1))})[2]["x"], axis=1)


def limit(model):
    """The product of the spectral norms of the kernels in use, which no slope of a network with ReLUs exceeds."""
    norms = []
    for layer in model.layers:
        kernel = ops.convert_to_numpy(getattr(layer, "layer", layer).kernel).astype("float64")
        if isinstance(layer, SpectralNormalization):
            estimate = ref.estimated_norm(kernel, *(ops.convert_to_numpy(vector) for vector in (layer.u, layer.v)))
            kernel = ref.bounded(kernel, estimate, layer.norm_multiplier)
        norms.append(ref.spectral_norm(kernel))
    return float(np.prod(norms))


def right(model, x, y):
    return float(np.mean((ops.convert_to_numpy(model(x.astype("float32")))[:, 0] > 0) == y))


def train_noisy(arm, rate, seed):
    """{"learned", "right": accuracy on the points, on new ones, "steep", "steepest", "limit": slopes at new ones}."""
    rng = np.random.default_rng(100 + seed)
    x, x_new, teacher = rng.normal(size=(POINTS, DIMENSIONS)), rng.normal(size=(NEW, DIMENSIONS)), rng.normal(size=DIMENSIONS)
    y = (x @ teacher > 0) ^ (np.arange(POINTS) < WRONG)
    model = fitted(x, y, *NETWORKS[arm], rate, seed)
    slopes = steepness(model, x_new)
    found = {"learned": right(model, x, y), "right": right(model, x_new, x_new @ teacher > 0)}
    return found | {"steep": np.median(slopes), "steepest": slopes.max(), "limit": limit(model)}


# ---- A small GAN ---------------------------------------------------------------------------------------------------------------

MODES, SPREAD, NOISE, BATCH, UPDATES, DRAWN = 8, 0.1, 8, 64, 1600, 4096
CENTERS = 2 * np.stack([trigonometric(2 * np.pi * np.arange(MODES) / MODES) for trigonometric in (np.cos, np.sin)], axis=-1)
"""A ring of Gaussians, of standard deviation `SPREAD`, on a circle of radius 2."""

CRITICS = {"no bound": None, "bound 4": 4.0, "bound 2": 2.0, "bound 1": 1.0}


class Gan(keras.Model):
    """A generator and a critic with the hinge losses of Miyato et al., (16) and (17), as one loss.

    The critic's scores of made points enter three times: where only the critic gets a gradient, and as a difference that is 0 and
    passes a gradient to the generator alone.
    """

    def __init__(self, bound):
        super().__init__()
        self.generator = stack((WIDTH, WIDTH, 2), "relu")
        self.critic = stack((WIDTH, WIDTH, 1), keras.layers.LeakyReLU(0.1), bound)

    def call(self, inputs, training=False):
        real, noise = inputs
        made = self.generator(noise)
        scores = self.critic(ops.concatenate([real, ops.stop_gradient(made), made]), training=training)
        of_real, for_critic, for_generator = ops.split(scores[:, 0], 3)
        return ops.relu(1 - of_real) + ops.relu(1 + for_critic) + for_critic - for_generator


@cache
def compiled_gan(bound):
    model = Gan(bound)
    model([np.zeros((BATCH, size), "float32") for size in (2, NOISE)])
    optimizer = keras.optimizers.Adam(1e-3, beta_1=0.5, beta_2=0.9)
    model.compile(
        optimizer, lambda _, loss: ops.mean(loss), steps_per_execution=100, jit_compile=keras.backend.backend() == "jax"
    )
    optimizer.build(model.trainable_variables)
    return model


def ring(rng, count):
    return (CENTERS[rng.integers(0, MODES, count)] + SPREAD * rng.normal(size=(count, 2))).astype("float32")


def overlap(points):
    """How much of the ring is made: the sum over modes of the share of points within 3 deviations, an eighth at most."""
    distances = np.linalg.norm(points[:, None] - CENTERS, axis=-1)
    near = distances.argmin(axis=1)[distances.min(axis=1) < 3 * SPREAD]
    return float(np.minimum(np.bincount(near, minlength=MODES) / len(points), 1 / MODES).sum())


def train_gan(arm, rate, seed, updates=UPDATES, stretches=8):
    """{"overlap", "curve": of the overlap, "points": a few that were made, "steepest", "limit": slopes of the critic}."""
    rng = np.random.default_rng(seed)
    model, batches = compiled_gan(CRITICS[arm]), updates // stretches
    restart(model, (model.critic,), rate, rng)

    def make(count):
        return ops.convert_to_numpy(model.generator(rng.normal(size=(count, NOISE)).astype("float32")))

    curve = []
    for stretch in range(stretches):
        count = batches * BATCH
        inputs = ring(rng, count), rng.normal(size=(count, NOISE)).astype("float32")
        model.fit(inputs, np.zeros(count, "float32"), batch_size=BATCH, shuffle=False, verbose=0)
        curve.append((batches * (stretch + 1), overlap(make(DRAWN))))
    steepest = steepness(model.critic, np.concatenate([ring(rng, 500), make(500)])).max()
    found = {"overlap": curve[-1][1], "curve": curve, "points": np.round(make(150), 2)}
    return found | {"steepest": steepest, "limit": limit(model.critic)}


# ---- What is run ---------------------------------------------------------------------------------------------------------------

SEEDS = (0, 1, 2)
EXPERIMENTS = [
    Experiment("labels", train_noisy, tuple(NETWORKS), (1e-3, 3e-3, 1e-2), "right", seeds=SEEDS, elsewhere="bound 1.5"),
    Experiment("gan", train_gan, tuple(CRITICS), (3e-3, 1e-2, 3e-2), "overlap", seeds=SEEDS, elsewhere="no bound"),
]


TIGHT = "bound 1.5"
CEILING = overlap(ring(np.random.default_rng(0), DRAWN))


def every(found, what, arm):
    """The values of an arm at all rates, `(rates, seeds)`."""
    return np.array([found.values(what, arm, rate) for rate in found.experiment.rates])


def flat(found):
    """The median steepness of every run."""
    steep = {arm: every(found, "steep", arm) for arm in NETWORKS}
    others = min(values.min() for arm, values in steep.items() if arm != TIGHT)
    learned = all(every(found, "learned", arm).min() > 1 - WRONG / POINTS / 2 for arm in NETWORKS)
    ours = ", ".join(f"{arm} {span(values)}" for arm, values in steep.items())
    return ours, "yes" if steep[TIGHT].max() < others and learned else "no"


def limited(found):
    """Slopes beside the product of the norms of the kernels in use, and that beside the product of the bounds."""
    if any((every(found, "steepest", arm) > every(found, "limit", arm)).any() for arm in NETWORKS):
        return "a slope above the product of the norms", "no"
    over = every(found, "limit", TIGHT)
    ours = f"steepest {every(found, 'steepest', TIGHT).max():.2f}; product of the norms in use {span(over)}"
    return ours, "yes" if over.max() <= NETWORKS[TIGHT][0] ** 3 else "only once the estimates have settled"


def more_of_the_ring(found):
    """The overlap at each arm's best rate."""
    overlaps = {arm: found.values("overlap", arm) for arm in CRITICS}
    better = any(values.min() > overlaps["no bound"].max() for arm, values in overlaps.items() if arm != "no bound")
    return ", ".join(f"{arm} {span(values)}" for arm, values in overlaps.items()), "yes" if better else "no"


def too_tight(found):
    """The best run with a bound of 1, at any rate, and the worst without a bound at its best one."""
    tight, free = every(found, "overlap", "bound 1").max(), found.worst("overlap", "no bound")
    return f"bound 1 at best {tight:.2f}, no bound {free:.2f} (worst)", "yes" if tight < (
        1 / MODES + CEILING
    ) / 2 < free else "no"


RING = {
    "bound": f"real points {CEILING:.2f}; one Gaussian {1 / MODES:g}",
    "ablation": "the bound, loosened step by step",
    "paper": "1802.05957, Table 2, CIFAR-10: Inception score 8.22; orthonormal kernels 7.92, gradient penalty 7.86",
}

CLAIMS = [
    Claim(
        f"With kernels bounded by {NETWORKS[TIGHT][0]:g}, a network that learns wrong labels is less steep than any other",
        "labels",
        flat,
        bound=f"product of the bounds {NETWORKS[TIGHT][0] ** 3:g} and {NETWORKS['bound 3'][0] ** 3:g}",
        ablation="a bound twice as loose; and weight decay in its place",
        paper="none (1705.10941 has it for the penalty, 1802.05957 for the critic)",
    ),
    Claim(
        f"A network with three kernels bounded by {NETWORKS[TIGHT][0]:g} cannot be steeper than their product",
        "labels",
        limited,
        bound=f"{NETWORKS[TIGHT][0] ** 3:g}",
        ablation="the estimate in place of the norm",
        paper="1802.05957, section 2.1 (argued, with the norm itself)",
    ),
    Claim("A GAN whose critic is bounded makes more of a ring of Gaussians", "gan", more_of_the_ring, **RING),
    Claim("A critic that is bounded too tightly does not teach the generator the ring", "gan", too_tight, **RING),
]
