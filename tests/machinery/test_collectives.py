"""Collective operations are found in the text of a program, in each way in which XLA writes them."""

import pytest

from crosscheck.lesson.collectives import collectives

PROGRAM = """HloModule jit_step, is_scheduled=true
  %ar = f64[48,8]{{1,0}} all-reduce(%dot.3), channel_id=1, replica_groups={groups}, metadata={{op_name="jit(f)/out"}}
  ROOT %sum = f64[48,8]{{1,0}} add(%ar, %all-reduce.2)
"""


@pytest.mark.parametrize(
    ("groups", "devices"),
    [
        ("[2,4]<=[8]", 4),
        ("[4,2]<=[2,4]T(1,0)", 2),
        ("{{0,4},{1,5},{2,6},{3,7}}", 2),
        ("mesh['axis_0'=2,'axis_1'=1,'axis_2'=4] {'axis_2'}", 4),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_0','axis_1'}", 8),
        ("mesh['axis_0'=8] {'axis_0':(2)4}", 4),
        ("{}", None),
    ],
)
def test_groups_are_counted_however_they_are_written(groups, devices):
    (found,) = collectives(PROGRAM.format(groups=groups))
    assert found == ("all-reduce", (("f64", (48, 8)),), devices, "jit(f)/out") and found.bytes == 48 * 8 * 8


@pytest.mark.parametrize(
    ("line", "kind", "size"),
    [
        ("%a = (f32[], bf16[8]{0}, /*index=2*/pred[2,3]{1,0}) all-reduce(%x, %y, %z)", "all-reduce", 4 + 16 + 6),
        ("%a = f32[8,128]{1,0:T(8,128)} all-gather(%x), dimensions={0}", "all-gather", 4096),
        ("%a = (f32[2,3]{1,0}, f32[8,3]{1,0}) all-gather-start(%x), dimensions={0}", "all-gather", 96),
        ("%a = f32[6]{0} all-reduce-start(%x)", "all-reduce", 24),
        ("%a = (s8[4]{0}, s8[4]{0}, u32[], u32[]) collective-permute-start(%x)", "collective-permute", 4),
        ("ROOT %a = f8e4m3fn[5]{0} reduce-scatter(%x)", "reduce-scatter", 5),
    ],
)
def test_bytes_are_those_of_the_results(line, kind, size):
    (found,) = collectives(f"HloModule m\n  {line}\n")
    assert (found.kind, found.bytes) == (kind, size)


def test_what_only_mentions_an_operation_is_none():
    text = "HloModule m\n  %b = f32[] add(%all-reduce.1, %all-gather)\n  %c = f32[6]{0} all-reduce-done(%all-reduce-start.1)\n"
    assert collectives(text) == []


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="text must be a compiled program, which begins with HloModule. Received: 'module @jit"):
        collectives("module @jit_step attributes {}")
