"""Packing: what is left of a pair that is too long, which tokens no copy of a text keeps, and how much of a batch is padding."""

from functools import cache

import numpy as np

from crosscheck.models import minilm
from experiments.common import novel
from experiments.common.experiment import Experiment
from experiments.common.table import Claim, span
from layers.bert_pack_inputs import BertPackInputs
from reference import bert_pack_inputs as ref

CLS, SEP, PAD = 101, 102, 0
LENGTHS = (32, 64, 128, 256, 512)
LONGEST = 8
"""Sentences of a text, at most."""


@cache
def sentences():
    """The ids of every sentence of the novel."""
    texts = [text.replace("\n", " ").strip() for text in novel.TEXT.split(".")]
    model = minilm.load()
    pieces = [minilm.wordpieces(model, text)[1:-1] for text in texts if len(text) > 1]
    return [[model.vocabulary[piece] for piece in row] for row in pieces]


def texts_of(seed, count):
    """Texts of one to eight sentences of the novel, one after the other from a random place on."""
    rng, found = np.random.default_rng(seed), []
    place = rng.integers(len(sentences()))
    for size in rng.integers(1, LONGEST + 1, count):
        found.append([token for i in range(place, place + size) for token in sentences()[i % len(sentences())]])
        place += size
    return found


def cut(arm, rate, seed, count=200):
    """Nothing is trained: pairs of neighboring texts are packed by the layer, in rows of several lengths.

    Returns:
        Curves over lengths: "none", the share of pairs of which a text has no token left; "least", the least share of a text of
        which anything was cut; "kept", tokens that are kept in all. "lost" is the first of the first curve.
    """
    import tensorflow as tf

    texts = texts_of(seed, count + 1)
    pairs = [texts[:-1], texts[1:]][:: -1 if arm.endswith("second first") else 1]
    sizes = np.array([[len(row) for row in rows] for rows in pairs]).T
    curves = {"none": [], "least": [], "kept": []}
    for length in LENGTHS:
        rows = {name: np.array(x) for name, x in packer(length, arm)([tf.ragged.constant(part) for part in pairs]).items()}
        kept = np.stack([((rows["input_type_ids"] == i) * rows["input_mask"]).sum(axis=1) - 2 + i for i in (0, 1)], axis=1)
        curves["none"].append((length, (kept == 0).any(axis=1).mean()))
        curves["least"].append((length, (kept / sizes).min()))
        curves["kept"].append((length, kept.sum()))
    return curves | {"lost": curves["none"][0][1]}


def packer(length, arm):
    ids = {"start_of_sequence_id": CLS, "end_of_segment_id": SEP, "padding_id": PAD}
    return BertPackInputs(length, truncator="round_robin" if arm == "round robin" else "waterfall", **ids)


BINS, COPIES = 20, 10
"""Parts of a text of which it is counted whether they are kept; copies of each text, as in BERT's own program."""


def instances(rng, room):
    """The lengths of pairs that follow each other: sentences until the room is full, cut in two between two of them.

    In BERT's paper (section 3.1 and appendix A.2), the second text of a pair follows the first in half of the pairs, and is a
    random one in the others. Here it always follows, so that no sentence is used twice in a copy. The paper does not say how a
    pair is cut that is too long: it samples texts that fit.
    """
    place, found = 0, []
    while place < len(sentences()):
        chunk = []
        while place < len(sentences()) and sum(map(len, chunk)) < room:
            chunk.append(sentences()[place])
            place += 1
        if len(chunk) > 1:
            middle = rng.integers(1, len(chunk))
            found.append([sum(map(len, part)) for part in (chunk[:middle], chunk[middle:])])
    return found


def first_kept(arm, dropped, rng):
    """How many tokens are dropped in front, of those that have to be."""
    if arm == "from the end":
        return 0
    return rng.binomial(dropped, 0.5) if arm == "a coin for each token" else rng.integers(dropped + 1)


def see(arm, rate, seed, room=125):
    """Nothing is trained: pairs that are too long are cut, ten copies of each.

    Returns:
        Of texts of which something is cut: "profile", the share of copies that keep each twentieth of it; "never", the share of
        tokens that no copy keeps; "cut", the share of tokens that a copy loses.
    """
    rng = np.random.default_rng(seed)
    profile, tokens, never, lost = np.zeros(BINS), np.zeros(BINS), 0, 0
    for sizes in instances(rng, room):
        for size, kept in zip(sizes, ref.round_robin_one(sizes, room)):
            if kept < size:
                starts = np.array([first_kept(arm, size - kept, rng) for _ in range(COPIES)])
                place = np.arange(size)
                is_kept = (place >= starts[:, None]) & (place < starts[:, None] + kept)
                part = place * BINS // size
                profile += np.bincount(part, is_kept.mean(axis=0), BINS)
                tokens += np.bincount(part, minlength=BINS)
                never, lost = never + (~is_kept.any(axis=0)).sum(), lost + size - kept
    whole = tokens.sum()
    curve = [((i + 0.5) / BINS, share) for i, share in enumerate(profile / tokens)]
    return {"profile": curve, "never": never / whole, "cut": lost / whole}


ROWS = (256, 512, 1024)
"""Lengths of the longest row."""


def batches(arm, rate, seed):
    """Nothing is trained: pairs become rows, with padding.

    Returns:
        {"padding": the share of places that are padding, "scores": the share of attention scores that have to do with it or
        with another pair}, for rows of 512; and "rows", a curve of the former over lengths of the longest row.
    """
    found = {longest: spent(arm, seed, longest) for longest in ROWS}
    padding, scores = found[512]
    return {"padding": padding, "scores": scores, "rows": [(longest, share) for longest, (share, _) in found.items()]}


