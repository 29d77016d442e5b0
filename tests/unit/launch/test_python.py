"""simclr_jax.pretrain: the command's run, in someone else's program."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from tiny import write_npz

import simclr_jax
from simclr_jax import signals
from simclr_jax.config import recipes
from simclr_jax.errors import StoppedError
from simclr_jax.launch import main

ROOT = Path(__file__).parents[3]
RECIPE = ROOT / "tests/tiny_recipe.py"

pytestmark = [
    pytest.mark.usefixtures("compile_in_haste"),
    # As it does if an earlier test of this process has used a device.
    pytest.mark.filterwarnings("ignore:jax has used a device already"),
]


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("data") / "squares.npz")


def numbers(npz):
    """What makes a run of four steps and a kNN."""
    return {
        "data.path": npz,
        "epochs": 1,
        "optimizer.lr": np.float32(0.125),
        "stages": ["pretrain", "knn"],
        "probe.every_epochs": 0,
    }


@pytest.mark.slow
def test_a_run_a_second_call_and_a_refusal(npz, tmp_path, capsys):
    config = recipes.load(str(RECIPE))
    before = config.to_json()
    handlers = [signal.getsignal(x) for x in (signal.SIGINT, signal.SIGTERM)]
    run = simclr_jax.pretrain(config, tmp_path / "run", **numbers(npz))
    assert run == tmp_path / "run"
    assert config.to_json() == before
    out, error = capsys.readouterr()
    assert "kNN, k 5" in out
    assert "pretrain  step 4/4" in error
    results = json.loads((run / "results.json").read_text())
    assert results["config"]["optimizer"]["lr"] == 0.125
    assert results["pretrain"]["step"] == 4
    assert set(results) & {"knn", "probe", "finetune"} == {"knn"}
    # The same call in other words: the recipe by its path.
    again = simclr_jax.pretrain(RECIPE, str(run), **numbers(npz))
    assert again == run
    assert capsys.readouterr().out.startswith(f"{run}: everything is done already\n")
    with pytest.raises(ValueError, match=r"^config\.batch_size: .* with 16, not 8"):
        simclr_jax.pretrain(RECIPE, run, **numbers(npz), batch_size=8)
    assert [signal.getsignal(x) for x in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.parametrize(
    "recipe, changes, message",
    [
        ("cifra10", {}, r"^no recipe 'cifra10'; did you mean --config=cifar10\?"),
        (RECIPE, {"lr": 3}, r"^config\.lr: no such field; did you mean optimizer\.lr"),
        (RECIPE, {"optimizer.lr": "much"}, r"^config\.optimizer\.lr: 'much' is not a"),
        (RECIPE, {"optimizer.lr": -1.0}, r"^config\.optimizer\.lr: -1.0 is not"),
        (RECIPE, {"optimizer": {"lr": 1}}, r"^config\.optimizer: a section"),
        (RECIPE, {"epochs": None}, r"^config\.epochs: 'None' is not an integer"),
        (RECIPE, {"data.path": "/nowhere.npz"}, r"^config\.data\.path: .*nowhere"),
    ],
)
def test_a_wrong_request_is_a_value_error(tmp_path, recipe, changes, message):
    with pytest.raises(ValueError, match=message):
        simclr_jax.pretrain(recipe, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def ctrl_c():
    """Python's own handler of it; a test in the background of a shell has none."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_saves_and_a_second_call_goes_on(npz, tmp_path, monkeypatch, capsys):
    """It comes during a step; the step is not lost, nor is KeyboardInterrupt."""
    from simclr_jax.training.progress import Progress

    advance = Progress.advance

    def interrupted(self, step, loss):
        if step == 2:
            signal.raise_signal(signal.SIGINT)
        return advance(self, step, loss)

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "advance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            simclr_jax.pretrain(RECIPE, tmp_path, **numbers(npz))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert "SIGINT: saving, then stopping" in capsys.readouterr().err
    steps = [x for x in (tmp_path / "checkpoints").iterdir() if x.name.isdigit()]
    assert [path.name for path in steps] == ["2"]
    simclr_jax.pretrain(RECIPE, tmp_path, **numbers(npz))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(x)["step"] for x in lines if '"loss"' in x] == [2, 4]


# Signals in someone else's program ----------------------------------------------------


