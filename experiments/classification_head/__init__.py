"""The classification head: in which vectors of a trained encoder the kind of a noun can be read, and what a pooler adds."""

import numpy as np

from experiments.classification_head.heads import ABLATIONS, POOLERS, TOKENS, next_sentence, train_heads, train_pooled
from experiments.common.experiment import Experiment
from experiments.common.table import Claim, span

FEW_SEEDS = (0, 1, 2)
EXPERIMENTS = [
    Experiment("tokens", train_heads, TOKENS + ABLATIONS, (1e-3, 1e-2, 1e-1), "last", elsewhere="[CLS]"),
    Experiment(
        "next sentence",
        next_sentence,
        ("next sentence", "answers mixed"),
        (1e-4, 1e-3, 1e-2),
        "accuracy",
        seeds=FEW_SEEDS,
        elsewhere="next sentence",
    ),
    Experiment("poolers", train_pooled, POOLERS, (1e-3, 1e-2, 1e-1), "both", seeds=FEW_SEEDS, elsewhere="no pooler"),
]


# ---- What the lesson says of it ----------------------------------------------------------------------------------------------

CHANCE = 1 / 4
HELD_OUT = 206
"""Pairs of sentences that are held out."""


def arrives(found):
    """Accuracy from [CLS] before the layers and behind them, beside the arms with something taken away."""
    cls, hidden, shuffled, mixed = (found.values("accuracy", arm) for arm in ("[CLS]", *ABLATIONS))
    ours = f"before {cls[:, 0].max():.2f}; after six layers {span(cls[:, 6])}; noun hidden {hidden.max():.2f}"
    ours = f"{ours}; kinds mixed {span(mixed[:, 6])}; layers shuffled {span(shuffled[:, 6])}"
    holds = cls[:, 0].max() == hidden.max() == CHANCE and cls[:, 6].min() > max((1 + CHANCE) / 2, mixed[:, 6].max())
    return ours, "yes" if holds else "no"


def trained_layers(found):
    """Accuracy from [CLS] behind MiniLM's layers and behind shuffled ones."""
    cls, shuffled = (found.values("accuracy", arm) for arm in ("[CLS]", "[CLS], layers shuffled"))
    more = [layer for layer in range(1, 7) if cls[:, layer].min() > shuffled[:, layer].max()]
    ours = "; ".join(f"{n} layers {span(cls[:, n])}, shuffled {span(shuffled[:, n])}" for n in (1, 6))
    if not more:
        return ours, "no"
    return ours, "yes" if len(more) == 6 else f"only after {' or '.join(map(str, more))} layers"


def special(found):
    """Accuracy from [CLS] and from the mean of all tokens, which have the same splits."""
    cls, mean, other = (found.values("accuracy", arm) for arm in ("[CLS]", "mean of all tokens", "the word after [CLS]"))
    ours = f"after six layers [CLS] {span(cls[:, 6])}, word {span(other[:, 6])}, mean {span(mean[:, 6])}"
    ours = f"{ours}; after three {span(cls[:, 3])}, {span(other[:, 3])}, {span(mean[:, 3])}"
    return ours, "yes" if (cls > mean).all() else "no"


def untrained(found):
    """What MiniLM's pooler gives above a random one of the same size, and what another random one does."""
    own, one, another = (found.values("both", arm) for arm in ("MiniLM's", "a random one", "another random one"))
    difference, null = own - (one + another) / 2, one - another
    ours = f"MiniLM's {span(own)}, random {span(np.append(one, another))}; difference {np.mean(difference):+.3f}"
    ours = f"{ours} on average; two random ones differ by up to {np.abs(null).max():.3f}"
    return ours, "yes" if abs(difference.mean()) <= np.abs(null).max() else "no"


def nouns_or_poolers(found):
    """The most that a pooler adds, and what more nouns add without one."""
    without = found.values("both", "no pooler")
    gains = {arm: found.values("both", arm) - without for arm in POOLERS[1:]}
    nouns = found.values("many", "no pooler") - found.values("few", "no pooler")
    arm = max(gains, key=lambda of: gains[of].max())
    ours = f"more nouns {span(nouns)}; at most {gains[arm].max():.2f} ({arm})"
    return ours, "yes" if nouns.min() > gains[arm].max() else "no"


def learned(found):
    """Accuracy on held-out pairs, in standard errors from guessing."""
    right, mixed = (found.values("accuracy", arm) for arm in ("next sentence", "answers mixed"))
    ours = f"{span(right)}; answers mixed {span(mixed)}"
    return ours, "yes" if right.min() > max(1 / 2 + 2 * np.sqrt(1 / 4 / HELD_OUT), mixed.max()) else "no"


def helps(found):
    """Accuracy with the pooler that was pre-trained on a novel, beside a random one and none, on the same splits."""
    arms = ("pre-trained on the novel", "a random one", "another random one", "no pooler")
    pre, one, another, none = (found.values("few", arm) for arm in arms)
    ours = f"few nouns: pre-trained {span(pre)}, random {span(np.append(one, another))}, none {span(none)}"
    return ours, "yes" if (pre > np.max([one, another, none], axis=0)).all() else "no"


CLAIMS = [
    Claim(
        "Before the first layer [CLS] holds nothing of a noun; after six, a linear head reads the kind of nouns it never saw",
        "tokens",
        arrives,
        bound=f"chance {CHANCE}",
        ablation="the noun, hidden by a mask; the kinds, mixed",
        paper="none (1810.04805, section 3, has [CLS] as the representation of the sequence)",
    ),
    Claim(
        "From [CLS] unscaled, heads learn more of the noun from MiniLM's layers than from the same with numbers in random order",
        "tokens",
        trained_layers,
        bound=f"chance {CHANCE}",
        ablation="the order of the numbers in each kernel",
        paper="none",
    ),
    Claim(
        "In MiniLM, [CLS] holds more of the noun than the mean of all tokens",
        "tokens",
        special,
        bound=f"chance {CHANCE}; all right 1",
        ablation="the token: the word after [CLS]",
        paper="1908.10084, Table 5 (seven tasks, logistic regression on frozen BERT): mean 84.94, [CLS] 84.66",
    ),
    Claim(
        "MiniLM's pooler, which was never trained, does as random ones do",
        "poolers",
        untrained,
        bound="two random ones of the same size, beside ours",
        ablation="the pooler",
        paper="none",
    ),
    Claim(
        "On frozen vectors, twelve nouns of each kind in place of two add more than any pooler",
        "poolers",
        nouns_or_poolers,
        bound=f"chance {CHANCE}; all right 1",
        ablation="the pooler",
        paper="none",
    ),
    Claim(
        "From 828 pairs, a pooler on frozen [CLS] learns a little of whether a sentence follows another",
        "next sentence",
        learned,
        bound=f"guessing 1/2, two standard errors {2 * np.sqrt(1 / 4 / HELD_OUT):.2f}",
        ablation="the answers, mixed",
        paper="none",
    ),
    Claim(
        "That pre-trained pooler helps a head with few nouns to learn from",
        "poolers",
        helps,
        bound="random poolers and none, beside ours",
        ablation="the pre-training",
        paper="1810.04805, Table 5: without the next-sentence task MNLI 83.9, QNLI 84.9, MRPC 86.5; with it 84.4, 88.4, 86.7",
    ),
]
