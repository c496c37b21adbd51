"""Vocabularies learned from a novel: how long a text gets, what the search is worth, and which pieces may be pruned."""

import numpy as np

from experiments.common.experiment import Experiment
from experiments.common.table import Claim, span
from experiments.sentencepiece_tokenizer.runs import KEPT, MODELS, SIZES, climb, measure, prune, search

KINDS = ("words", *MODELS)
CUTS = ("Viterbi", "greedy", "at random")
PRUNED = ("by loss", "by probability", "at random")
EXPERIMENTS = [
    Experiment("vocabularies", measure, KINDS, (0.0,), "shortest", lower_is_better=True, elsewhere="unigram"),
    Experiment("cuts", search, CUTS, (0.0,), "nats", lower_is_better=True),
    Experiment("climb", climb, ("counts", "all alike"), (0.0,), "end"),
    Experiment("pruning", prune, PRUNED, (0.0,), "end"),
]


# ---- What the lesson says of it ------------------------------------------------------------------------------------------------


def unknown(found):
    """The share that is unknown, at the largest vocabulary and at the smallest."""
    shares = {arm: found.curves("unknown", arm)[1] for arm in KINDS}
    ours = ", ".join(f"{arm} {span(shares[arm][:, 0], 4)} and {span(shares[arm][:, -1], 4)}" for arm in KINDS)
    pieces = np.max([shares[arm] for arm in ("unigram", "merges")], axis=0)
    return ours, "yes" if (pieces < shares["words"]).all() and pieces.max() < shares["words"].min() else "no"


def shorter(found):
    """Ids for a word at each size."""
    ids = {arm: found.curves("ids", arm)[1] for arm in ("unigram", "merges", "characters")}
    ours = "; ".join(f"{arm} {', '.join(f'{value:.2f}' for value in np.median(ids[arm], axis=0))}" for arm in ids)
    falling = all((np.diff(ids[arm], axis=1) < 0).all() for arm in ("unigram", "merges"))
    return ours, "yes" if falling and max(ids["unigram"].max(), ids["merges"].max()) < ids["characters"].min() else "no"


def unigram_is_shorter(found):
    """The ratio of ids: those of merges for one of the unigram model."""
    ratio = found.curves("ids", "merges")[1] / found.curves("ids", "unigram")[1]
    ours = ", ".join(f"{size} {span(values, 3)}" for size, values in zip(SIZES, ratio.T))
    sizes = [size for size, values in zip(SIZES, ratio.T) if values.min() > 1]
    return ours, "yes" if len(sizes) == len(SIZES) else f"only with {sizes} pieces" if sizes else "no"


def other_cuts(found):
    """How often the greedy cut is another one, and what it costs beside a random one."""
    nats = {arm: found.values("nats", arm) for arm in CUTS}
    ours = f"{span(found.values('other', 'greedy'), 3)} of the words"
    ours += "".join(f"; {arm} {span(nats[arm])} nats a word, {span(found.values('pieces', arm))} pieces" for arm in CUTS)
    ordered = (nats["Viterbi"] < nats["greedy"]).all() and nats["greedy"].max() < nats["at random"].min()
    return ours, "yes" if ordered else "no"


def first_step(found):
    """What the first step wins of all that eight steps win."""
    shares = {arm: found.values("first", arm) for arm in ("counts", "all alike")}
    rise = min(found.values("least rise", arm).min() for arm in shares)
    ours = ", ".join(f"from {arm} {span(values)}" for arm, values in shares.items())
    return f"{ours}; least rise {rise:.1e} nats", "yes" if rise >= 0 and min(map(np.min, shares.values())) > 1 / 2 else "no"


def better_pruned(found):
    """L for each word after pruning to each size."""
    levels = {arm: found.curves("L", arm)[1] for arm in PRUNED}
    sizes = [size for size, better in zip(KEPT, (levels["by loss"] > levels["by probability"]).all(axis=0)) if better]
    ours = "; ".join(f"{arm} {', '.join(f'{value:.2f}' for value in np.median(levels[arm], axis=0))}" for arm in PRUNED)
    ours = f"{ours}, with {', '.join(map(str, KEPT))} pieces (medians)"
    if not sizes or (levels["by loss"] <= levels["at random"]).any():
        return ours, "no"
    return ours, "yes" if len(sizes) == len(KEPT) else f"only with {' or '.join(map(str, sizes))} pieces"


CLAIMS = [
    Claim(
        "A vocabulary of pieces leaves less unknown at any size than one of words does at its largest",
        "vocabularies",
        unknown,
        bound="characters that were never seen: beside ours",
        ablation="the parts of words: words alone",
        paper="none",
    ),
    Claim(
        "Each enlargement of the vocabulary makes an unseen text shorter",
        "vocabularies",
        shorter,
        bound="1 id a word; characters beside ours",
        ablation="the pieces: characters alone",
        paper="the project's doc/experiments.md, English of KFTT: 4,000, 8,000, 16,000, 32,000 pieces 43.7, 31.0, 27.2, 25.1 "
        "tokens a sentence; 21.3 words, 109.9 characters",
    ),
    Claim(
        "A unigram model makes a text shorter than as many merges do",
        "vocabularies",
        unigram_is_shorter,
        bound="as long: 1",
        ablation="none",
        paper="the project's doc/experiments.md, English of KFTT, 8,000 pieces: merges 31.8 tokens a sentence, unigram 31.0, a "
        "ratio of 1.03",
    ),
    Claim(
        "The most probable cut of a word is sometimes not the greedy one",
        "cuts",
        other_cuts,
        bound="Viterbi's −log P is the least of all cuts",
        ablation="the search: the longest piece next, and any piece next",
        paper="none",
    ),
    Claim(
        "The first step of expectation maximization wins more than all later ones together",
        "climb",
        first_step,
        bound="half; a step never lowers L",
        ablation="the start from counts: all pieces alike",
        paper="none",
    ),
    Claim(
        "Pruning the pieces that L misses least keeps L higher than pruning the rarest ones",
        "pruning",
        better_pruned,
        bound="null: pruned at random, beside ours",
        ablation="the loss",
        paper="none (1804.10959, section 3.2, gives the rule)",
    ),
]
