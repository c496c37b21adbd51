"""The choice of the next token from its logits (Keras 3)."""

import keras
import numpy as np
from keras import ops


def next_token(logits, u, temperature=None, top_k=None, top_p=None):
    """Equations (7) to (9) of `reference/transformer_decoder/` for a batch: ids, int32 of shape `(b,)`.

    Args:
        logits: Tensor of shape `(b, n)`.
        u: Numbers of shape `(b,)`, at least 0 and below 1, which decide between the tokens.
        temperature: A number or scalar tensor above 0; None for the most probable token.
        top_k: Number of tokens to choose from, an integer; None for all.
        top_p: Probability of the tokens to choose from, a number or scalar tensor; None for 1.
    """
    if temperature is None:
        return ops.cast(ops.argmax(logits, axis=-1), "int32")
    dtype = "float64" if keras.backend.standardize_dtype(logits.dtype) == "float64" else "float32"
    z, ids = ops.cast(logits, dtype), None
    z = (z - ops.max(z, axis=-1, keepdims=True)) / ops.cast(temperature, dtype)
    if top_k is not None or top_p is not None:  # only these need an order
        count = z.shape[-1] if top_k is None else top_k
        if count > z.shape[-1]:
            raise ValueError(f"top_k must be at most the size of the vocabulary, {z.shape[-1]}. Received: top_k={top_k}")
        z, ids = ops.top_k(z, count)
    p = ops.exp(z)  # the largest is 1
    p = p / ops.sum(p, axis=-1, keepdims=True)
    if top_p is not None:
        before = ops.cumsum(p, axis=-1) - p
        p = ops.where(before < ops.cast(top_p, dtype), p, ops.zeros_like(p))
    reached = ops.cumsum(p, axis=-1)
    # The first token whose sum exceeds u of the total. Sums are rounded, so that one of probability 0 might exceed it too.
    chosen = ops.logical_and(reached > ops.cast(u, dtype)[:, None] * reached[:, -1:], p > 0)
    first = ops.argmax(ops.cast(chosen, "int32"), axis=-1)
    place = ops.cast(ops.where(ops.any(chosen, axis=-1), first, ops.argmax(p, axis=-1)), "int32")
    return place if ids is None else ops.cast(ops.take_along_axis(ids, place[:, None], axis=-1)[:, 0], "int32")


def no_choice(logits):
    """For each row of logits, whether no token can be chosen from it: it has a NaN, or its largest number is not finite."""
    return ops.logical_or(ops.any(ops.isnan(logits), axis=-1), ops.logical_not(ops.isfinite(ops.max(logits, axis=-1))))


def check_choice(temperature, top_k, top_p, seed):
    """Raise a ValueError unless the arguments, those of `generate`, say how to choose a token, and none would be ignored."""
    for name, number, least, most in (("temperature", temperature, 0, np.inf), ("top_p", top_p, None, 1)):
        is_number = isinstance(number, (int, float, np.floating, np.integer)) and not isinstance(number, bool)
        if name == "top_p" and number is None:
            continue
        fits = is_number and np.isfinite(number) and number <= most and (number > 0 if least is None else number >= least)
        if not fits:
            wanted = "a finite number of at least 0" if name == "temperature" else "above 0 and at most 1, or None"
            raise ValueError(f"{name} must be {wanted}. Received: {name}={number!r}")
    least, most = (float(getattr(np.finfo("float32"), name)) for name in ("tiny", "max"))
    if temperature and not least <= temperature <= most:  # smaller numbers are 0 to a compiled program, which divides by it
        raise ValueError(
            f"temperature must be 0, or a normal number of float32, from {least:.3g} to {most:.3g}. "
            f"Received: temperature={temperature!r}"
        )
    for name, number, least in (("top_k", top_k, 1), ("seed", seed, 0)):
        if number is not None and (not isinstance(number, (int, np.integer)) or isinstance(number, bool) or number < least):
            raise ValueError(f"{name} must be an integer of at least {least}, or None. Received: {name}={number!r}")
    given = {name: value for name, value in (("top_k", top_k), ("top_p", top_p), ("seed", seed)) if value is not None}
    if temperature == 0 and given:
        names, received = " and ".join(given), ", ".join(f"{name}={value}" for name, value in given.items())
        raise ValueError(f"{names} must be None where temperature=0 takes the most probable token. Received: {received}")
