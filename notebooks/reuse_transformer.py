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
# A stack of blocks that hand on where they looked, so that not every block has to find out.
#
# Paper: [Bhojanapalli et al., 2021](https://arxiv.org/abs/2110.06821) · NumPy: [`reference/reuse_transformer.py`](../reference/reuse_transformer.py) · Layer:
# [`layers/reuse_transformer.py`](../layers/reuse_transformer.py) · 25 minutes · You should know: [reuse attention](reuse_attention.ipynb) and the [encoder block](transformer_encoder.ipynb)

# %%
import inspect
from itertools import pairwise

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from crosscheck.case import TOLERANCE
from crosscheck.cases.reuse_transformer import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from crosscheck.lesson.training import fit
from crosscheck.weights import weights_of
from layers.reuse_transformer import ReuseTransformer
from reference import reuse_transformer as ref
from reference.common.normalization import LayerNorm
from reference.common.projection import Projection
from reference.masked_softmax import masked_softmax
from reference.reuse_attention import ReuseAttentionWeights

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# A head of one block may take its attention weights from the block before. **Which blocks still compute weights of their own?** The paper has two patterns: some heads reused in all blocks but the first, or all heads in some
# of the blocks. A number is the block that computed a head's weights.

# %%
patterns = {"none": [0, 0, 0, 0, 0, 0], "3 heads in each": [0, 3, 3, 3, 3, 3], "all heads in 3": [0, -1, -1, -1, 0, 0]}
fig, axes = plt.subplots(1, 3, figsize=(9, 2.9), sharey=True)
computed = {}
for ax, (title, reuses) in zip(axes, patterns.items()):
    origin = np.zeros((6, 4), int)
    for i, reuse in enumerate(reuses):
        k = ref.reused_heads(reuse, 4, place=i)
        origin[i] = [*origin[i - 1, :k], *[i] * (4 - k)]
    computed[title] = int((origin == np.arange(6)[:, None]).sum())
    ax.imshow(origin, origin="lower", vmin=0, vmax=5, aspect="auto")
    for i, j in np.ndindex(6, 4):
        ax.text(j, i, origin[i, j], ha="center", va="center", color="white" if origin[i, j] < 3 else "black")
    ax.set(title=f"reused: {title}", xlabel="head h", xticks=range(4))
    ax.grid(False)
axes[0].set_ylabel("block")
plt.show()

# %%
print("attention weights computed, of 24:", computed)
assert computed == {"none": 24, "3 heads in each": 9, "all heads in 3": 12}

# %% [markdown]
# The middle stack looks for itself nine times instead of 24. Does it lose anything?
#
# ## The equation
#
# $$a, A = \mathrm{Reuse}(x, x;\, A'), \qquad y = \mathrm{LN}(x + a), \qquad z = \mathrm{LN}(y + \mathrm{FFN}(y)) \tag{1}$$
#
# with $A'$ the weights of the block before. Equation (2) of the reference has the norms first. In a stack,
#
# $$z_i, A_i = \mathrm{Block}_i(z_{i-1};\, A_{i-1}) \tag{3}$$
#
# | symbol | name in the code | shape |
# |---|---|---|
# | $x$, $z$ | `x`, the first result | `(b, t, m)` |
# | $A'$, $A$ | `reused`, the second result | `(b, h, t, t)` |
# | Reuse, FFN | `weights.self_attention`, `weights.intermediate` and `weights.output` | nested |

# %% [markdown]
# Only attention changes. Residual connections, norms and feed-forward network are those of the encoder block.
#
# ## By hand
#
# Two tokens, $(4, 0)$ and $(0, 2)$, reuse weights that say "look at the other". Let values and outputs be identities, and the feed-forward network silent. Both tokens become $(4, 2)$, whose norm is $(1, -1)$; normalized again it stays so.

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

# %%
print(inspect.getsource(ref.reuse_transformer))
print(inspect.getsource(ref.reuse_transformers))

# %%
blocks = [ReuseTransformer(4, 24, "relu", reuse_attention=k, dtype="float64") for k in (0, 2, -1)]
x, scores = rng.normal(size=(2, 5, 12)), None
output = x
for block in blocks:
    output, scores = block(output if scores is None else [output, None, scores])
