"""Multi-channel attention: whether a vote learns to find the articles that are about something else, and what it is good for."""

import keras
import numpy as np
from keras import ops

from experiments.common.experiment import Experiment
from experiments.common.table import Claim
from experiments.common.training import accuracy, train
from experiments.multi_channel_attention.voters import ARTICLES, VOTERS, M, equal, floor, train_voter
from layers.attention import MultiHeadAttention
from layers.multi_channel_attention import MultiChannelAttention, VotingAttention
from layers.on_device_embedding import OnDeviceEmbedding

# ---- Read facts in articles ----------------------------------------------------------------------------------------------------

QUESTIONS, ANSWERS, WRONG, STRANGERS = 8, 16, 0.4, 2
"""An article answers each question, with the probability `WRONG` by a guess; `STRANGERS` articles are about other stories."""

READERS = ("vote", "channels of equal weight", "one text", "strangers left out")
"""The last is told who the strangers are."""


def write(rng, count):
    """(facts `(count, a, QUESTIONS)`, each question with an answer in one id; who is no stranger `(count, a)`), right answers."""
    right = rng.integers(0, ANSWERS, (count, QUESTIONS))
    drawn = rng.integers(0, ANSWERS, (count, ARTICLES, QUESTIONS))
    told = np.where(rng.random(drawn.shape) < WRONG, drawn, right[:, None])
    is_own = rng.permuted(np.tile(np.arange(ARTICLES) >= STRANGERS, (count, 1)), axis=1)
    facts = np.where(is_own[..., None], told, drawn) + ANSWERS * np.arange(QUESTIONS)
    return (facts.astype("int32"), is_own.astype("float32")), right.astype("int32")


class FactReader(keras.Model):
    """Answers every question from the articles."""

    def __init__(self, how):
        super().__init__()
        normal = keras.initializers.RandomNormal(stddev=M**-0.5)
        self.fact, self.question = (OnDeviceEmbedding(n, M, initializer=normal) for n in (QUESTIONS * ANSWERS, QUESTIONS))
        self.attention = (MultiHeadAttention if how == "one text" else MultiChannelAttention)(num_heads=1, key_dim=M)
        small = keras.initializers.RandomNormal(stddev=0.02)
        self.vote = VotingAttention(1, M, kernel_initializer=small) if how == "vote" else None
        self.logits, self.how = keras.layers.Dense(ANSWERS), how

    def call(self, inputs):
        ids, is_own = inputs
        return self.answer(ids, self.weights_of(ids, is_own))

    def answer(self, ids, weights):
        """The logits `(b, QUESTIONS, ANSWERS)`, where the articles have weights `(b, a)`."""
        facts = self.fact(ids)
        asked = 0 * facts[:, 0] + self.question(ops.arange(QUESTIONS))
        if self.how == "one text":
            return self.logits(self.attention(asked, ops.reshape(facts, (-1, ARTICLES * QUESTIONS, M))))
        return self.logits(self.attention(asked, facts, None, weights[:, None, None]))

    def weights_of(self, ids, is_own):
        """The weights of the articles `(b, a)`."""
        if self.how == "strangers left out":
            return is_own / (ARTICLES - STRANGERS)
        if self.how == "vote":
            return self.vote(ops.sum(self.fact(ids), axis=2, keepdims=True))
        return 0 * is_own + 1 / ARTICLES


def bayes(facts, right, reliable):
    """(accuracy, nats) of who weighs each answer by how `reliable` `(count, a)` its article is, each question by itself."""
    answers = np.eye(ANSWERS)[facts % ANSWERS]  # (count, a, QUESTIONS, ANSWERS)
    likely = reliable[..., None, None] * (1 - WRONG) * answers + (1 - reliable[..., None, None] * (1 - WRONG)) / ANSWERS
    posterior = np.prod(likely, axis=1)
    posterior /= posterior.sum(axis=-1, keepdims=True)
    return np.mean(posterior.argmax(-1) == right), -np.mean(np.log(np.take_along_axis(posterior, right[..., None], -1)))


