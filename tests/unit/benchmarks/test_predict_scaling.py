"""The prediction against what follows by hand, with made-up counts and machines."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import communication, predict_scaling
from benchmarks.bytes_sent import Sent, on_link, sent, totals
from benchmarks.predict_scaling import Machine, predict

ROOT = Path(__file__).parents[3]
FREE = Machine(intra_gbs=math.inf, inter_gbs=math.inf, latency_us=0.0)
SOME = Sent(gradients=8e7, rings=2e7, exchanges=1e6, batch_norm=1e6, messages=100)


def test_one_device_is_the_yardstick():
    for case in predict_scaling.PASSES:
        step = predict(None, case, 1, 512, Machine())
        assert step.efficiency(0) == step.efficiency(1) == 1
    assert predict(None, "simclr", 1, 512, Machine(images_per_s=256.0)).total(0) == 2


def test_links_that_cost_nothing_leave_what_the_loss_adds():
    assert predict(SOME, "byol", 64, 8192, FREE).efficiency(0) == 1
    step = predict(SOME, "simclr", 64, 8192, FREE)
    # 4 products (forward, again in blocks, two gradients) of 256 rows with 16,384
    # columns of 128 numbers, less 3 of those with 256.
    flop = 2 * 256 * 128 * (4 * 16_384 - 3 * 256)
    assert step.loss == pytest.approx(flop / 30e12)
    assert step.total(0) == pytest.approx(step.compute + step.loss)


def test_what_a_device_sends_of_a_result():
    """Of 8 devices: a ring's all-reduce goes round twice; others' parts only."""
    assert on_link("all-reduce", 80, 8) == 140
    assert on_link("all-gather", 80, 8) == 70
    assert on_link("reduce-scatter", 10, 8) == 70
    assert on_link("all-to-all", 80, 8) == 70
    assert on_link("collective-permute", 80, 8) == 80
    assert on_link("all-reduce", 80, 1) == 0


def record(**changes):
    rows = [
        ("gradients", "all-reduce", 8, 800),
        ("batch_norm", "all-reduce", 0, 80),
        ("embeddings", "all-gather", 8, 16),
        ("embeddings", "all-to-all", 8, 24),
        ("images", "collective-permute", 2, 5),
    ]
    names = ("carries", "collective", "among", "bytes")
    found = {"sent": [dict(zip(names, row, strict=True)) for row in rows]}
    return found | {"devices": 8, "messages": 7} | changes


def test_a_record_is_summed_by_what_happens_to_it():
    assert totals(record()) == Sent(1400, 140 + 14, 21 + 5, 140, 7)


def worked(devices, **changes):
    """Eight images of each device at 1,000 a second."""
    fields = {"images_per_s": 1000.0, "intra_gbs": 100.0, "inter_gbs": 5.0}
    machine = Machine(**fields | {"latency_us": 10.0} | changes)
    return predict(SOME, "byol", devices, 8 * devices, machine)


def test_a_worked_example():
    step = worked(8)
    assert step.compute == pytest.approx(0.008 * 8 / 6)  # two more views forward
    assert step.gradients == pytest.approx(8e7 / 100e9)  # 0.8 ms
    assert step.rest == pytest.approx(2e7 / 100e9 + 1e6 / 100e9)
    assert step.latency == pytest.approx(1e-3)
    assert step.total(0) == pytest.approx(
        10.6667e-3 + 0.8e-3 + 0.21e-3 + 1e-3, rel=1e-4
    )
    assert step.total(1) == pytest.approx(step.total(0) - 0.8e-3)
    assert step.efficiency(0) == pytest.approx(10.6667 / 12.6767, rel=1e-4)


def test_between_nodes_rings_share_all_cards_and_exchanges_have_their_own():
    step = worked(16)  # 8 cards of 5 GB/s
    assert step.gradients == pytest.approx(8e7 / 40e9)
    assert step.rest == pytest.approx(2e7 / 40e9 + 1e6 / 5e9)
    one = worked(16, cards=1)
    assert one.gradients == pytest.approx(8e7 / 5e9)
    assert worked(16, inter_gbs=1000.0).gradients == worked(8).gradients


def test_a_link_twice_as_fast_halves_what_is_sent_and_nothing_else():
    slow, fast = worked(16), worked(16, inter_gbs=10.0)
    assert fast.gradients == slow.gradients / 2
    assert fast.rest == slow.rest / 2
    assert fast[:2] == slow[:2]
    assert fast.latency == slow.latency


def test_no_more_than_the_backward_pass_hides_gradients():
    step = worked(8, intra_gbs=1.0)  # 80 ms of gradients, 10.67 ms of computing
    assert step.total(1) == pytest.approx(step.total(0) - step.compute / 2)


def test_images_that_do_not_fit_go_in_micro_batches():
    """Each sends all gradients; the forward pass is computed twice."""
    whole, parts = worked(8), worked(8, most_images=3)
    assert parts.microbatches == 3
    assert parts.compute == pytest.approx(whole.compute * 10 / 8)
    assert parts.gradients == pytest.approx(3 * whole.gradients)
    assert parts.rest == pytest.approx(whole.rest + 1e6 * (3 * 1.5 - 1) / 100e9)
    assert parts.latency == pytest.approx(3 * 1.5 * whole.latency)


def test_the_cost_of_micro_batches_is_what_was_counted():
    """SimCLR in 16 micro-batches: nothing is left out, and little is added."""
    records = communication.read()
    counted = totals(records["simclr_micro", 64, 4096])
    whole = totals(records["simclr", 64, 4096])
    machine = Machine(per_node=64, most_images=4)
    step = predict(whole, "simclr", 64, 4096, machine)
    ring = machine.intra_gbs * 1e9
    assert step.microbatches == 16
    assert 1 <= step.gradients / (counted.gradients / ring) < 1.15
    rest = (counted.rings + counted.exchanges) / ring
    assert 1 <= step.rest / rest < 1.1
    assert 1 <= step.latency / (counted.messages * machine.latency_us * 1e-6) < 1.1


def test_the_loss_grows_with_the_batch_and_is_held_by_rows():
    assert predict_scaling.loss_bytes("simclr", 8, 4096) == 4 * 8192 * 8192 / 8
    assert predict_scaling.loss_bytes("simclr", 8, 8192) == 4 * 1024 * 16_384 / 8
    assert predict_scaling.loss_bytes("moco", 8, 8192) == 0


def test_what_was_not_counted_is_said_and_never_invented():
    def scaled(n, batch):
        rows = [row | {"bytes": row["bytes"] * batch} for row in record()["sent"]]
        return record(sent=rows, devices=n)

    points = [("simclr", 8, 1), ("simclr", 64, 1), ("byol", 64, 1), ("byol", 64, 2)]
    points += [("simclr", 64, 8192), ("simclr", 64, 65_536)]
    records = {(case, n, b): scaled(n, b) for case, n, b in points}
    assert sent(records, "simclr", 8, 1) == (totals(scaled(8, 1)), True)
    assert sent(records, "simclr", 16, 1) == (totals(scaled(64, 1)), False)
    for case, batch in (("byol", 5), ("simclr", 16_384)):
        line, counted = sent(records, case, 64, batch)
        assert (line.gradients, counted) == (batch * 1400, False)
    for missing in (("simclr", 8, 2), ("simclr", 128, 1), ("moco", 8, 1)):
        with pytest.raises(ValueError, match="not counted"):
            sent(records, *missing)


@pytest.mark.parametrize("case", predict_scaling.PASSES)
def test_the_command_says_that_it_predicts(case, tmp_path):
    """On the counts that are committed; without jax."""
    out = tmp_path / "table.json"
    code = f"import sys; sys.modules['jax'] = None; sys.argv[1:] = ['--case={case}', "
    code += f"'--out={out}']; "
    code += "from benchmarks.predict_scaling import main; main()"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"PREDICTED, not measured: {case}")
    assert "images_per_s 2552" in done.stdout
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 7 * 5
    assert all(0 < x["efficiency"][0] <= x["efficiency"][1] < 1 for x in rows)
