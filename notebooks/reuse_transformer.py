# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Reuse transformer: look once, use it often
#
# A stack of blocks in which one block computes attention weights and the next blocks use them again.
#
# Paper: [Bhojanapalli et al., 2021](https://arxiv.org/abs/2110.06821) · NumPy: [`reference/reuse_transformer.py`](../reference/reuse_transformer.py) · Layer:
# [`layers/reuse_transformer.py`](../layers/reuse_transformer.py) · 25 minutes · You should know: [reuse attention](reuse_attention.ipynb) and the [encoder block](transformer_encoder.ipynb)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect
from dataclasses import replace

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.reuse_transformer import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.weights import weights_of
from experiments import reuse_transformer as experiment
from experiments.common.results import stored
from experiments.common.training import accuracy, train_again
from layers.reuse_transformer import ReuseTransformer
from reference import reuse_transformer as ref
from reference.common.normalization import LayerNorm, layer_norm
from reference.common.projection import Projection
from reference.masked_softmax import masked_softmax
from reference.reuse_attention import ReuseAttentionWeights, reuse_attention
from reference.transformer_encoder import feed_forward

figures.use_style()
rng = np.random.default_rng(0)
links = stored("reuse_transformer")["links"]
THREE, SHARED, TWO, HALF, ONCE = experiment.ARMS

# %% [markdown]
# ## The question
#
# Each of eight tokens has a value and a link to another token. It must report the values one, two and three links further on. We trained a stack of three blocks, each with attention weights of its own. **Where do they look?**

# %%
best = links.values("looks", THREE).max(axis=2)  # (seeds, blocks, targets): of the four heads, the one that looks there most
targets = ("itself", "1 on", "2 on", "3 on")
fig, axes = plt.subplots(1, 3, figsize=(9, 2.4), sharey=True)
for ax, seed, of in zip(axes, links.experiment.seeds, best):
    image = ax.imshow(of, vmin=0, vmax=1, aspect="auto", origin="lower")
    ax.set_xticks(range(4), targets)
    ax.set(xlabel="token that is looked at, in links", title=f"seed {seed}", yticks=range(3))
    ax.grid(False)
axes[0].set_ylabel("block")
fig.suptitle("block after block looks at the token one link on")
fig.colorbar(image, ax=axes, label="weight of the best head")
figures.show()

# %%
looking = (best[..., 1] > 1 / 2).sum(axis=1)
print("blocks, of three, that have a head with most of its weight on the token one link on:", looking.tolist())
assert looking.min() >= 2

# %% [markdown]
# At least two of the three blocks look at the same token, and each has queries and keys of its own to find it.
#
# The idea of the paper: if neighboring blocks look at the same places, let the first compute the weights, and **hand them on**. Which blocks still need weights of their own?
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {"x": Box("x", 0.5, 0, "data"), "before": Box("weights A′ of\nthe block before", 2, 0, "data")}
boxes |= {"scores": Box("queries, keys,\nsoftmax", 0.5, 1, "map"), "all": Box("heads side by side", 1.25, 2, width=1.3)}
boxes |= {"mix": Box("mix values, $W^O$", 0.5, 3, "map", width=1.2), "hand": Box("A, for the next", 2.2, 3, "data")}
boxes |= {"add": Box("+", 0.5, 4), "norm": Box("LN", 0.5, 5), "ffn": Box("FFN", 0.5, 6, "map"), "plus": Box("+", 0.5, 7)}
boxes |= {"last": Box("LN", 0.5, 8), "z": Box("z", 0.5, 9, "data")}

# %% tags=["hide-input"] jupyter={"source_hidden": true}
arrows = [("x", "scores", "(b, t, m)"), ("scores", "all", "(b, h − K, t, t)"), ("before", "all", "(b, K, t, t)")]
arrows += [("all", "mix", "(b, h, t, t)"), ("all", "hand", "(b, h, t, t)"), ("mix", "add", "(b, t, m)"), ("add", "norm", "")]
arrows += [
    ("x", "add", "", -0.55),
    ("norm", "ffn", "(b, t, m)"),
    ("ffn", "plus", ""),
    ("norm", "plus", "", 0.6),
    ("plus", "last", ""),
]
diagram(boxes, [*arrows, ("last", "z", "(b, t, m)")])
figures.show()