def train_reader(arm, rate, seed, steps=300):
    """{"nats", "accuracy": on new stories, "weight": that of all strangers, "mixed up": the nats with the same weights on other
    articles of the story, "loss": the curve}."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = FactReader(arm)
    curve = train(model, lambda: write(rng, 64), rate, steps)
    (facts, is_own), right = write(rng, 1024)
    weights = ops.convert_to_numpy(model.weights_of(facts, is_own))
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    mixed_up = cross_entropy(right, model.answer(facts, rng.permuted(weights, axis=1)))
    logits = model.answer(facts, weights)
    found = {"nats": float(cross_entropy(right, logits)), "accuracy": accuracy(logits, right), "mixed up": float(mixed_up)}
    return found | {"weight": (weights * (1 - is_own)).sum(axis=-1).mean(), "loss": curve}


# ---- What is run, and what the lesson says of it -------------------------------------------------------------------------------

OPTIONS = {"lower_is_better": True, "seeds": (0, 1, 2)}
EXPERIMENTS = [
    Experiment("voters", train_voter, tuple(VOTERS), (3e-4, 1e-3, 3e-3, 1e-2), "square", elsewhere="from 0.02", **OPTIONS),
    Experiment("readers", train_reader, READERS, (1e-3, 3e-3, 1e-2), "nats", elsewhere="vote", **OPTIONS),
]


TESTED = 1024
"""New stories of `train_reader`."""


def best(count=10_000):
    """{who: (accuracy, nats)} of the best answers: for each question alone, for articles compared, and for strangers known.

    Exactly `STRANGERS` articles are about other stories, so we sum over every choice of them. To take each article for a stranger
    independently of the others would give a first number in nats a little above the best.
    """
    (facts, is_own), right = write(np.random.default_rng(0), count)
    told = (1 - WRONG) * np.eye(ANSWERS)[facts % ANSWERS] + WRONG / ANSWERS
    choices = [case[:, None, None] > 0 for case in np.unique(is_own, axis=0)]
    likely = np.stack(
        [np.prod(np.where(own, told, 1 / ANSWERS), axis=1) for own in choices]
    )  # (choices, count, QUESTIONS, ANSWERS)
    each = likely.sum(axis=-1)
    choice = each.prod(axis=-1) / each.prod(axis=-1).sum(axis=0)  # by all questions together
    compared = np.einsum("cn,cnqk->nqk", choice, likely / each[..., None])
    found = {"each question by itself": likely.sum(axis=0) / each.sum(axis=0)[..., None], "articles compared": compared}
    found = {who: scores(posterior, right) for who, posterior in found.items()}
    return found | {"strangers known": bayes(facts, right, is_own)}


def scores(posterior, right):
    """(accuracy, nats)."""
    return np.mean(posterior.argmax(-1) == right), -np.mean(np.log(np.take_along_axis(posterior, right[..., None], -1)))


BEST = best()


def beyond_luck():
    """An accuracy that is no luck of the new stories: three standard errors above the best for each question by itself."""
    right, _ = BEST["each question by itself"]
    return right + 3 * np.sqrt(right * (1 - right) / (TESTED * QUESTIONS))


def right_more_often(found):
    """The readers' accuracy, and the rates with which every seed of the vote is above what luck could bring."""
    certain, rates = beyond_luck(), found.experiment.rates
    able = [rate for rate in rates if found.values("accuracy", "vote", rate).min() > certain]
    spans = {arm: found.values("accuracy", arm) for arm in READERS}
    mixed_up = found.values("mixed up", "vote").min()
    ours = "; ".join(f"{arm} {values.min():.3f} to {values.max():.3f}" for arm, values in spans.items())
    ours += f"; nats of the vote {found.worst('nats', 'vote'):.2f}, its weights on other articles {mixed_up:.2f} (best seed)"
    weighed = max(spans[arm].max() for arm in READERS[1:3])
    if weighed > certain or found.best_rate("vote") not in able or mixed_up < found.values("nats", READERS[1]).max():
        return ours, "no"
    if len(able) == len(rates):
        return ours, "yes"
    if able != list(rates[: len(able)]):
        return ours, "no"
    return ours, f"only if the learning rate is at most {max(able):g}"


def learned(found, arm):
    """The rates with which every seed ends nearer to the error of who knows the strangers than to that of equal weights."""
    known, even = (np.mean([of(strangers) for strangers in range(3)]) for of in (floor, equal))
    return [rate for rate in found.experiment.rates if found.values("square", arm, rate).max() < (known + even) / 2]


def small_votes(found):
    """At which rates each arm learns to vote."""
    rates, by_arm = found.experiment.rates, {arm: learned(found, arm) for arm in VOTERS}
    ours = "; ".join(f"{arm}: {', '.join(f'{rate:g}' for rate in by) or 'none'}" for arm, by in by_arm.items())
    small, glorot, divided = by_arm.values()
    if glorot or not divided:
        return f"rates that learn: {ours}", "no"
    holds = len(small) == len(rates)
    return (
        f"rates that learn: {ours}",
        "yes" if holds else f"only if the learning rate is at most {max(small):g}" if small else "no",
    )


CLAIMS = [
    Claim(
        "A trained reader whose articles vote is right more often than any that weighs each answer by itself",
        "readers",
        right_more_often,
        bound=", ".join(f"{name} {right:.3f}" for name, (right, _) in BEST.items()),
        ablation="the vote; and, of its weights, on which articles they are",
        paper="2001.09386, abstract: robust to noise (its tables were not at hand)",
    ),
    Claim(
        "A vote that starts small learns weights near the best, and one that starts from Glorot keeps choosing one article",
        "voters",
        small_votes,
        bound=f"squared error: strangers known {np.mean([floor(s) for s in range(3)]):.3f}, equal weights "
        f"{np.mean([equal(s) for s in range(3)]):.3f}",
        ablation="the size of the votes: divided by 64, Glorot's start learns",
        paper="none",
    ),
]
