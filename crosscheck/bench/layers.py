"""The layers that `python -m crosscheck.bench` measures, under the names of the Model Garden.

Cases look layers up by name in this module, so that `crosscheck/bench/race.py` can pass the Model Garden's layers instead.
"""

# ruff: noqa: F401
from keras import Variable
from keras.layers import Dense

from layers.attention import MultiHeadAttention
from layers.bigbird_attention import BigBirdAttention, BigBirdMasks
from layers.cached_attention import CachedAttention
from layers.classification_head import ClassificationHead
from layers.gated_feedforward import GatedFeedforward
from layers.gaussian_process import RandomFeatureGaussianProcess
from layers.gaussian_process_head import GaussianProcessClassificationHead
from layers.kernel_attention import KernelAttention
from layers.masked_lm import MaskedLM
from layers.masked_softmax import MaskedSoftmax
from layers.mat_mul_with_margin import MatMulWithMargin
from layers.mobile_bert import MobileBertEmbedding, MobileBertTransformer
from layers.multi_channel_attention import MultiChannelAttention
from layers.on_device_embedding import OnDeviceEmbedding
from layers.positional_embedding import PositionalEmbedding, RelativePositionBias, RelativePositionEmbedding
from layers.relative_attention import MultiHeadRelativeAttention, TwoStreamRelativeAttention
from layers.reuse_attention import ReuseMultiHeadAttention
from layers.reuse_transformer import ReuseTransformer
from layers.rezero_transformer import ReZeroTransformer
from layers.self_attention_mask import SelfAttentionMask
from layers.spectral_normalization import SpectralNormalization
from layers.talking_heads_attention import TalkingHeadsAttention
from layers.transformer_decoder import TransformerDecoderBlock
from layers.transformer_encoder import Transformer, TransformerEncoderBlock
from layers.transformer_xl import TransformerXL, TransformerXLBlock


def per_example(encoding, x):
    """The encoding of relative attention for every example of `x`. Our layers accept one encoding for all examples."""
    return encoding