@pytest.fixture
def heard(monkeypatch):
    """The program's own handler of SIGTERM writes down that it was called."""
    calls = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    yield calls
    signal.signal(signal.SIGTERM, before)


def test_the_programs_own_handler_gets_the_signal(heard):
    own = signal.getsignal(signal.SIGTERM)

    @signals.asked_by_signals()
    def block():
        signal.raise_signal(signal.SIGTERM)
        assert heard == []
        signals.check_stop()

    with pytest.raises(KeyboardInterrupt):
        block()
    assert heard == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is own
    signals.check_stop()  # the next run is not asked


def test_a_signal_after_the_last_step_is_not_lost(heard):
    with signals.asked_by_signals():
        signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM]


def test_a_second_signal_goes_to_the_program_at_once(heard):
    @signals.asked_by_signals()
    def block():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
        signal.raise_signal(signal.SIGINT)  # the first of this kind: it asks
        signals.check_stop()

    with pytest.raises(KeyboardInterrupt):
        block()


def test_errors_pass_and_handlers_are_back(heard):
    own = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StopIteration), signals.asked_by_signals():
        raise StopIteration
    assert signal.getsignal(signal.SIGTERM) is own


def test_in_another_thread_nothing_is_caught():
    raised = []

    def work():
        with signals.asked_by_signals():
            raised.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert raised == [before]


# What is set before jax uses a device -------------------------------------------------


def python(script: str) -> subprocess.CompletedProcess:
    plain = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=plain | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )


TESTED = (
    "import os, sys, warnings\n"
    "import simclr_jax\n"
    "from simclr_jax import startup\n"
    "import importlib.metadata\n"
    "startup._FUSIONS = {importlib.metadata.version('jaxlib'): ('DOT',)}\n"
    "startup.has_cuda = lambda: False\n"
)


def test_the_call_for_users_of_the_library_does_not_load_jax():
    done = python(
        TESTED + "simclr_jax.set_cpu_flags()\n"
        "assert 'jax' not in sys.modules\n"
        "print(os.environ['XLA_FLAGS'])\n"
    )
    assert done.stderr == ""
    flag = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_DOT"
    assert done.stdout == f"{flag}\n"


def test_a_call_that_comes_too_late_says_so_and_changes_nothing():
    done = python(
        TESTED + "import jax\n"
        "jax.devices()\n"
        "simclr_jax.set_cpu_flags()\n"
        "print(os.environ.get('XLA_FLAGS'))\n"
    )
    assert done.stdout == "None\n"
    assert "<string>:9: UserWarning: jax has used a device already" in done.stderr


def test_a_call_after_the_import_of_jax_is_early_enough():
    """XLA aborts on a value that it does not know: it has read the flag."""
    done = python(
        TESTED.replace("'DOT'", "'NONE_SUCH'") + "import jax\n"
        "simclr_jax.set_cpu_flags()\n"
        "jax.numpy.ones(3)\n"
    )
    assert done.returncode != 0
    assert "NONE_SUCH" in done.stderr


def test_stopping_is_told_as_python_programs_expect():
    with (
        pytest.raises(KeyboardInterrupt, match="run the same command again"),
        signals.asked_by_signals(),
    ):
        raise StoppedError("by a signal; run the same command again to continue")


def test_a_recipe_fits_itself_as_on_the_command_line(
    npz, tmp_path, monkeypatch, capsys
):
    """cifar10:resnet18 warms up for 10 of its 100 epochs, and has batches of 512."""
    seen = []
    monkeypatch.setattr(
        main, "train", lambda *args, given: seen.append((args[0], given))
    )
    simclr_jax.pretrain("cifar10:resnet18", tmp_path, epochs=5, **{"data.path": npz})
    ((config, given),) = seen
    assert config.optimizer.warmup_epochs == 0.5
    assert set(given) == {"epochs", "data.path"}
    note = "optimizer.warmup_epochs 10 -> 0.5: epochs is 5, not 100\n"
    assert capsys.readouterr().err == note
    # A config of one's own is taken as it is.
    own = recipes.load("cifar10:resnet18")
    own.epochs = 5
    simclr_jax.pretrain(own, tmp_path)
    assert seen[1][0].optimizer.warmup_epochs == 10
    assert seen[1][1] is None
