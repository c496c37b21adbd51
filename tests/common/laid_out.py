"""A program for test_layouts.py: it trains on eight devices of one processor, and prints what came out as JSON.

Keras and JAX fix the backend, the devices and float64 as they start, so this runs in a process of its own.
"""

import json
import os

os.environ |= {"KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"

import jax
import keras
import numpy as np
from keras import distribution

import layers
from crosscheck.lesson.collectives import collectives
from layers.layouts import bytes_on_devices, check_layout, model_parallel, transformer_layout

B, T, S, N, M, H, F = 8, 6, 5, 24, 16, 4, 32
rng = np.random.default_rng(0)
ids, mask, segments = rng.integers(0, N, (B, T)), np.ones((B, T), "int32"), rng.integers(0, 2, (B, T))
states, segment = rng.normal(size=(B, S, M)), rng.normal(size=(B, T, M))


def encoder_and_decoder():
    """Every part in one model: a table, an encoder block, a gated network, and a decoder block that attends to a memory."""
    tokens, memory = keras.Input((T,), dtype="int32"), keras.Input((S, M))
    x = layers.OnDeviceEmbedding(N, M)(tokens)
    x = x + layers.PositionalEmbedding(T)(x)
    x = layers.TransformerEncoderBlock(H, F, "gelu_tanh", norm_first=True, name="encoder")(x)
    x = layers.GatedFeedforward(F, "swish", name="gated")(x)
    masks = np.ones((1, T, S)), np.tril(np.ones((1, T, T)))
    x, _ = layers.TransformerDecoderBlock(H, F, "relu", name="decoder")([x, memory, *masks])
    return keras.Model([tokens, memory], x), [ids, states]


def language_model():
    """The table is also the last linear map."""
    tokens = keras.Input((T,), dtype="int32")
    return keras.Model(tokens, layers.TransformerDecoder(N, M, 1, H, F, name="language_model")(tokens)[0]), [ids]


def bert():
    encoder = layers.BertEncoder(N, M, 1, H, T, inner_dim=F, output_dropout=0.0, attention_dropout=0.0, name="bert")
    inputs = {name: keras.Input((T,), dtype="int32") for name in ("input_word_ids", "input_mask", "input_type_ids")}
    return keras.Model(list(inputs.values()), encoder(inputs)["pooled_output"]), [ids, mask, segments]


def transformer_xl():
    x, encoding = keras.Input((T, M)), np.random.default_rng(1).normal(size=(1, T + 1, M))
    xl = layers.TransformerXL(N, 1, M, H, M // H, F, 0.0, 0.0, "glorot_uniform", name="xl")
    return keras.Model(x, xl(x, encoding)[0]), [segment]


MODELS = {build.__name__: build for build in (encoder_and_decoder, language_model, bert, transformer_xl)}


def mesh(*shape):
    names = ("batch", "model")[-len(shape) :]
    return distribution.DeviceMesh(shape, names, distribution.list_devices()[: int(np.prod(shape))])


def layout(shape=(2, 4), **options):
    return transformer_layout(mesh(*shape), **options)


def planted(pattern, instead=None):
    """What is split where a pattern of the layout is missing, or was written in another way: the planted fault."""
    found = layout()
    (whole,) = [each for each in found if pattern in each]
    axes = found.pop(whole).axes
    if instead is not None:
        found[whole.replace(pattern, instead)] = axes
    return list(shards(made(encoder_and_decoder, model_parallel(found)).variables))


def to_be_split(model):
    """The paths of the weights that Megatron-LM splits, found through the layers that own them and not through their names."""
    found = []
    for layer in model._flatten_layers():
        if isinstance(layer, layers.MultiHeadAttention):
            inward = [layer.query_dense, layer.key_dense, layer.value_dense]
            inward += [layer.encoding_dense] if isinstance(layer, layers.MultiHeadRelativeAttention) else []
            outward = [layer.output_dense]
        elif hasattr(layer, "intermediate_dense") and isinstance(layer.intermediate_dense, list):
            inward, outward = [*layer.intermediate_dense, *layer.gate_dense], layer.output_dense
        elif hasattr(layer, "intermediate_dense"):
            inward, outward = [layer.intermediate_dense], [layer.output_dense]
        else:
            continue
        found += [variable.path for part in inward for variable in (part.kernel, part.bias) if variable is not None]
        found += [part.kernel.path for part in outward]
    tables = [layer for layer in model._flatten_layers() if isinstance(layer, layers.OnDeviceEmbedding)]
    return found + [table.embeddings.path for table in tables if table.vocab_size == N]


def stepped(build, way=None):
    """The model, the program of one step of Adam, and its results: output, loss, gradients, weights after the step."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    distribution.set_distribution(way)
    model, inputs = build()
    optimizer = keras.optimizers.Adam(0.01, epsilon=1e-3)  # a smaller one would divide rounding errors by themselves
    optimizer.build(model.trainable_variables)
    if way is not None:
        inputs = [jax.device_put(x, way.get_data_layout(x.shape).backend_layout) for x in inputs]

    def loss_of(weights, state, inputs):
        output, _ = model.stateless_call(weights, state, inputs if len(inputs) > 1 else inputs[0])
        return (output**2).mean() + jax.numpy.sin(output).mean(), output

    def step(weights, state, slots, inputs):
        (loss, output), slopes = jax.value_and_grad(loss_of, has_aux=True)(weights, state, inputs)
        after, _ = optimizer.stateless_apply(slots, slopes, weights)
        return {"output": output, "loss": loss, "gradient": slopes, "step": after}

    parts = model.trainable_variables, model.non_trainable_variables, optimizer.variables
    values = [[variable.value for variable in part] for part in parts]
    program = jax.jit(step).lower(*values, inputs).compile()
    return model, optimizer, program, program(*values, inputs)


def compared(build, alone, way):
    """What a way to distribute gives beside one device: errors, what is split, bytes, and what the devices send."""
    model, optimizer, program, found = stepped(build, way)
    errors = {}
    for part, expected in alone.items():
        pairs = zip(jax.tree.leaves(found[part]), jax.tree.leaves(expected))
        errors[part] = max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in pairs)
    sent = [(each.kind, each.devices, each.bytes, len(each.arrays)) for each in collectives(program.as_text())]
    slots = [variable for variable in optimizer.variables if variable.path.endswith(("_momentum", "_velocity"))]
    return {
        "errors": errors,
        "split": shards(model.variables),
        "to be split": to_be_split(model),
        "slots": sum(not variable.value.sharding.is_fully_replicated for variable in slots),
        "bytes": sorted(set(bytes_on_devices(model).values())),
        "whole": sum(variable.value.nbytes for variable in model.variables),
        "sent": sent,
    }


def shards(variables):
    """{path of a variable that is split: [its shape, the shape on one device]}."""
    split = [variable for variable in variables if not variable.value.sharding.is_fully_replicated]
    return {v.path: [v.shape, v.value.sharding.shard_shape(v.shape)] for v in split}


def comparisons():
    ways = {
        "encoder_and_decoder": {"data": distribution.DataParallel, "model": lambda: model_parallel(layout())},
        "language_model": {
            "model": lambda: model_parallel(layout()),
            "width": lambda: model_parallel(layout((4, 2), tables="width")),
        },
        "bert": {"model": lambda: model_parallel(layout())},
        "transformer_xl": {"model": lambda: model_parallel(layout())},
    }
    found = {}
    for name, rivals in ways.items():
        *_, alone = stepped(MODELS[name])
        found[name] = {way: compared(MODELS[name], alone, make()) for way, make in rivals.items()}
    distribution.set_distribution(None)
    return found


def refusal(act):
    """The error of an action."""
    try:
        act()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        distribution.set_distribution(None)
    return "no error"


def made(build, way):
    keras.utils.clear_session()  # so that layers are counted from the first; it also ends a distribution
    with way.scope():
        return build()[0]


def dense(name="logits"):
    x = keras.Input((M,))
    return keras.Model(x, keras.layers.Dense(8, name=name)(x)), []


def checked_outside():
    """The model is made before the distribution."""
    model, _ = language_model()
    with model_parallel(layout()).scope():
        check_layout(model)


def split_without_weights():
    way = model_parallel(layout())
    made(dense, way)
    way.get_data_layout((8, M))


def kept_whole():
    """A weight that does not divide, laid out whole by its path: no error."""
    found = layout((1, 3))
    found["three/attention_output/kernel"] = (None, None, None)
    for name in ("query", "key", "value"):
        found[f"three/{name}/kernel"], found[f"three/{name}/bias"] = (None, None, None), (None, None)
    x = keras.Input((T, M))
    with model_parallel(found).scope():
        layers.MultiHeadAttention(4, 2, name="three")(x, x)


def fitted(batch):
    """`fit` on as many examples, in batches of 4."""
    with model_parallel(layout((2, 4))).scope():
        model, _ = language_model()
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        x = rng.integers(0, N, (batch, T))
        model.fit(x, x, batch_size=4, verbose=0)


def refusals():
    alone, _ = language_model()
    found = {
        "model axis": lambda: transformer_layout(mesh(2, 4), "modle"),
        "batch axis": lambda: model_parallel(layout(), "data"),
        "no mesh": lambda: transformer_layout((2, 4)),
        "no map": lambda: model_parallel({"kernel": ("model",)}),
        "tables": lambda: layout(tables="rows"),
        "names": lambda: layout(table_names="tokens"),
        "heads": lambda: made(language_model, model_parallel(layout((1, 3)))),
        "heads before": lambda: check_layout(alone, layout((1, 3))),
        "vocabulary": lambda: made(thirty, model_parallel(layout())),
        "axes": lambda: made(lambda: dense("query"), model_parallel(layout())),
        "no weight": lambda: check_layout(dense()[0], layout()),
        "no weight in scope": split_without_weights,
        "made outside": checked_outside,
        "no distribution": lambda: check_layout(alone),
        "batch": lambda: made_and_split((2, 4), 7),
        "kept whole": kept_whole,
        "fit with a remainder": lambda: fitted(7),
        "fit with a batch that does not divide": lambda: fitted(3),
        "one device": lambda: made(language_model, model_parallel(layout((1, 1)))),
    }
    return {name: refusal(act) for name, act in found.items()}


def thirty():
    tokens = keras.Input((T,), dtype="int32")
    return keras.Model(tokens, layers.OnDeviceEmbedding(30, M)(tokens)), []


def made_and_split(shape, examples):
    way = model_parallel(layout(shape))
    made(language_model, way)
    way.get_data_layout((examples, T))


if __name__ == "__main__":
    keras.config.set_floatx("float64")
    faults = {"forgotten": planted("encoding)/kernel"), "misspelt": planted("attention_output", "attention_outputs")}
    print(json.dumps({"comparisons": comparisons(), "refusals": refusals(), "planted": faults}))
