"""Labels picked by a list of file names: which images, from where, and what is refused.

Image k of the data set is called by a name that says k, and its pixels are all k.
"""

import json
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_recipe
from tiny import ROOT, TinyEncoder, write_npz
from tiny_tfds import FORMATS, constant, numbers, write_tfds

from simclr_jax import data
from simclr_jax.data import label_file
from simclr_jax.data.tfds import TfdsReader
from simclr_jax.errors import DataError, RequestError
from simclr_jax.experiment import build
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.stages import classify, distill
from simclr_jax.stages import run as stages

TRAIN, TEST = 40, 16
LISTED = [33, 2, 17, 8, 21]  # two of class 2..3, none of most: not balanced


def named(k: int) -> str:
    return f"n{k % 10:08d}_{k}.JPEG"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    splits = {"train": range(TRAIN), "test": range(TRAIN, TRAIN + TEST)}
    return {
        kind: str(
            write_tfds(
                tmp_path_factory.mktemp(kind),
                kind,
                constant(TRAIN + TEST),
                splits,
                file_names=named,
            )
        )
        for kind in FORMATS
    }


@pytest.fixture
def listed(tmp_path):
    """As somebody may have made it: Windows line ends, an empty line, no last end."""
    path = tmp_path / "listed.txt"
    path.write_bytes("\r\n".join(map(named, LISTED[:3])).encode() + b"\r\n\r\n ")
    with path.open("a") as file:
        file.write("\n".join(map(named, LISTED[3:])))
    return str(path)


def settings(data_dir: str, path: str, **fields):
    config = tiny_recipe.get_config()
    config.data.name = "tiny"
    config.data.data_dir = data_dir
    config.finetune.label_file = path
    config.update_from_flattened_dict(fields)
    return config


def experiment(config) -> Experiment:
    return Experiment(config, None, None)  # type: ignore[arg-type]


def all_numbers(source: data.Source) -> list[int]:
    batches = source.ordered(4)
    return [k for b in batches for k in numbers(b)[np.asarray(b["mask"])]]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("streaming", [False, True])
def test_exactly_the_listed_images_with_their_labels(folders, listed, kind, streaming):
    fields = {"data.streaming": streaming, "distill.label_weight": 0.5}
    fields |= {"distill.label_batch_size": 5, "distill.batch_size": 8}
    picked = []
    for seed in (0, 1):
        run = experiment(settings(folders[kind], listed, seed=seed, **fields))
        source = run.images.labelled("finetune")
        assert isinstance(source, data.Stream if streaming else data.Resident)
        picked.append(all_numbers(source))
        # The probe has a fraction of its own.
        assert run.images.labelled("probe").num_examples == TRAIN
        assert run.images.label_fraction("probe") == 1
        assert run.images.label_fraction("finetune") == 5 / 40
    assert picked[0] == picked[1]  # the list, not the seed, decides
    assert sorted(picked[0]) == sorted(LISTED)
    # Distillation's labelled images are the same: an epoch of them in one batch.
    teacher: Any = SimpleNamespace(variables=None)
    batch = next(distill._batches(run, teacher)(0))
    assert sorted(numbers(batch["labelled"])) == sorted(LISTED)


@pytest.mark.parametrize("kind", FORMATS)
def test_names_are_in_stored_order_and_cost_no_decoding(folders, kind, monkeypatch):
    where = {"data_dir": folders[kind]}
    source = data.load("tiny", "train", **where)
    expected = [named(k) for k in all_numbers(source)]
    assert expected != [named(k) for k in range(TRAIN)]  # TFDS shuffles as it writes

    def decode(*_):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(TfdsReader, "_decode", decode)
    assert data.file_names("tiny", "train", **where) == expected
    assert data.file_names("tiny", "train", limit=7, **where) == expected[:7]


def test_the_limit_cuts_what_may_be_listed(folders, tmp_path):
    stored = data.file_names("tiny", "train", data_dir=folders["tfrecord"])
    path = tmp_path / "listed.txt"
    path.write_text("\n".join(stored[2:6]))
    config = settings(folders["tfrecord"], str(path), **{"data.limit": 8})
    assert experiment(config).images.label_fraction("finetune") == 4 / 8
    config.data.limit = 4
    message = rf"2 of the 4 images .*listed\.txt .*, for example {stored[4]};"
    with pytest.raises(DataError, match=message):
        experiment(config).images.labelled("finetune")
    # It is of the pretraining images: where those are another split, all may be.
    config.data.pretrain_split = "test"
    assert experiment(config).images.label_fraction("finetune") == 4 / 40


def test_without_a_list_no_names_are_read(folders, monkeypatch):
    def names(*_, **__):
        raise AssertionError("names were read")

    monkeypatch.setattr(TfdsReader, "file_names", names)
    source = experiment(settings(folders["tfrecord"], "")).images.labelled("finetune")
    np.testing.assert_array_equal(np.bincount(source.labels), [2] * 10)


