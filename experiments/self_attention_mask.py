"""Masks: what padding takes of a real model's attention if nobody masks it, and how a model cheats that sees the future."""

from functools import cache

import keras
import numpy as np

from crosscheck.models import minilm
from experiments.common.experiment import Experiment
from experiments.common.reader import give_weights, sentences, sentences_of, weights_of_attention
from experiments.common.table import Claim, span
from layers.attention import MultiHeadAttention
from layers.self_attention_mask import SelfAttentionMask
from reference.attention import attend
from reference.self_attention_mask import causal_mask

COUNT = 12
"""Sentences of a seed."""

PARTS = (0, 1, 2, 3, 4, 74)
"""The last has the sentence with the least weight on padding among 256, a footnote's."""

SHARES = {"a quarter": 0.25, "half": 0.5, "three quarters": 0.75}
ARMS = (*SHARES, "half, of other words", *(f"{share}, masked" for share in SHARES))


@cache
def first_layer():
    layer = MultiHeadAttention(12, 32, dtype="float64")
    layer.build((1, 1, 384), (1, 1, 384))
    return give_weights(layer, weights_of_attention(0))


def look(pieces, behind=(), masked=False):
    """The outputs of a sentence's pieces `(t, m)` in MiniLM's first layer, and their weight on what stands behind them."""
    n = len(pieces)
    x = minilm.embed(minilm.load(), [*pieces, *behind])
    mask = SelfAttentionMask()(x, (np.arange(x.shape[1]) < n)[None].astype("int32")) if masked else None
    output, attention = map(keras.ops.convert_to_numpy, first_layer()(x, x, attention_mask=mask, return_attention_scores=True))
    return output[0, :n], attention[0, :, :n, n:].sum(axis=-1).mean()


def distance(output, alone):
    return np.linalg.norm(output - alone) / np.linalg.norm(alone)


def pad(arm, rate, seed):
    """Nothing is trained: MiniLM's first layer reads sentences that are padded, with and without a mask.

    Returns:
        For each sentence {"weight": on padding, averaged over pieces and heads, "changed": how far the outputs are from those
        without padding, relative to their size, "null": how far those of another piece of the sentence are}; and their means.
    """
    sharing, found = SHARES[arm.split(",")[0]], []
    for number, pieces in enumerate(sentences_of(seed, COUNT)):
        behind = ["[PAD]"] * round(len(pieces) * sharing / (1 - sharing))
        if arm.endswith("words"):  # those of sentences far away
            others = [piece for of in sentences()[-3 * (number + 1) :][:3] for piece in of[1:-1]]
            behind = others[: len(behind)]
        alone, _ = look(pieces)
        output, weight = look(pieces, behind, arm.endswith("masked"))
        found.append((weight, distance(output, alone), distance(np.roll(alone, 1, axis=0), alone)))
    weight, changed, null = np.array(found).T
    return {"weight": weight, "changed": changed, "null": null, "mean": weight.mean()}


LENGTH, SYMBOLS = 400, 10


def cheat(arm, rate, seed):
    """Nothing is trained: a query that asks for one position later, in a random text. Returns {"accuracy": of the next token}."""
    ids = np.random.default_rng(seed).integers(0, SYMBOLS, LENGTH)
    position = 20 * np.eye(LENGTH)
    asked = position if arm == "sees everything, asks for itself" else np.roll(position, 1, axis=1)
    k, q, v = (x[None, :, None] for x in (position, asked, np.eye(SYMBOLS)[ids]))
    mask = causal_mask(LENGTH, LENGTH)[None, None] if arm == "causal" else None
    guesses = attend(q, k, v, mask)[0][0, :-1, 0].argmax(axis=-1)
    return {"accuracy": (guesses == ids[1:]).mean()}


CHEATS = ("sees everything", "causal", "sees everything, asks for itself")

EXPERIMENTS = [
    Experiment("padding", pad, ARMS, (0.0,), "mean", lower_is_better=True, seeds=PARTS, elsewhere="half"),
    Experiment("future", cheat, CHEATS, (0.0,), "accuracy", seeds=tuple(range(9))),
]


# ---- What the lesson says of it ------------------------------------------------------------------------------------------------


def taken(found):
    """The weight on padding in every sentence, beside equal weights."""
    weights = {arm: found.values("weight", arm) for arm in ARMS}
    ours = ", ".join(f"{arm} {span(weights[arm])}" for arm in (*SHARES, "half, of other words"))
    ours = f"{ours}; half, averaged over {COUNT} sentences {span(weights['half'].mean(axis=1))}"
    ours = f"{ours}; masked {max(weights[f'{arm}, masked'].max() for arm in SHARES):.0f}"
    less = all(weights[arm].max() < share for arm, share in SHARES.items())
    if not less or weights["half"].mean(axis=1).min() <= 1 / 3:
        return ours, "no"
    return ours, "yes" if weights["half"].min() > 1 / 3 else f"only on average over {COUNT} sentences"


def changed(found):
    """How far outputs move, beside those of another piece; and under the mask."""
    moved = {arm: found.values("changed", arm) for arm in ARMS}
    null = found.values("null", "half")
    masked = max(moved[f"{arm}, masked"].max() for arm in SHARES)
    ours = ", ".join(f"{arm} {span(moved[arm])}" for arm in SHARES)
    ours = f"{ours}; masked at most {masked:.0e}; another piece {span(null)}"
    return ours, "yes" if moved["half"].min() > 1 / 2 and masked < BOUND else "no"


BOUND = 1e-12
"""The limit of float64 for a layer and its reference."""


def leakage(found):
    """Accuracy with and without the mask, in standard errors from guessing."""
    seeing, causal, itself = (found.values("accuracy", arm) for arm in CHEATS)
    chance, error = 1 / SYMBOLS, np.sqrt((1 - 1 / SYMBOLS) / SYMBOLS / (LENGTH - 1))
    away = np.max(abs(np.concatenate([causal, itself]) - chance)) / error
    ours = f"{seeing.min():.2f} (worst seed); causal {span(causal)}; asks for itself {span(itself)}"
    ours = f"{ours}; at most {away:.1f} standard errors away"
    return ours, "yes" if seeing.min() == 1 and away < 4 else "no"


CLAIMS = [
    Claim(
        "Without a mask, half a row of padding takes over a third of MiniLM's attention, and less than equal weights give it",
        "padding",
        taken,
        bound="equal weights: 0.25, 0.50, 0.75; masked 0",
        ablation="the mask; and [PAD], with other words in its place",
        paper="none",
    ),
    Claim(
        "Without a mask, outputs depend on how much padding stands behind a sentence; with it, they do not",
        "padding",
        changed,
        bound="masked: rounding, 1e-12; null: the outputs of another piece of the sentence, beside ours",
        ablation="the mask",
        paper="none",
    ),
    Claim(
        "A model that sees the next token predicts a random text without a fault; under the causal mask it guesses",
        "future",
        leakage,
        bound=f"chance 1/{SYMBOLS}, standard error {np.sqrt(0.09 / (LENGTH - 1)):.3f}; all right 1",
        ablation="the mask; and the query for one position later",
        paper="none (1706.03762, section 3.2.3, argues it)",
    ),
]