stack = [weights_of(block, ref.ReuseTransformerWeights) for block in blocks]
expected, attention = ref.reuse_transformers(x, stack)
assert np.allclose(output, expected) and np.allclose(scores, attention[-1])

# %%
for b, t in np.ndindex(2, 5):
    one, _ = ref.reuse_transformer_one(x[b], t, stack[0], None, np.ones(5, bool))
    assert np.allclose(ref.reuse_transformer(x, stack[0])[0][b, t], one)
print("layers and reference, and all positions and one by one, agree")

# %% [markdown]
# ## What it does
#
# The paper claims results "equivalent to or better than" those of standard transformers. We train small stacks, which differ in what they reuse, on tasks with a known answer. A stack called **blind** is the one to beat: its first block
# attends, and from then on every token is told to look at itself.


# %%
class Stack(keras.Model):
    def __init__(self, reuses, n, fields, answers, blind=False):
        super().__init__()
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.tables = [keras.layers.Embedding(n, 32, embeddings_initializer=normal) for _ in range(fields + 1)]
        self.blocks = [ReuseTransformer(4, 64, "relu", reuse_attention=k, norm_first=True) for k in reuses]
        self.norm, self.logits = keras.layers.LayerNormalization(epsilon=1e-6), keras.layers.Dense(n * answers)
        self.shape, self.blind = (-1, n, answers, n), blind

    def call(self, ids, return_scores=False):
        x = self.tables[0](ops.arange(self.shape[1]))
        x = x + sum(table(ids[:, i]) for i, table in enumerate(self.tables[1:]))
        scores = []
        for block in self.blocks:
            x, new = block([x, None, scores[-1]] if scores else x)
            scores.append(ops.ones_like(new) * ops.eye(self.shape[1]) if self.blind else new)
        logits = ops.reshape(self.logits(self.norm(x)), self.shape)
        return (logits, scores) if return_scores else logits


