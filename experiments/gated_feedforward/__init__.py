"""Gated feed-forward networks: how fast eight kinds learn, where they end, and what is the gate's part in it."""

import numpy as np

from experiments.common.experiment import Experiment
from experiments.common.table import Claim, span
from experiments.gated_feedforward.functions import FITS, FITTERS, TARGETS, train_fitter
from experiments.gated_feedforward.language import EARLY, FLOOR, STEPS, TRUTH, train_language
from experiments.gated_feedforward.networks import ADDED, KINDS, LEADERS, SQUARED, TABLE

RATES = (3e-3, 1e-2, 3e-2)
EXPERIMENTS = [
    Experiment(
        "functions",
        train_fitter,
        tuple(FITS),
        RATES,
        "left",
        lower_is_better=True,
        seeds=(0, 1, 2),
        elsewhere=next(iter(FITS)),
        together=True,
    ),
    Experiment(
        "language",
        train_language,
        tuple(KINDS),
        RATES,
        "end",
        lower_is_better=True,
        seeds=(0, 1, 2),
        elsewhere="SwiGLU",
        together=True,
    ),
]


OTHERS = tuple(kind for kind in TABLE if kind not in LEADERS)


def at_best_rate(found, what, kind):
    """The loss `what` of each seed, with the rate whose median is lowest."""
    return min((found.values(what, kind, rate) for rate in RATES), key=np.median)


def ahead(found, ours, others, rate):
    """Whether, after `EARLY` steps at one rate for all, the slowest seed of some kinds is before the fastest of others."""
    slowest = max(found.values("early", kind, rate).max() for kind in ours)
    return slowest < min(found.values("early", kind, rate).min() for kind in others)


def listed(rates):
    return ", ".join(f"{rate:g}" for rate in rates)


def leads(found):
    """The kinds that multiply, and the others: when speed is told, at each rate, and in the end, each at its best one."""
    early = "; ".join(
        f"rate {rate:g}: {span([found.values('early', kind, rate) for kind in LEADERS])}, "
        f"others {span([found.values('early', kind, rate) for kind in OTHERS])}"
        for rate in RATES
    )
    ours, others = ([at_best_rate(found, "end", kind) for kind in kinds] for kinds in (LEADERS, OTHERS))
    told = f"{EARLY} steps, {early}; {STEPS} steps: {span(ours, 3)}, others {span(others, 3)}"
    rates = [rate for rate in RATES if ahead(found, LEADERS, OTHERS, rate)]
    if not rates:
        return told, "no"
    if len(rates) == len(RATES) and np.max(ours) < np.min(others):
        return told, "yes"
    return told, f"only as speed, after {EARLY} steps at rates of {listed(rates)}"


def same_in_the_end(found):
    """How far the medians of the eight kinds are apart, early and in the end, and whether the two groups still are."""
    medians = {what: [np.median(at_best_rate(found, what, kind)) for kind in TABLE] for what in ("early", "end")}
    widest = max(np.ptp(at_best_rate(found, "end", kind)) for kind in TABLE)
    apart = {what: np.ptp(values) for what, values in medians.items()}
    ours = f"medians are {apart['end']:.3f} apart, after {EARLY} steps {apart['early']:.3f}; widest range of seeds {widest:.3f}"
    groups = [np.concatenate([at_best_rate(found, "end", kind) for kind in kinds]) for kinds in (LEADERS, OTHERS)]
    return ours, "yes" if groups[0].max() > groups[1].min() and groups[1].max() > groups[0].min() else "no"


def needs_the_product(found):
    """When speed is told: with the product, with a sum in its place, and with squares in place of the gate."""
    kinds = ("SwiGLU", ADDED, SQUARED, "Swish")
    ours = "; ".join(
        f"rate {rate:g}: " + ", ".join(f"{kind} {span(found.values('early', kind, rate))}" for kind in kinds) for rate in RATES
    )
    if not all(ahead(found, ["SwiGLU"], [ADDED], rate) for rate in RATES):
        return ours, "no"
    squares = [rate for rate in RATES if ahead(found, [SQUARED], ["Swish"], rate)]
    return ours, f"only against a sum; squares without a gate lead, too, at rates of {listed(squares)}" if squares else "yes"


def made_of(found):
    """What each network leaves of each target."""
    left = {(kind, target): found.values("left", f"{kind} learns {target}") for kind in FITTERS for target in TARGETS}
    told = {key: f"{key[0]} {np.min(values):.0e} to {np.max(values):.0e}" for key, values in left.items()}
    ours = "; ".join(f"{target}: {', '.join(told[kind, target] for kind in FITTERS)}" for target in TARGETS)
    products, relus = TARGETS
    best = left["Bilinear", products].max() < min(left[kind, products].min() for kind in FITTERS[:2])
    best &= left["ReLU", relus].max() < min(left[kind, relus].min() for kind in FITTERS[1:])
    return ours, "yes" if best else "no"


CLAIMS = [
    Claim(
        "The four gated kinds that grow with the square learn a made-up language faster than the other four, and end lower",
        "language",
        leads,
        bound=f"a model that knows the rule: {TRUTH:.3f} on these sentences (entropy {FLOOR:.3f})",
        ablation="the product, below",
        paper="Table 1, 65,536 steps: GEGLU 1.942, SwiGLU 1.944, ReGLU 1.953, Bilinear 1.960; others 1.982 to 1.997",
    ),
    Claim(
        f"After {STEPS} steps all eight kinds reach about the same loss: the seeds of the two groups overlap",
        "language",
        same_in_the_end,
        bound=f"a model that knows the rule: {TRUTH:.3f}; null: the range of the seeds of one kind, beside ours",
        ablation="training: the same runs early",
        paper="Table 1, 524,288 steps: 1.633 to 1.683, still apart",
    ),
    Claim(
        "The lead goes with the product, not with the third map",
        "language",
        needs_the_product,
        bound=f"a model that knows the rule: {TRUTH:.3f}",
        ablation="the product: a sum in its place, with the same maps; and squares without a gate",
        paper="none",
    ),
    Claim(
        "In equally many steps, each network learns best what it is made of",
        "functions",
        made_of,
        bound="error 0 is possible: ReGLU and Bilinear contain the products, ReLU and ReGLU the ReLU network; nothing learned 1",
        ablation="the target: products, or a ReLU network",
        paper="none",
    ),
]
