"""Reuse transformer: what a stack can still do whose blocks use attention weights again."""

from functools import lru_cache
from itertools import pairwise

import keras
import numpy as np
from keras import ops

from experiments.common.experiment import Experiment
from experiments.common.table import Claim, span
from experiments.common.training import train_again
from layers.on_device_embedding import OnDeviceEmbedding
from layers.reuse_transformer import ReuseTransformer

N, M, HEADS = 8, 32, 4
"""Tokens of an example, which are also the values and the links; model size; heads."""

LINKS, STEPS = 3, 400
"""How many links are followed, and the steps of training."""

ARMS = {
    "3 blocks, own weights": (0, 0, 0),
    "3 blocks, reused": (0, -1, -1),
    "2 blocks, own weights": (0, 0),
    "2 blocks, half reused": (0, 2),
    "2 blocks, reused": (0, -1),
}
"""{arm: how many of the four heads each block reuses, −1 for all}."""


class Stack(keras.Model):
    """Each token has a value and a link to another token, and reports the values 1, 2 and 3 links further."""

    def __init__(self, reuses):
        super().__init__()
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.place, self.value, self.link = (OnDeviceEmbedding(N, M, normal) for _ in range(3))
        self.blocks = [ReuseTransformer(HEADS, 2 * M, "relu", reuse_attention=count, norm_first=True) for count in reuses]
        self.norm, self.logits = keras.layers.LayerNormalization(epsilon=1e-6), keras.layers.Dense(LINKS * N)

    def call(self, ids, return_scores=False, shift=0):
        """With `shift`, later blocks are handed the attention weights of another example of the batch."""
        x = self.place(ops.arange(N)) + self.value(ids[:, 0]) + self.link(ids[:, 1])
        scores = []
        for block in self.blocks:
            x, new = block([x, None, ops.roll(scores[-1], shift, axis=0)] if scores else x)
            scores.append(new)
        logits = ops.reshape(self.logits(self.norm(x)), (-1, N, LINKS, N))
        return (logits, scores) if return_scores else logits


def draw(count, rng):
    """Values and links `(count, 2, N)`, and the values after 1, 2 and 3 links `(count, N, 3)`. Links are permutations."""
    values, links = rng.integers(0, N, (count, N)), rng.permuted(np.tile(np.arange(N), (count, 1)), axis=1)
    ids = np.stack([values, links], axis=1).astype("int32")
    return ids, np.stack([np.take_along_axis(values, place, axis=1) for place in places(ids)[1:]], axis=-1).astype("int32")


def places(ids):
    """Where each token comes to after 0, 1, 2 and 3 links: `(4, count, N)`."""
    found = [np.broadcast_to(np.arange(N), ids[:, 1].shape)]
    for _ in range(LINKS):
        found.append(np.take_along_axis(ids[:, 1], found[-1], axis=1))
    return np.stack(found)


def bound(ids, within):
    """The accuracy after 1, 2 and 3 links of who knows the values up to `within` links, and guesses the others: 1 in N."""
    at = places(ids)
    known = np.array([(at[: within + 1] == at[link]).any(axis=0).mean() for link in range(1, LINKS + 1)])
    return known + (1 - known) / N


def looks(scores, ids):
    """The mean weight on the token itself and 1, 2, 3 links further, `(blocks, heads, 4)`, where these are four tokens."""
    at = places(ids)
    apart = np.all([at[i] != at[j] for i in range(LINKS + 1) for j in range(i)], axis=0)
    onto = np.stack([(of[:, None] == np.arange(N)[:, None]).swapaxes(1, 2) for of in at])  # (4, b, t, s)
    return np.array([[[(head * to).sum(-1)[apart].mean() for to in onto] for head in of.swapaxes(0, 1)] for of in scores])


