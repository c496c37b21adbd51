"""No tokens, and no examples: what has no entries passes through every block."""

import keras
import numpy as np
import pytest

import layers
from layers.common.sums import added_up

M = 8
BLOCKS = {
    "TransformerEncoderBlock": lambda x, ids: layers.TransformerEncoderBlock(2, 8, "relu")(x),
    "Transformer": lambda x, ids: layers.Transformer(2, 8, "relu", norm_first=True)(x),
    "ReZeroTransformer": lambda x, ids: layers.ReZeroTransformer(2, 8, "relu")(x),
    "ReuseTransformer": lambda x, ids: layers.ReuseTransformer(2, 8, "relu", use_relative_pe=True)(x)[0],
    "TransformerDecoderBlock": lambda x, ids: layers.TransformerDecoderBlock(2, 8, "relu")([x, x])[0],
    "TransformerDecoder": lambda x, ids: layers.TransformerDecoder(9, M, 1, 2, 8)(ids)[0],
    "GatedFeedforward": lambda x, ids: layers.GatedFeedforward(8)(x),
    "MobileBertTransformer": lambda x, ids: layers.MobileBertTransformer(M, 2, 8, intra_bottleneck_size=4)(x),
    "MobileBertEmbedding": lambda x, ids: layers.MobileBertEmbedding(9, 4, 8, M)(ids, ids),
    "TransformerXLBlock": lambda x, ids: layers.TransformerXLBlock(9, M, 2, 4, 8, 0.0, 0.0)(x, None, None)["content_attention"],
    "TransformerXL": lambda x, ids: layers.TransformerXL(9, 1, M, 2, 4, 8, 0.0, 0.0, "zeros")(x, rows(x))[0],
    "BertEncoder": lambda x, ids: bert(ids, use_pooler=False),
}


def rows(x):
    return np.ones((1, 2 * x.shape[1], M), "float32")


def bert(ids, **options):
    encoder = layers.BertEncoder(9, M, 1, 2, inner_dim=8, **options)
    return encoder(dict.fromkeys(("input_word_ids", "input_mask", "input_type_ids"), ids))["sequence_output"]


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_of_no_tokens_or_no_examples_gives_none(name):
    for b, t in ((1, 0), (0, 1), (2, 0)):
        output = BLOCKS[name](np.ones((b, t, M), "float32"), np.ones((b, t), "int32"))
        assert tuple(output.shape)[:2] == (b, t)


def test_no_rows_are_fed_forward():
    assert tuple(layers.GatedFeedforward(8)(np.ones((0, M), "float32")).shape) == (0, M)


def test_a_pooler_needs_a_token():
    assert tuple(bert(np.ones((0, 1), "int32")).shape)[:2] == (0, 1)
    with pytest.raises(
        ValueError, match=r"inputs must have at least one token for the pooler. Received: inputs of shape \(1, 0\)"
    ):
        bert(np.ones((1, 0), "int32"))


def test_a_sum_of_two_dtypes_has_the_one_that_holds_both():
    for one, other, both in (("float32", "bfloat16", "float32"), ("float16", "bfloat16", "float32"), ("float64",) * 3):
        total = added_up(*(keras.ops.ones((2, 3), dtype) for dtype in (one, other)))
        assert keras.backend.standardize_dtype(total.dtype) == both
