r"""BigBird: block-sparse attention, whose cost is linear in the length.

Paper
    Zaheer et al. (2020), "Big Bird: Transformers for Longer Sequences", section 2 for the graph, appendix D for the blocks.
    https://arxiv.org/abs/2007.14062

Equations
    (1)  y_t = softmax(q_t · K_N(t)ᵀ / √d) V_N(t),   N(t): the keys in the blocks that the block of t sees
    (2)  block i sees   0 and the last block   (global)
                      ∪ i − 1, i, i + 1        (window)
                      ∪ R_i                    (r random blocks, drawn without replacement from the others)
    (3)  the first and the last block see all blocks

Axes
    b batch    t query position    s key position    h head
    m model    d key size          e value size
    A row of the graph is a block of queries and a column is a block of keys; neither has a letter.

Differs from the paper
    - Each head has its own random blocks. The paper does not specify this.
    - The paper leaves open which blocks are global. Here they are the first and the last.
    - In row 1 the window includes the global block 0, and in the second-to-last row it includes the last block. The union in (2)
      counts such a block once, so these rows see one block fewer.
    - A sequence of at most 5 + r blocks gets full attention: a row of (2) would see nearly all of it.
    - If the length is not a multiple of the block size, the last block is shorter.
    - The numbers in `draws` do not depend on the length: they give a graph for every length, and once all of them are used, the
      rows that follow use them again from the first.

Layer: layers/bigbird_attention/    Notebook: notebooks/bigbird_attention.ipynb
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array

from reference import attention
from reference.common.projection import Projection, into_heads, out_of_heads
from reference.masked_softmax import masked_softmax


class BigBirdWeights(NamedTuple):
    """Named as in the layer; `random_draws` holds one number for each head, row and random block."""

    query: Projection
    key: Projection
    value: Projection
    attention_output: Projection
    random_draws: Int[Array, "h _ _"]


def draw(rng: np.random.Generator, heads: int, rows: int, num_rand_blocks: int) -> Int[Array, "h _ _"]:
    """Numbers from which `random_blocks` chooses, for a graph of any size."""
    return rng.integers(2**31 - 1, size=(heads, rows, num_rand_blocks), dtype="int32")


def fixed_blocks(i: int, blocks: int) -> set[int]:
    """The blocks that row i of equation (2) sees in addition to R_i."""
    return {0, blocks - 1} | ({i - 1, i, i + 1} & set(range(blocks)))


def random_blocks(i: int, blocks: int, draws: Int[Array, " _"]) -> list[int]:
    """R_i of equation (2): each number takes one of the blocks that are left, so none comes twice."""
    left = [j for j in range(blocks) if j not in fixed_blocks(i, blocks)]
    return [left.pop(number % len(left)) for number in draws]


def seen_blocks(i: int, blocks: int, draws: Int[Array, "_ _"]) -> set[int]:
    """What row i of one head sees: equations (2) and (3), or everything if the sequence is short."""
    if blocks <= 5 + draws.shape[1] or i in (0, blocks - 1):
        return set(range(blocks))
    return fixed_blocks(i, blocks) | set(random_blocks(i, blocks, draws[i % len(draws)]))


def block_graph(blocks: int, draws: Int[Array, "h _ _"]) -> Bool[Array, "h _ _"]:
    """Which block of keys each block of queries sees, in each head."""
    graph = np.zeros((len(draws), blocks, blocks), bool)
    for h, i in np.ndindex(graph.shape[:2]):
        graph[h, i, list(seen_blocks(i, blocks, draws[h]))] = True
    return graph


def block_count(length: int, block_size: int) -> int:
    """Blocks of a sequence; the last one may be shorter."""
    return -(-length // block_size)


def dense_mask(length: int, block_size: int, draws: Int[Array, "h _ _"]) -> Bool[Array, "h t s"]:
    """The graph for tokens instead of blocks."""
    graph = block_graph(block_count(length, block_size), draws)
    return graph.repeat(block_size, axis=1).repeat(block_size, axis=2)[:, :length, :length]


def attend_by_loops(
    q: Float[Array, "t d"], k: Float[Array, "s d"], v: Float[Array, "s e"], block_size: int, draws: Int[Array, "_ _"]
) -> Float[Array, "t e"]:
    """Equation (1), one query after the other, for one head: the definition everything else must match."""
    blocks, heads = block_count(len(q), block_size), []
    for t in range(len(q)):
        seen = seen_blocks(t // block_size, blocks, draws)
        keys = [s for s in range(len(k)) if s // block_size in seen]
        heads.append(attention.attend_one(q[t], k[keys], v[keys]))
    return np.array(heads)


def attend(
    q: Float[Array, "b t h d"],
    k: Float[Array, "b s h d"],
    v: Float[Array, "b s h e"],
    block_size: int,
    draws: Int[Array, "h _ _"],
    mask: Bool[Array, "b t"] | None = None,
) -> tuple[Float[Array, "b t h e"], Float[Array, "b h t s"]]:
    """Equation (1) as ordinary attention under the dense mask.

    Padding, where `mask` is False, attends to nothing and is not attended to.
    """
    seen = dense_mask(q.shape[1], block_size, draws)[None]
    if mask is not None:
        seen = seen & mask[:, None, :, None] & mask[:, None, None, :]
    return attention.attend(q, k, v, seen)


def attend_by_blocks(
    q: Float[Array, "b t h d"],
    k: Float[Array, "b s h d"],
    v: Float[Array, "b s h e"],
    block_size: int,
    draws: Int[Array, "h _ _"],
    mask: Bool[Array, "b t"] | None = None,
) -> Float[Array, "b t h e"]:
    """Equation (1) without the scores that the graph leaves out: each row of blocks meets only the blocks it sees.

    The sequence is padded to whole blocks, as in appendix D; rows with equally many blocks could be one product.
    """
    length, blocks = q.shape[1], block_count(q.shape[1], block_size)
    real = np.ones(q.shape[:2], bool) if mask is None else mask
    q, k, v, real = (into_blocks(x, blocks, block_size) for x in (q, k, v, real))
    heads = np.zeros((*q.shape[:-1], v.shape[-1]), q.dtype)
    for h, i in np.ndindex(len(draws), blocks):
        seen = sorted(seen_blocks(i, blocks, draws[h]))
        keys, values = (gathered(x[:, :, :, h][:, seen]) for x in (k, v))
        scores = np.einsum("btd,bsd->bts", q[:, i, :, h], keys) / np.sqrt(q.shape[-1])
        weights = masked_softmax(scores, real[:, i, :, None] & gathered(real[:, seen])[:, None, :])
        heads[:, i, :, h] = np.einsum("bts,bse->bte", weights, values)
    return gathered(heads)[:, :length]


def into_blocks(x: Float[Array, "b t *rest"] | Bool[Array, "b t"], blocks: int, block_size: int) -> Array:
    """(b, t, …) as (b, blocks, block size, …), with zeros, or False, at the end."""
    padded = np.zeros((len(x), blocks * block_size, *x.shape[2:]), x.dtype)
    padded[:, : x.shape[1]] = x
    return padded.reshape(len(x), blocks, block_size, *x.shape[2:])


def gathered(x: Float[Array, "b _ _ *rest"] | Bool[Array, "b _ _"]) -> Array:
    """Consecutive blocks joined into one sequence."""
    return x.reshape(len(x), -1, *x.shape[3:])


def bigbird_attention(
    query: Float[Array, "b t m"],
    value: Float[Array, "b s _"],
    weights: BigBirdWeights,
    block_size: int,
    key: Float[Array, "b s _"] | None = None,
    mask: Bool[Array, "b t"] | None = None,
) -> tuple[Float[Array, "b t _"], Float[Array, "b h t s"]]:
    """Equation (1) between the projections of multi-head attention. Returns the output and the attention weights."""
    q = into_heads(query, weights.query)
    k = into_heads(value if key is None else key, weights.key)
    v = into_heads(value, weights.value)
    heads, scores = attend(q, k, v, block_size, weights.random_draws, mask)
    return out_of_heads(heads, weights.attention_output), scores


def masks(mask: Bool[Array, "b t"], block_size: int) -> tuple[Array, Array, Array, Array]:
    """A padding mask in the four forms of the Model Garden: windows (b, 1, blocks − 4, block size, 3 · block size), queries
    (b, 1, t, 1), keys (b, 1, 1, t), and blocks (b, blocks, block size).

    A window is True where a query of block i and a key of blocks i − 1, i, i + 1 are both tokens, for i from 2 to blocks − 3.
    """
    count = block_count(mask.shape[1], block_size)
    real = into_blocks(mask, count, block_size)
    windows = np.zeros((len(mask), 1, max(count - 4, 0), block_size, 3 * block_size), bool)
    for i in range(2, count - 2):
        windows[:, 0, i - 2] = real[:, i, :, None] & gathered(real[:, i - 1 : i + 2])[:, None, :]
    return windows, mask[:, None, :, None], mask[:, None, None, :], real
