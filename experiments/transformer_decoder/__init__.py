"""Decoder blocks: what each of their three parts is for, and what a forgotten mask does."""

import numpy as np

from experiments.common.experiment import Experiment
from experiments.common.table import Claim, span
from experiments.transformer_decoder.translator import (
    EXTRA,
    LENGTH,
    PARTS,
    SYMBOLS,
    train_sentences,
)

RATES = (1e-3, 3e-3, 1e-2)
EXPERIMENTS = [
    Experiment(
        "parts", train_sentences, tuple(PARTS), RATES, "nats", lower_is_better=True, seeds=(0, 1, 2), elsewhere="all three parts"
    ),
]


# ---- What can be reached, and what the lesson says -----------------------------------------------------------------------------


def best():
    """What the best guesses reach in sentences with extra words, by what may be seen: {arm: (accuracy, nats)}.

    The state before a place is how many words are written, and whether the last one was the extra word. Who sees all knows it.
    Who sees the source and the last word knows it unless that is the extra word. Who sees no source knows it, and not the words.
    """
    state, coin, rows = {(0, False): 1.0}, -(EXTRA * np.log(EXTRA) + (1 - EXTRA) * np.log(1 - EXTRA)), []
    for _ in range(LENGTH):
        waiting = {count: p for (count, extra), p in state.items() if extra}
        after, word = sum(waiting.values()), 1 - sum(waiting.values())
        unseen = sum(p * max(EXTRA * (not extra), (1 if extra else 1 - EXTRA) / (SYMBOLS - c)) for (c, extra), p in state.items())
        nats = sum(p * (1 if extra else 1 - EXTRA) * np.log(SYMBOLS - c) for (c, extra), p in state.items())
        guess = max(waiting.values(), default=0.0)
        doubt = -sum(p * np.log(p / after) for p in waiting.values())
        rows.append((word * (1 - EXTRA) + after, word * coin, word * (1 - EXTRA) + guess, word * coin + doubt, unseen))
        rows[-1] += (word * coin + nats, after, guess, sum(p / (SYMBOLS - count) for count, p in waiting.items()))
        state = step_of(state)
    whole = np.mean(rows, axis=0)
    arms = ("all three parts", "no self-attention", "no cross-attention")
    right = {f"after extra, {arm}": share / whole[6] for arm, share in zip(arms, (whole[6], *whole[7:]))}
    return dict(zip(arms, whole[:6].reshape(3, 2))) | right


def step_of(state):
    """The probabilities one place later."""
    found = {}
    for (count, extra), p in state.items():
        for then, share in (((count + 1, False), 1.0 if extra else 1 - EXTRA), ((count, True), 0.0 if extra else EXTRA)):
            found[then] = found.get(then, 0.0) + p * share
    return {key: p for key, p in found.items() if p}


def each_part(found):
    """Nats of each arm, beside the best possible for what it sees."""
    bounds = best()
    nats = {arm: found.values("nats", arm) for arm in PARTS}
    ours = "; ".join(f"{arm} {span(nats[arm])}" for arm in PARTS if arm != "no causal mask")
    ours += f"; after an extra word right {span(found.values('after extra', 'all three parts'))}"
    ours += f", without self-attention {span(found.values('after extra', 'no self-attention'))}"
    worst = nats["all three parts"].max()
    needed = worst < bounds["no self-attention"][1] < bounds["no cross-attention"][1]
    if not needed or nats["no feed-forward"].min() > worst:
        return ours, "yes" if needed else "no"
    return ours, "only of the two attentions"


def peeking(found):
    """Accuracy with the right words given, and alone, with and without the causal mask."""
    given, alone = (
        {arm: found.values(what, arm) for arm in ("all three parts", "no causal mask")} for what in ("accuracy", "alone")
    )
    ours = "; ".join(f"{arm}: given {span(given[arm])}, alone {span(alone[arm])}" for arm in given)
    holds = (
        given["no causal mask"].min() > best()["all three parts"][0]
        and alone["no causal mask"].max() < alone["all three parts"].min()
    )
    return ours, "yes" if holds else "no"


CLAIMS = [
    Claim(
        "Each of a decoder block's three parts is needed to translate",
        "parts",
        each_part,
        bound="best possible, in nats: " + ", ".join(f"{arm} {value[1]:.2f}" for arm, value in list(best().items())[:3]),
        ablation="each part",
        paper="none (1706.03762, section 3.1, argues it)",
    ),
    Claim(
        "Without a causal mask a model predicts what cannot be predicted, and translates worse by itself",
        "parts",
        peeking,
        bound=f"best possible accuracy with the right words given {best()['all three parts'][0]:.3f}",
        ablation="the causal mask",
        paper="none (1706.03762, section 3.2.3, argues it)",
    ),
]
