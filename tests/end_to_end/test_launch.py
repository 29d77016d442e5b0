"""The command line as people meet it: its refusals, and how it starts."""

import os
import re
import subprocess
import sys

import pytest
from tiny import PATIENCE, ROOT, launch, recipe
from tiny_runs import block, expect_refusal, refuse

from simclr_jax import startup
from simclr_jax.config import command_line
from simclr_jax.errors import RequestError

REFUSALS = [
    ("--config.optimizer.lrr=1", "config.optimizer.lrr", "mean optimizer.lr?"),
    ("--config.lr=3", "config.lr", "mean optimizer.lr?"),
    ("--config.optimiser.lr=1", "config.optimiser.lr: no such", "mean optimizer.lr?"),
    ("--config.model.depth=18", "config.model.depth: no such", "mean encoder.depth?"),
    ("--config.seed=99999999999999999999", "config.seed", "4294967295"),
    ("--config.batch_size=many", "config.batch_size", "many"),
    ("--config.batch_size=1e3", "config.batch_size", "1e3"),
    ("batch_size=3", "batch_size=3", "--config.batch_size=3"),
    ("lr=3", "lr=3", "--config.optimizer.lr=3"),
    ("--learning_rate=3", "not a flag", "write --config.optimizer.lr=3"),
    ("--config.batch_size=-4", "config.batch_size", "-4"),
    ("--config.optimizer.lr=nan", "config.optimizer.lr", "nan"),
    ("--config.optimizer.lr=-1.0", "config.optimizer.lr", "above 0"),
    ("--config.method.temperature=0.0", "config.method.temperature", "above 0"),
    ("--config.batch_size=65", "config.batch_size", "65", "64"),
    ("--config.finetune.batch_size=33", "config.finetune.batch_size", "32"),
    ("--config.encoder.depth=19", "config.encoder.depth", "18, 34, 50"),
    ("--config.encoder.width=0.3", "config.encoder.width", "1/64"),
    ("--config.encoder.stem=vit", "config.encoder.stem", "imagenet, cifar"),
    ("--config.stages=('pretrian',)", "config.stages", "pretrain"),
    ("--config.stages=()", "config.stages", "stages from: pretrain, knn"),
    ("--config.method.name=simclear", "config.method.name", "simclr"),
    ("--config.method.name=/nowhere/mine.py", "config.method.name", "no file"),
    ("--config.method.queue_size=64", "config.method.queue_size", "simclr"),
    ("--config.method.mechanism=cue", "config.method.mechanism", "memory_bank"),
    ("--config.method.memory=48", "config.batch_size", "method.memory 48", "is 12"),
    ("--config.method.momentum=0.9", "config.method.momentum", "method.memory"),
    ("--config.predictor.hidden=8", "config.predictor.hidden", "no predictor"),
    ("--config.probe.target=True", "config.probe.target", "no target"),
    ("--config.optimizer.name=adan", "config.optimizer.name", "adamw"),
    ("--config.stages=('probe',)", "config.stages", "no pretraining checkpoint"),
    ("--config.pretrained=/nowhere", "config.pretrained", "remove 'pretrain'"),
    ("--config.data.path=/nowhere.npz", "config.data.path", "/nowhere.npz"),
    ("--config.data.name=cifra10", "config.data.name", "cifar10"),
    ("--config.data.limit=65", "config.data.limit", "the 64 images"),
    (
        "--config.data.test_split=",
        "config.data.test_split",
        "no split ''",
        "train, test",
    ),
    (
        "--config.data.train_split= --config.data.pretrain_split=train",
        "config.data.train_split",
        "no split ''",
    ),
    ("--config.microbatch=5", "config.microbatch", "does not divide"),
    (
        "--config.augment.crop_scale=(0.5,0.1)",
        "config.augment.crop_scale",
        "first <= second",
    ),
    ("--config.augment.second.blur=1.5", "config.augment.second.blur", "0 to 1"),
    (
        "--config.finetune.from_layer=3",
        "config.finetune.from_layer",
        "projector.layers 2",
    ),
    ("--config.finetune.every_epochs=-1", "config.finetune.every_epochs", "least 0"),
    ("--config.probe.features=y", "config.probe.features", "head_1"),
    ("--config.probe.features=head_2", "config.probe.features", "h, head_1, z"),
    (
        "--config.optimizer.warmup_epochs=9.0",
        "optimizer.warmup_epochs",
        "config.epochs 5",
    ),
]


