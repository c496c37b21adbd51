"""BERT, whole: in half precision, against counts of words, with hidden words, and tuned a little."""

import numpy as np

from experiments.bert import tuned, untrained, words
from experiments.common.experiment import Experiment
from experiments.common.table import Claim, span

SEEDS = (0, 1, 2)
EXPERIMENTS = [
    Experiment("halves", untrained.halve, untrained.DTYPES, (0.0,), "last", True, SEEDS),
    Experiment("next", untrained.find_next, untrained.SEARCHES, (0.0,), "rank", seeds=SEEDS),
    Experiment("hidden", words.guess, words.ARMS, (1e-4, 3e-4, 1e-3), "bits", True, SEEDS, elsewhere="head trained"),
    Experiment("spoken", tuned.tune, tuple(tuned.ARMS), (1e-4, 1e-3, 1e-2), "right", seeds=SEEDS, elsewhere="last block"),
]


# ---- What the lesson says of it ----------------------------------------------------------------------------------------------


def growth(found, arm, what):
    values = found.values(what, arm)
    return values[:, -1] / values[:, 0]


def grows(found):
    """The error after six blocks over that after one, and that of the last block alone over that of the first."""
    ours = "; ".join(f"{arm} × {span(growth(found, arm, 'tokens'), 1)}" for arm in untrained.DTYPES)
    alone = max(growth(found, arm, "alone").max() for arm in untrained.DTYPES)
    holds = min(growth(found, arm, "tokens").min() for arm in untrained.DTYPES) > alone
    return f"{ours}; each block alone × {alone:.1f} at most", "yes" if holds else "no"


def averaged(found):
    """How much of the tokens' error is left in their mean, in bfloat16, and what would be if errors were independent."""
    left = found.values("mean", "bfloat16") / found.values("last", "bfloat16")
    independent = found.values("if independent", "bfloat16") / found.values("last", "bfloat16")
    ours = f"{span(left)} of a token's error; least cosine {found.values('cosine', 'bfloat16').min():.5f}"
    return f"{ours}; independent {span(independent)}", "yes" if left.max() < (1 + independent.min()) / 2 else "no"


def follows(found):
    """The mean of 1/rank of the sentence that follows."""
    mean, rarity = (found.values("rank", arm) for arm in ("MiniLM, mean", "TF-IDF"))
    ours = ", ".join(f"{arm} {span(found.values('rank', arm), 3)}" for arm in untrained.SEARCHES)
    if mean.mean() <= rarity.mean():
        return ours, "no"
    return ours, "yes" if (mean > rarity).all() else "only on average over stretches of the novel"


def by_itself(found):
    """Bits of hidden pieces from the table of words, and how many are right."""
    bits, right = (found.values(what, "as it is") for what in ("bits", "right"))
    return f"{span(bits)} bits; right {span(right, 3)}", "yes" if bits.max() < np.log2(words.CANDIDATES) else "no"


def with_a_head(found):
    """Hidden pieces that are right with a trained head, beside the rivals."""
    arms = ("head trained", "head trained, sentences mixed", "frequency", "counts")
    ours = "; ".join(f"{arm} {span(found.values('right', arm))}, {span(found.values('bits', arm))} bits" for arm in arms)
    (bits, right), (counted, often), (frequency, _) = (
        [found.values(what, arm) for what in ("bits", "right")] for arm in ("head trained", "counts", "frequency")
    )
    if (bits < counted).all() and (right > often).all():
        return ours, "yes"
    return ours, "only better than frequency" if (bits < frequency).all() else "no"


def tuning(found):
    """Accuracy on new sentences with a block that is trained, and without."""
    ours = "; ".join(f"{arm} {span(found.values('right', arm))}" for arm in tuned.ARMS)
    best = max(found.values("right", arm).max() for arm in tuned.ARMS if arm != "last block")
    return ours, "yes" if found.worst("right", "last block") > best else "no"


def pretraining(found):
    """The head on MiniLM's vectors against the one on TF-IDF, on the same splits."""
    head, rarity, mixed = (found.values("right", arm) for arm in ("head alone", "TF-IDF", "head alone, answers mixed"))
    error = 2 * np.sqrt(1 / 4 / NEW)
    ours = f"{span(head)}; TF-IDF {span(rarity)}; more on the same split {span(head - rarity)}; answers mixed {span(mixed)}"
    return ours, "yes" if (head - rarity).min() > error else "no"


NEW = 237
"""Sentences that are held out."""

CLAIMS = [
    Claim(
        "On real tokens, the relative error of half precision grows from block to block",
        "halves",
        grows,
        bound="each block alone, from exact inputs: beside ours",
        ablation="the blocks before",
        paper="none",
    ),
    Claim(
        "The mean over tokens takes most of the error away",
        "halves",
        averaged,
        bound="errors of tokens that have nothing to do with each other: beside ours; one error for all: 1",
        ablation="none",
        paper="none",
    ),
    Claim(
        "Embeddings find the sentence that follows in a novel better than TF-IDF",
        "next",
        follows,
        bound=f"chance 1/{untrained.PAIRS} is right, 1/rank {np.mean(1 / np.arange(1, untrained.PAIRS + 1)):.3f}",
        ablation="the layers, with their numbers in random order; the mean, with [CLS] in its place",
        paper="1908.10084, Table 3 (argument similarity, r): TF-IDF 46.77, GloVe 32.40",
    ),
    Claim(
        "MiniLM guesses hidden words with its table of words as the head",
        "hidden",
        by_itself,
        bound=f"chance: log2 {words.CANDIDATES} = {np.log2(words.CANDIDATES):.2f} bits, right {1 / words.CANDIDATES:.4f}",
        ablation="none",
        paper="none",
    ),
    Claim(
        "A head trained on MiniLM's frozen vectors guesses hidden words better than counts",
        "hidden",
        with_a_head,
        bound=f"chance {np.log2(words.CANDIDATES):.2f} bits; counts and frequency: beside ours",
        ablation="the sentence: vectors of other ones",
        paper="none",
    ),
    Claim(
        "Training the last block finds what is spoken better than a head alone",
        "spoken",
        tuning,
        bound="guessing 1/2",
        ablation="the training of the block; its numbers, in random order",
        paper="none",
    ),
    Claim(
        "A head on MiniLM's frozen vectors finds what is spoken better than one on TF-IDF",
        "spoken",
        pretraining,
        bound=f"guessing 1/2, two standard errors {2 * np.sqrt(1 / 4 / NEW):.2f}",
        ablation="the answers, mixed",
        paper="none",
    ),
]