# %% [markdown]
# $K$ of the $h$ heads reuse weights. With $K = h$ the box at the left is gone: no queries, no keys, no softmax. Values (made from x, not drawn), outputs and the feed-forward network always belong to the block.
#
# ## The equation
#
# $$a, A = \mathrm{Reuse}(x, x;\, A'), \qquad y = \mathrm{LN}(x + a), \qquad z = \mathrm{LN}(y + \mathrm{FFN}(y)) \tag{1}$$
#
# $$a, A = \mathrm{Reuse}(\mathrm{LN}(x), \mathrm{LN}(x);\, A'), \qquad y = x + a, \qquad z = y + \mathrm{FFN}(\mathrm{LN}(y)) \tag{2}$$
#
# $$z_i, A_i = \mathrm{Block}_i(z_{i-1};\, A_{i-1}), \qquad K_0 = 0 \tag{3}$$
#
# (1) has the norms after each part, (2) before it, (3) is the stack.
#
# | symbol | name in the code | shape |
# |---|---|---|
# | $x$, $z$ | `x`, the first result | `(b, t, m)` |
# | $A'$, $A$ | `reused`, the second result | `(b, h, t, t)` |
# | Reuse, FFN | `weights.self_attention`, `weights.intermediate` and `weights.output` | nested |
# | $K_i$ | `reuse_attention`; −1 for all heads | a number for each block |
#
# ## By hand
#
# Two tokens, $(4, 0)$ and $(0, 2)$, reuse weights that say "look at the other". Let values and outputs be identities, and the feed-forward network zero. Then $x + a$ is $(4, 2)$ for both tokens. Its norm is $(1, -1)$; normalized again it stays so.

# %%
into, out = Projection(np.eye(2).reshape(2, 1, 2)), Projection(np.eye(2).reshape(1, 2, 2))
attention = ReuseAttentionWeights(None, None, into, None, out, None, None)
norm, silent = LayerNorm(np.ones(2), np.zeros(2)), Projection(np.zeros((2, 2)))
weights = ref.ReuseTransformerWeights(attention, norm, silent, silent, norm)
z, _ = ref.reuse_transformer(np.array([[[4.0, 0.0], [0.0, 2.0]]]), weights, np.array([[[[0.0, 1.0], [1.0, 0.0]]]]))
print(z[0].round(6).tolist())
assert np.allclose(z, [[[1, -1], [1, -1]]])

# %% [markdown]
# ## In NumPy
#
# **Attention with given weights.** Three blocks of four heads: the first reuses nothing, the second two heads, the third all.

# %%
keras.utils.set_random_seed(0)
blocks = [ReuseTransformer(4, 24, "relu", reuse_attention=count, dtype="float64") for count in (0, 2, -1)]
x, scores = rng.normal(size=(2, 5, 12)), None
output = x
for block in blocks:
    output, scores = block(output if scores is None else [output, None, scores])
stack = [weights_of(block, ref.ReuseTransformerWeights) for block in blocks]

# %%
first, second, third = stack
a, attention = reuse_attention(x, x, first.self_attention)
print("queries of each block:", [w.self_attention.query and w.self_attention.query.kernel.shape[1] for w in stack], "heads")

# %% [markdown]
# **Residual connection and norm, then the feed-forward network**: the rest of equation (1).

# %%
y = layer_norm(x + a, first.self_attention_layer_norm)
z = layer_norm(y + feed_forward(y, first.intermediate, first.output), first.output_layer_norm)
assert np.allclose(z, ref.reuse_transformer(x, first)[0])

# %% [markdown]
# **The next block** gets both results. Its first two heads have no scores of their own.

# %%
z, after = ref.reuse_transformer(z, second, reused=attention)
changed = np.abs(after - attention).max(axis=(0, 2, 3))
print("by how much the weights of heads 0 to 3 differ from those of the first block:", changed.round(2))
assert not changed[:2].any() and changed[2:].all()

