"""Every mechanism as a Keras 3 layer, for production: `layers.MultiHeadAttention` and all others.

A class is imported when it is first used. With `import layers`, `keras.saving.load_model` finds every class in a saved model.
"""

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

# Configurations name functions and norms too, which are registered as they are imported.
from layers.common import activations, normalization, registry

if TYPE_CHECKING:
    from layers.attention import MultiHeadAttention
    from layers.bert import BertEncoder
    from layers.bert.sentence_embedding import SentenceEmbedding
    from layers.bert_pack_inputs import BertPackInputs
    from layers.bert_tokenizer import BertTokenizer
    from layers.bert_tokenizer.training import train_wordpiece_vocabulary
    from layers.bigbird_attention import BigBirdAttention, BigBirdMasks
    from layers.cached_attention import CachedAttention
    from layers.classification_head import ClassificationHead
    from layers.gated_feedforward import GatedFeedforward
    from layers.gaussian_process import RandomFeatureGaussianProcess
    from layers.gaussian_process.callback import ResetCovarianceCallback
    from layers.gaussian_process_head import GaussianProcessClassificationHead
    from layers.grouped_query_attention import GroupedQueryAttention
    from layers.kernel_attention import KernelAttention
    from layers.masked_lm import MaskedLM
    from layers.masked_lm.mask_generator import MaskedLMMaskGenerator
    from layers.masked_softmax import MaskedSoftmax
    from layers.mat_mul_with_margin import MatMulWithMargin
    from layers.mobile_bert import MobileBertEmbedding, MobileBertTransformer
    from layers.multi_channel_attention import MultiChannelAttention, VotingAttention
    from layers.on_device_embedding import OnDeviceEmbedding
    from layers.positional_embedding import PositionalEmbedding, RelativePositionBias, RelativePositionEmbedding
    from layers.relative_attention import MultiHeadRelativeAttention, TwoStreamRelativeAttention
    from layers.reuse_attention import ReuseMultiHeadAttention
    from layers.reuse_transformer import ReuseTransformer
    from layers.rezero_transformer import ReZeroTransformer
    from layers.self_attention_mask import SelfAttentionMask
    from layers.sentencepiece_tokenizer import SentencepieceTokenizer
    from layers.spectral_normalization import SpectralNormalization
    from layers.talking_heads_attention import TalkingHeadsAttention
    from layers.transformer_decoder import TransformerDecoderBlock
    from layers.transformer_decoder.decoder_only import TransformerDecoder
    from layers.transformer_decoder.generation import generate
    from layers.transformer_encoder import Transformer, TransformerEncoderBlock
    from layers.transformer_xl import TransformerXL, TransformerXLBlock
    from layers.transformer_xl.encoding import RelativePositionEncoding

HOMES = {
    "BertEncoder": "bert",
    "BertPackInputs": "bert_pack_inputs",
    "BertTokenizer": "bert_tokenizer",
    "BigBirdAttention": "bigbird_attention",
    "BigBirdMasks": "bigbird_attention",
    "CachedAttention": "cached_attention",
    "ClassificationHead": "classification_head",
    "GatedFeedforward": "gated_feedforward",
    "GaussianProcessClassificationHead": "gaussian_process_head",
    "GroupedQueryAttention": "grouped_query_attention",
    "KernelAttention": "kernel_attention",
    "MaskedLM": "masked_lm",
    "MaskedLMMaskGenerator": "masked_lm.mask_generator",
    "MaskedSoftmax": "masked_softmax",
    "MatMulWithMargin": "mat_mul_with_margin",
    "MobileBertEmbedding": "mobile_bert",
    "MobileBertTransformer": "mobile_bert",
    "MultiChannelAttention": "multi_channel_attention",
    "MultiHeadAttention": "attention",
    "MultiHeadRelativeAttention": "relative_attention",
    "OnDeviceEmbedding": "on_device_embedding",
    "PositionalEmbedding": "positional_embedding",
    "RandomFeatureGaussianProcess": "gaussian_process",
    "ReZeroTransformer": "rezero_transformer",
    "RelativePositionBias": "positional_embedding",
    "RelativePositionEmbedding": "positional_embedding",
    "RelativePositionEncoding": "transformer_xl.encoding",
    "ResetCovarianceCallback": "gaussian_process.callback",
    "ReuseMultiHeadAttention": "reuse_attention",
    "ReuseTransformer": "reuse_transformer",
    "SelfAttentionMask": "self_attention_mask",
    "SentenceEmbedding": "bert.sentence_embedding",
    "SentencepieceTokenizer": "sentencepiece_tokenizer",
    "SpectralNormalization": "spectral_normalization",
    "TalkingHeadsAttention": "talking_heads_attention",
    "Transformer": "transformer_encoder",
    "TransformerDecoder": "transformer_decoder.decoder_only",
    "TransformerDecoderBlock": "transformer_decoder",
    "TransformerEncoderBlock": "transformer_encoder",
    "TransformerXL": "transformer_xl",
    "TransformerXLBlock": "transformer_xl",
    "TwoStreamRelativeAttention": "relative_attention",
    "VotingAttention": "multi_channel_attention",
}
"""In which module of this package each public class is."""

FUNCTIONS = {"generate": "transformer_decoder.generation", "train_wordpiece_vocabulary": "bert_tokenizer.training"}
"""The same for functions, which are no part of `__all__`, a list of classes."""

OTHER_NAMES = {"PositionEmbedding": "PositionalEmbedding"}
"""The Model Garden's names of classes that have another name here."""

__all__ = sorted(HOMES)


def __getattr__(name):
    name = OTHER_NAMES.get(name, name)
    homes = HOMES | FUNCTIONS
    if name not in homes:
        raise AttributeError(f"module 'layers' has no attribute {name!r}")
    globals()[name] = getattr(import_module(f"layers.{homes[name]}"), name)
    return globals()[name]


def __dir__():
    return sorted({*globals(), *HOMES, *FUNCTIONS, *OTHER_NAMES})


registry.register({name: partial(__getattr__, name) for name in HOMES})