def alike(scores, shift=0):
    """The overlap, 1 − ½ Σ |difference|, of each head with its best match one block below; of another example with `shift`."""
    found = []
    for low, high in pairwise(scores):
        apart = np.abs(np.roll(low, shift, axis=0)[:, :, None] - high[:, None]).sum(-1).mean((0, -1)) / 2
        found.append(1 - apart.min(axis=0).mean())
    return np.mean(found)


def fresh(arm):
    stack = Stack(ARMS[arm])
    stack(np.zeros((1, 2, N), "int32"))
    return stack


traced = lru_cache(maxsize=1)(fresh)
"""The stack that is trained, again and again; tracing takes as long as training."""


def train_stack(arm, rate, seed, steps=STEPS):
    """Train one stack.

    Returns:
        {"links": the accuracy after 1, 2 and 3 links, "last": after 3, "strangers": with the weights of another example reused,
        "bounds": what is known within 1 and 2 links forward, "looks": as of `looks`, "alike": the overlap of neighboring blocks,
        "other": that with another example, "loss", "learned": the curve of "last"}.
    """
    keras.utils.set_random_seed(seed)
    rng, curve = np.random.default_rng(seed), []
    start = fresh(arm)  # before the other, which takes random numbers only the first time
    model, (ids, answers) = traced(arm), draw(256, np.random.default_rng(1000 + seed))

    def right(**options):
        return (ops.convert_to_numpy(model(ids, **options)).argmax(axis=-1) == answers).mean((0, 1))

    def watch(step):
        curve.append((step, float((model.predict_on_batch(ids).argmax(axis=-1) == answers)[..., -1].mean())))

    loss = train_again(model, start, *draw(64 * steps, rng), rate, watch=watch)
    links, scores = right(), [ops.convert_to_numpy(of) for of in model(ids, return_scores=True)[1]]
    return {
        "links": links,
        "strangers": right(shift=1),
        "last": links[-1],
        "bounds": [bound(ids, within) for within in (1, 2)],
        "looks": looks(scores, ids).round(3),
        "alike": alike(scores),
        "other": alike(scores, shift=1),
        "loss": loss,
        "learned": curve,
    }


# ---- What is run, and what the lesson says of it -------------------------------------------------------------------------------

EXPERIMENTS = [
    Experiment("links", train_stack, tuple(ARMS), (5e-3, 1e-2, 2e-2), "last", seeds=(0, 1, 2), elsewhere="3 blocks, reused"),
]

THREE, SHARED, TWO, HALF, ONCE = ARMS


def within_two(seeds, backward=True):
    """The accuracy `(seeds,)` of the third link on the test examples, of who knows what is within two links and guesses the rest.

    Backward, too: a token can look at the one that links to it. It is no bound: a head may also look at all tokens at once.
    """
    found = []
    for seed in seeds:
        ids, _ = draw(256, np.random.default_rng(1000 + seed))
        at, back = places(ids), places(np.stack([ids[:, 0], np.argsort(ids[:, 1], axis=1)], axis=1))
        known = [*at[:3], *back[1:3]] if backward else at[:3]
        share = np.any([place == at[3] for place in known], axis=0).mean()
        found.append(share + (1 - share) / N)
    return np.array(found)


def halfway(found):
    return (1 + within_two(found.experiment.seeds).max()) / 2


def shared(found):
    """Accuracy after three links, own weights and reused ones, at every rate; and with the weights of strangers."""
    spans = {rate: [span(found.values("last", arm, rate)) for arm in (THREE, SHARED)] for rate in found.experiment.rates}
    ours = "; ".join(f"rate {rate:g}: {own}, reused {reused}" for rate, (own, reused) in spans.items())
    strangers, worst, own = found.values("strangers", SHARED)[:, -1], *(found.worst("last", arm) for arm in (SHARED, THREE))
    holds = worst > halfway(found) > strangers.max() and worst >= own - np.ptp(found.values("last", THREE))
    return f"{ours}; another example's weights {span(strangers)}", "yes" if holds else "no"


