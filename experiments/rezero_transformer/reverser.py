"""Stacks of blocks with and without norms that learn to write symbols in reverse, and the Jacobian of a stack."""

from functools import cache

import keras
import numpy as np
from keras import ops

from crosscheck.weights import weights_of
from experiments.common.training import Stretches, forget, loss_of_ids
from layers.on_device_embedding import OnDeviceEmbedding
from layers.rezero_transformer import ReZeroTransformer
from layers.transformer_encoder import TransformerEncoderBlock
from reference.common.activations import relu
from reference.rezero_transformer import ReZeroWeights, rezero_transformer
from reference.transformer_encoder import EncoderWeights, transformer_encoder_block

N, M, HEADS, BATCH = 8, 24, 4, 16
"""Symbols, as many as there are places; model size; heads; sequences of a step."""

STEPS, WARM, STRETCH = 240, 60, 10
"""Steps of training, those in which a warm-up lets the rate grow, and those that a point of the curve averages."""

GUESSING = float(np.log(N))
HALF = GUESSING / 2
"""The loss of a guess, and the one below which a model has started."""

SHALLOW, DEEP = 4, 12
RATES = (1e-3, 3e-3, 1e-2, 3e-2)

LOOKED_AT, LOOKS = 3e-3, (0, 60, 240)
"""The rate with which the Jacobian's singular values are stored, and after which steps."""

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)

NORMED = ("pre-norm", "post-norm")
STARTS = {"ReZero": 0.0, f"α from 1/{DEEP}": 1 / DEEP, "α from 1": 1.0}
"""{kind of block without norms: where its α starts}."""

ARMS = {
    f"{kind}, {depth} blocks{', warm-up' if warm else ''}": (kind, depth, warm)
    for depth, schedules in ((SHALLOW, (False,)), (DEEP, (False, True)))
    for kind in ("ReZero", *NORMED)
    for warm in schedules
}
ARMS |= {f"post-norm, {SHALLOW} blocks, warm-up": ("post-norm", SHALLOW, True)}
ARMS |= {f"{kind}, {DEEP} blocks": (kind, DEEP, False) for kind in STARTS}
"""{arm: (kind of block, how many, whether the learning rate warms up)}."""


class Reverser(keras.Model):
    """Reads symbols and writes them in reverse, through blocks of one kind."""

    def __init__(self, kind, depth):
        super().__init__()
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.token, self.place = (OnDeviceEmbedding(N, M, initializer=normal) for _ in range(2))
        self.blocks = [block(kind) for _ in range(depth)]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-12) if kind == "pre-norm" else None
        self.logits = keras.layers.Dense(N)
        for one in self.blocks:
            one.build((None, N, M))

    def embed(self, ids):
        return self.token(ids) + self.place(ops.arange(N))

    def call(self, ids):
        x = self.embed(ids)
        for one in self.blocks:
            x = one(x)
        return self.logits(x if self.norm is None else self.norm(x))


def block(kind):
    if kind == "ReZero":
        return ReZeroTransformer(HEADS, 2 * M, "relu")
    return TransformerEncoderBlock(HEADS, 2 * M, "relu", norm_first=kind == "pre-norm")


@cache
def compiled(kind, depth, xla):
    """A model that is compiled once, for all seeds and rates; it takes `STRETCH` steps at a time."""
    model = Reverser(kind, depth)
    model(np.zeros((1, N), "int32"))
    model.compile(
        keras.optimizers.Adam(), loss_of_ids(), jit_compile=xla or keras.backend.backend() == "jax", steps_per_execution=STRETCH
    )
    model.optimizer.build(model.trainable_variables)
    return model


@cache
def start_of(kind, depth, seed):
    """The weights with which all rates begin."""
    keras.utils.set_random_seed(seed)
    model = Reverser(kind, depth)
    model(np.zeros((1, N), "int32"))
    return model.get_weights()


def restarted(kind, depth, seed, xla):
    """The compiled model with new weights and an optimizer that has seen nothing."""
    base = kind if kind in NORMED else "ReZero"
    model = compiled(base, depth, xla)
    model.set_weights(start_of(base, depth, seed))
    forget(model.optimizer)
    for one in model.blocks if base == "ReZero" else ():
        one.rezero_alpha.assign(STARTS[kind])
    return model


def draw(rng, count):
    ids = rng.integers(0, N, (count, N)).astype("int32")
    return ids, ids[:, ::-1]


def train_reverser(arm, rate, seed, steps=STEPS, xla=True):
    """Train one arm. Without `xla`, a step takes longer and the first one does not.

    Returns:
        {"loss": the curve, a loss above 10 guesses as 10 guesses; "steps": after how many it stays below `HALF`, or `steps` if
        never; "end": the loss of the last stretch; "alphas": of each block; "values": quantiles of the Jacobian's singular
        values after `LOOKS`}.
    """
    kind, depth, warm = ARMS[arm]
    model, values = restarted(kind, depth, seed, xla), []
    sequence, _ = draw(np.random.default_rng(1000 + seed), 1)

    def look(step):
        if step in LOOKS and rate == LOOKED_AT and depth == DEEP and (kind in ("ReZero", *NORMED)):
            values.append(np.quantile(singular_values(model, sequence), QUANTILES))

    look(0)
    watch = Stretches(
        lambda done: rate * min(1.0, (done + 1) * STRETCH / WARM if warm else 1.0), lambda done: look(done * STRETCH)
    )
    ids, answers = draw(np.random.default_rng(seed), steps * BATCH)
    model.fit(ids, answers, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[watch])
    losses = [min(loss, 10 * GUESSING) if np.isfinite(loss) else 10 * GUESSING for loss in watch.losses]
    return {
        "loss": [(STRETCH * (i + 1), loss) for i, loss in enumerate(losses)],
        "steps": started(losses),
        "end": losses[-1],
        "alphas": [] if kind in NORMED else [number(one.rezero_alpha) for one in model.blocks],
        "values": values,
    }


def started(losses):
    """The steps at the end of the first stretch from which on all have a mean loss below `HALF`; all steps if there is none."""
    above = np.flatnonzero(np.array(losses) >= HALF)
    return STRETCH * min(int(above[-1]) + 2 if len(above) else 1, len(losses))


def number(alpha):
    found = float(alpha)
    return found if np.isfinite(found) else 0.0


def singular_values(model, ids, step=1e-5):
    """Of the Jacobian `(t m, t m)` of the stack of blocks at one sequence, by central differences in float64."""
    x = ops.convert_to_numpy(model.embed(ids)).astype("float64")
    moves = step * np.eye(x.size).reshape(-1, *x.shape[1:])
    ends = through(model.blocks, np.concatenate([x + moves, x - moves]))
    ahead, behind = ends.reshape(2, x.size, x.size)
    return np.linalg.svd((ahead - behind) / (2 * step), compute_uv=False)


def through(blocks, x):
    """The reference's output of the stack."""
    for one in blocks:
        if isinstance(one, ReZeroTransformer):
            x = rezero_transformer(x, weights_of(one, ReZeroWeights), relu).output
        else:
            x = transformer_encoder_block(x, weights_of(one, EncoderWeights), relu, norm_first=one.norm_first)[0]
    return x
