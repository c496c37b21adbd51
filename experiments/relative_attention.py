"""Relative attention: what distances keep beyond the texts of training."""

import keras
import numpy as np
from keras import ops

from experiments.common.experiment import Experiment
from experiments.common.table import Claim, span
from experiments.common.training import train
from layers import RelativePositionEncoding
from layers.attention import MultiHeadAttention
from layers.on_device_embedding import OnDeviceEmbedding
from layers.positional_embedding import RelativePositionEmbedding
from layers.relative_attention import MultiHeadRelativeAttention

N, T, LONG, BACK = 16, 16, 64, 3
"""Ids, length of the texts of training and of the test, and how far back the token is that must be reported."""
M, H, D = 48, 2, 24

ARMS = {
    "distances": {"relative": True, "encoded": True},
    "sinusoids added": {"rows": "sinusoids"},
    "random rows added": {"rows": "random"},
    "sinusoids added, begun anywhere": {"rows": "sinusoids", "anywhere": True},
    "relative, without distances": {"relative": True},
}
"""{arm: options of `Reporter`}.

Ablations: random rows of the same size have no regularity that could make a new position look like an old one; texts that begin
anywhere leave no position that training has not seen; and relative attention may lose the encodings of distances.
"""


class Reporter(keras.Model):
    """One attention layer that reports the token `BACK` places before each, with the last `window` tokens in view."""

    def __init__(self, relative=False, encoded=False, rows=None, anywhere=False):
        super().__init__()
        self.token, self.logits, self.anywhere = OnDeviceEmbedding(N, M), keras.layers.Dense(N), anywhere
        self.encoding = RelativePositionEncoding(M, causal=True) if encoded else None
        self.attention = (MultiHeadRelativeAttention if relative else MultiHeadAttention)(num_heads=H, key_dim=D)
        self.rows = RelativePositionEmbedding(M) if rows == "sinusoids" else None
        if rows == "random":
            table = np.random.default_rng(0).normal(size=(LONG, M)) / 2**0.5  # a sinusoid's mean square is ½
            self.rows = lambda x, offset: ops.convert_to_tensor(table[: x.shape[1]], "float32")
        if relative:
            self.u, self.v = (self.add_weight(shape=(H, D), initializer="normal", name=name) for name in "uv")
        self.relative = relative

    def call(self, inputs, window=T):
        ids, first = inputs
        x, length = self.token(ids), ids.shape[1]
        distance = np.subtract.outer(np.arange(length), np.arange(length))
        mask = ((0 <= distance) & (distance < window))[None]
        if self.relative:
            encoding, v = (None, None) if self.encoding is None else (self.encoding(x), self.v)
            heads = self.attention(x, x, self.u, v, relative_position_encoding=encoding, attention_mask=mask)
        else:
            x = x + self.rows(x, offset=first[0, 0])
            heads = self.attention(x, x, attention_mask=mask)
        return self.logits(heads)[:, BACK:]


def train_reporter(arm, rate, seed, steps=250):
    """Train on texts of `T` tokens, then read `LONG`.

    Returns:
        {"within": the accuracy at the places of training, "beyond": after them, with the last `T` tokens in view, "far": the
        same from place 20 on, "all in view": after them with all earlier tokens in view, "by place", "by place, all in view":
        the same for each place, "loss": the curve}.
    """
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = Reporter(**ARMS[arm])

    def draw(count=64, length=T):
        ids = rng.integers(0, N, (count, length)).astype("int32")
        first = rng.integers(0, LONG - T + 1) if model.anywhere and length == T else 0
        return (ids, np.full((count, 1), first, "int32")), ids[:, :-BACK]

    found = {"loss": train(model, draw, rate, steps, points=25)}
    inputs, expected = draw(256, LONG)
    near, everything = (
        (np.argmax(ops.convert_to_numpy(model(inputs, window=window)), axis=-1) == expected).mean(axis=0) for window in (T, LONG)
    )
    found |= {"by place": near, "by place, all in view": everything, "within": near[: T - BACK].mean()}
    return found | {
        "beyond": near[T - BACK :].mean(),
        "far": near[20 - BACK :].mean(),
        "all in view": everything[T - BACK :].mean(),
    }


# ---- What is run, and what the lesson says of it -------------------------------------------------------------------------------

EXPERIMENTS = [
    Experiment("reach", train_reporter, tuple(ARMS), (3e-3, 1e-2, 3e-2), "beyond", seeds=(0, 1, 2, 3), elsewhere="distances"),
]


def from_counts(draws=4000):
    """How often the most frequent of the `T` tokens in view is the right one: the most that is known without places."""
    ids = np.random.default_rng(0).integers(0, N, (draws, T))
    return np.mean([np.bincount(row).max() for row in ids]) / T


def distances_hold(found):
    """Accuracy beyond the length of training: distances at every rate, and the best of added rows."""
    worst = min(found.worst("beyond", "distances", rate) for rate in found.experiment.rates)
    added = found.values("beyond", "sinusoids added")
    holds = worst > added.max() + np.ptp(added)
    ours = f"{worst:.2f} (worst rate and seed); sinusoids {span(added)}; "
    return ours + f"random rows {span(found.values('beyond', 'random rows added'))}", "yes" if holds else "no"


def longer_view(found):
    """The same with all tokens in view."""
    ours = f"{span(found.values('all in view', 'distances'))}; sinusoids {span(found.values('all in view', 'sinusoids added'))}"
    holds = (
        found.worst("all in view", "distances") > (1 + from_counts()) / 2 > found.values("all in view", "sinusoids added").max()
    )
    return ours, "yes" if holds else "no"


def added_fail(found):
    """Added sinusoids whose texts of training begin at 0, and anywhere."""
    fixed, anywhere = (found.values("beyond", arm) for arm in ("sinusoids added", "sinusoids added, begun anywhere"))
    ours = f"{span(fixed)}; begun anywhere {span(anywhere)}"
    cured = anywhere.min() > fixed.max() + np.ptp(fixed)
    if fixed.max() + np.ptp(fixed) >= found.worst("within", "sinusoids added"):
        return ours, "no"
    return ours, "only if training has not shown every position" if cured else "yes"


CLAIMS = [
    Claim(
        "What is learned on 16 tokens holds on 64 with distances, and with added sinusoids at some places only",
        "reach",
        distances_hold,
        bound=f"counting the tokens in view {from_counts():.2f}; no fault 1",
        ablation="the distances: then it counts tokens; the regularity of sinusoids: random rows do worse than counting",
        paper="none",
    ),
    Claim(
        "Distances stand a longer view than that of training",
        "reach",
        longer_view,
        bound=f"halfway from counting tokens to no fault: {(1 + from_counts()) / 2:.2f}",
        ablation="the distances",
        paper="1901.02860, Table 6, no recurrence: best length of attention 260, perplexity 29.02; added positions 120, 30.97",
    ),
    Claim(
        "Added sinusoids do not go on beyond the texts of training",
        "reach",
        added_fail,
        bound="no fault 1",
        ablation="the newness of positions: texts of training begin anywhere",
        paper="none",
    ),
]