# %%
def train(reuses, ids, answers, **options):
    """The trained stack, and its accuracy on the last 512 examples for each answer that a token gives."""
    keras.utils.set_random_seed(0)
    model = Stack(reuses, ids.shape[-1], ids.shape[1], answers.shape[-1], **options)
    rate = keras.optimizers.schedules.CosineDecay(1e-2, len(ids) // 64)
    model.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fit(model, ids[:-512], answers[:-512], batch_size=64)
    return model, (model.predict(ids[-512:], verbose=0).argmax(-1) == answers[-512:]).mean((0, 1))


# %% [markdown]
# **Does reuse lose accuracy?** First task: sort ten digits. Position $t$ must report the digit that is $t$-th in order. Four blocks.

# %%
digits = rng.integers(0, 10, (64 * 200 + 512, 1, 10))
in_order = np.sort(digits, axis=-1).swapaxes(1, 2)
full, full_accuracy = train([0, 0, 0, 0], digits, in_order)
reusing, reusing_accuracy = train([0, -1, -1, 0], digits, in_order)
blind, blind_accuracy = train([0, -1, -1, -1], digits, in_order, blind=True)
sorting = {"none": full_accuracy[0], "all in 2 of 4": reusing_accuracy[0], "blind": blind_accuracy[0]}
print({name: round(float(accuracy), 1) for name, accuracy in sorting.items()})

# %%
sizes = [model.count_params() for model in (full, reusing)]
assert sizes[0] - sizes[1] == 2 * 4 * 2 * (32 + 1) * 8 and 0.11 < 1 - sizes[1] / sizes[0] < 0.13
assert reusing_accuracy[0] >= full_accuracy[0] - 0.02 and min(sorting.values()) > 0.95
print(f"{sizes[0]} parameters, and {sizes[1]} with reuse")

# %% [markdown]
# No loss, with about an eighth of the parameters saved. But the blind stack sorts as well! One look, which can count the digits, is enough here; so sorting cannot tell whether the *reused* weights are good for anything. The control is what shows it.
#
# **Are reused weights good for anything?** Second task: each token has a value and a link to another token. It must report the value one, two and three links further. Three blocks, one for each step.


# %%
def follow(count, n=10):
    values = rng.integers(0, n, (count, n))
    links = rng.permuted(np.tile(np.arange(n), (count, 1)), axis=1)
    found = [values]
    for _ in range(3):
        found.append(np.take_along_axis(found[-1], links, axis=1))
    return np.stack([values, links], axis=1), np.stack(found[1:], axis=-1)


chains, ends = follow(64 * 350 + 512)
stacks = {"none": ([0, 0, 0], False), "all in 2 of 3": ([0, -1, -1], False), "blind": ([0, -1, -1], True)}
trained = {name: train(reuses, chains, ends, blind=blind) for name, (reuses, blind) in stacks.items()}
accuracy = {name: found for name, (_, found) in trained.items()}

# %%
fig, ax = plt.subplots()
for name, values in accuracy.items():
    ax.plot((1, 2, 3), values, label=f"reused: {name}" if name != "blind" else "blind")
ax.set(xlabel="links followed", ylabel="accuracy", xticks=(1, 2, 3), ylim=(0, 1.05))
fig.legend(loc="outside right center", frameon=False)
plt.show()

# %% [markdown]
# The blind stack takes one step and no more; a third remains to it only because short loops lead back to where it has been (after two steps for 2 of 10 tokens, after three for 3; of the rest it guesses a tenth). The reusing stack
# takes all three, with a single set of weights: learned once, they serve every block. The full stack has to learn the same weights three times, and does no better in the same training: in the figure it has not even learned
# the second step.

# %%
assert accuracy["all in 2 of 3"].min() > 0.9 and accuracy["blind"][0] > 0.9
assert (np.abs(accuracy["blind"][1:] - [0.2 + 0.8 / 10, 0.3 + 0.7 / 10]) < 0.1).all()
assert (accuracy["all in 2 of 3"] >= accuracy["none"] - 0.02).all()

# %% [markdown]
# That is the task's doing: every step looks at the same places. Where a later look depends on what an earlier one found, the later block needs weights of its own.
#
# **What was learned once?** Average, over examples, the weight that each head of the reusing stack gives to the token that is linked to.

# %%
_, scores = trained["all in 2 of 3"][0](chains[-512:], return_scores=True)
wanted = np.eye(10)[chains[-512:, 1]]
share = [[(np.asarray(head) * wanted).sum(-1).mean() for head in np.swapaxes(of, 0, 1)] for of in scores]
print("most on the link, by block:", np.round(np.max(share, axis=1), 1).tolist())
assert np.ptp(share, axis=0).max() < 1e-6 and np.max(share) > 0.5

# %% [markdown]
# **Are the blocks of a stack that reuses nothing alike?** That is why the paper proposes reuse. For each head of the sorting stack, its best match one block below, before and after training.


# %%
def alike(model):
    """One minus the total variation distance to the best match one block below, averaged over heads and examples."""
    maps = [np.asarray(of) for of in model(digits[-64:], return_scores=True)[1]]
    distances = [np.abs(a[:, :, None] - b[:, None]).sum(-1).mean((0, -1)) / 2 for a, b in pairwise(maps)]
    return [float(1 - distance.min(axis=0).mean()) for distance in distances]


fresh = Stack([0, 0, 0, 0], 10, 1, 1)
before, after = alike(fresh), alike(full)
print("untrained:", np.round(before, 1).tolist())
assert np.mean(after) < np.mean(before) + 0.1

# %% [markdown]
# Training does not make them alike: the redundancy that the paper finds in language models does not appear in this toy. The paper itself puts it down to natural language; the lesson on [reuse attention](reuse_attention.ipynb) measures
# a real model. So what this lesson reproduces is the saving, and the absence of loss.
#
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)