# %% [markdown]
# **The stack** does that from block to block. This is the reference.

# %%
print(inspect.getsource(ref.reuse_transformer).split('"""')[2])
print(inspect.getsource(ref.reuse_transformers))

# %%
expected, every = ref.reuse_transformers(x, stack)
assert np.allclose(expected, ref.reuse_transformer(z, third, reused=after)[0]) and np.allclose(every[1], after)
assert np.allclose(output, expected) and np.allclose(scores, every[-1])
print("weights of the third block are those of the second, to", np.abs(every[2] - every[1]).max())

# %% [markdown]
# ## What it does
#
# **Is one look enough for three steps?** In its abstract the paper says that reuse is "equivalent to or better than" standard transformers. On the task above the limits are known. In a stack whose later blocks reuse all weights of the first, a value moves
# by one look a block: three blocks carry it three links, two blocks carry it two. Who follows two links is right about the third where the links lead back to a token already met, and guesses elsewhere.
# [The experiment](../experiments/reuse_transformer.py) trains each stack for 400 steps, with three learning rates and three seeds.


# %%
def parameters(reused):
    """The number of parameters of a block."""
    block = ReuseTransformer(experiment.HEADS, 2 * experiment.M, "relu", reuse_attention=reused)
    block.build((None, experiment.N, experiment.M))
    return block.count_params()


print(f"{'':24}reused heads  parameters of the blocks   third link, best rate: three seeds")
for arm, reuses in experiment.ARMS.items():
    size, last = sum(map(parameters, reuses)), links.values("last", arm)
    print(f"{arm:24}{reuses!s:14}{size:<27}{last.min():.2f} to {last.max():.2f} (rate {links.best_rate(arm):g})")
forward, both_ways = (experiment.within_two(links.experiment.seeds, backward) for backward in (False, True))
print("third link, from what is within two links:", forward.round(2), "and within two links backward:", both_ways.round(2))
for rate in links.experiment.rates:
    at, values = links.curves("learned", ONCE, rate)
    print(
        f"{ONCE}, rate {rate:g}: median {np.median(values[:, 4]):.2f} after {at[4]:.0f} steps, {np.median(values[:, -1]):.2f} after {at[-1]:.0f}"
    )

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
labels = ({THREE: ("own weights", (1.5, 0.95)), SHARED: ("reused (the same)", (1.5, 0.85))},)
labels += ({TWO: ("own weights", (1.5, 0.95)), HALF: ("half reused (the same)", (1.5, 0.85)), ONCE: ("all reused", (2.5, 0.66))},)
for ax, arms, name in zip(axes, labels, ("three blocks: one look is enough", "two blocks: the second must look anew")):
    for number, (arm, (label, place)) in enumerate(arms.items()):
        color, found = figures.COLORS[number], links.values("links", arm)
        ax.plot((1, 2, 3), found.T, color=color, marker=figures.MARKERS[number], linestyle=figures.DASHES[number])
        ax.annotate(label, place, color=color, ha="center", va="top")
    ax.axhline(forward.mean(), color="black", linestyle=":", marker="none")
    ax.set(xlabel="links followed (all seeds)", xticks=(1, 2, 3), ylim=(0, 1.08), title=name)
axes[0].annotate("third link, if two are followed", (2.9, forward.mean()), (0, -14), textcoords="offset points", ha="right")
axes[0].set_ylabel("accuracy")
figures.show()

# %%
halfway = experiment.halfway(links)  # between what is known within two links, both ways, and no fault
assert min(links.worst("last", arm) for arm in (THREE, SHARED, TWO, HALF)) > halfway
assert max(links.values("last", ONCE, rate).max() for rate in links.experiment.rates) < halfway
second = np.array([links.values("links", ONCE, rate)[:, 1] for rate in links.experiment.rates])
one_link = links.values("bounds", ONCE)[:, 0, 1]
print(f"{ONCE}, second link, at any rate: {second.min():.3f} to {second.max():.3f}; one link and a guess: {one_link.max():.2f}")
assert second.min() > (1 + one_link.max()) / 2

