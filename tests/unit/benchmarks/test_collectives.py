"""The reader of HLO's collectives, on small programs whose figures follow by hand."""

import pytest

from benchmarks.collectives import executed, sent


def test_every_kind_and_type():
    text = """
      %a.1 = f32[4,3]{1,0} all-reduce(f32[4,3]{1,0} %x), channel_id=1
      %b = (f32[1,8]{1,0}, bf16[2]{0}) all-to-all(f32[1,8]{1,0} %x, bf16[2]{0} %y)
      %c = bf16[3,5]{1,0} all-gather(bf16[1,5]{1,0} %x), dimensions={0}
      %d = pred[7]{0} collective-permute(pred[7]{0} %x)
      %e = f32[9,9]{1,0} add(f32[9,9]{1,0} %all-reduce.2, f32[9,9]{1,0} %y)
      %f = f8e4m3fn[6]{0} reduce-scatter(f8e4m3fn[12]{0} %x), dimensions={0}
      %g = f64[] all-reduce(f64[] %x)
    """
    assert sent(text) == [
        ("all-reduce", 48),
        ("all-to-all", 32),
        ("all-to-all", 4),
        ("all-gather", 30),
        ("collective-permute", 7),
        ("reduce-scatter", 6),
        ("all-reduce", 8),
    ]


def test_what_begins_and_ends_apart_counts_once_and_without_what_is_sent():
    text = """
      %a = (s32[5]{0}, s32[10]{0}) all-gather-start(s32[5]{0} %x), dimensions={0}
      %b = s32[10]{0} all-gather-done((s32[5]{0}, s32[10]{0}) %a)
      %c = f32[6]{0} all-reduce-start(f32[6]{0} %x), to_apply=%sum
      %d = f32[6]{0} all-reduce-done(f32[6]{0} %c)
      %e = (f32[3]{0}, f32[3]{0}, u32[], u32[]) collective-permute-start(f32[3]{0} %x)
      %f = f32[3]{0} collective-permute-done((f32[3]{0}, f32[3]{0}, u32[], u32[]) %e)
      %g = ((f32[2], f32[3]), (f32[4], f32[6])) all-gather-start(f32[2] %x, f32[3] %y)
    """
    assert sent(text) == [
        ("all-gather", 40),
        ("all-reduce", 24),
        ("collective-permute", 12),
        ("all-gather", 16),
        ("all-gather", 24),
    ]


LOOP = """HloModule step

%cond (p: (s32[], f32[3])) -> pred[] {
  %limit = s32[] constant(5)
  ROOT %lt = pred[] compare(s32[] %i, s32[] %limit), direction=LT
}

%never (p: f32[9]) -> f32[9] {
  ROOT %x = f32[9]{0} all-reduce(f32[9]{0} %p), to_apply=%sum
}

%inner (p: f32[2]) -> f32[2] {
  ROOT %x = f32[2]{0} all-reduce(f32[2]{0} %p), to_apply=%sum
}

%body (p: (s32[], f32[3])) -> (s32[], f32[3]) {
  %y = f32[3]{0} all-reduce(f32[3]{0} %p), metadata={op_name="jit(step)/bn1/sum"}
  %w = f32[2]{0} while(f32[2]{0} %z), condition=%odd, body=%inner KNOWN
}

%odd (p: f32[2]) -> pred[] {
  ROOT %all = pred[] compare(f32[] %i, f32[] %limit), direction=GT
}

ENTRY %main (x: f32[3]) -> f32[3] {
  %z = f32[4]{0} all-gather(f32[1]{0} %x), replica_groups=GROUPS, dimensions={0}
  %w = (s32[], f32[3]) while((s32[], f32[3]) %t), condition=%cond, body=%body
}
"""
KNOWN = ', backend_config={"known_trip_count":{"n":"4"}}'


def test_loops_count_as_often_as_they_run():
    arrays = executed(LOOP.replace("KNOWN", KNOWN))
    assert {x.shape: x.times for x in arrays} == {(4,): 1, (3,): 5, (2,): 20}
    assert {x.operation for x in arrays} == {"", "jit(step)/bn1/sum"}


def test_a_loop_of_unknown_length_is_an_error_if_it_sends():
    with pytest.raises(ValueError, match="how often"):
        executed(LOOP.replace("KNOWN", ""))
    silent = LOOP.replace("KNOWN", "").replace("f32[2]{0} all-reduce", "f32[2]{0} add")
    assert {x.shape for x in executed(silent)} == {(4,), (3,)}


@pytest.mark.parametrize(
    "groups, devices",
    [
        ("{{0,1,2},{3,4,5}}", 3),
        ("[8,4]<=[32]", 4),
        ("[8,4]<=[4,8]T(1,0)", 4),
        ("mesh['a'=8,'b'=4] {'b'}", 4),
        ("mesh['a'=8,'b'=4] {'a','b'}", 32),
        ("mesh['a'=2,'b'=8], device_ids=([2,8]T(1,0)) {'b'}", 8),
        ("mesh['a'=16] {'a':(2)4}", 4),
        ("{}", 0),
    ],
)
def test_how_many_devices_exchange(groups, devices):
    text = LOOP.replace("KNOWN", KNOWN).replace("GROUPS", groups)
    assert [x.devices for x in executed(text) if x.kind == "all-gather"] == [devices]


def test_a_permutation_is_between_two():
    text = (
        "ENTRY %m (x: f32[1]) -> f32[1] {\n"
        "  %x = f32[1]{0} collective-permute(f32[1]{0} %p), "
        "source_target_pairs={{0,1},{1,2},{2,3}}\n}"
    )
    assert [x.devices for x in executed(text)] == [2]
