"""The arguments of encoder blocks, their checks, and the forms of their inputs (Keras 3)."""

from layers.common.checks import check_at_least, check_epsilon, check_flags, check_rate

ARGUMENTS = (
    *("num_attention_heads", "inner_dim", "inner_activation", "output_range", "use_bias", "norm_first", "norm_epsilon"),
    *("use_rms_norm", "output_dropout", "attention_dropout", "inner_dropout", "attention_initializer", "attention_axes"),
    *("use_query_residual", "key_dim", "value_dim", "output_last_dim", "diff_q_kv_att_layer_norm", "return_attention_scores"),
    "num_kv_heads",
)
FLAGS = ("use_bias", "norm_first", "use_rms_norm", "use_query_residual", "diff_q_kv_att_layer_norm", "return_attention_scores")
RENAMED = {
    "inner_dim": "intermediate_size",
    "inner_activation": "intermediate_activation",
    "output_dropout": "dropout_rate",
    "attention_dropout": "attention_dropout_rate",
    "inner_dropout": "intermediate_dropout",
}
FORMS = {1: ("x",), 2: ("x", "attention_mask"), 3: ("x", "key_value", "attention_mask")}


def own_name(block, name):
    """What the class of `block` calls the argument that `TransformerEncoderBlock` calls `name`."""
    return getattr(block, "renamed_arguments", {}).get(name, name)


def check_arguments(block):
    """Raise a ValueError unless the arguments of `block` are in range and compatible."""

    def given(*names):
        return {own_name(block, name): getattr(block, name) for name in names}

    check_at_least(1, **given("num_attention_heads", "inner_dim"))
    sizes = given("output_range", "key_dim", "value_dim", "output_last_dim", "num_kv_heads")
    check_at_least(1, **{name: size for name, size in sizes.items() if size is not None})
    check_rate(**given("output_dropout", "attention_dropout", "inner_dropout"))
    check_flags(**given(*FLAGS))
    check_epsilon(norm_epsilon=block.norm_epsilon)
    if block.diff_q_kv_att_layer_norm and not block.norm_first:
        raise ValueError("diff_q_kv_att_layer_norm needs norm_first=True. Received: norm_first=False")
