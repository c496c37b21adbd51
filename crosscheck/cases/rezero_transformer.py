"""ReZeroTransformer beside reference/rezero_transformer.py."""

from functools import partial

from crosscheck.case import B, Case, H, S, T, call_with_list
from crosscheck.catalogue import Chapter
from crosscheck.weights import draw_weights
from layers.rezero_transformer import ReZeroTransformer
from reference.common.activations import gelu, relu
from reference.rezero_transformer import ReZeroWeights, rezero_transformer

M, F = 8, 9  # M is a multiple of the number of heads
BLOCK = partial(ReZeroTransformer, H, F, "relu")


def plain(rng):
    return {"x": rng.normal(size=(B, T, M))}


def masked(rng):
    mask = rng.random((B, T, T)) < 0.6
    mask[0, 1] = False  # one query that may attend to nothing
    return plain(rng) | {"attention_mask": mask}


def masked_per_head(rng):
    return plain(rng) | {"attention_mask": rng.random((B, H, T, T)) < 0.6}


def cross(rng):
    return plain(rng) | {"key_value": rng.normal(size=(B, S, M + 1)), "attention_mask": rng.random((B, T, S)) < 0.6}


def two_of_them(rng):
    return masked(rng) | {"output_range": 2}


def biased(rng):
    return cross(rng) | {"attention_bias": rng.normal(size=(1, H, T, S)), "output_range": 2}


def call(layer, attention_bias=None, **inputs):
    return call_with_list(partial(layer, attention_bias=attention_bias), **inputs)


def reference(weights, x, key_value=None, attention_mask=None, output_range=None, attention_bias=None, activation=relu):
    output = rezero_transformer(x, weights, activation, key_value, attention_mask, bias=attention_bias)
    return output.output[:, :output_range]


def newly_made(layer, rng):
    """Draw all weights except α, which keeps its initial value."""
    draw_weights(layer, rng)
    layer.reset_rezero()


def case(variant, inputs, layer=BLOCK, unknown=(T, S), prepare=draw_weights, **options):
    name, ours = f"rezero_transformer/{variant}", partial(reference, **options)
    return Case(name, layer, inputs, ReZeroWeights, ours, call, prepare=prepare, unknown=unknown)


CHAPTER = Chapter(
    number=15,
    name="rezero_transformer",
    title="ReZero",
    part="Blocks",
    sentence="With a factor that starts at zero, a deep network starts as the identity and needs no norms.",
    paper="Bachlechner et al., 2020, §5",
    link="https://arxiv.org/abs/2003.04887",
    classes=("ReZeroTransformer",),
    functions=("rezero", "rezero_one", "rezero_transformer", "alphas"),
    cases=(
        case("plain", plain),
        case("at-the-start", masked, prepare=newly_made),
        case("masked", masked),
        case("masked-per-head", masked_per_head),
        case("cross", cross),
        case("two-alphas", masked, partial(BLOCK, share_rezero=False)),
        case("layer-norm", masked, partial(BLOCK, use_layer_norm=True)),
        case("layer-norm-two-alphas", cross, partial(BLOCK, use_layer_norm=True, share_rezero=False)),
        case("first-positions", two_of_them, unknown=()),
        case("first-positions-bias", biased, unknown=()),
        case("dropout-inactive", plain, partial(BLOCK, dropout_rate=0.5, attention_dropout_rate=0.5)),
        case("gelu", plain, partial(ReZeroTransformer, 1), activation=gelu),
    ),
)