@pytest.mark.parametrize("flag, words", [(flag, words) for flag, *words in REFUSALS])
def test_a_wrong_request_is_one_line_and_exit_2(npz, tmp_path, flag, words, capsys):
    refuse(capsys, tmp_path / "run", [*recipe(npz), *flag.split(" ")], *words)


def test_a_batch_that_does_not_divide_the_queue(tmp_path, capsys):
    """Exit 2, naming the nearest batch; the recipe's own 256 fits."""
    flags = [f"--config={ROOT}/configs/cifar10.py:moco", "--config.batch_size=200"]
    words = ("config.batch_size", "4096", "is 256")
    refuse(capsys, tmp_path / "run", flags, *words)


def test_a_refusal_loads_little_and_compiles_nothing(npz, tmp_path):
    """It answers in seconds, on a busy machine too: TensorFlow alone takes five."""
    script = (
        "import sys, launch\n"
        "code = launch.main(['launch.py', *sys.argv[1:]])\n"
        "print(*sys.modules)\n"
        "sys.exit(code)\n"
    )
    slow = {"tensorflow", "tensorflow_datasets", "clu", "sklearn", "scipy"}
    for flag, word, unneeded in (
        ("--config.optimizer.lrr=1", "no such field", {"orbax", "matplotlib"}),
        ("--config.stages=('probe',)", "no pretraining checkpoint", set()),
    ):
        workdir, cache = tmp_path / "run", tmp_path / "compiled"
        env = {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        done = subprocess.run(
            [sys.executable, "-c", script, *recipe(npz), f"--workdir={workdir}", flag],
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"} | env,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        expect_refusal(done.returncode, done.stderr, workdir, word)
        loaded = set(done.stdout.split())
        assert "simclr_jax" in loaded
        assert not loaded & (slow | unneeded)
        assert not cache.exists()


def test_a_missing_data_set_says_how_to_get_it(tmp_path, capsys):
    flags = [
        f"--config={ROOT}/configs/cifar10.py",
        f"--config.data.data_dir={tmp_path}",
    ]
    words = ("config.data.data_dir", "--config.data.download=True")
    refuse(capsys, tmp_path / "run", flags, *words)


@pytest.mark.parametrize(
    "flags, word",
    [
        ([], "missing"),
        (["--config=configs/nothing.py"], "no recipe 'configs/nothing.py'"),
        (["--config", "configs/nothing.py"], "no recipe 'configs/nothing.py'"),
        ([f"--config={ROOT}/configs/cifar10.py:resnet19"], "resnet19"),
        ([f"--config={ROOT}/configs/demo.py:variant"], "has no variants"),
    ],
)
def test_a_missing_recipe(tmp_path, capsys, flags, word):
    refuse(capsys, tmp_path / "a", flags, "--config: ", word)


def test_a_recipe_anywhere(tmp_path):
    """Its path may hold blanks; and an empty shell variable names none."""
    folder = tmp_path / "my recipes"
    folder.mkdir()
    path = folder / "one of mine.py"
    path.write_text((ROOT / "configs/cifar10.py").read_text())
    for given in ([f"--config={path}:resnet18"], ["--config", f"{path}:resnet18"]):
        request = command_line.parse(["launch.py", *given, "--workdir=a b"])
        assert request.config.encoder.depth == 18
        assert request.recipe == f"{path}:resnet18"
    for given in (["--config="], ["--config", ""]):
        with pytest.raises(
            RequestError, match=r"^--config: no recipe ''; --help lists"
        ):
            command_line.parse(["launch.py", *given, "--workdir=a"])


def test_a_python_without_the_packages_is_told_so():
    """The likeliest first mistake: the system's python3."""
    command = [sys.executable, "-S", "-E", str(ROOT / "launch.py"), "--config=x.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert re.match(
        r"error: .* has no package absl; use .*'\.\[train\]'\n$", done.stderr
    )


def test_tensorboard_that_can_not_be_imported_is_refused(npz, tmp_path):
    done = launch(
        *recipe(npz),
        f"--workdir={tmp_path / 'run'}",
        "--config.tensorboard=True",
        PYTHONPATH=block(tmp_path / "blocked", "tensorboard"),
    )
    cure = ("blocked", "'.[train]'", "set it to False")
    expect_refusal(
        done.returncode,
        done.stderr,
        tmp_path / "run",
        "error: config.tensorboard: ",
        *cure,
    )


def test_the_cpu_flag_leaves_the_users_flags_alone(monkeypatch):
    import importlib.metadata

    name = startup._FUSION_FLAG
    monkeypatch.setattr(startup, "_jax_has_a_device", lambda: False)
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "0.10.2")
    for before, after in (
        ("", rf"{name}=LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE.*"),
        ("--xla_foo=1", rf"--xla_foo=1 {name}=.*"),
        (f"{name}=X", f"{name}=X"),
    ):
        monkeypatch.setenv("XLA_FLAGS", before)
        startup.set_cpu_flags()
        assert re.fullmatch(after, os.environ["XLA_FLAGS"])
    # A version nobody ran it with might abort on it.
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "99.0")
    monkeypatch.setenv("XLA_FLAGS", "")
    startup.set_cpu_flags()
    assert os.environ["XLA_FLAGS"] == ""