# %%
assert all(error < TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **The first block has nothing to reuse.** Give all blocks the same arguments, and the first complains; tell each its place, and the first, and those above `max_reuse_layer_idx`, compute weights of their own.

# %%
same = {"num_attention_heads": 4, "inner_dim": 24, "inner_activation": "relu", "reuse_attention": -1}
try:
    ReuseTransformer(**same)(x)
except ValueError as error:
    print("reuse_attention_scores must be given" in str(error))
placed = [ReuseTransformer(**same, layer_idx=i, max_reuse_layer_idx=2) for i in range(4)]
for block in placed:
    block.build(x.shape)
assert [block.self_attention.reused_heads for block in placed] == [0, 4, 4, 0]

# %% [markdown]
# **A mask belongs to a block, not to weights.** A causal block that reuses weights from one that sees everything must not see the future, and does not: its mask holds for them. The Model Garden lets them through.

# %%
source, block = ReuseTransformer(4, 24, "relu", dtype="float64"), ReuseTransformer(**same, dtype="float64")
_, everything = source(x)
causal, later = np.tril(np.ones((1, 5, 5), bool)), x + np.eye(5)[4, :, None] * rng.normal(size=12)
for name, mask in (("without a mask", None), ("causal", causal)):
    changed = ~np.isclose(*(np.asarray(block([y, mask, everything])[0]) for y in (x, later))).all(axis=(0, 2))
    print(f"{name}: the last token changes outputs", np.flatnonzero(changed))
    assert changed.tolist() == [mask is None] * 4 + [True]

# %% [markdown]
# **Differs from the paper.** Each block has a number of reused heads of its own, which makes both of the paper's patterns and any mixture. Masks hold for reused weights.
#
# ## What it costs
#
# Each reused head saves $2\,(m + 1)\,d$ parameters and, for $n$ tokens, $2\,n\,m\,d + n^2 d$ multiply-adds, whatever surrounds the attention. We count a stack in the reference.


# %%
def counted(reuses, n=11, m=24, h=4):
    """Multiply-adds and parameters of a stack."""
    blocks = [ReuseTransformer(h, 2 * m, "relu", reuse_attention=k) for k in reuses]
    for block in blocks:
        block([np.ones((1, n, m)), None, masked_softmax(np.ones((1, h, n, n)))])
    with multiply_adds() as counts:
        ref.reuse_transformers(rng.normal(size=(1, n, m)), [weights_of(block, ref.ReuseTransformerWeights) for block in blocks])
    return np.array([sum(counts), sum(block.count_params() for block in blocks)])


n, m, h, d = 11, 24, 4, 6
for reuses in ([0, 2, 2, 2], [0, -1, -1, 0]):
    heads = sum(ref.reused_heads(k, h, i) for i, k in enumerate(reuses))
    saved = counted([0, 0, 0, 0]) - counted(reuses)
    assert saved.tolist() == [heads * (2 * n * m * d + n**2 * d), heads * 2 * (m + 1) * d]
    print(f"{reuses}: {heads} heads save {saved.tolist()} multiply-adds and parameters")

# %%
lengths, stored = 2 ** np.arange(7, 14), {}
fig, ax = plt.subplots()
for name, heads in {"none": 12 * 12, "6 heads in each": 12 + 11 * 6, "all heads in 8 of 12": 4 * 12}.items():
    stored[name] = heads * lengths**2 * 2 / 2**30
    ax.loglog(lengths, stored[name], base=2, label=f"reused: {name}")
ax.set(xlabel="length n", ylabel="GiB of attention weights", title="12 blocks of 12 heads, one example, in bfloat16")
ax.legend()
plt.show()
assert np.allclose(stored["none"] / stored["all heads in 8 of 12"], 3)

# %% [markdown]
# Weights that training has to keep for its gradients shrink with the heads that compute them: to a third, if eight of twelve blocks reuse all.
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
# - A block hands its attention weights on, and the next one uses them for some heads or all: fewer parameters, products and weights to keep, by formula.
# - Nothing is lost where one look serves several steps; but a task that one look solves proves nothing about reuse.
# - The first block must look for itself, and every block's own mask holds.
#
# **Further reading.** [Bhojanapalli et al., 2021](https://arxiv.org/abs/2110.06821): the paper. [Lan et al., 2019](https://arxiv.org/abs/1909.11942): ALBERT, which shares the parameters of all blocks instead.
