"""GatedFeedforward beside reference/gated_feedforward.py."""

from functools import partial

from crosscheck.case import B, Case, M, S, T
from crosscheck.catalogue import Chapter
from layers.gated_feedforward import GatedFeedforward
from reference.common.activations import ACTIVATIONS
from reference.gated_feedforward import GatedFeedforwardWeights, gated_feedforward

F = 9


def tokens(rng):
    return {"inputs": rng.normal(size=(B, T, M))}


def one_token_each(rng):
    return {"inputs": rng.normal(size=(B, M))}


def image(rng):
    return {"inputs": rng.normal(size=(B, T, S, M))}


def reference(weights, inputs, activation):
    return gated_feedforward(inputs, weights, ACTIVATIONS[activation])[0]


def case(variant, activation, inputs=tokens, **options):
    return Case(
        f"gated_feedforward/{variant}",
        partial(GatedFeedforward, F, activation, **options),
        inputs,
        GatedFeedforwardWeights,
        partial(reference, activation=activation),
        unknown=(T, S),
    )


CHAPTER = Chapter(
    number=14,
    name="gated_feedforward",
    title="Gated feed-forward network",
    part="Blocks",
    sentence="A feed-forward network whose hidden units are multiplied by a second linear map of the input.",
    paper="Shazeer, 2020, §2",
    link="https://arxiv.org/abs/2002.05202",
    classes=("GatedFeedforward",),
    functions=("feed_forward_one", "feed_forward", "gated_feedforward"),
    cases=(
        case("glu", "sigmoid"),
        case("bilinear", "linear"),
        case("reglu", "relu"),
        case("geglu", "gelu"),
        case("geglu-tanh", "gelu_tanh"),
        case("swiglu", "swish"),
        case("tanh-gate", "tanh"),
        case("relu", "relu", use_gate=False),
        case("gelu", "gelu", use_gate=False),
        case("swish", "silu", use_gate=False),
        case("no-norm", "gelu", apply_output_layer_norm=False),
        case("no-norm-no-gate", "relu", apply_output_layer_norm=False, use_gate=False),
        case("two-blocks", "swish", num_blocks=2),
        case("two-blocks-no-norm", "gelu_tanh", num_blocks=2, apply_output_layer_norm=False),
        case("two-blocks-no-gate", "relu", num_blocks=2, use_gate=False),
        case("dropout-before", "gelu", dropout=0.5, num_blocks=2),
        case("dropout-after", "gelu", dropout=0.5, dropout_position="after_residual"),
        case("dropout-after-no-norm", "gelu", dropout=0.5, dropout_position="after_residual", apply_output_layer_norm=False),
        case("two-axes", "swish", one_token_each),
        case("four-axes", "gelu", image, num_blocks=2),
    ),
)
