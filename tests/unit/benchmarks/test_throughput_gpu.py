"""What is dear on a GPU is timed last, so that a lost machine leaves the rest."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import throughput_gpu
from cases import CASES


class OneCase:
    """A case whose answers cost nothing."""

    def __init__(self, name, folder):
        self.name, self.fields = name, CASES[name]

    def alone(self, rounds):
        return {"train": rounds}

    def beside(self, peer, mode, rounds):
        return rounds


@pytest.fixture
def asked(monkeypatch):
    monkeypatch.setattr(throughput_gpu, "Case", OneCase)
    names = ["r18_bf16", "byol_bf16", "r50_f32"]
    return lambda peer: [*throughput_gpu.measure(names, 3, peer, "folder")]


def test_all_of_ours_come_before_the_peers(asked):
    kinds = [
        (result["case"], key)
        for result in asked("a peer")
        for key in result
        if key == "train" or key.startswith("peer_")
    ]
    assert kinds == [
        ("r18_bf16", "train"),
        ("byol_bf16", "train"),
        ("r50_f32", "train"),
        ("r18_bf16", "peer_step"),  # lightly's side has SimCLR alone
        ("r50_f32", "peer_step"),
        ("r18_bf16", "peer_compiled"),
        ("r18_bf16", "peer_train"),
    ]


def test_without_a_peer_only_ours_is_timed(asked):
    assert [result["train"] for result in asked(None)] == [3, 3, 3]
