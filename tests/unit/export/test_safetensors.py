"""The file of an encoder: what is in it, and what becomes of a damaged one."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from simclr_jax.export import safetensors

ABOUT = {"size": 16, "class_names": ["cat", "Dög"], "from_layer": None, "step": 7}
VARIABLES = {
    "params": {
        "encoder": {
            # Not in C order: written as it lies, its numbers would be others.
            "stem_conv": {"kernel": np.arange(24, dtype=np.float32).reshape(4, 6).T},
            "stem_bn": {"scale": np.ones(2, np.float32)},
        },
        "projector": {"dense_1": {"kernel": np.full((2, 2), 0.5, np.float32)}},
    },
    "batch_stats": {
        "encoder": {
            "stem_bn": {
                "mean": np.array([1, 2], np.float32),
                "var": np.array([3, 4], np.float32),
            }
        }
    },
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "encoder.safetensors"
    safetensors.save(path, ABOUT, VARIABLES)
    return path


def header(path) -> dict:
    """As the format's definition has it: a length in 8 bytes, then JSON."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])


def test_others_find_flat_names_and_json(path):
    found = header(path)
    metadata = found.pop("__metadata__")
    assert {name: x["shape"] for name, x in found.items()} == {
        "encoder.stem_conv.kernel": [6, 4],
        "encoder.stem_bn.scale": [2],
        "encoder.stem_bn.mean": [2],
        "encoder.stem_bn.var": [2],
        "projector.dense_1.kernel": [2, 2],
    }
    assert json.loads(metadata["class_names"]) == ["cat", "Dög"]
    assert json.loads(metadata["step"]) == 7
    assert metadata["format"] == "simclr_jax"


def test_what_is_read_is_what_was_written(path):
    about, variables = safetensors.read(path)
    assert about == ABOUT == safetensors.read_about(path)
    for collection, tree in VARIABLES.items():
        for part, layers in tree.items():
            for layer, leaves in layers.items():
                for name, leaf in leaves.items():
                    found = variables[collection][part][layer][name]
                    np.testing.assert_array_equal(found, leaf)
    assert [x.name for x in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda x: x[:-1], "not a readable safetensors file"),
        (lambda x: x[:5], "not a readable safetensors file"),
        (lambda x: x[:-1] + bytes([x[-1] ^ 1]), "is damaged"),
        (lambda x: b"PK" + x[2:], "not a readable safetensors file"),
    ],
)
def test_damage_is_named_in_one_line(path, damage, words):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=words) as error:
        safetensors.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_of_others_is_refused(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "model.safetensors"
    save_file({"conv1.weight": np.zeros(3)}, path, {"format": "pt"})
    with pytest.raises(ValueError, match="was not written by simclr_jax"):
        safetensors.read(path)


def test_others_may_read_it_as_they_may_any_new_file(tmp_path):
    (plain := tmp_path / "plain").touch()
    safetensors.save(tmp_path / "encoder", ABOUT, VARIABLES)
    assert (tmp_path / "encoder").stat().st_mode == plain.stat().st_mode


def test_a_write_that_fails_keeps_the_old_file(path, monkeypatch):
    import safetensors.numpy as library
    from safetensors import SafetensorError

    def full(named, filename, metadata):
        Path(filename).write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(library, "save_file", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        safetensors.save(path, ABOUT, VARIABLES)
    assert str(path) in str(error.value)
    assert path.read_bytes() == before
    assert [x.name for x in path.parent.iterdir()] == [path.name]
