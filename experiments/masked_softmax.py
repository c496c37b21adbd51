"""Masked softmax: padding that is not masked, what an added number leaves in each format, and the scale of real scores."""

import keras
import numpy as np

from crosscheck.models import minilm
from experiments.common.experiment import Experiment
from experiments.common.reader import HEADS, LAYERS, after_attention, scores, sentences_of, weights_of_attention
from experiments.common.table import Claim, span
from layers.masked_softmax import MaskedSoftmax
from reference.attention import multi_head_attention
from reference.masked_softmax import masked_softmax

COUNT = 12
"""Sentences of a seed."""

PADDINGS = {"8 [PAD]": 8, "24 [PAD]": 24, "64 [PAD]": 64}


def on_padding(x, real, layer):
    """The weight of real pieces on padding, not masked and masked, averaged over pieces and heads."""
    found = scores(x, layer)
    weights = [masked_softmax(found)[:, real], masked_softmax(found, real)[:, real]]
    return [of[..., ~real].sum(axis=-1).mean() for of in weights]


def pad(arm, rate, seed):
    """Nothing is trained: MiniLM reads padded sentences without a mask.

    Returns:
        For each sentence {"weight": on padding in the first layer, "masked": that under a mask, "equal": that of equal weights,
        "last": that in the last layer if no layer has a mask, for the first three sentences}; and "mean", of the first.
    """
    rows, last = [], []
    for pieces in sentences_of(seed, COUNT):
        x = minilm.embed(minilm.load(), pieces + ["[PAD]"] * PADDINGS[arm])
        real = np.arange(x.shape[1]) < len(pieces)
        rows.append((*on_padding(x, real, 0), np.mean(~real)))
        if len(last) < 3:
            for layer in range(LAYERS - 1):
                x = after_attention(layer, x, multi_head_attention(x, x, weights_of_attention(layer))[0])
            last.append(on_padding(x, real, LAYERS - 1)[0])
    weight, masked, equal = np.transpose(rows)
    return {"weight": weight, "masked": masked, "equal": equal, "last": last, "mean": weight.mean()}


FORMATS = {"float16": -65504.0, "float32": -1e9, "float64": -1e9}
"""The number that is added in each format. In float16, −10⁹ itself is −∞."""


