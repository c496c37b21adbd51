"""A pretrained BERT as our layer: `load_bert(folder)`.

The folder holds `config.json`, `vocab.txt` and `model.safetensors`, as for `crosscheck/models/minilm.py`, in the layout of
Hugging Face's models of type "bert".
"""

import math

import numpy as np

from crosscheck.models import minilm
from layers.bert import INPUTS, BertEncoder

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
ATTENTION = {
    "attention.self.query": "query_dense",
    "attention.self.key": "key_dense",
    "attention.self.value": "value_dense",
    "attention.output.dense": "output_dense",
}
DENSE = {"intermediate.dense": "intermediate_dense", "output.dense": "output_dense"}
NORMS = {"attention.output.LayerNorm": "self_attention_norm", "output.LayerNorm": "output_norm"}
"""Names in the file, and the corresponding sublayers of attention and of a block."""


def load_bert(folder=None, ignore=(), **options):
    """The model in `folder`, by default the one that `minilm.load` finds, as a built `BertEncoder` with its weights.

    Args:
        folder: The folder with the model's files.
        ignore: Prefixes of tensors that are not part of an encoder, such as "cls." for the heads of pretraining.
        options: Arguments of `BertEncoder` that do not change its weights, such as `dtype` and `return_attention_scores`.

    Raises:
        FileNotFoundError, ValueError: as `minilm.load` does.
        ValueError: listing the tensors that are missing, those that are left over, and those of another shape.
    """
    model = minilm.load(folder)
    return take_weights(BertEncoder(**settings(model), **options), model, ignore)


def settings(model):
    """The arguments of `BertEncoder` that follow from a model's config and tensors.

    Raises:
        ValueError: for an unknown activation.
    """
    config, activation = model.config, model.config.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"{model.folder / 'config.json'} must have a hidden_act of {sorted(ACTIVATIONS)}. Received: {activation}"
        )
    if type(inner := config.get("intermediate_size")) is not int:
        raise ValueError(f"{model.folder / 'config.json'} must have intermediate_size, an integer. Received: {inner}")
    return {
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "num_layers": config["num_hidden_layers"],
        "num_attention_heads": config["num_attention_heads"],
        "max_sequence_length": config["max_position_embeddings"],
        "type_vocab_size": config["type_vocab_size"],
        "inner_dim": inner,
        "inner_activation": ACTIVATIONS[activation],
        "norm_epsilon": config["layer_norm_eps"],
        "use_pooler": any(plain(name).startswith("pooler.") for name in model.tensors),
    }


def take_weights(encoder, model, ignore=()):
    """Build `encoder`, give it the model's weights, and return it.

    Raises:
        ValueError: as `load_bert` does.
    """
    if not encoder.built:
        encoder.build(dict.fromkeys(INPUTS, (None, None)))
    found = {plain(name): tensor for name, tensor in model.tensors.items() if not name.startswith(tuple(ignore))}
    wanted = places_of_weights(encoder)
    places = found.pop("embeddings.position_ids", None)  # some files hold this constant
    counted = places is None or np.array_equal(places.ravel(), np.arange(places.size))
    complaints = [] if counted else ["embeddings.position_ids that do not count from 0"]
    complaints += [f"{name} is missing" for name in wanted if name not in found]
    complaints += [f"{name} is left over" for name in found if name not in wanted]
    pairs = [(name, found[name].shape, shape) for name, (_, shape) in wanted.items() if name in found]
    complaints += [f"{name} has the shape {shape}, not {expected}" for name, shape, expected in pairs if shape != expected]
    if complaints:
        received = "; ".join(complaints)
        raise ValueError(
            f"{model.folder / 'model.safetensors'} must hold the encoder's weights and no others. Received: {received}"
        )
    for name, (variable, _) in wanted.items():
        numbers = found[name] if is_table(name) else found[name].T  # kernels are stored as (out, in)
        variable.assign(numbers.reshape(variable.shape))
    return encoder


def plain(name):
    """The name of a tensor without the prefix of models with a head, and with the current names of norm weights."""
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def is_table(name):
    return name.endswith("embeddings.weight")


def places_of_weights(encoder):
    """{name in the file: (variable of the encoder, shape in the file)}."""
    tables = {"word": encoder.word_embeddings, "position": encoder.position_embedding, "token_type": encoder.type_embeddings}
    found = {f"embeddings.{name}_embeddings.weight": (of.embeddings, tuple(of.embeddings.shape)) for name, of in tables.items()}
    found |= norm_places("embeddings.LayerNorm", encoder.embeddings_norm)
    for i, block in enumerate(encoder.transformer_blocks):
        for owner, names, places in (
            (block.self_attention, ATTENTION, dense_places),
            (block, DENSE, dense_places),
            (block, NORMS, norm_places),
        ):
            for name, sublayer in names.items():
                found |= places(f"encoder.layer.{i}.{name}", getattr(owner, sublayer))
    return found | (dense_places("pooler.dense", encoder.pooler) if encoder.use_pooler else {})


def norm_places(where, norm):
    return {f"{where}.{name}": (weight, tuple(weight.shape)) for name, weight in (("weight", norm.gamma), ("bias", norm.beta))}


def dense_places(where, dense):
    """The kernel and bias of a linear map. The axes of the bias are the kernel's axes after its input axes."""
    out, size = math.prod(dense.bias.shape), math.prod(dense.kernel.shape)
    return {f"{where}.weight": (dense.kernel, (out, size // out)), f"{where}.bias": (dense.bias, (out,))}
