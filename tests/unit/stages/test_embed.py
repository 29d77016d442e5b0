"""Stage `embed`: the features of a data set, whatever network the recipe has."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny import ROOT, squares, write_npz

import launch
import simclr_jax
from simclr_jax.data import damage
from simclr_jax.data.scan import scan

pytestmark = pytest.mark.usefixtures("compile_in_haste")


@pytest.fixture
def embed(run, tmp_path, capsys):
    """Runs the stage alone, by a recipe with another network."""

    def embed(*flags, code=0):
        words = [
            f"--config={ROOT}/configs/folder.py",
            f"--config.pretrained={run.workdir.path}",
            "--config.stages=embed",
            f"--workdir={tmp_path / 'run'}",
            *flags,
        ]
        assert launch.main(["launch.py", *words]) == code, capsys.readouterr().err
        return capsys.readouterr()

    return embed


def content(path):
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


def test_the_run_says_which_network_and_which_size(run, photos, embed, tmp_path):
    """folder.py has a ResNet-18 on 224 pixels; the run's checkpoint has neither."""
    said = embed(
        f"--config.data.path={photos}",
        "--config.data.train_split=train[:75%]",
        "--config.data.test_split=train[75%:]",
        "--config.eval_batch_size=7",
    )
    path = tmp_path / "run" / "embeddings.npz"
    assert f"embeddings: {path}" in said.out
    found = content(path)
    _, params, model_state = run.pretrained
    wanted, labels = run.features(params, model_state, run.images.train)
    np.testing.assert_allclose(found["h"], wanted["h"], atol=1e-6, rtol=1e-5)
    np.testing.assert_array_equal(found["label"], labels)
    assert found["split"].tolist() == ["train"] * 18 + ["test"] * 6
    classes = [found["class_names"][label] for label in found["label"]]
    assert [file.split("/")[0] for file in found["file"]] == classes
    assert len(set(found["file"])) == 24
    assert json.loads(str(found["about"]))["encoder"]["size"] == 16
    assert not (tmp_path / "run" / "results.json").exists()


