"""BigBirdAttention and BigBirdMasks beside reference/bigbird_attention.py."""

from functools import partial
from typing import NamedTuple

from crosscheck.case import B, Case, D, E, H, M
from crosscheck.catalogue import Chapter
from layers.bigbird_attention import BigBirdAttention, BigBirdMasks
from reference.bigbird_attention import BigBirdWeights, bigbird_attention, masks

BLOCK, RANDOM = 3, 2
WHOLE, RAGGED, SHORT, LONG = 27, 29, 20, 46  # 9 blocks; 9 and a part; at most 5 + RANDOM; more than have draws
MASKS_LENGTH = 17

LAYER = partial(
    BigBirdAttention,
    num_rand_blocks=RANDOM,
    from_block_size=BLOCK,
    to_block_size=BLOCK,
    max_rand_mask_length=30,
    seed=1,
    num_heads=H,
    key_dim=D,
    value_dim=E,
)


class NoWeights(NamedTuple):
    """Masks have no weights."""


def inputs(rng, length, value_size=M):
    return {"query": rng.normal(size=(B, length, M)), "value": rng.normal(size=(B, length, value_size))}


def with_key(rng):
    return inputs(rng, RAGGED, M + 2) | {"key": rng.normal(size=(B, RAGGED, M + 1))}


def masked(rng, length):
    """Padding at the end of one example, holes in the other."""
    mask = rng.random((B, length)) < 0.7
    mask[0] = True
    mask[0, 2 * length // 3 :] = False
    return inputs(rng, length) | {"attention_mask": mask}


def one_empty(rng):
    given = masked(rng, RAGGED)
    given["attention_mask"][1] = False
    return given


def mask_alone(rng):
    return {"inputs": rng.normal(size=(B, MASKS_LENGTH, M)), "mask": rng.integers(0, 3, (B, MASKS_LENGTH))}


def call_with_masks(layer, query, value, attention_mask):
    return layer(query, value, attention_mask=BigBirdMasks(BLOCK, dtype=layer.dtype_policy)(query, attention_mask))


def reference(weights, query, value, key=None, attention_mask=None):
    return bigbird_attention(query, value, weights, BLOCK, key, attention_mask)[0]


def reference_masks(weights, inputs, mask):
    return [each.astype("float64") for each in masks(mask != 0, BLOCK)]


def case(variant, inputs, layer=LAYER, **options):
    lengths = (WHOLE, RAGGED, SHORT, LONG)
    return Case(f"bigbird_attention/{variant}", layer, inputs, BigBirdWeights, reference, unknown=lengths, **options)


CHAPTER = Chapter(
    number=10,
    name="bigbird_attention",
    title="BigBird",
    part="Long sequences",
    sentence="Each block attends to a few global blocks, its neighbors and some random blocks, at linear cost.",
    paper="Zaheer et al., 2020, §2",
    link="https://arxiv.org/abs/2007.14062",
    classes=("BigBirdAttention", "BigBirdMasks"),
    functions=("random_blocks", "seen_blocks", "block_graph", "dense_mask", "attend_by_loops", "attend_by_blocks", "masks"),
    cases=(
        case("whole-blocks", partial(inputs, length=WHOLE)),
        case("ragged", partial(inputs, length=RAGGED)),
        case("key", with_key),
        case("masked", partial(masked, length=RAGGED)),
        case("one-empty", one_empty),
        case("masks", partial(masked, length=WHOLE), call=call_with_masks),
        case("long", partial(masked, length=LONG)),
        case("short", partial(inputs, length=SHORT)),
        case("short-masked", partial(masked, length=SHORT)),
        case("no-random", partial(masked, length=RAGGED), partial(LAYER, num_rand_blocks=0)),
        case("no-bias", partial(masked, length=RAGGED), partial(LAYER, use_bias=False, output_shape=M + 2, dropout=0.5)),
        Case(
            "bigbird_attention/only-masks",
            partial(BigBirdMasks, BLOCK),
            mask_alone,
            NoWeights,
            reference_masks,
            unknown=(MASKS_LENGTH, 6, 2),  # tokens, blocks, blocks with a window
        ),
    ),
)