@pytest.mark.slow
def test_a_whole_run_trains_on_the_listed_images(
    folders, listed, tmp_path, monkeypatch
):
    """Every stage's batches; only the teacher trains, one step of a small network."""
    seen = {}
    train = classify.train

    def spied(experiment, network, training, **options):
        batch = next(training.batches(0))
        trained = training.stage, training.variant
        if "unlabelled" not in batch:
            seen[trained] = sorted(numbers(batch)), training.num_examples
        if trained != ("finetune", "pretrained"):
            return {"top1": 0.0}
        return train(experiment, network, training, **options)

    monkeypatch.setattr(classify, "train", spied)
    monkeypatch.setattr(build, "resnet", lambda *_: TinyEncoder())
    # Where the baselines start is theirs alone.
    monkeypatch.setattr(Experiment, "random_init", None)
    monkeypatch.setattr(distill, "_random_init", lambda *_: None)
    config = settings(folders["array_record"], listed)
    config.stages = ("pretrain", "finetune", "distill")
    config.max_steps = 1
    config.probe.every_epochs = 0
    config.finetune.batch_size = 5
    config.distill.batch_size = 8
    config.distill.augment.size = 16
    config.augment.jitter = config.augment.grayscale = 0.0  # less to compile
    stages.run(config, str(tmp_path / "run"))
    variants = [
        ("finetune", "pretrained"),
        ("finetune", "random_init"),
        ("distill", "random_init"),
    ]
    assert seen == dict.fromkeys(variants, (sorted(LISTED), 5))
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["finetune"]["label_fraction"] == 5 / 40
    assert results["distill"]["label_fraction"] == 5 / 40
    assert results["config"]["finetune"]["label_file"] == listed


REFUSALS = {
    None: "does not exist",
    b"": "names no image",
    b" \n\n": "names no image",
    b"\xff\xfe": "cannot read",
    b"a\nb\n\na \n": "lines 1 and 4 of .* both name a;",
    "\n".join(map(named, range(41))).encode(): "41 images, .* has only 40;",
    f"{named(3)}\n{named(44)}\nx.JPEG".encode(): f"2 of the 3 .* example {named(44)};",
}


def main(config_flags, tmp_path, capsys) -> str:
    import launch

    flags = [f"--config={ROOT}/tests/tiny_recipe.py", f"--workdir={tmp_path / 'run'}"]
    code = launch.main(["launch.py", *flags, *config_flags])
    error = capsys.readouterr().err
    assert code == 2, error
    assert error.count("\n") == 1
    assert "config.finetune.label_file: " in error
    return error


@pytest.mark.parametrize("content, message", REFUSALS.items())
def test_a_wrong_list_is_one_line_and_exit_2(
    folders, tmp_path, content, message, capsys
):
    path = tmp_path / "listed.txt"
    if content is not None:
        path.write_bytes(content)
    flags = [f"--config.data.data_dir={folders['tfrecord']}"]
    flags += ["--config.data.name=tiny", f"--config.finetune.label_file={path}"]
    flags += ["--config.finetune.batch_size=1"]
    error = main(flags, tmp_path, capsys)
    assert re.search(message, error), error
    assert str(path) in error
    assert not (tmp_path / "run").exists()


def test_data_without_file_names_are_refused(tmp_path, listed, capsys):
    npz = write_npz(tmp_path / "squares.npz")
    flags = [f"--config.data.path={npz}", f"--config.finetune.label_file={listed}"]
    error = main(flags, tmp_path, capsys)
    assert "npz has no feature `file_name`" in error
    assert "label_fraction" in error
    assert not (tmp_path / "run").exists()
    tfds = write_tfds(tmp_path, "tfrecord", constant(4), {"train": range(4)})
    assert not data.describe("tiny", data_dir=str(tfds)).file_names


def test_the_batch_is_held_against_the_list(folders, listed, tmp_path):
    from simclr_jax.experiment import preflight

    config = settings(folders["tfrecord"], listed)  # batches of 16, half the labels
    with pytest.raises(RequestError, match=r"finetune\.batch_size: 16 .* the 5 "):
        preflight.check(config, tmp_path)
    config.finetune.batch_size = 5
    preflight.check(config, tmp_path)
    # Who neither fine-tunes nor distils has no use for the list.
    config.finetune.label_file = str(tmp_path / "absent.txt")
    config.stages = ("pretrain", "probe")
    preflight.check(config, tmp_path)


def test_names_must_tell_images_apart_and_labels_be_there(tmp_path):
    path = tmp_path / "listed.txt"
    path.write_text("c\na")
    labels = np.array([5, 6, 7, 8])
    found = label_file.positions(str(path), ["a", "b", "c", "d"], labels)
    np.testing.assert_array_equal(found, [0, 2])
    with pytest.raises(DataError, match="3 training images share the 2 names"):
        label_file.positions(str(path), ["a", "b", "c", "c"], labels)
    labels[2] = -1
    with pytest.raises(DataError, match=r"1 of the images .* no label .* example c;"):
        label_file.positions(str(path), ["a", "b", "c", "d"], labels)