def start_again(tmp_path, setting, **environment):
    """What a script sees that asks for huge pages, beside the setting it is shown."""
    kernel = tmp_path / "enabled"
    kernel.write_text(setting)
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import os\n"
        "from simclr_jax import startup\n"
        f"startup._HUGE_PAGES_SETTING = {str(kernel)!r}\n"
        "startup.importlib.util.find_spec = lambda name: None\n"
        "print('started', flush=True)\n"
        "startup.use_huge_pages()\n"
        "print(os.environ.get('GLIBC_TUNABLES'), sys.argv[1:], os.getpid())\n"
    )
    plain = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", script, "a b", "--c=1"],
        env=plain | environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    *starts, seen = output.splitlines()
    assert seen.endswith(f" ['a b', '--c=1'] {process.pid}")
    return len(starts), seen.split()[0]


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages are Linux's")
def test_huge_pages_are_asked_for_once(tmp_path):
    madvise = "always [madvise] never\n"
    assert start_again(tmp_path, madvise) == (2, "glibc.malloc.hugetlb=1")
    assert start_again(tmp_path, "always madvise [never]\n") == (1, "None")
    users = "glibc.malloc.arena_max=1"
    assert start_again(tmp_path, madvise, GLIBC_TUNABLES=users) == (1, users)


def test_xla_reads_the_deterministic_flag_of_a_recipe(npz, tmp_path):
    """In a run, the stages set it before XLA reads its flags: XLA aborts on one that it
    does not know."""
    recipe_file = tmp_path / "deterministic.py"
    recipe_file.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from simclr_jax import startup\n"
        "from tests import tiny_recipe\n"
        "startup.has_cuda = lambda: True\n"
        "startup._DETERMINISTIC_FLAG = '--xla_no_such_flag=true'\n"
        "get_config = tiny_recipe.get_config\n"
    )
    flags = [f"--config={recipe_file}", f"--config.data.path={npz}"]
    flags += [f"--workdir={tmp_path / 'run'}", "--config.deterministic=True"]
    done = launch(*flags, XLA_FLAGS="")
    assert "Unknown flag in XLA_FLAGS: --xla_no_such_flag=true" in done.stderr
