"""Encoder blocks: what keeps tokens different from each other with depth, the last gradient, and whether deep stacks learn."""

import numpy as np

from experiments.common.experiment import Experiment
from experiments.common.table import Claim, span
from experiments.transformer_encoder.learning import ARMS, STEPS, SYMBOLS, train_reverser
from experiments.transformer_encoder.stacks import (
    COUNT,
    DEPTH,
    GRADIENTS,
    KINDS,
    SIZES,
    distinct,
    expected,
    gradients,
    read,
    scaled,
)

SCALED = tuple(f"{norm}-norm, × {size}" for norm in ("post", "pre") for size in SIZES)

EXPERIMENTS = [
    Experiment("distinct", distinct, tuple(KINDS), (0.0,), "end"),
    Experiment("sizes", scaled, SCALED, (0.0,), "end"),
    Experiment("trained", read, ("trained", "shuffled"), (0.0,), "end"),
    Experiment("gradients", gradients, tuple(GRADIENTS), (0.0,), "slope"),
    Experiment(
        "reverse", train_reverser, tuple(ARMS), (1e-3, 3e-3, 1e-2), "accuracy", seeds=(0, 1, 2), elsewhere="post-norm, halved"
    ),
]


# ---- What the lesson says of it ------------------------------------------------------------------------------------------------

HALFWAY = expected(KINDS["pre-norm"])[0] / 2
"""Halfway between tokens that are all alike and the random tokens that a stack begins with."""


def small(values):
    return f"{np.min(values):.0e} to {np.max(values):.0e}"


def order(found):
    """The share that differs after all blocks: pre-norm arms with a residual connection, beside all others."""
    first = [arm for arm, kind in KINDS.items() if kind.norm == "pre" and kind.residual]
    worst = min(found.worst("end", arm) for arm in first)
    others = {arm: found.values("end", arm) for arm in KINDS if arm not in first}
    ours = f"pre-norm {span(found.values('end', first[0]))}, without feed-forward {span(found.values('end', first[1]))}"
    ours += f"; post-norm {small(others['post-norm'])}, no norm {small(others['no-norm'])}"
    ours += f"; no residual at most {max(values.max() for arm, values in others.items() if 'residual' in arm):.0e}"
    return ours, "yes" if worst > max(values.max() for values in others.values()) else "no"


def large(found):
    """The sizes of kernels at which post-norm blocks leave less than halfway, and more."""
    post = {size: found.values("end", f"post-norm, × {size}") for size in SIZES}
    alike, apart = ([size for size in SIZES if test(post[size])] for test in (lost, kept))
    ours = ", ".join(f"× {size}: {small(post[size])}" if size in alike else f"× {size}: {span(post[size])}" for size in SIZES)
    if not alike:
        return ours, "no"
    return ours, "yes" if len(alike) == len(SIZES) else f"only if kernels are at least {min(alike)} of Glorot's, not {max(apart)}"


def lost(values):
    return values.max() < HALFWAY


def kept(values):
    return values.min() > HALFWAY


def real(found):
    """The share that differs at the end of MiniLM, and of MiniLM with shuffled kernels."""
    own, null = found.values("end", "trained"), found.values("end", "shuffled")
    return f"{span(own)}; shuffled {span(null)}", "yes" if own.min() > null.max() else "no"


def steepness(found):
    """Slopes of the last gradient over depth, and what they would be if tokens' parts were at right angles."""
    whole, apart = ({arm: found.values(what, arm) for arm in GRADIENTS} for what in ("slope", "slope apart"))
    ours = "; ".join(f"{arm} {span(whole[arm])}, at right angles {span(apart[arm])}" for arm in GRADIENTS)
    flat = np.abs(apart["post-norm"]).max()
    if whole["post-norm"].min() <= flat:
        return ours, "yes"
    return ours, "only for tokens at right angles" if flat < whole["post-norm, halved"].min() else "no"


def reversed_texts(found):
    """Accuracy of each arm at its best rate, and whether halves lie on different sides of halfway from chance to all right."""
    halfway, worst = (1 + 1 / SYMBOLS) / 2, {arm: found.worst("accuracy", arm) for arm in ARMS}
    ours = "; ".join(f"{arm} {span(found.values('accuracy', arm))}" for arm in ARMS)
    late = max(found.values("accuracy", arm).max() for arm in ("post-norm", "post-norm, warm-up"))
    if not late < halfway < worst["pre-norm"]:
        return ours, "no"
    return ours, "only if kernels are not halved" if worst["post-norm, halved"] > halfway else "yes"


CLAIMS = [
    Claim(
        f"Tokens stay different through {DEPTH} random blocks if norms come first, and not if they come last or not at all",
        "distinct",
        order,
        bound="with equal weights, without a fit: "
        + ", ".join(f"{name} {expected(KINDS[name])[-1]:.2g}" for name in ("pre-norm", "pre-norm, no feed-forward", "post-norm")),
        ablation="residual connections, norms, the feed-forward network: each alone, and together",
        paper="2103.03404, abstract: skip connections and MLPs stop the output from degeneration",
    ),
    Claim(
        "The paper's post-norm blocks make tokens alike",
        "sizes",
        large,
        bound="with equal weights, without a fit: "
        + ", ".join(f"{expected(KINDS['post-norm'], size)[-1]:.1g}" for size in SIZES),
        ablation="the size of the kernels: times " + ", ".join(map(str, SIZES)),
        paper="2206.03126: with depth, tokens grow alike unless residuals are scaled (its numbers were not at hand)",
    ),
    Claim(
        f"A trained post-norm model keeps its tokens different, on average over {COUNT} sentences",
        "trained",
        real,
        bound="all alike 0; null: the same model with shuffled kernels, beside ours",
        ablation="what was learned: the kernels shuffled",
        paper="none",
    ),
    Claim(
        "At the start of training, the last gradient of a post-norm stack does not depend on its depth",
        "gradients",
        steepness,
        bound="2002.04745, Theorem 1: at most as depth^0 (post-norm) and depth^(−1/2) (pre-norm)",
        ablation="that tokens are alike: their parts set at right angles, and kernels halved",
        paper="2002.04745, Theorem 1",
    ),
    Claim(
        f"Eight post-norm blocks do not learn in {STEPS} steps to say a text backwards, and eight pre-norm blocks do",
        "reverse",
        reversed_texts,
        bound=f"chance 1/{SYMBOLS}; all right 1",
        ablation="the size of the kernels, halved; and a warm-up, which does not help",
        paper="2002.04745, abstract: without a warm-up, pre-norm reaches comparable results",
    ),
]
