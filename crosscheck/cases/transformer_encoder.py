"""TransformerEncoderBlock and Transformer beside reference/transformer_encoder.py."""

from functools import partial

from crosscheck.case import B, Case, D, E, H, M, S, T, call_with_list
from crosscheck.catalogue import Chapter
from layers.transformer_encoder import Transformer, TransformerEncoderBlock
from reference.attention import attention_over_axes
from reference.common.activations import gelu, gelu_tanh, silu
from reference.grouped_query_attention import grouped_query_attention
from reference.transformer_encoder import EncoderWeights, transformer_encoder_block

F = 9
SWISH = partial(Transformer, 1, F, "swish", norm_first=True)
BLOCK = partial(TransformerEncoderBlock, H, F, "relu", key_dim=D, value_dim=E)


def plain(rng):
    return {"x": rng.normal(size=(B, T, M))}


def masked(rng):
    mask = rng.random((B, T, T)) < 0.6
    mask[0, 1] = False  # one query may attend to nothing
    return plain(rng) | {"attention_mask": mask}


def masked_per_head(rng):
    return plain(rng) | {"attention_mask": rng.random((B, H, T, T)) < 0.6}


def biased(rng):
    return masked(rng) | {"attention_bias": rng.normal(size=(1, H, T, T))}


def two_of_them_biased(rng):
    return biased(rng) | {"output_range": 2}


def call_with_bias(layer, attention_bias, output_range=None, **inputs):
    return layer(list(inputs.values()), output_range=output_range, attention_bias=attention_bias)


def cross(rng):
    return {
        "x": rng.normal(size=(B, T, M)),
        "key_value": rng.normal(size=(B, S, M)),
        "attention_mask": rng.random((B, T, S)) < 0.6,
    }


def two_of_them(rng):
    return masked(rng) | {"output_range": 2}


def image(rng):
    return {"x": rng.normal(size=(B, T, S, M)), "attention_mask": rng.random((B, T, S, S)) < 0.7}


def reference(weights, x, key_value=None, attention_mask=None, output_range=None, attention_bias=None, scores=False, **options):
    if attention_bias is not None:
        options["attention"] = partial(grouped_query_attention, bias=attention_bias)
    key_value = x if key_value is None else key_value
    output, attention = transformer_encoder_block(x, weights, key_value=key_value, mask=attention_mask, **options)
    output, attention = output[:, :output_range], attention[:, :, :output_range]
    return (output, attention) if scores else output


def over_columns(query, value, weights, mask):
    return attention_over_axes(query, value, weights, (2,), mask)


def case(variant, inputs, layer=BLOCK, unknown=(T, S), call=call_with_list, **options):
    return Case(
        f"transformer_encoder/{variant}",
        layer,
        inputs,
        EncoderWeights,
        partial(reference, **options),
        call,
        unknown=unknown,
    )


def pre(**options):
    return partial(BLOCK, norm_first=True, **options)


CHAPTER = Chapter(
    number=12,
    name="transformer_encoder",
    title="Transformer encoder block",
    part="Blocks",
    sentence="Attention and a feed-forward network, each with a residual connection and a norm.",
    paper="Vaswani et al., 2017, §3.1",
    link="https://arxiv.org/abs/1706.03762",
    classes=("TransformerEncoderBlock", "Transformer"),
    functions=("feed_forward", "encode_one", "transformer_encoder_block"),
    cases=(
        case("post-norm", plain),
        case("post-norm-masked", masked),
        case("post-norm-cross", cross),
        case("pre-norm", plain, pre(), norm_first=True),
        case("pre-norm-masked-per-head", masked_per_head, pre(inner_dropout=0.5, output_dropout=0.5), norm_first=True),
        case("pre-norm-cross", cross, pre(), norm_first=True),
        case("pre-norm-own-key-norm", cross, pre(diff_q_kv_att_layer_norm=True), norm_first=True),
        case("rms-norm", masked, pre(use_rms_norm=True, use_bias=False), norm_first=True),
        case("rms-norm-post-norm", plain, partial(BLOCK, use_rms_norm=True)),
        case("scores", masked, partial(BLOCK, return_attention_scores=True), scores=True),
        case("first-positions", two_of_them, pre(return_attention_scores=True), norm_first=True, scores=True, unknown=()),
        case("first-positions-post-norm", two_of_them, BLOCK, unknown=()),
        case("grouped-heads", masked, partial(BLOCK, num_kv_heads=2)),
        case(
            *("grouped-heads-pre-norm-cross-scores", cross, pre(num_kv_heads=2, return_attention_scores=True)),
            norm_first=True,
            scores=True,
        ),
        case(
            "no-residual",
            cross,
            partial(BLOCK, use_query_residual=False, output_last_dim=M + 1, norm_first=True),
            norm_first=True,
            use_query_residual=False,
        ),
        case(
            *("no-residual-post-norm", cross, partial(BLOCK, use_query_residual=False, output_last_dim=M + 1)),
            use_query_residual=False,
        ),
        case("bias", biased, partial(BLOCK, num_kv_heads=2), call=call_with_bias),
        case("first-positions-bias", two_of_them_biased, pre(), norm_first=True, unknown=(), call=call_with_bias),
        case("axes", image, partial(BLOCK, attention_axes=2), attention=over_columns),
        case("gelu", plain, partial(TransformerEncoderBlock, 1, F, "gelu", norm_epsilon=1e-3), activation=gelu, epsilon=1e-3),
        case(
            "transformer",
            masked,
            partial(Transformer, H, F, "gelu_tanh", dropout_rate=0.1, attention_dropout_rate=0.1, key_dim=D),
            activation=gelu_tanh,
        ),
        case("transformer-pre-norm", plain, SWISH, activation=silu, norm_first=True),
    ),
)
