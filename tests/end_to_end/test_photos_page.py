"""docs/photos.md: its commands and its Python run, on small images."""

import csv
import re
import shlex

import jax
import numpy as np
import pytest
from PIL import Image
from tiny import ROOT, squares

import launch
from simclr_jax.experiment.workdir import results

pytestmark = pytest.mark.usefixtures("compile_in_haste", "compile_once")

PAGE = (ROOT / "docs" / "photos.md").read_text()
SMALL = [
    "--config.encoder.depth=10",
    "--config.encoder.width=0.0625",
    "--config.encoder.stem=cifar",
    "--config.data.stored_size=16",
    "--config.max_steps=1",
    "--config.devices=1",
    "--config.augment.size=16",
    "--config.augment.blur=0.0",
]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def photo(path, pixels, k):
    """Landscape or portrait; 24 pixels by 20."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels).resize((24, 20) if k % 2 else (20, 24))
    image.save(path)


@pytest.fixture(scope="module")
def compile_once():
    """The runs of the page have many programs in common."""
    names = ("enable_compilation_cache", "persistent_cache_min_compile_time_secs")
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in names}
    for name, value in zip(before, (True, 0.0), strict=True):
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with all that the page names, and the recipes."""
    place = tmp_path_factory.mktemp("page")
    images, labels = squares(60, 0)
    rows = ["file,label"]
    for k, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        name = f"{k}.{'jpg' if k % 2 else 'png'}"
        photo(place / "photos" / name, pixels, k)
        photo(place / "animals" / "abcd"[label] / name, pixels, k)
        photo(place / "phone" / name, pixels, k)
        rows += [f"{name},{'abcd'[label]}"] if k < 50 else []
    (place / "photos/first_day.txt").write_text(
        "\n".join(f"{2 * k}.png" for k in range(20))
    )
    (place / "phone/7.jpg").write_bytes((place / "phone/9.jpg").read_bytes()[:300])
    (place / "labels.csv").write_text("\n".join(rows))
    np.savez(place / "images.npz", train_images=images, train_labels=labels)
    (place / "configs").symlink_to(ROOT / "configs")
    return place


TRAINED = [x for x in blocks("bash") if "--workdir=" in x]
(PREDICTED,) = [x for x in blocks("bash") if x not in TRAINED]
SAID = {
    "photos": "photos: 60 images, no classes, 20 x 24 to 24 x 20 pixels\n"
    "  left out: 1 .txt\n",
    "animals": "no split 'test': training on train[:90%], testing on train[90%:]",
    "animals_cpu": "no split 'test': training on train[:90%], testing on train[90%:]",
    "table": "  labels.csv: labels of 50 of the 60 images\n",
    "first_day": "photos/first_day.txt: 20 images, no classes",
    "phone": "  skipped as damaged: 7.jpg (",
    "large": "batch_size 256 -> 32: there are 60 images that pretrain trains on",
    "photos_again": "starting from runs/photos, step 1; with its projector",
    "arrays": "images.npz: no test_images; its images are read in a fixed random order",
}


def flags_of(command):
    python, script, *flags = shlex.split(command.replace("\\\n", ""))
    assert (python, script) == (".venv/bin/python", "launch.py")
    return flags


@pytest.mark.thorough
@pytest.mark.parametrize("number, name", enumerate(SAID), ids=SAID)
def test_a_command_runs(place, monkeypatch, capsys, number, name):
    """In the order of the page, because later ones use what earlier ones made."""
    assert len(TRAINED) == len(SAID)
    flags = flags_of(TRAINED[number])
    assert flags[-1] == f"--workdir=runs/{name}"
    monkeypatch.chdir(place)
    assert launch.main(["launch.py", *flags, *SMALL]) == 0
    assert SAID[name] in capsys.readouterr().err
    found = results(place / "runs" / name)
    assert found["pretrain"]["step"] == 1
    labelled = "folder.py:labelled" in TRAINED[number]
    assert ("probe" in found) == ("finetune" in found) == labelled
    assert found["config"]["finetune"]["augment"]["size"] == 16
    assert (place / "runs" / name / "report.html").exists()


@pytest.mark.thorough
def test_the_classes_of_other_photos(place, monkeypatch):
    """By the network of the command on `animals`."""
    if not (place / "runs/animals/stages/finetune").exists():
        pytest.skip("the page's labelled command has not run in this session")
    monkeypatch.chdir(place)
    assert launch.main(["launch.py", *flags_of(PREDICTED)]) == 0
    with open("classes.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    assert {row["class"] for row in rows} <= set("abcd")
    assert {"file", "class", "probability", "p_a", "p_d"} <= rows[0].keys()


def test_what_the_run_says_is_on_the_page():
    assert f"```\n{SAID['photos']}```" in PAGE


@pytest.mark.thorough
def test_the_python_runs(place, monkeypatch):
    if not (place / "runs/photos/checkpoints").exists():
        pytest.skip("the page's first command has not run in this session")
    monkeypatch.chdir(place)
    names = {}
    for block in blocks("python"):
        exec(block, names)
    assert names["features"].shape[0] == 2
