"""ReuseTransformer beside reference/reuse_transformer.py."""

from functools import partial

from crosscheck.case import B, Case, D, E, M, S, T
from crosscheck.catalogue import Chapter
from layers.reuse_transformer import ReuseTransformer
from reference.common.activations import gelu
from reference.masked_softmax import masked_softmax
from reference.reuse_transformer import ReuseTransformerWeights, reuse_transformer

HEADS, REUSED, F = 6, 2, 9
NONE = partial(ReuseTransformer, HEADS, F, "relu", head_size=D, value_dim=E)
SOME, ALL = partial(NONE, reuse_attention=REUSED), partial(NONE, reuse_attention=-1)
PRE = {"norm_first": True}


def plain(rng):
    return {"x": rng.normal(size=(B, T, M))}


def masked(rng):
    mask = rng.random((B, T, T)) < 0.6
    mask[0, 1] = False  # one query that may attend to nothing
    return plain(rng) | {"attention_mask": mask}


def earlier(rng):
    """Attention weights, as a previous block would return them."""
    return {"scores": masked_softmax(rng.normal(size=(B, HEADS, T, T)))}


def reusing(rng):
    return masked(rng) | earlier(rng)


def reusing_unmasked(rng):
    return plain(rng) | earlier(rng)


def reusing_per_head(rng):
    return plain(rng) | {"attention_mask": rng.random((B, HEADS, T, T)) < 0.6} | earlier(rng)


def two_of_them(rng):
    return reusing(rng) | {"output_range": 2}


def reusing_biased(rng):
    return two_of_them(rng) | {"attention_bias": rng.normal(size=(B, HEADS, T, T))}


def image(rng):
    given = {"x": rng.normal(size=(B, T, S, M)), "attention_mask": rng.random((B, T, S, S)) < 0.7}
    return given | {"scores": masked_softmax(rng.normal(size=(B, T, HEADS, S, S)))}


def call(layer, x, attention_mask=None, scores=None, **options):
    if scores is not None:
        return layer([x, attention_mask, scores], **options)
    return layer(x if attention_mask is None else [x, attention_mask], **options)


def reference(weights, x, attention_mask=None, scores=None, output_range=None, attention_bias=None, only_output=False, **options):
    output, attention = reuse_transformer(x, weights, scores, attention_mask, bias=attention_bias, **options)
    output, attention = output[:, :output_range], attention[:, :, :output_range]
    return output if only_output else (output, attention)


def reference_over_columns(weights, x, attention_mask, scores):
    """Every row is a separate sequence."""
    x, scores, mask = (array.reshape(B * T, *array.shape[2:]) for array in (x, scores, attention_mask))
    output, attention = reuse_transformer(x, weights, scores, mask)
    return output.reshape(B, T, S, M), attention.reshape(B, T, HEADS, S, S)


def case(variant, layer, inputs, unknown=(T,), **options):
    return Case(
        f"reuse_transformer/{variant}",
        layer,
        inputs,
        ReuseTransformerWeights,
        partial(reference, **options),
        call,
        unknown=unknown,
    )


def pre(variant, layer, inputs, unknown=(T,), arguments=(), **options):
    return case(variant, partial(layer, **PRE, **dict(arguments)), inputs, unknown, **PRE, **options)


CHAPTER = Chapter(
    number=16,
    name="reuse_transformer",
    title="Reuse transformer",
    part="Blocks",
    sentence="A stack whose blocks pass on their attention weights, so that later blocks need not compute them.",
    paper="Bhojanapalli et al., 2021",
    link="https://arxiv.org/abs/2110.06821",
    classes=("ReuseTransformer",),
    functions=("reuse_transformer_one", "reuse_transformer", "reuse_transformers", "reused_heads"),
    cases=(
        case("none", NONE, plain),
        case("none-masked", NONE, masked),
        case("none-with-scores", NONE, reusing),
        case("some", SOME, reusing),
        case("some-unmasked", SOME, reusing_unmasked),
        case("some-per-head", SOME, reusing_per_head),
        case("some-relative", partial(SOME, use_relative_pe=True, pe_max_seq_length=2), reusing),
        case("all", ALL, reusing),
        case("all-unmasked", ALL, reusing_unmasked),
        case("first-block", partial(ALL, layer_idx=0), reusing),
        case("above-last-reuse", partial(ALL, layer_idx=3, max_reuse_layer_idx=2), masked),
        case("last-reuse", partial(SOME, layer_idx=2, max_reuse_layer_idx=2), reusing),
        case("first-positions", SOME, two_of_them, ()),
        case("first-positions-bias", SOME, reusing_biased, ()),
        case("only-output", partial(SOME, return_attention_scores=False, attention_dropout=0.1), reusing, only_output=True),
        pre("pre-norm-none", NONE, plain),
        pre("pre-norm-some", SOME, reusing, arguments={"inner_dropout": 0.5, "output_dropout": 0.5, "attention_dropout": 0.5}),
        pre("pre-norm-all", ALL, reusing),
        pre("pre-norm-first-positions", ALL, two_of_them, ()),
        pre("pre-norm-own-key-norm", SOME, reusing, arguments={"diff_q_kv_att_layer_norm": True}),
        pre("pre-norm-rms", SOME, reusing, arguments={"use_rms_norm": True, "use_bias": False}),
        pre(
            "pre-norm-no-residual",
            SOME,
            reusing,
            arguments={"use_query_residual": False, "output_last_dim": M + 1},
            use_query_residual=False,
        ),
        case("gelu", partial(ReuseTransformer, 1, F, "gelu", norm_epsilon=1e-3), plain, activation=gelu, epsilon=1e-3),
        Case(
            "reuse_transformer/axes",
            partial(SOME, attention_axes=2),
            image,
            ReuseTransformerWeights,
            reference_over_columns,
            call,
        ),
    ),
)
