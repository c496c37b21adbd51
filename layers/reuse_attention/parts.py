"""What is left of reused attention weights under a mask, and how many heads reuse them (Keras 3)."""

from keras import ops

from layers.common.normalization import in_float32_at_least


def renormalized(weights, mask):
    """Equation (3), in at least float32: allowed weights divided by the sum of their row; zeros where that sum is 0."""
    if mask is None:
        return weights
    left = ops.where(mask, in_float32_at_least(weights), 0)
    total = ops.sum(left, axis=-1, keepdims=True)
    return ops.cast(left / ops.where(total > 0, total, 1), weights.dtype)


def reused_count(reuse_attention, num_heads):
    """`reuse_attention`, with False as 0.

    Raises:
        ValueError: unless it is a number of heads, or -1 for all.
    """
    if reuse_attention is False:
        return 0
    if not isinstance(reuse_attention, int) or isinstance(reuse_attention, bool) or not -1 <= reuse_attention <= num_heads:
        raise ValueError(
            f"reuse_attention must be an integer from 0 to num_heads={num_heads}, or -1 for all. "
            f"Received: reuse_attention={reuse_attention!r}"
        )
    return reuse_attention
