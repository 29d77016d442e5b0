"""Every command and all Python on the pages does what the page says, or would.

What trains is not run here: a command's config is made and validated with all that it
changes, and flags and files are looked up. The pages in `RUN` run as a whole, from
their first to their last block, in tests/end_to_end. A block that no rule covers fails.
"""

import shlex
from contextlib import nullcontext
from unittest import mock

import jax
import jax.numpy as jnp
import pytest
from page_commands import PYTHON, blocks, check, check_flags, inline, lines
from tiny import ROOT

import simclr_jax
from simclr_jax.errors import RequestError
from simclr_jax.pretrained import Encoder

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
MEASURED = sorted(ROOT.glob("benchmarks/results/**/*.md"))
# The tests that run a page, and the languages of the blocks that only they can check.
RUN = {
    "adding_a_method.md": ("test_own_method.py", {"python"}),
    "cluster.md": ("test_cluster_page.py", {"yaml"}),
    "encoder.md": ("test_encoder_page.py", {"python"}),
    "photos.md": ("test_photos_page.py", {"python", ""}),
}
# The pages whose Python runs here.
EXECUTED = [ROOT / "README.md", ROOT / "docs/library.md"]
# A block of no language that is neither a command nor in RUN: the tree of the folders.
SHOWN = {"CONTRIBUTING.md": "launch.py              the command"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with what the pages' commands read before they would train."""
    page = blocks(ROOT / "docs/adding_a_method.md")
    (code,) = [text for language, text in page if language == "python"]
    (tmp_path / "simsiam.py").write_text(code)
    (tmp_path / "path/to").mkdir(parents=True)
    (tmp_path / "path/to/mine.py").write_text(code.replace("simsiam", "mine"))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)


def named(pages):
    names = [str(page.relative_to(ROOT)) for page in pages]
    return pytest.mark.parametrize("page", pages, ids=names)


@named([*PAGES, *MEASURED])
@pytest.mark.usefixtures("place")
def test_the_commands_in_blocks(page):
    _, elsewhere = RUN.get(page.name, ("", set()))
    for language, text in blocks(page):
        shown = SHOWN.get(page.name)
        if language in elsewhere or (language == "python" and page in EXECUTED):
            continue
        if language == "" and shown and text.startswith(shown):
            continue
        assert language in ("bash", ""), f"no rule covers a block of {language}"
        for words in lines(text):
            check(words)


@named(PAGES)
@pytest.mark.usefixtures("place")
def test_the_commands_in_the_text(page):
    programs = {*PYTHON, "simclr-jax", "make", "pip", "sbatch"}
    for text in inline(page):
        try:
            words = shlex.split(text)
        except ValueError:  # a lone quotation mark
            continue
        if words and words[0].startswith("--"):
            check_flags([x.replace("$SLURM_ARRAY_TASK_ID", "0") for x in words])
        elif words and words[0] in programs and words[0] != text:
            check(words)


@pytest.mark.parametrize("name", RUN)
def test_a_page_that_runs_elsewhere_has_its_test(name):
    test, _ = RUN[name]
    text = (ROOT / "tests/end_to_end" / test).read_text()
    assert f'"{name}"' in text or f"docs/{name}" in text


@named(EXECUTED)
def test_the_python_runs(page, place, monkeypatch):
    """On small arrays; a run is loaded and trained by stand-ins of the same signature.

    All devices' negatives are those of a mapped axis.
    """
    encoder = mock.create_autospec(Encoder, instance=True)
    encoder.predict.return_value = (["six"], jnp.ones((1, 2)))
    load = mock.create_autospec(simclr_jax.load, return_value=encoder)
    train = mock.Mock()
    monkeypatch.setattr("simclr_jax.pretrained.load", load)
    monkeypatch.setattr("simclr_jax.startup.set_cpu_flags", lambda: None)
    monkeypatch.setattr("simclr_jax.stages.run.run", train)

    def run(z_a, z_b, queue):
        names = {"z_a": z_a, "z_b": z_b, "queue": queue, "simclr_jax": simclr_jax}
        for language, text in blocks(page):
            if language == "python":
                exec(text, names)
        return names["loss"](z_a, z_b)

    key = jax.random.split(jax.random.key(0), 3)
    rows = [jax.random.normal(key[i], (2, 4 + 2 * (i == 2), 8)) for i in range(3)]
    losses = jax.vmap(run, axis_name="data")(*rows)
    assert jnp.isfinite(losses).all()
    text = page.read_text()
    assert load.called == ("simclr_jax.load(" in text)
    assert train.called == ("simclr_jax.pretrain(\n" in text)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    "wrong, error",
    [
        ("python launch.py --config=demo --workdir=w --config.epoch=3", RequestError),
        ("python launch.py --config=demo --workdir=w --config.epochs=-3", RequestError),
        ("python launch.py --config=demo:large --workdir=w", RequestError),
        ("python launch.py predict runs/a", RequestError),
        ("python launch.py export runs/a out --form=onnx", RequestError),
        ("srun --ntasks=2 python launch.py --config=nothing --workdir=w", RequestError),
        ("sbatch --wrap='python launch.py --config=demo'", RequestError),
        ("python benchmarks/nothing.py", FileNotFoundError),
        ("python benchmarks/memory.py --nothing", AssertionError),
        ("make nothing", AssertionError),
        ("pip install '.[nothing]'", AssertionError),
        ("conda install simclr-jax", AssertionError),
    ],
)
def test_a_wrong_command_is_found(wrong, error):
    (words,) = lines(wrong)
    with pytest.raises(error):
        check(words)


@pytest.mark.parametrize("last, right", [(26, True), (27, False), (25, False)])
def test_an_arrays_last_number_must_be_a_sweeps_last_point(last, right):
    sweep = "python launch.py --config=small_batch:cpu --workdir=w --sweep"
    inner = f"{sweep} --index=$SLURM_ARRAY_TASK_ID"
    (words,) = lines(f"sbatch --array=0-{last} --wrap='{inner}'")
    with nullcontext() if right else pytest.raises(AssertionError):
        check(words)