# %% [markdown]
# Three blocks that reuse one set of weights do as well as three with their own, with fewer parameters. Two blocks follow three links too in this time, but only if the second computes weights of its own, in all heads or in half of them. With all weights reused they stay below what two links
# tell, followed forward and backward, at each of the three learning rates. It is not that they do not learn: at each rate they follow two links with almost no error. But at the two larger rates they still rise when training stops, so this is what 400 steps teach them, not their end; and that level is no strict limit, since a head may also look at all tokens at once, and so learn which values occur.
#
# **Which learns faster?** The same stacks of three blocks, at each learning rate.

# %%
fig, axes = plt.subplots(1, 3, figsize=(10, 3), sharey=True)
for ax, rate in zip(axes, links.experiment.rates):
    rates = {THREE: rate, SHARED: rate}
    figures.curves(ax, links, "learned", {THREE: "", SHARED: ""}, rates, xlabel="step", title=f"learning rate {rate:g}")
    ax.axhline(forward.mean(), color="black", linestyle=":", marker="none")
axes[0].set(ylabel="accuracy, third link", ylim=(0, 1.05))
axes[0].annotate("reused", (150, 0.9), color=figures.COLORS[1], ha="right")
axes[0].annotate("own weights", (390, 0.28), color=figures.COLORS[0], ha="right")
fig.suptitle("the stack that looks once learns in fewer steps")
figures.show()

# %%
print(experiment.sooner(links)[0])

# %% [markdown]
# The steps are those after which the third link is right more often than halfway from two links to all, in the best and the worst seed. What three blocks must each learn, one block learns once. So a comparison after few steps flatters reuse: at the smallest rate the stack with weights of its own
# has not learned the third link when training stops, and with more steps or a larger rate it does.
#
#
# **Does the third block use what was handed on?** We give the later blocks of the trained stack the weights that the first computed for another example. And what do two blocks do that three steps can be made in two? We look where they look.

# %%
strangers = links.values("strangers", SHARED)
print("with another example's weights, links 1 to 3:", strangers.min(0).round(2), "to", strangers.max(0).round(2))
half = links.values("strangers", HALF)[:, 2]
print(f"half reused, two blocks, third link: {half.min():.2f} to {half.max():.2f}")
seen = links.values("looks", TWO).max(axis=2)  # (seeds, blocks, targets)
for block in range(2):
    print(f"block {block}: weight of the best head on itself, 1, 2, 3 links on:", *seen[:, block].round(2).tolist())

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.5, 2.3), sharex=True)
for ax, arm, title in zip(
    axes, (SHARED, TWO), ("reused: every block looks one link on", "own weights: the second looks further")
):
    image = ax.imshow(links.values("looks", arm)[0].max(axis=1), vmin=0, vmax=1, aspect="auto", origin="lower")
    ax.set_xticks(range(4), targets)
    ax.set(yticks=range(len(experiment.ARMS[arm])), ylabel="block", title=title)
    ax.grid(False)
fig.colorbar(image, ax=axes, label="weight of the best head")
figures.show()

# %% [markdown]
# With another example's weights the reusing stack fails at the second and third link: it does use what is handed on. The half-reusing one loses nothing; its second block has learned to do without the reused heads. And two blocks with weights of their own take three steps in two looks: the second
# looks **two** links on, at a token that the first look has told it of, and finds there what that token has fetched. A block that must reuse weights cannot look where the first look has led.

# %% [markdown]
# **Are the blocks alike, if each may look for itself?** That likeness is the paper's reason for reuse. For each head we take the overlap $1 - \tfrac12 \sum_s |A - A'|$ with its best match one block below; the null is the block below reading another example.

# %%
for rate in links.experiment.rates[1:]:
    for arm in (THREE, TWO):
        assert links.values("last", arm, rate).min() > halfway  # at the smallest rate they have not learned the third link
        alike, other = (links.values(what, arm, rate) for what in ("alike", "other"))
        print(
            f"rate {rate:g}, {arm}: overlap {alike.round(2).tolist()}, with another example {other.min():.2f} to {other.max():.2f}"
        )
        assert alike.min() > other.max()
print(experiment.redundant(links)[1])

