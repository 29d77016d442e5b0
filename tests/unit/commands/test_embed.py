"""`launch.py embed`: which features of which files, in both formats."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny import squares

import launch
import simclr_jax

pytestmark = pytest.mark.usefixtures("compile_in_haste")


def main(capsys, *words):
    code = launch.main(["launch.py", "embed", *map(str, words)])
    return code, *capsys.readouterr()


def embed(capsys, *words, out):
    code, _, error = main(capsys, *words, f"--out={out}")
    assert code == 0, error
    with np.load(out) as archive:
        return {name: archive[name] for name in archive.files}, error


def refuse(capsys, *words):
    code, out, error = main(capsys, *words)
    assert (code, out) == (2, ""), error
    assert error.splitlines()[-1].startswith("error: ")
    return error.splitlines()[-1]


def test_class_folders_give_names_labels_and_the_stages_features(
    run, photos, tmp_path, capsys
):
    found, error = embed(capsys, run.workdir.path, photos, out=tmp_path / "e.npz")
    _, params, model_state = run.pretrained
    wanted, labels = run.features(params, model_state, run.images.train)
    assert found["h"].dtype == np.float32
    np.testing.assert_allclose(found["h"], wanted["h"], atol=1e-6, rtol=1e-6)
    np.testing.assert_array_equal(found["label"], labels)
    # The folder of each file is its class, and its number modulo 4 its colour.
    order = ["red", "green", "blue", "yellow"]
    for file, label in zip(found["file"], found["label"], strict=True):
        name = found["class_names"][label]
        assert file.startswith(f"{name}/")
    assert sorted(found["file"]) == sorted(
        str(x.relative_to(photos)) for x in photos.glob("*/*.png")
    )
    assert set(found["class_names"]) == set(order)
    about = json.loads(str(found["about"]))
    assert (about["level"], about["encoder"]["step"]) == ("h", 20)
    assert "24 images, 4 classes" in error
    assert "network: stage pretrain, step 20" in error
    assert [x.name for x in tmp_path.iterdir()] == ["e.npz"]


def test_another_level_stage_and_file_of_the_encoder(run, photos, tmp_path, capsys):
    _, params, model_state = run.pretrained
    wanted, _ = run.features(params, model_state, run.images.train)
    flags = ["--level", "z", "--batch_size=5"]
    out = tmp_path / "e.npz"
    by_run, _ = embed(capsys, run.workdir.path, photos, *flags, out=out)
    np.testing.assert_allclose(by_run["h"], wanted["z"], atol=1e-6, rtol=1e-5)
    file = tmp_path / "encoder.safetensors"
    simclr_jax.load(run.workdir.path).save(file)
    by_file, _ = embed(capsys, file, photos, *flags, out=out)
    np.testing.assert_array_equal(by_file["h"], by_run["h"])
    tuned, error = embed(capsys, run.workdir.path, photos, "--stage=finetune", out=out)
    np.testing.assert_allclose(tuned["h"], wanted["h"], atol=1e-6, rtol=1e-5)
    assert "network: stage finetune, step 6" in error


def test_a_flat_folder_one_file_and_archives(run, tmp_path, capsys):
    images, labels = squares(6, 9)
    flat = tmp_path / "flat"
    flat.mkdir()
    for k, pixels in enumerate(images):
        Image.fromarray(pixels).save(flat / f"{k}.png")
    wanted = simclr_jax.load(run.workdir.path).embed(images)

    def of(what):
        return embed(capsys, run.workdir.path, what, out=tmp_path / "e.npz")[0]

    found = of(flat)
    order = [int(name.removesuffix(".png")) for name in found["file"]]
    assert sorted(order) == list(range(6))
    np.testing.assert_allclose(found["h"], wanted[order], rtol=1e-5, atol=1e-6)
    assert found["label"].tolist() == [-1] * 6
    found = of(flat / "3.png")
    assert found["file"].tolist() == ["3.png"]
    np.testing.assert_allclose(found["h"], wanted[3:4], rtol=1e-5, atol=1e-6)
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    found = of(tmp_path / "own.npz")
    assert found["file"].tolist() == [f"images[{k}]" for k in range(6)]
    np.testing.assert_array_equal(found["label"], labels)
    np.testing.assert_allclose(found["h"], wanted, rtol=1e-5, atol=1e-6)
    splits = {"train_images": images[:4], "test_images": images[4:]}
    np.savez(tmp_path / "set.npz", **splits, train_labels=labels[:4])
    found = of(tmp_path / "set.npz")
    assert found["file"].tolist()[3:5] == ["train_images[3]", "test_images[0]"]
    assert found["label"].tolist() == [*labels[:4], -1, -1]
    np.testing.assert_allclose(found["h"], wanted, rtol=1e-5, atol=1e-6)


def test_parquet_has_the_same_columns(run, photos, tmp_path, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    by_npz, _ = embed(capsys, run.workdir.path, photos, out=tmp_path / "e.npz")
    file = tmp_path / "e.parquet"
    code, out, _ = main(capsys, run.workdir.path, photos, f"--out={file}")
    assert code == 0
    assert out == f"embeddings: {file} (24 x {by_npz['h'].shape[1]})\n"
    table = parquet.read_table(file)
    assert table.column_names == ["h", "file", "label"]
    np.testing.assert_array_equal(np.stack(table["h"].to_pylist()), by_npz["h"])
    assert table["file"].to_pylist() == by_npz["file"].tolist()
    assert table["label"].to_pylist() == by_npz["label"].tolist()
    about = json.loads(table.schema.metadata[b"about"])
    assert about["class_names"] == by_npz["class_names"].tolist()


def test_damaged_files_are_named_or_skipped(run, tmp_path, capsys):
    images, _ = squares(3, 9)
    for k, pixels in enumerate(images):
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    line = refuse(capsys, run.workdir.path, tmp_path)
    assert line.startswith(f"error: IMAGES: cannot read {tmp_path}/1.png: ")
    assert line.endswith("or let --skip_damaged skip it")
    found, error = embed(
        capsys, run.workdir.path, tmp_path, "--skip_damaged=1", out=tmp_path / "e.npz"
    )
    assert sorted(found["file"]) == ["0.png", "2.png"]
    assert "skipped as damaged: 1.png" in error


def test_many_damaged_files_are_all_named(run, tmp_path, capsys):
    """Before an error, and where they are skipped; a message names five of them."""
    images, _ = squares(1, 9)
    Image.fromarray(images[0]).save(tmp_path / "whole.png")
    names = [f"{k}.png" for k in range(7)]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    code, _, error = main(capsys, run.workdir.path, tmp_path)
    assert code == 2
    *lines, last = error.splitlines()[-8:]
    assert sorted(lines) == [
        f"  damaged: {name} (not an image that Pillow knows)" for name in names
    ]
    assert last.startswith("error: IMAGES: cannot read 7 of the 8 image files")
    _, error = embed(
        capsys, run.workdir.path, tmp_path, "--skip_damaged=7", out=tmp_path / "e.npz"
    )
    assert all(f"  damaged: {tmp_path}/{name} (not" in error for name in names)


def test_wrong_requests_are_one_line(run, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workdir = run.workdir.path
    for words, expected in (
        (
            (),
            "the following arguments are required: RUN, IMAGES; python launch.py embed",
        ),
        ((workdir,), "the following arguments are required: IMAGES"),
        ((workdir, photos, "--lr=3"), "unrecognized arguments: --lr=3"),
        (
            (workdir, photos, "--batch_size=0"),
            "'0' is not a whole number of at least 1",
        ),
        (
            (workdir, photos, "--level=head_9"),
            "--level: 'head_9' is not one of h, head_1, z",
        ),
        ((workdir, photos, "--out=no/e.npz"), "no/e.npz: there is no folder no"),
        ((workdir, photos, "--stage=knn"), "RUN: stage: 'knn' trains no network"),
        ((tmp_path / "no", photos), f"RUN: there is no run or file {tmp_path}/no"),
        (
            (workdir, tmp_path / "no"),
            f"IMAGES: there is no file or folder {tmp_path}/no",
        ),
        ((workdir, workdir), "IMAGES: no image file in"),
    ):
        assert expected in refuse(capsys, *words)
    (tmp_path / "notes.jpg").write_text("no image")
    assert "IMAGES: cannot read" in refuse(capsys, workdir, tmp_path / "notes.jpg")
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 4), np.uint8))
    line = refuse(capsys, workdir, tmp_path / "x.npz")
    assert "must be uint8 [N, H, W] or [N, H, W, C]" in line
    assert not list(tmp_path.glob("*embeddings*"))


def test_parquet_without_pyarrow_is_refused(run, photos, capsys, monkeypatch):
    from simclr_jax.export import embeddings

    monkeypatch.setattr(embeddings.importlib.util, "find_spec", lambda name: None)
    line = refuse(capsys, run.workdir.path, photos, "--out=e.parquet")
    assert "--out: parquet needs the package pyarrow; in the clone: " in line


def test_help_needs_neither_a_run_nor_jax(capsys):
    code, out, error = main(capsys, "--help")
    assert (code, error) == (0, "")
    assert out.startswith("usage: python launch.py embed")
    assert "--skip_damaged" in out
