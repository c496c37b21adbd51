"""Known and unknown inputs, and the networks that are compared on them."""

import keras
import numpy as np
from keras import ops

from layers.gaussian_process_head import GaussianProcessClassificationHead
from layers.spectral_normalization import SpectralNormalization
from reference.gaussian_process_head import softmax
from reference.gaussian_process_head.posterior import mean_field_logits

# ---- Examples, known and unknown -----------------------------------------------------------------------------------------------

CLASSES, RADIUS, NOISE, COUNT = 3, 2.0, 0.6, 200
"""Of the pinwheel: its arms, its radius, the noise of angles, and how many examples are trained on."""

HALF = 4.5
"""Half the side of the square from which unknown inputs are drawn."""

PLACES = {"near": (0.5, 1.0), "far": (2.0, np.inf)}
"""{unknown inputs: how far from the nearest example of training}."""


def pinwheel(rng, count):
    """Examples `(count, 2)` and labels of three arms with so much noise that they overlap."""
    y, radius = np.arange(count) % CLASSES, rng.uniform(0.3, RADIUS, count)
    angle = middle(y, radius) + NOISE * rng.normal(size=count)
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), y


def middle(y, radius):
    return 2 * np.pi * y / CLASSES + 1.2 * radius


def truth(x):
    """The probabilities of the classes of examples, from how they are drawn: no classifier can know more."""
    angle, radius = np.arctan2(x[:, 1], x[:, 0]), np.hypot(*x.T)
    off = angle[:, None] - middle(np.arange(CLASSES), radius[:, None])
    turns = off[..., None] + 2 * np.pi * np.arange(-3, 4)
    density = np.exp(-((turns / NOISE) ** 2) / 2).sum(axis=-1)
    return density / density.sum(axis=-1, keepdims=True)


def unknown(rng, known, place, count=500):
    """Points of a square whose nearest known example is as far away as `place` says."""
    low, high = PLACES[place]
    points = rng.uniform(-HALF, HALF, (20 * count, 2))
    distance = np.min([np.sum((points - one) ** 2, axis=1) for one in known], axis=0) ** 0.5
    return points[(low < distance) & (distance < high)][:count]


# ---- Networks ------------------------------------------------------------------------------------------------------------------

WIDTH, DEPTH, FEATURES, MEMBERS = 64, 3, 256, 5
FACTOR = np.pi / 4
"""λ of the mean field for logits under softmax."""

ARMS = {
    "full": (True, True, True, 1),
    "no bound": (False, True, True, 1),
    "no bound, no sum": (False, False, True, 1),
    "no process": (True, True, False, 1),
    "ensemble": (False, True, False, MEMBERS),
}
"""{arm: (bounded layers, residual sums, Gaussian process, members)}. The first of the ensemble is a network by itself."""


def uniform(fan_in, fan_out):
    limit = np.sqrt(6 / (fan_in + fan_out))  # Glorot's, for each member
    return keras.initializers.RandomUniform(-limit, limit)


def several(members, fan_in, fan_out, activation=None):
    """A dense layer for each member, `(b, members, fan_in)` to `(b, members, fan_out)`."""
    shape, start = (members, fan_out), uniform(fan_in, fan_out)
    return keras.layers.EinsumDense("bem,emf->bef", shape, activation, bias_axes="ef", kernel_initializer=start)


def body(x, bounded, residual, members):
    """A fixed map into `WIDTH` dimensions, and `DEPTH` layers."""
    start = keras.initializers.RandomNormal(stddev=np.sqrt(0.5))
    x = keras.layers.Dense(WIDTH, use_bias=False, trainable=False, kernel_initializer=start)(x)
    x = ops.repeat(x[:, None], members, axis=1) if members > 1 else x
    for _ in range(DEPTH):
        layer = keras.layers.Dense(WIDTH, "relu") if members == 1 else several(members, WIDTH, WIDTH, "relu")
        y = (SpectralNormalization(layer, norm_multiplier=0.95) if bounded else layer)(x)
        x = x + y if residual else y
    return x


class Network:
    """One arm: `features` and `head`, which together are trained, and what they say of inputs."""

    def __init__(self, arm, seed):
        bounded, residual, self.process, self.members = ARMS[arm]
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((2,))
        h = body(inputs, bounded, residual, self.members)
        if self.process:
            options = {"num_inducing": FEATURES, "gp_kernel_scale": 20.0, "gp_cov_momentum": -1, "seed": seed}
            self.head = GaussianProcessClassificationHead(0, CLASSES, temperature=FACTOR, **options)
        else:
            self.head = keras.layers.Dense(CLASSES) if self.members == 1 else several(self.members, WIDTH, CLASSES)
        self.features, self.model = keras.Model(inputs, h), keras.Model(inputs, self.head(h))

    def train(self, x, y, rate, steps, rng, batch=32):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        xla = (
            keras.backend.backend() == "jax"
        )  # where the alternative is to run op by op; on TensorFlow XLA takes longer to compile
        self.model.compile(keras.optimizers.Adam(rate), loss, jit_compile=xla)
        order = rng.integers(0, len(x), steps * batch)
        y = np.repeat(y[:, None], self.members, axis=1) if self.members > 1 else y
        self.model.fit(x[order].astype("float32"), y[order], batch_size=batch, shuffle=False, verbose=0)
        if self.process:  # the precision of the trained network, from one pass
            self.head.reset_covariance_matrix()
            self.head(self.features(x.astype("float32")), training=True)
        return self

    def answers(self, x):
        """{reading: (probabilities, doubt)}; what is doubtful has a larger number."""
        h = self.features(x.astype("float32"))
        if self.process:
            logits, variance = (ops.convert_to_numpy(part).astype("float64") for part in self.head.logits(h, diagonal=True))
            p, mean = softmax(mean_field_logits(logits, variance, FACTOR)), softmax(logits)
            return {"mean field": (p, 1 - p.max(-1)), "no mean field": (mean, 1 - mean.max(-1)), "variance": (mean, variance)}
        logits = ops.convert_to_numpy(self.head(h)).astype("float64")
        if self.members == 1:
            return {"alone": (p := softmax(logits), 1 - p.max(-1))}
        each = softmax(logits.reshape(-1, logits.shape[-1])).reshape(logits.shape)
        return {name: (p, 1 - p.max(-1)) for name, p in (("alone", each[:, 0]), ("averaged", each.mean(1)))}
