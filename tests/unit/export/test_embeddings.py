"""The file of features: pieces of a network's work, and what a failed write leaves."""

import csv
import io

import numpy as np
import pytest

from simclr_jax.commands import predict
from simclr_jax.export import embeddings


@pytest.mark.parametrize(
    "count, sizes",
    [
        (1, [1]),
        (24, [24]),
        (31, [24, 7]),
        (25, [25]),  # a piece of one image would compile another program
        (24 * 2 + 2, [24, 26]),
        (24 * 2 + 3, [24, 24, 3]),
    ],
)
def test_pieces_hold_every_image_once(monkeypatch, capsys, count, sizes):
    monkeypatch.setattr(embeddings, "_PIECE", 8)
    images = np.arange(count)
    progress = embeddings.Progress("doing", count)
    found = embeddings.in_pieces(lambda x: x, images, 3, progress)
    np.testing.assert_array_equal(np.concatenate(found), images)
    assert [len(piece) for piece in found] == sizes
    assert capsys.readouterr().err == ""  # quick work says nothing


def test_slow_work_says_how_far_it_is(monkeypatch, capsys):
    clock = iter(range(0, 1000, 3))
    monkeypatch.setattr(embeddings.time, "monotonic", lambda: next(clock))
    progress = embeddings.Progress("embedding", 2000)
    for _ in range(2):
        progress.add(1000)
    assert capsys.readouterr().err == (
        "embedding: 1,000 of 2,000 images (333 images/s)\n"
        "embedding: 2,000 of 2,000 images (333 images/s)\n"
    )


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "e.npz"
    embeddings.write(path, {"h": np.ones((2, 3))}, {"step": 1})
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embeddings.np.lib.format, "write_array", full)
    with pytest.raises(OSError, match=r"No space left on device: .*e\.npz"):
        embeddings.write(path, {"h": np.zeros((2, 3))}, {"step": 2})
    assert path.read_bytes() == before
    assert [x.name for x in tmp_path.iterdir()] == ["e.npz"]


def test_files_of_others_have_no_about(tmp_path):
    np.savez(tmp_path / "other.npz", h=np.ones(3))
    with pytest.raises(KeyError):
        embeddings.read_about(tmp_path / "other.npz")
    whole = (tmp_path / "other.npz").read_bytes()
    for content in (b"", whole[:100], b"no archive"):
        (tmp_path / "torn.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot|No data|pickled"):
            embeddings.read_about(tmp_path / "torn.npz")


def test_names_that_are_not_utf_8_can_be_written(tmp_path):
    """Such a name has surrogates in Python, which neither format can hold."""
    parquet = pytest.importorskip("pyarrow.parquet")
    names = ["plain.png", b"caf\xe9.png".decode("utf-8", "surrogateescape")]
    columns = {"h": np.ones((2, 3), np.float32), "file": np.array(names)}
    embeddings.write(tmp_path / "e.parquet", columns, {})
    found = parquet.read_table(tmp_path / "e.parquet")["file"].to_pylist()
    assert found == ["plain.png", "caf\N{REPLACEMENT CHARACTER}.png"]
    assert embeddings.text(names) == found


def test_class_names_with_commas_stay_one_column():
    rows = np.array([[0.25, 0.75]])
    text = predict._table(["a,b.png"], ["cat, black"], rows, ("dog", "cat, black"))
    header, row = csv.reader(io.StringIO(text))
    assert header == ["file", "class", "probability", "p_dog", "p_cat, black"]
    assert row == ["a,b.png", "cat, black", "0.75", "0.25", "0.75"]