def spent(arm, seed, longest, count=512, batch=32):
    """The shares of places and of scores."""
    sizes = np.array([len(text) for text in texts_of(seed, count + 1)])
    pairs = np.stack([sizes[:-1], sizes[1:]], axis=1)
    lengths = 3 + ref.round_robin(pairs, longest - 3).sum(axis=1)
    if arm == "several in a row":
        rows = []
        for length in sorted(lengths, reverse=True):
            fitting = next((row for row in rows if sum(row) + length <= longest), None)
            rows.append([length]) if fitting is None else fitting.append(length)
        places, used = len(rows) * longest, len(rows) * longest**2
    else:
        order = np.sort(lengths) if arm == "sorted, to the batch's longest" else lengths
        longest_of = order.reshape(-1, batch).max(axis=1) if arm != "all to one length" else np.full(count // batch, longest)
        places, used = batch * longest_of.sum(), batch * (longest_of**2).sum()
    return 1 - lengths.sum() / places, 1 - (lengths**2).sum() / used


CUTS = ("round robin", "waterfall", "waterfall, second first")
SEEN = ("from the end", "a coin for each token", "one draw for each text")
PADDED = ("all to one length", "to the batch's longest", "sorted, to the batch's longest", "several in a row")
EXPERIMENTS = [
    Experiment("cuts", cut, CUTS, (0.0,), "lost", lower_is_better=True, elsewhere="round robin"),
    Experiment("seen", see, SEEN, (0.0,), "never", lower_is_better=True),
    Experiment("padding", batches, PADDED, (0.0,), "padding", lower_is_better=True),
]


# ---- What the lesson says of it ------------------------------------------------------------------------------------------------


def nothing_left(found):
    """The share of pairs of which a text is lost, at each length."""
    shares = {arm: found.curves("none", arm)[1] for arm in CUTS}
    kept = [found.curves("kept", arm)[1] for arm in CUTS]
    ours = "; ".join(f"{arm} {', '.join(f'{share:.2f}' for share in np.median(shares[arm], axis=0))}" for arm in CUTS)
    ours = f"{ours}, in rows of {', '.join(map(str, LENGTHS))} (medians)"
    loses = [length for length, share in zip(LENGTHS, shares["waterfall"].T) if share.min() > 0]
    if shares["round robin"].max() > 0 or not loses or not all(np.array_equal(kept[0], others) for others in kept):
        return ours, "no"
    return ours, f"only in rows of {', '.join(map(str, loses))}"


def never_seen(found):
    """The share of tokens that no copy keeps, and how often the first, middle and last twentieth are kept."""
    never, ours = {arm: found.values("never", arm) for arm in SEEN}, []
    for arm in SEEN:
        profile = np.median(found.curves("profile", arm)[1], axis=0)
        ours.append(f"{arm} {span(never[arm])}; kept {profile[0]:.2f}, {profile[BINS // 2]:.2f}, {profile[-1]:.2f}")
    coin, one, end = (never[arm] for arm in ("a coin for each token", "one draw for each text", "from the end"))
    return "; ".join(ours), "only in part" if one.max() < coin.min() and coin.max() < end.min() else "no"


def sorting(found):
    """The share of places that are padding, by the length of the longest row."""
    shares = {arm: found.curves("rows", arm)[1] for arm in PADDED}
    ours = "; ".join(f"{arm} {', '.join(map(span, shares[arm].T))}" for arm in PADDED)
    _, own, ordered, _ = shares.values()
    return f"{ours}, in rows of {', '.join(map(str, ROWS))}", "yes" if (ordered.max(axis=0) < own.min(axis=0) / 2).all() else "no"


def several(found):
    """The same for several pairs in a row, and their scores."""
    shares = {arm: found.curves("rows", arm)[1] for arm in PADDED}
    *_, ordered, packed = shares.values()
    ours = f"{', '.join(map(span, packed.T))}, in rows of {', '.join(map(str, ROWS))}; sorted {', '.join(map(span, ordered.T))}"
    rows = [longest for longest, few, more in zip(ROWS, packed.T, ordered.T) if few.max() < more.min()]
    return ours, "yes" if len(rows) == len(ROWS) else f"only in rows of {' or '.join(map(str, rows))}" if rows else "no"


CLAIMS = [
    Claim(
        "Of a pair that is too long, the waterfall may leave nothing of a text; round robin never does, and keeps as many tokens",
        "cuts",
        nothing_left,
        bound="round robin leaves each text half of the room, rounded down, or all of it",
        ablation="the order: the other text first",
        paper="none",
    ),
    Claim(
        "A coin for each token, as in BERT's program for pre-training, avoids the bias of cutting a pair's copies at the end",
        "seen",
        never_seen,
        bound="from the end: what is cut is never seen",
        ablation="a coin for each token: one draw for each text",
        paper="none (a comment in the program)",
    ),
    Claim(
        "Batches of rows of like length spare more than half of the padding",
        "padding",
        sorting,
        bound="no padding 0; half of what batches have as they come",
        ablation="the order: batches as they come",
        paper="2107.02027, abstract: up to 50% of all tokens can be padding",
    ),
    Claim(
        "Several pairs in a row leave less padding than sorting does",
        "padding",
        several,
        bound="no padding 0",
        ablation="long rows: rows of which a pair fills most",
        paper="2107.02027, abstract: twice the speed for BERT's second phase of pre-training",
    ),
]