def test_it_writes_again_only_what_has_changed(photos, embed, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    images, _ = squares(3, 2)
    for k, pixels in enumerate(images[:2]):
        Image.fromarray(pixels).save(mine / f"{k}.png")
    flags = [f"--config.data.path={photos}", f"--config.embed.images={mine}"]
    flags.append("--config.data.test_split=train")
    said = embed(*flags).out
    path = tmp_path / "run" / "embeddings.npz"
    assert said == f"embeddings: {path}\n"  # nothing of what was done before
    first, before = content(path), path.stat().st_mtime_ns
    assert sorted(first["file"]) == ["0.png", "1.png"]
    assert first["split"].tolist() == ["", ""]
    done = f"{tmp_path / 'run'}: everything is done already"
    assert embed(*flags).out.splitlines()[0] == done
    assert path.stat().st_mtime_ns == before
    embed(*flags, "--config.embed.level=z")
    second = content(path)
    assert second["h"].shape == (2, 16)
    path.write_bytes(path.read_bytes()[:100])  # as a crash may leave it
    embed(*flags)
    np.testing.assert_array_equal(content(path)["h"], first["h"])


def test_all_damaged_files_are_named_in_the_workdir(photos, embed, tmp_path):
    """Those of the data set and those of `config.embed.images`, until they are gone."""
    mine, others = tmp_path / "mine", tmp_path / "others"
    for k in range(7):
        for folder in (mine, others):
            shutil.copytree(photos, folder, dirs_exist_ok=True)
            (folder / f"{k}.png").write_bytes(b"")
    flags = [f"--config.data.path={mine}", f"--config.embed.images={others}"]
    flags += ["--config.data.test_split=train"]
    said = embed(*flags, code=2).err.splitlines()
    assert [x for x in said if x.startswith("  damaged: 6.png (not an image")]
    assert not (tmp_path / "run").exists()
    flags.append("--config.data.skip_damaged=7")
    file = tmp_path / "run" / "damaged.txt"
    said = embed(*flags).err
    assert f"  all 14 damaged files are named in {file}\n" in said
    assert said.count("skipped as damaged: ") == 2
    assert sorted(file.read_text().splitlines()) == [
        f"{folder}/{k}.png\tnot an image that Pillow knows"
        for folder in (mine, others)
        for k in range(7)
    ]
    for folder in (mine, others):
        for k in range(7):
            (folder / f"{k}.png").unlink()
    scan.cache_clear()
    damage.check.cache_clear()
    assert "damaged files" not in embed(*flags).err
    assert not file.exists()


def test_arrays_of_another_size_are_made_the_runs(run, embed, tmp_path):
    """And in Parquet."""
    parquet = pytest.importorskip("pyarrow.parquet")
    large = np.random.default_rng(0).integers(0, 256, (5, 24, 24, 3), np.uint8)
    labels = np.arange(5)
    arrays = {"train_images": large[:3], "test_images": large[3:]}
    arrays |= {"train_labels": labels[:3], "test_labels": labels[3:]}
    np.savez(tmp_path / "set.npz", **arrays)
    embed(
        f"--config.data.path={tmp_path / 'set.npz'}",
        "--config.data.name=npz",
        "--config.data.stored_size=0",
        "--config.data.test_split=test",
        "--config.embed.format=parquet",
    )
    table = parquet.read_table(tmp_path / "run" / "embeddings.parquet")
    assert table["file"].to_pylist()[2:4] == ["train[2]", "test[0]"]
    assert table["split"].to_pylist() == ["train"] * 3 + ["test"] * 2
    assert table["label"].to_pylist() == [0, 1, 2, 3, 4]
    found = np.stack(table["h"].to_pylist())
    # Resized by Pillow or by TensorFlow, whose pixels may differ by one level.
    wanted = simclr_jax.load(run.workdir.path).embed(large)
    np.testing.assert_allclose(found, wanted, rtol=0.02)


@pytest.mark.parametrize(
    "flag, words",
    [
        ("embed.images=/no/photos", "config.embed.images: there is no file or folder"),
        (
            "embed.level=head_7",
            "config.embed.level: 'head_7' is not one of h, head_1, z",
        ),
        ("embed.format=csv", "config.embed.format: 'csv' is not one of: npz, parquet"),
        ("pretrained=/no/run", "config.stages: no pretraining checkpoint in /no/run"),
    ],
)
def test_wrong_requests_are_one_line(photos, embed, tmp_path, flag, words):
    flags = [f"--config.data.path={photos}", "--config.data.test_split=train"]
    error = embed(*flags, f"--config.{flag}", code=2).err.splitlines()[-1]
    assert error.startswith(f"error: {words}")
    assert not (tmp_path / "run" / "embeddings.npz").exists()


def test_a_run_that_only_writes_says_what_was_done_before(photos, embed, tmp_path):
    """A second page is the same, byte for byte."""
    flags = [f"--config.data.path={photos}", "--config.data.test_split=train"]
    flags += ["--config.encoder.depth=10", "--config.encoder.width=0.0625"]
    flags += ["--config.encoder.stem=cifar", "--config.projector.dim=16"]
    flags += ["--config.augment.size=16", "--config.data.stored_size=16"]
    report, both = "--config.stages=report", "--config.stages=report,export"
    assert "done already" not in embed(*flags, report).out
    assert "everything is done already" in embed(*flags, report).out
    assert "done already" not in embed(*flags, both).out
    assert "everything is done already" in embed(*flags, both).out
    (tmp_path / "run" / "report.html").write_text("of an older version")
    assert "everything but the report is done already" in embed(*flags, both).out


def test_a_stage_that_trains_still_wants_the_recipes_network(embed, tmp_path):
    npz = write_npz(tmp_path / "squares.npz")
    flags = [f"--config.data.path={npz}", "--config.data.name=npz"]
    flags += ["--config.data.test_split=test", "--config.stages=knn"]  # added
    assert "config.encoder.depth: the checkpoint in" in embed(*flags, code=2).err
