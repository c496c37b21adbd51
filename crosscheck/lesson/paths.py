"""The paths through the course, and its weeks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Route:
    """A path through the course.

    Attributes:
        title: What one has at its end.
        goals: Names of lessons. What these need belongs to the path too.
        to_come: {name: title} of goals that are not written yet.
    """

    title: str
    goals: tuple[str, ...]
    to_come: tuple[tuple[str, str], ...] = ()


ROUTES = (
    Route("BERT from scratch", ("masked_lm", "classification_head", "bert")),
    Route(
        "Llama from scratch",
        ("positional_embedding", "gated_feedforward", "transformer_decoder", "sentencepiece_tokenizer"),
        to_come=(
            ("rotary_embedding", "rotary positions"),
            ("grouped_query_attention", "grouped-query attention"),
            ("byte_pair_tokenizer", "a byte-pair tokenizer"),
            ("llama", "a whole Llama"),
        ),
    ),
    Route("Long sequences", ("cached_attention", "kernel_attention", "bigbird_attention", "transformer_xl")),
    Route("Knowing what it does not know", ("gaussian_process_head",)),
    Route("Text to ids", ("sentencepiece_tokenizer", "bert_pack_inputs")),
)

WEEKS = (
    *("self_attention_mask", "on_device_embedding", "talking_heads_attention", "kernel_attention"),
    *("relative_attention", "transformer_encoder", "rezero_transformer", "transformer_xl"),
    *("masked_lm", "spectral_normalization", "bert_tokenizer", "bert_pack_inputs"),
)
"""The lesson that each week begins with. It ends before the next week's."""
