"""Policies of layers whose parts are quantized (Keras 3)."""

import keras


def check_not_quantized(layer):
    """Raise a ValueError if a layer that is made of parts was given a quantized policy: norms and dropout have no such form."""
    if layer.quantization_mode is not None:
        name = layer.dtype_policy.name
        raise ValueError(
            "dtype must not be a quantized policy. Make the layer with a policy of floats, and call `quantize` of the model "
            f"that has it, which quantizes its linear maps. Received: dtype={name!r}"
        )


def float_policy(policy):
    """The policy that a quantized policy was made from; any other policy unchanged."""
    return policy if policy.quantization_mode is None else keras.DTypePolicy(policy.name.rpartition("_from_")[2])


def with_policies_of_parts(layer, config):
    """`config`, from which a copy of `layer` has quantized parts where `layer` has them."""
    if isinstance(layer.dtype_policy, keras.dtype_policies.DTypePolicyMap):
        return config  # Keras has added them
    parts = {part.path: part.dtype_policy for part in layer._flatten_layers() if part.quantization_mode is not None}
    if not parts:
        return config
    policies = keras.dtype_policies.DTypePolicyMap(layer.dtype_policy.name, parts)
    return config | {"dtype": keras.dtype_policies.serialize(policies)}