# %% [markdown]
# Neighboring blocks are far more alike than the null. At the larger rate they are more alike where one look can serve all of them than where it cannot. At the smaller one that does not replicate: one of three seeds solves the task with three blocks that are no more alike than two blocks that cannot share a look. So
# likeness does not tell what reuse costs. The stack whose blocks are unlike would lose nothing by it, since three blocks that reuse one look learn the task; the two blocks, with an overlap above one half, lose the third link. Blocks may be alike on average, while the part in which they differ is what the task needs.
#
# One of these runs, live:

# %%
keras.utils.set_random_seed(0)
start, model = experiment.fresh(ONCE), experiment.fresh(ONCE)
examples = experiment.draw(64 * experiment.STEPS, np.random.default_rng(0))
train_again(model, start, *examples, links.best_rate(ONCE), points=1)

# %%
ids, answers = experiment.draw(256, np.random.default_rng(1000))
last = accuracy(model(ids)[..., -1, :], answers[..., -1])
print(f"two blocks, all reused, trained just now: {last:.2f} of the third link")
assert links.contains(last, "last", ONCE)

# %% [markdown]
# ## Where it breaks
#
# **A mask belongs to a block, not to weights.** A causal block that reuses weights from a block that sees everything must not see the future. In our layer its mask holds for reused weights too: they become 0 where it forbids, and each row is divided by what is left. The Model Garden's layer
# does not apply the mask to them, and the future comes through.

# %%
options = {"inner_dim": 24, "inner_activation": "relu", "dtype": "float64"}
source, block = ReuseTransformer(4, **options), ReuseTransformer(4, reuse_attention=-1, **options)
_, everything = source(x)
causal, later = np.tril(np.ones((1, 5, 5), bool)), x + np.eye(5)[4, :, None] * rng.normal(size=12)
for name, mask in (("without a mask", None), ("causal", causal)):
    changed = ~np.isclose(*(np.asarray(block([y, mask, everything])[0]) for y in (x, later))).all(axis=(0, 2))
    print(f"{name}: the last token changes outputs", np.flatnonzero(changed))
    assert changed.tolist() == [mask is None] * 4 + [True]

# %% [markdown]
# **Differs from the paper.** Each block has a number of reused heads of its own, which makes both of the paper's patterns (some heads in all blocks but the first, or all heads in some blocks) and any mixture. Masks hold for reused weights. In a stack of alike
# blocks, `layer_idx` tells a block its place, and the first then computes its own weights.
#
# ## What it costs
#
# Each reused head saves $2\,(m + 1)\,d$ parameters and, for $n$ tokens, $2\,n\,m\,d + n^2 d$ multiply-adds. We count a stack in the reference.


# %%
def counted(reuses, n=11, m=24, h=4):
    """Multiply-adds and parameters of a stack."""
    blocks = [ReuseTransformer(h, 2 * m, "relu", reuse_attention=k) for k in reuses]
    for block in blocks:
        block([np.ones((1, n, m)), None, masked_softmax(np.ones((1, h, n, n)))])
    with multiply_adds() as counts:
        ref.reuse_transformers(rng.normal(size=(1, n, m)), [weights_of(block, ref.ReuseTransformerWeights) for block in blocks])
    return np.array([sum(counts), sum(block.count_params() for block in blocks)])


# %%
n, m, h, d = 11, 24, 4, 6
whole = counted([0, 0, 0, 0])
for reuses in ([0, 2, 2, 2], [0, -1, -1, 0]):
    heads = sum(ref.reused_heads(k, h, i) for i, k in enumerate(reuses))
    saved = whole - counted(reuses)
    assert saved.tolist() == [heads * (2 * n * m * d + n**2 * d), heads * 2 * (m + 1) * d]
    print(f"{reuses}: {heads} heads save {saved.tolist()} multiply-adds and parameters")

# %% [markdown]
# For BERT-base (12 blocks of 12 heads, $m = 768$, $d = 64$) by the same formula, with all heads reused in 4, 6 or 8 blocks:

# %%
m, d, blocks_of_bert = 768, 64, 12
for n in (512, 4096):
    block_cost = 12 * n * m * m + 2 * n * n * m  # four projections, a feed-forward network of 4 m, scores and mixture
    shares = {p: p * (2 * n * m * m + n * n * m) / (blocks_of_bert * block_cost) for p in (4, 6, 8)}
    print(f"{n} tokens:", ", ".join(f"{p} blocks save {share:.1%} of the multiply-adds" for p, share in shares.items()))
print("parameters saved, in millions:", [round(p * 2 * (m + 1) * m / 1e6, 2) for p in (4, 6, 8)])

# %% [markdown]
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(replace(CHAPTER, cases=CHAPTER.cases[::2]))  # every other one, to be quick
assert agrees
line

# %% [markdown]
# ## Today
#
# Handing attention weights on was proposed several times: for translation ([Xiao et al., 2019](https://arxiv.org/abs/1906.11024)), for BERT ([Ying et al., 2021](https://arxiv.org/abs/2102.12702)), and here. Large models do not do it, because fast
# kernels never store the weights that would be handed on ([Dao et al., 2022](https://arxiv.org/abs/2205.14135)). What they share between blocks today is keys and values, which makes the cache of a decoder smaller: cross-layer attention
# ([Brandon et al., 2024](https://arxiv.org/abs/2405.12981)), used in Hunyuan-Large ([Sun et al., 2024](https://arxiv.org/abs/2411.02265)). Each block then still has queries, and so weights, of its own.
#
# ## Exercises
#
# **1** (easy, 10 minutes). Parameters that a stack saves: block i reuses `reuses[i]` of `h` heads, −1 for all; the first block reuses nothing, whatever its number says. Queries and keys of a head map `m` numbers to `d`, with biases.


# %%
def saved_parameters(reuses, h, m, d):
    return None  # your turn


_ = check("reuse_transformer/1", saved_parameters)

# %% [markdown]
# <details><summary>Hint</summary>Count the reused heads; each has no query and no key, with their biases.</details>
# <details><summary>Solution</summary><code>return sum(h if count == -1 else count for count in reuses[1:]) * 2 * (m + 1) * d</code></details>
#
# **2** (medium, 10 minutes). If all blocks reuse the same weights `a` `(t, t)` of one head, and did nothing but mix, what would `k` blocks make of `x` `(t, m)`? No loop; `k` may be 0 or 1,000.


# %%
def mixed(a, x, k):
    return None  # your turn


_ = check("reuse_transformer/2", mixed)

# %% [markdown]
# <details><summary>Hint</summary>Mixing twice is mixing once with another matrix.</details>
# <details><summary>Solution</summary><code>return np.linalg.matrix_power(a, k) @ x</code></details>
#
# **3** (hard, 15 minutes). With all weights given, attention is linear in its input. For weights `a` `(h, t, s)`, values `v` `(m, h, e)` and outputs `w_o` `(h, e, m)`, without biases, return the one matrix of shape `(t·m, s·m)` that it is. No loop over tokens.


# %%
def as_matrix(a, v, w_o):
    return None  # your turn


_ = check("reuse_transformer/3", as_matrix)

# %% [markdown]
# <details><summary>Hint</summary>Leave the input out of the einsum, and keep both of its letters.</details>
# <details><summary>Solution</summary><code>return np.einsum("hts,mhe,hef-&gt;tfsm", a, v, w_o).reshape(a.shape[1] * w_o.shape[2], -1)</code></details>
#
# **To discuss.** A reused block mixes the same tokens again, with values of its own. What can two such blocks compute that one block with twice as many value heads cannot?
#
# ## Summary
#
# - A block hands its attention weights on, and the next one uses them for some heads or all: fewer parameters and products, by formula.
# - Where one look serves every step, nothing is lost, and less has to be learned. A block that must look where an earlier look has led needs weights of its own.
# - The first block must compute weights, and every block's own mask holds.
#
# **Further reading.** [Bhojanapalli et al., 2021](https://arxiv.org/abs/2110.06821): the paper. [Lan et al., 2019](https://arxiv.org/abs/1909.11942): ALBERT, which shares the parameters of all blocks instead.
