"""What `python -m crosscheck.bench` measures: in which sizes, and that every layer is among it."""

import pytest

from crosscheck.bench import layers as bench_layers
from crosscheck.bench.case import SIZES
from crosscheck.bench.cases import CASES
from crosscheck.catalogue import chapters

X, MASK, IDS = (8, 256, 512), (8, 256, 256), (8, 256)
LONG, LONG_MASK, SCORES, BIAS = (2, 2048, 512), (2, 2048), (8, 8, 256, 256), (8, 64)
WITH_MEMORY = (X, (1, 768, 512), BIAS, BIAS)
INPUTS = {
    "MultiHeadAttention": [X, MASK],
    "BigBirdAttention": [(2, 1024, 512), (2, 1024)],
    "CachedAttention": [(8, 1, 512), (8, 512, 8, 64), (8, 512, 8, 64)],
    "KernelAttention_elu": [LONG, LONG_MASK],
    "KernelAttention_exp": [LONG, LONG_MASK],
    "KernelAttention_causal_window": [LONG, LONG_MASK],
    "MatMulWithMargin": [(1024, 512), (1024, 512)],
    "MultiChannelAttention": [X, (8, 3, 256, 512), (8, 8, 256, 3)],
    "TalkingHeadsAttention": [X, MASK],
    "Transformer": [X, MASK],
    "TransformerEncoderBlock": [X, MASK],
    "TransformerDecoderBlock": [X, X, MASK, MASK],
    "RandomFeatureGaussianProcess": [(128, 512)],
    "GaussianProcessClassificationHead": [(128, 4, 512)],
    "ReuseMultiHeadAttention": [X, MASK, SCORES],
    "ReuseTransformer": [X, MASK, SCORES],
    "ReZeroTransformer": [X, MASK],
    "OnDeviceEmbedding": [IDS],
    "PositionalEmbedding": [X],
    "RelativePositionEmbedding": [X],
    "RelativePositionBias": [X, X],
    "SelfAttentionMask": [X, IDS],
    "SpectralNormalization": [(64, 512)],
    "MaskedSoftmax": [SCORES, MASK],
    "MaskedLM": [X, (8, 20)],
    "ClassificationHead": [X],
    "GatedFeedforward": [X],
    "MultiHeadRelativeAttention": [X, *WITH_MEMORY],
    "TwoStreamRelativeAttention": [X, X, *WITH_MEMORY],
    "TransformerXLBlock": [X, *WITH_MEMORY],
    "TransformerXL": [X, (1, 512, 512)],
    "MobileBertEmbedding": [IDS, IDS],
    "MobileBertTransformer": [X, MASK],
}
"""The shapes of what each mechanism is given, in full size."""

NOT_MEASURED = {
    "BertEncoder": "tables and a stack of encoder blocks, each of which is measured",
    "BertPackInputs": "text",
    "BertTokenizer": "text",
    "BigBirdMasks": "measured with BigBirdAttention",
    "MaskedLMMaskGenerator": "sorts random numbers, as many as tokens, before the model reads them",
    "RelativePositionEncoding": "two tables of sines, as in RelativePositionEmbedding, once for all blocks",
    "SentencepieceTokenizer": "text",
    "TransformerDecoder": "tables and a stack of blocks, whose parts are measured",
    "VotingAttention": "weighs a few documents, once, for MultiChannelAttention",
}
"""Layers without a case, and why."""


def test_every_layer_is_measured_or_has_a_reason():
    layers = {name for chapter in chapters() for name in chapter.classes}
    measured = {name.split("_")[0] for name in CASES}
    assert measured <= layers and not measured & set(NOT_MEASURED)
    assert layers - measured == set(NOT_MEASURED)


def test_every_mechanism_has_its_line_in_the_table_of_inputs():
    assert list(INPUTS) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_inputs_in_full_size_have_the_shapes_of_the_table(name):
    assert [x.shape for x in CASES[name](SIZES["bench"], bench_layers).inputs] == INPUTS[name]