def softmax(x):
    """As it is written in NumPy, in the format of `x`, without a mask."""
    exp = np.exp(x - x.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def forbid(arm, rate, seed):
    """Nothing is trained: every key is forbidden, by a number that is added to real scores, or by our layer.

    The scores are those of MiniLM's first layer; or all of a row are lowered, until the largest is −20, which no softmax sees.

    Returns:
        Shares of rows: {"nan": that are NaN, "even": that are an average, "free": that are the softmax without a mask, "null":
        whose softmax without a mask is an average}, all to a thousandth; and "layer", the largest weight that our layer gives.
    """
    dtype, *lowered = arm.split(", ")
    kind, rows, largest = np.dtype(dtype).type, [], []
    for pieces in sentences_of(seed, COUNT):
        x = scores(minilm.embed(minilm.load(), pieces)).reshape(-1, len(pieces))
        x = (x - x.max(axis=-1, keepdims=True) - 20 if lowered else x).astype(dtype)
        with np.errstate(all="ignore"):
            recipe = softmax(x + kind(FORMATS[dtype])).astype("float64")
        ours = MaskedSoftmax(dtype=dtype)(x, np.zeros((1, x.shape[-1])))
        largest.append(np.abs(keras.ops.convert_to_numpy(ours)).max())
        free, even = softmax(x.astype("float64")), 1 / x.shape[-1]
        rows.append([np.isnan(recipe).any(axis=-1), near(recipe, even), near(recipe, free), near(free, even)])
    return dict(zip(("nan", "even", "free", "null"), np.concatenate(rows, axis=1).mean(axis=1))) | {"layer": max(largest)}


def near(weights, others):
    """Whether each row of weights is another one, to a thousandth. NaN is near to nothing."""
    return (np.abs(weights - others) < 1e-3).all(axis=-1)


FACTORS = np.geomspace(0.02, 50, 13)
LEFT = 2
"""The head that reads the piece before."""

SIDES = ("trained", "shuffled", "no places")


def entropy(weights):
    """Of weights, between 0 and 1, averaged over rows: `(h,)`."""
    return -(weights * np.log(np.maximum(weights, 1e-300))).sum(-1).mean(-1) / np.log(weights.shape[-1])


def scale(arm, rate, seed):
    """Nothing is trained: the entropy of the weights of MiniLM's first layer, and what is left of it.

    Arms: as it is; with the numbers of each kernel of queries and keys shuffled; with the first position for every piece.

    Returns:
        {"entropy": that of each head with each of `FACTORS` on the scores, "heads": that with the scores as they are, "before":
        each head's weight on the piece before, "lowest": the lowest of "heads"}.
    """
    rng, rows = np.random.default_rng(seed), []
    shuffled = [part.kernel.copy() for part in weights_of_attention(0)[:2]]
    for kernel in shuffled:
        kernel[:] = rng.permutation(kernel.ravel()).reshape(kernel.shape)
    for pieces in sentences_of(seed, COUNT):
        x = minilm.embed(minilm.load(), pieces)
        if arm == "no places":
            x = np.concatenate([minilm.embed(minilm.load(), [piece]) for piece in pieces], axis=1)
        found = scores(x)
        if arm == "shuffled":
            q, k = (np.einsum("tm,mhd->thd", x[0], kernel) for kernel in shuffled)
            found = np.einsum("thd,shd->hts", q, k) / np.sqrt(q.shape[-1])
        weights = masked_softmax(found)
        before = np.diagonal(weights, -1, axis1=1, axis2=2).mean(axis=-1)
        rows.append([*(entropy(masked_softmax(factor * found)) for factor in FACTORS), entropy(weights), before])
    *curves, heads, before = np.mean(rows, axis=0)
    return {"entropy": curves, "heads": heads, "before": before, "lowest": heads.min()}


EXPERIMENTS = [
    Experiment("padding", pad, tuple(PADDINGS), (0.0,), "mean", lower_is_better=True),
    Experiment("forbidden", forbid, (*FORMATS, "float16, lowered"), (0.0,), "layer", lower_is_better=True, elsewhere="float32"),
    Experiment("scale", scale, SIDES, (0.0,), "lowest"),
]


# ---- What the lesson says of it ------------------------------------------------------------------------------------------------


def taken(found):
    """The weight on padding, sentence by sentence, beside equal weights and beside more padding."""
    first, equal, last = ([found.values(what, arm) for arm in PADDINGS] for what in ("weight", "equal", "last"))
    ours = ", ".join(f"{arm} {span(of)} ({span(even)})" for arm, of, even in zip(PADDINGS, first, equal))
    masked = max(found.values("masked", arm).max() for arm in PADDINGS)
    holds = (np.diff(first, axis=0) > 0).all() and masked == 0
    ours = f"{ours}; masked {masked:.0f}; last layer {', '.join(map(span, last))}"
    if not holds or any((of >= even).any() for of, even in zip(first, equal)):
        return ours, "no"
    deep = all((of < even[:, :3]).all() for of, even in zip(last, equal))
    return ours, "yes" if deep else "only in the first layer"


def formats(found):
    """What is left of rows that are wholly forbidden."""
    arms = (*FORMATS, "float16, lowered")
    nan, even, free = ({arm: found.values(what, arm) for arm in arms} for what in ("nan", "even", "free"))
    null, layer = found.values("null", "float64").max(), max(found.values("layer", arm).max() for arm in arms)
    ours = (
        f"NaN in float16 {percent(nan['float16'])} of rows, lowered {percent(nan['float16, lowered'])}; an average in float16 "
        f"{percent(even['float16'])}, in float32 {percent(even['float32'])} (without a mask {null:.0%}); "
        f"no mask in float64 {percent(free['float64'])}; layer {layer:.0f}"
    )
    holds = nan["float16, lowered"].min() == 1 and free["float64"].min() == 1 and layer == 0 and null < even["float32"].min()
    if not holds:
        return ours, "no"
    always = nan["float16"].min() == 1 and even["float32"].min() == 1
    return ours, "yes" if always else "only if all scores are at most −16 (NaN), and none is beyond ±32 (an average)"


def percent(shares):
    low, high = np.min(shares), np.max(shares)
    return f"{high:.0%}" if low == high else f"{low:.0%} to {high:.0%}"


def choice(found):
    """The entropy of the head that reads the piece before, of the others, and of the same with shuffled kernels."""
    heads, before = (found.values(what, "trained") for what in ("heads", "before"))
    curves, null = found.values("entropy", "trained"), found.values("heads", "shuffled")
    others = np.delete(heads, LEFT, axis=1)
    ours = (
        f"head {LEFT} {span(heads[:, LEFT])}, on the piece before {span(before[:, LEFT])}; others {span(others)}; shuffled "
        f"{span(null)}; head {LEFT} without places {span(found.values('heads', 'no places')[:, LEFT])}; "
        f"factor {FACTORS[0]:g} at least {curves[:, 0].min():.2f}, {FACTORS[-1]:g} at most {curves[:, -1].max():.2f}"
    )
    falls = (np.diff(curves, axis=1) < 0).all()
    chooses = heads[:, LEFT].max() < others.min() and before[:, LEFT].min() > 1 / 2
    most = ((heads > 1 / 2).sum(axis=1) > HEADS / 2).all()  # nearer to an average than to a choice
    return ours, "yes" if falls and chooses and most else "no"


CLAIMS = [
    Claim(
        "Not masked, padding takes less of what pieces read than its share, and the more of it, the more",
        "padding",
        taken,
        bound="equal weights, in parentheses; masked 0",
        ablation="the mask; and the first layer: the last one, too",
        paper="none",
    ),
    Claim(
        "A number added to a row that is wholly forbidden leaves NaN in float16, an average in float32, no mask in float64",
        "forbidden",
        formats,
        bound="nothing allowed: 0; a change below half a step is lost: 16 in float16, 32 in float32",
        ablation="the sum: our layer selects; and lowered rows, whose softmax is the same",
        paper="none (1706.03762, section 3.2.3, has −∞)",
    ),
    Claim(
        "Small scores average, large ones choose; one of MiniLM's first heads chooses the piece before, most nearly average",
        "scale",
        choice,
        bound="entropy / log s: 1 an average, 0 a choice; null: shuffled kernels, beside ours",
        ablation="the places: every piece in the first one",
        paper="none",
    ),
]
