"""The page of everything that differs from the Model Garden, made from the docstrings of the layers.

`python -m crosscheck.report.differences` writes `MIGRATION.md`.
"""

import inspect
import re
from pathlib import Path

import layers

PAGE = Path(__file__).parent.parent.parent / "MIGRATION.md"
HEADING = "Differs from the Model Garden:"
BEGINNING = """# From the Model Garden

Code that takes its layers from `tfm.nlp.layers` (tf-models-official 2.20.0) needs another import:

```python
import layers

block = layers.TransformerEncoderBlock(num_attention_heads=8, inner_dim=2048, inner_activation="relu")
```

Arguments have the names, the order and, unless a line below says otherwise, the defaults that they have there. Arguments that
are new here stand behind them or are keywords alone, and every `call` takes `training`, and the padding masks that Keras fills
in. The layers run on Keras 3, so models, optimizers and other layers beside them must be those of `keras`, not of `tf_keras`.
Flags and numbers may be given to a call by position too, as there, which Keras 3 alone refuses.

A wrong argument is a `ValueError` that names it, in other words than there, and also where TensorFlow's `InvalidArgumentError`
reports it there. Attributes that begin with an underscore there do not exist here.

Two classes have another name: `MultiQueryAttention` is `GroupedQueryAttention`, and `SpectralNormalizationConv2D` is
`SpectralNormalization` with an `image_size`. `PositionEmbedding` and `PositionalEmbedding` are the same. These are not here:
`BlockDiagFeedforward`, `BlockSparseAttention`, `CompiledTransformer`, `FactorizedEmbedding`, `FastWordpieceBertTokenizer`,
`KernelMask`, `LaplaceRandomFeatureCovariance`, `MobileBertMaskedLM`, `MultiClsHeads`, `PackBertEmbeddings`,
`PerDimScaleAttention`, `PerQueryDenseHead`, `TNTransformerExpandCondense`, `TransformerScaffold`, and the layers of mixing,
experts, routing and strides.

Below stands all that differs, and why, as the docstrings have it; where nothing stands, nothing differs. A test holds both
together: `python -m crosscheck.report.differences` writes this page.
"""


def differences(kind):
    """The sentences in which the docstring of `kind` says what differs from the Model Garden; empty without that section."""
    _, heading, rest = inspect.getdoc(kind).partition(HEADING)
    text = " ".join(rest.split("\n\n")[0].split()) if heading else ""
    return re.split(r"(?<=\.) (?=[A-Z`\"])", text) if text else []


def page():
    """The page, in Markdown: a heading for each class that differs, and a line for each difference."""
    parts = [BEGINNING]
    for name in sorted(layers.__all__, key=str.lower):
        lines = differences(getattr(layers, name))
        if lines:
            parts.append("\n".join([f"## `{name}`\n", *(f"- {line}" for line in lines), ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE.name}")
