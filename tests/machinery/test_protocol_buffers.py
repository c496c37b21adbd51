"""Messages are read as the package that is generated for them reads them, and broken ones are rejected."""

import numpy as np
import pytest
from sentencepiece import sentencepiece_model_pb2

from crosscheck.models.protocol_buffers import fields
from crosscheck.models.sentencepiece import READ_KINDS, SMALL, read, small


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", {}),
        (b"\x08\x96\x01", {1: [150]}),  # the documentation's own examples
        (b"\x12\x07testing", {2: [b"testing"]}),
        (b"\x08\x01\x08\x02", {1: [1, 2]}),
        (b"\x15\x00\x00\x80\x3f", {2: [np.float32(1).tobytes()]}),
        (b"\x09" + bytes(8), {1: [bytes(8)]}),
        (b"\xe2\x02\x01a", {44: [b"a"]}),
    ],
)
def test_a_message_worked_by_hand(message, expected):
    assert fields(message) == expected


@pytest.mark.parametrize(
    "message", [b"\x08", b"\x08\x96", b"\x12\x07test", b"\x15\x00", b"\x0b", b"\x02\x01", b"\x08" + b"\xff" * 11]
)
def test_what_is_cut_off_or_no_message_is_rejected(message):
    with pytest.raises(ValueError, match="message must"):
        fields(message)


@pytest.mark.parametrize("name", SMALL)
def test_a_model_has_what_the_generated_code_reads(name):
    model, said = read(small(name)), sentencepiece_model_pb2.ModelProto.FromString(small(name))
    spec, trainer = said.normalizer_spec, said.trainer_spec
    assert model.pieces == tuple(piece.piece for piece in said.pieces)
    assert model.scores.dtype == "float32" and model.scores.tolist() == [piece.score for piece in said.pieces]
    assert model.kinds == tuple(READ_KINDS[piece.type] for piece in said.pieces)
    assert (model.byte_fallback, model.unknown_surface) == (trainer.byte_fallback, trainer.unk_surface)
    flags = (spec.add_dummy_prefix, spec.remove_extra_whitespaces, spec.escape_whitespaces, trainer.treat_whitespace_as_suffix)
    assert tuple(model.normalizer)[1:] == flags


@pytest.mark.parametrize("proto", [b"", b"abc", b"\x08\x01", b"\x0a\x02\x0a", b"\x12\x02\x18\x63"])
def test_other_bytes_are_no_model(proto):
    with pytest.raises(ValueError, match="proto must be"):
        read(proto)
