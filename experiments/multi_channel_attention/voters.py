"""Find an event among noisy vectors: articles that vote."""

import keras
import numpy as np
from keras import ops

from experiments.common.training import train
from layers.multi_channel_attention import VotingAttention

ARTICLES, M = 5, 64
"""Articles of a story, and the size of a vector."""

NOISE = 0.5
"""Standard deviation of what an article adds to its event, whose own is 1."""

VOTERS = {
    "from 0.02": (keras.initializers.RandomNormal(stddev=0.02), 1.0),
    "from Glorot": (keras.initializers.GlorotUniform(), 1.0),
    "from Glorot, votes divided": (keras.initializers.GlorotUniform(), M**-0.5),
}
"""{arm: (initializer of the kernels, factor of the vectors)}. In the last, all votes are M times smaller."""


def stories(rng, strangers, count, m=M, articles=ARTICLES):
    """The event `(count, m)` of each story, and its articles `(count, a, m)`; the last `strangers` are about other events."""
    event = rng.normal(size=(count, m))
    found = event[:, None] + NOISE * rng.normal(size=(count, articles, m))
    found[:, articles - strangers :] = rng.normal(size=(count, strangers, m))
    return event, found


def mixed_stories(rng, count):
    """(articles, event), a third of the stories with 0, 1 and 2 strangers each."""
    parts = [stories(rng, strangers, count // 3) for strangers in range(3)]
    event, articles = (np.concatenate(part).astype("float32") for part in zip(*parts))
    return articles[:, :, None], event


def floor(strangers):
    """The squared error of the mean of those articles that are about the event."""
    return NOISE**2 / (ARTICLES - strangers)


def equal(strangers):
    """The squared error of the mean of all articles: noise, and of each stranger its own vector and the event that it lacks."""
    return ((ARTICLES - strangers) * NOISE**2 + strangers + strangers**2) / ARTICLES**2


class Voter(keras.Model):
    """The mean of the articles' vectors with the weights of a vote."""

    def __init__(self, arm):
        super().__init__()
        initializer, self.factor = VOTERS[arm]
        self.vote = VotingAttention(num_heads=1, head_size=M, kernel_initializer=initializer)

    def call(self, articles):
        return ops.einsum("ba,bam->bm", self.vote(self.factor * articles), articles[:, :, 0])


def train_voter(arm, rate, seed, steps=300):
    """Train one arm.

    Returns:
        {"square": the mean of "errors", the squared errors on new stories with 0, 1 and 2 strangers; "weight": of all strangers;
        "largest": the mean of the largest weight without strangers, before training and after; "loss": the curve}.
    """
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model, new = Voter(arm), [stories(rng, strangers, 500) for strangers in range(3)]

    def weights():
        return [ops.convert_to_numpy(model.vote(model.factor * articles[:, :, None].astype("float32"))) for _, articles in new]

    before = weights()[0].max(axis=-1).mean()
    curve = train(model, lambda: mixed_stories(rng, 63), rate, steps, keras.losses.MeanSquaredError())
    after = weights()
    errors = [np.mean((np.einsum("ba,bam->bm", w, x) - event) ** 2) for w, (event, x) in zip(after, new)]
    found = {"square": np.mean(errors), "errors": errors, "largest": [before, after[0].max(axis=-1).mean()], "loss": curve}
    return found | {"weight": [w[:, ARTICLES - strangers :].sum(axis=-1).mean() for strangers, w in enumerate(after)]}
