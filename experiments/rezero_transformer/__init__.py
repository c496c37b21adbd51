"""ReZero: at which learning rates and depths it starts faster than blocks with norms, and what becomes of the Jacobian."""

import numpy as np

from experiments.common.experiment import Experiment
from experiments.common.table import Claim, span
from experiments.rezero_transformer.reverser import (
    ARMS,
    DEEP,
    GUESSING,
    LOOKED_AT,
    LOOKS,
    NORMED,
    RATES,
    SHALLOW,
    STARTS,
    STEPS,
    N,
    train_reverser,
)

EXPERIMENTS = [
    Experiment(
        "start",
        train_reverser,
        tuple(ARMS),
        RATES,
        "steps",
        lower_is_better=True,
        seeds=(0, 1, 2),
        elsewhere=f"ReZero, {SHALLOW} blocks",
        together=True,
    ),
]


def of_kind(kind, depth=DEEP):
    """The arms of a kind of block, with and without warm-up."""
    return [arm for arm, (found, blocks, _) in ARMS.items() if found == kind and blocks == depth]


RIVALS = [arm for kind in NORMED for arm in of_kind(kind)]


def steps_of(found, arm, rate=None):
    """The steps of each seed until half a guess: with `rate`, or with the arm's best one."""
    return found.values("steps", arm, rate)


def faster(found, arm, rivals, rates=(None,)):
    """The rates at which the slowest seed of `arm` has started, and before the fastest seed of every rival."""
    return [
        rate
        for rate in rates
        if steps_of(found, arm, rate).max() < min([STEPS, *(steps_of(found, rival, rate).min() for rival in rivals)])
    ]


def starts_faster(found):
    """The steps of ReZero and its rivals, each with its best rate; and the rates at which ReZero is faster at the same rate."""
    arm = f"ReZero, {DEEP} blocks"
    ours = "; ".join(f"{name.replace(f', {DEEP} blocks', '')} {span(steps_of(found, name), 0)}" for name in (arm, *RIVALS))
    same = faster(found, arm, RIVALS, RATES)
    ours = f"{ours}; at the same rate, faster at {', '.join(f'{rate:g}' for rate in same) or 'none'}"
    if faster(found, arm, RIVALS):
        return ours, "yes"
    without = [rival for rival in RIVALS if not ARMS[rival][2]]
    only = f"only if no rival has a warm-up, or all have the same rate, of {len(RATES)} rates"
    return ours, only if faster(found, arm, without) and same else "no"


def grows_with_depth(found):
    """Median steps of pre-norm over those of ReZero, at both depths."""
    steps = {
        (kind, depth): steps_of(found, f"{kind}, {depth} blocks") for kind in ("ReZero", "pre-norm") for depth in (SHALLOW, DEEP)
    }
    ratio = {depth: steps["pre-norm", depth] / steps["ReZero", depth] for depth in (SHALLOW, DEEP)}
    ours = "; ".join(f"{depth} blocks {values.min():.1f} to {values.max():.1f}" for depth, values in ratio.items())
    return ours, "yes" if ratio[DEEP].min() > ratio[SHALLOW].max() else "no"


def helped_by_warm_up(found):
    """Post-norm with and without warm-up, at both depths, with the best rate of each."""
    steps = {depth: [steps_of(found, arm) for arm in of_kind("post-norm", depth)] for depth in (SHALLOW, DEEP)}
    ours = "; ".join(f"{depth} blocks {span(without, 0)}, with {span(warm, 0)}" for depth, (without, warm) in steps.items())
    helped = [depth for depth, (without, warm) in steps.items() if warm.max() < without.min()]
    if not helped:
        return ours, "no"
    return ours, "yes" if len(helped) == 2 else f"only with {helped[0]} blocks"


def zero_or_small(found):
    """Steps with α from 0, from one over the depth, and from 1."""
    steps = {kind: steps_of(found, f"{kind}, {DEEP} blocks") for kind in STARTS}
    zero, small, one = steps.values()
    ours = "; ".join(f"{'α from 0' if kind == 'ReZero' else kind} {span(values, 0)}" for kind, values in steps.items())
    if one.min() <= zero.max():
        return ours, "no"
    return ours, "yes" if zero.max() < small.min() else f"only against a start at 1; 1/{DEEP} does as well"


def width(found, kind):
    """Decades between the 10% and the 90% quantile of the singular values: `(seeds, looks)`."""
    values = np.log10(found.values("values", f"{kind}, {DEEP} blocks", LOOKED_AT))
    return values[:, :, 3] - values[:, :, 1]


def isometry(found):
    """The width of the singular values' middle, before, during and after training."""
    widths = {kind: width(found, kind) for kind in ("ReZero", *NORMED)}
    ours = "; ".join(
        f"{kind} {', '.join(f'{values.min():.1f} to {values.max():.1f}' for values in wide.T)}" for kind, wide in widths.items()
    )
    holds = (widths["ReZero"].max(axis=0) < np.min([widths[kind].min(axis=0) for kind in NORMED], axis=0)).tolist()
    if all(holds):
        return ours, "yes"
    return ours, f"only until step {LOOKS[holds.index(False) - 1]}" if holds[0] else "no"


CLAIMS = [
    Claim(
        f"{DEEP} ReZero blocks start faster than {DEEP} blocks with norms, warmed up or not",
        "start",
        starts_faster,
        bound=f"a guess: ln {N} = {GUESSING:.2f} nats; steps until half of it, {STEPS} means never",
        ablation="α that starts at 1, below",
        paper="abstract: 12 layers converge 56% faster on enwik8",
    ),
    Claim(
        "The advantage over pre-norm grows with the depth",
        "start",
        grows_with_depth,
        bound="as fast: a ratio of 1",
        ablation=f"the depth: {SHALLOW} and {DEEP} blocks",
        paper="abstract: over a hundred layers are trained",
    ),
    Claim(
        "Post-norm blocks start faster with a warm-up",
        "start",
        helped_by_warm_up,
        bound=f"{STEPS} steps: never",
        ablation="the warm-up",
        paper="2002.04745, abstract: the warm-up stage is essential for post-norm",
    ),
    Claim(
        "It is the start at zero that makes blocks without norms trainable",
        "start",
        zero_or_small,
        bound=f"{STEPS} steps: never",
        ablation=f"the zero: α starts at 1/{DEEP} or at 1",
        paper="none",
    ),
    Claim(
        "In training, too, the Jacobian of a ReZero stack stays nearer to the identity than those of stacks with norms",
        "start",
        isometry,
        bound="the identity: 0 decades between the quantiles of 10% and 90%",
        ablation="the norms and the α: other kinds of blocks",
        paper="none (its figure of singular values was not at hand)",
    ),
]