def sooner(found):
    """After how many steps the third link is right more often than halfway, at each rate, in the first and the last seed."""
    steps = {}
    for arm in (SHARED, THREE):
        for rate in found.experiment.rates:
            at, values = found.curves("learned", arm, rate)
            steps[arm, rate] = np.array([at[row > halfway(found)].min(initial=np.inf) for row in values])
    ends = {key: f"{above.min():.0f} to {above.max():.0f}" for key, above in steps.items()}
    text = {key: said.replace("inf", "never") for key, said in ends.items()}
    rates = found.experiment.rates
    ours = "; ".join(f"rate {rate:g}: {text[SHARED, rate]} steps, own weights {text[THREE, rate]}" for rate in rates)
    return ours, "yes" if all(steps[SHARED, rate].max() < steps[THREE, rate].min() for rate in rates) else "no"


def anew(found):
    """Two blocks and three links: own weights, half of them reused, all reused. Two links, all reused, show that those learn."""
    both, half, once = (found.values("last", arm) for arm in (TWO, HALF, ONCE))
    most = max(found.values("last", ONCE, rate).max() for rate in found.experiment.rates)
    second = min(found.values("links", ONCE, rate)[:, 1].min() for rate in found.experiment.rates)
    one_link = found.values("bounds", ONCE)[:, 0, 1].max()
    ours = f"own weights {span(both)}; half reused {span(half)}; all reused {span(once)}, at any rate at most {most:.2f}"
    ours += f"; two links, all reused, at any rate at least {second:.2f} (one link and a guess {one_link:.2f})"
    holds = most < halfway(found) < min(both.min(), half.min()) and second > (1 + one_link) / 2
    return ours, "yes" if holds else "no"


def redundant(found):
    """The overlap of neighboring blocks that each look for themselves, at each rate at which both stacks learn the third link."""
    least = {rate: min(found.values("last", arm, rate).min() for arm in (THREE, TWO)) for rate in found.experiment.rates}
    rates = [rate for rate, right in least.items() if right > halfway(found)]
    ours = "; ".join(
        f"rate {rate:g}: {arm} {span(found.values('alike', arm, rate))}, another example {span(found.values('other', arm, rate))}"
        for rate in rates
        for arm in (THREE, TWO)
    )
    more = [rate for rate in rates if found.values("alike", THREE, rate).min() > found.values("alike", TWO, rate).max()]
    return ours, "no" if not more else "yes" if more == rates else f"only at rate {' or '.join(f'{rate:g}' for rate in more)}"


LEVEL = (
    f"who follows two links and guesses the rest {np.mean(within_two((0, 1, 2), backward=False)):.2f}, "
    f"who also follows them backward {np.mean(within_two((0, 1, 2))):.2f}; all right 1"
)

CLAIMS = [
    Claim(
        "Three blocks that use one set of weights follow three links as well as three that each compute their own",
        "links",
        shared,
        bound=LEVEL,
        ablation="the weights that are handed on, replaced by those of another example",
        paper="2110.06821, abstract: equivalent to or better than standard transformers (its tables were not at hand)",
    ),
    Claim(
        "Where one look serves every step, a stack that looks once learns in fewer steps",
        "links",
        sooner,
        bound=f"halfway from two links both ways to all right: {(1 + np.mean(within_two((0, 1, 2)))) / 2:.2f}",
        ablation="the second and third look",
        paper="none",
    ),
    Claim(
        "In 400 steps two blocks learn three links only if the second computes weights of its own, in half of the heads or all",
        "links",
        anew,
        bound=LEVEL,
        ablation="the second block's own weights; and the third link, since two links are learned without them",
        paper="none",
    ),
    Claim(
        "Neighboring blocks look more alike where they can share one look than where they cannot",
        "links",
        redundant,
        bound="same weights 1; null: another example, beside ours",
        ablation="the third block: two blocks must look at different tokens",
        paper="2110.06821 finds neighboring layers of language models alike (its numbers were not at hand)",
    ),
]
