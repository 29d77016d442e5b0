"""Distillation: its loss against NumPy, no gradient into the teacher, whole runs."""

import json
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from lowering import assert_lowers_for_cuda
from tiny import TinyEncoder, launch, recipe, squares, write_npz
from tiny_recipe import get_config
from tiny_runs import refuse

from configs import common
from simclr_jax import augment, checkpoint, methods
from simclr_jax import training as train
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.experiment.workdir import checkpoints as workdir_checkpoints
from simclr_jax.heads import Projector
from simclr_jax.networks import ClassifierNetwork, Network
from simclr_jax.stages import distill

KEY = jax.random.key(0)
WHOLE = augment.View(
    crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grayscale=0.0
)
NO_HEAD = Projector(layers=0)


def made(features: int, seed: int, projector=NO_HEAD, from_layer=0):
    """A network of 4 classes whose weights and statistics have all moved from 0."""
    encoder = TinyEncoder(features)
    method = methods.make("simclr", encoder, projector=projector)
    key = jax.random.key(seed)
    blank = jnp.zeros((2, 16, 16, 3))
    network = ClassifierNetwork(Network(encoder, projector), from_layer, 4)
    params, state = network.init(key, *method.init(key, blank), blank)
    width = params["classifier"]["dense"]["kernel"].shape
    params["classifier"]["dense"]["kernel"] = jax.random.normal(key, width)
    images = jax.random.uniform(key, (8, 16, 16, 3))
    _, state = network.logits(params, state, images, train=True)
    return network, params, state


@pytest.fixture(scope="module")
def pair():
    head = Projector(layers=3, hidden=6, dim=5)
    return made(4, 1), made(8, 2, head, from_layer=1)


@pytest.fixture(scope="module")
def batch(pair):
    _, (_, params, state) = pair
    images, labels = squares(12, 0)
    return {
        "unlabelled": {"image": jnp.asarray(images[:8])},
        "labelled": {
            "image": jnp.asarray(images[8:]),
            "label": jnp.asarray(labels[8:]),
        },
        "teacher": (params, state),
    }


def loss_of(pair, temperature, label_weight):
    (student, *_), (teacher, *_) = pair
    return distill.make_loss(
        student,
        teacher,
        WHOLE,
        16,
        temperature=temperature,
        label_weight=label_weight,
    )


def log_softmax(x):
    x = np.asarray(x, np.float64)
    return (
        x
        - np.log(np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True))
        - (x.max(1, keepdims=True))
    )


@pytest.mark.parametrize("temperature, weight", [(1.0, 0.0), (0.1, 0.0), (2.0, 0.3)])
def test_the_loss_is_the_papers(pair, batch, temperature, weight):
    """Equations 2 and 3; teacher by running statistics, student by the batch's."""
    (student, params, state), (teacher, *_) = pair
    loss_fn = loss_of(pair, temperature, weight)
    loss, (_, metrics) = jax.jit(loss_fn)(params, state, KEY, batch)

    images = np.asarray(batch["unlabelled"]["image"], np.float32) / 255
    wanted, _ = teacher.logits(*batch["teacher"], jnp.asarray(images), train=False)
    seen = images
    if weight:
        more = np.asarray(batch["labelled"]["image"], np.float32) / 255
        seen = np.concatenate([images, more])
    logits, _ = student.logits(params, state, jnp.asarray(seen), train=True)
    logits, wanted = np.asarray(logits, np.float64), np.asarray(wanted, np.float64)
    teaching = np.exp(log_softmax(wanted / temperature))
    expected = -(teaching * log_softmax(logits[:8] / temperature)).sum(1).mean()
    assert float(metrics["distillation"]) == pytest.approx(expected, rel=1e-4)
    if weight:
        labels = np.asarray(batch["labelled"]["label"])
        own = -log_softmax(logits[8:])[np.arange(4), labels].mean()
        expected = (1 - weight) * expected + weight * own
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    same = (logits[:8].argmax(1) == wanted.argmax(1)).mean()
    assert float(metrics["agreement"]) == pytest.approx(same)


def test_no_gradient_reaches_the_teacher(pair, batch):
    (_, params, state), _ = pair
    loss_fn = loss_of(pair, 1.0, 0.5)

    def value(params, taught_by):
        return loss_fn(params, state, KEY, batch | {"teacher": taught_by})[0]

    student, teacher = jax.jit(jax.grad(value, (0, 1)))(params, batch["teacher"])
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(teacher))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(student))


def test_the_student_comes_to_agree(pair, batch):
    (_, params, state), _ = pair
    tx = optax.adam(3e-2)
    step = train.make_step(loss_of(pair, 0.1, 0.0), tx)
    now = train.init_state(*jax.tree.map(jnp.copy, (params, state)), tx)
    values = []
    for _ in range(60):
        now, metrics = step(now, KEY, batch)
        values.append((float(metrics["distillation"]), float(metrics["agreement"])))
    assert values[-1][0] < 0.8 * values[0][0]
    assert values[-1][1] == 1.0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_step_lowers_for_cuda(dtype):
    from simclr_jax.encoders import ResNet

    def network(width):
        encoder = ResNet(depth=18, width=width, stem="cifar", dtype=dtype)
        method = methods.make("simclr", encoder, projector=NO_HEAD)
        made = ClassifierNetwork(Network(encoder, NO_HEAD), 0, 10)
        blank = jnp.zeros((2, 16, 16, 3))
        return made, lambda: made.init(KEY, *method.init(KEY, blank), blank)

    (student, start), (teacher, teacher_start) = network(0.0625), network(0.125)
    tx = optax.adam(1e-3)
    loss_fn = distill.make_loss(
        student, teacher, augment.View(), 16, temperature=1.0, label_weight=0.5
    )
    images = {"image": jax.ShapeDtypeStruct((8, 16, 16, 3), jnp.uint8)}
    labels = {"label": jax.ShapeDtypeStruct((8,), jnp.int32)}
    batch = {
        "unlabelled": images,
        "labelled": images | labels,
        "teacher": jax.eval_shape(teacher_start),
    }
    state = jax.eval_shape(lambda: train.init_state(*start(), tx))
    step = train.make_step(loss_fn, tx)
    assert_lowers_for_cuda(
        step, state, jax.eval_shape(lambda: KEY), batch, donates=True
    )


# Whole runs -----------------------------------------------------------------

STUDENT = (
    "--config.distill.encoder.width=0.03125",
    "--config.distill.epochs=3",
    "--config.distill.batch_size=16",
    "--config.distill.augment.size=16",
    "--config.distill.label_weight=0.25",
    "--config.distill.label_batch_size=8",
)


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("data") / "squares.npz")


@pytest.fixture(scope="module")
def whole(npz, tmp_path_factory):
    """Pretraining, fine-tuning from head layer 1 and distillation in one go."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    flags = [
        *recipe(npz),
        f"--workdir={workdir}",
        "--config.stages=('pretrain','finetune','distill','report')",
        "--config.finetune.from_layer=1",
        "--config.epochs=2",
        *STUDENT,
    ]
    done = launch(*flags)
    assert done.returncode == 0, done.stderr
    return workdir, flags, done


def results(workdir):
    return json.loads((workdir / "results.json").read_text())


def test_one_command_pretrains_finetunes_and_distils(whole):
    workdir, flags, done = whole
    found = results(workdir)
    distilled = found["distill"]
    assert {"top1", "top3"} <= set(distilled["student"])
    # The teacher is the fine-tuned network, head layer and statistics included.
    assert distilled["teacher"] == found["finetune"]["pretrained"]
    assert distilled["step"] == found["finetune"]["step"] == 8
    assert distilled["teacher_step"] == 6
    for label in ("distilled student", "its teacher", "50 % of the labels alone"):
        assert label in done.stdout
    assert "distill.student.top1" in (workdir / "report.html").read_text()
    steps = {"student": 12, "random_init": 6}
    for variant, step in steps.items():
        folder = workdir / "stages/distill" / variant / "checkpoints"
        meta = checkpoint.read_meta(folder)
        assert checkpoint.steps(folder)[-1] == step
        assert meta["encoder"]["width"] == 0.03125  # of half the teacher's width
        assert (meta["from_layer"], meta["num_classes"]) == (0, 4)
    again = launch(*flags)
    assert again.returncode == 0, again.stderr
    assert "everything is done already" in again.stdout


@pytest.mark.parametrize(
    "changed, kept",
    [({}, True), ({"teacher_step": 6}, False), ({"source_step": 9}, False)],
)
def test_the_student_of_an_earlier_teacher_is_dropped(tmp_path, changed, kept):
    config = common.get_config()
    workdir = Workdir(tmp_path / "run", config).open()
    folder = workdir.checkpoints("distill", "student")
    made = {"source_step": 8, "teacher_step": 4}
    checkpoint.save(folder, 2, {"params": {"w": jnp.ones(2)}}, made)
    workdir.record("distill", "student", 2, loss=1.0)
    run: Any = Experiment(config, workdir, Any)  # the data are not asked for
    run.forget_if_stale("distill", "student", made | changed)
    assert checkpoint.steps(folder) == ([2] if kept else [])
    assert bool(workdir.metrics()) == kept
    workdir.close()


@pytest.mark.parametrize(
    "record, message",
    [
        (None, "stage finetune in {teacher} is not finished"),
        ("{", "can't read {teacher}/results.json: "),
    ],
)
def test_an_unfinished_teacher_is_refused(npz, tmp_path, capsys, record, message):
    """A signal leaves a checkpoint of a network that is half trained."""
    teacher = tmp_path / "teacher"
    folder = workdir_checkpoints(teacher, "finetune", "pretrained")
    made = {"num_classes": 4, "source_step": 8}
    checkpoint.save(folder, 2, {"params": {"w": jnp.ones(2)}}, made)
    if record:
        (teacher / "results.json").write_text(record)
    flags = [*recipe(npz), "--config.stages=('distill',)", *STUDENT]
    flags.append(f"--config.distill.teacher={teacher}")
    wanted = f"error: config.distill.teacher: {message.format(teacher=teacher)}"
    refuse(capsys, tmp_path / "run", flags, wanted)


def test_a_resumed_distillation_goes_on_with_both_kinds_of_images(npz):
    config = get_config()
    config.data.path = str(npz)
    config.distill.label_weight = 0.5
    config.distill.batch_size, config.distill.label_batch_size = 16, 4
    run: Any = Experiment(config, None, None)  # type: ignore[arg-type]
    teacher: Any = SimpleNamespace(variables=None)
    batches = distill._batches(run, teacher)
    whole, resumed = batches(0), batches(3)
    skipped = [next(whole) for _ in range(3)]
    for kind in ("unlabelled", "labelled"):
        index = [np.asarray(batch[kind]["index"]) for batch in skipped]
        assert not np.array_equal(index[0], index[1])
    expected, found = next(whole), next(resumed)
    for kind in ("unlabelled", "labelled"):
        np.testing.assert_array_equal(expected[kind]["index"], found[kind]["index"])


def test_an_images_logits_in_evaluation_are_its_own(pair):
    """By running statistics: what else is in the batch changes nothing."""
    _, (network, params, state) = pair
    images = jax.random.uniform(KEY, (6, 16, 16, 3))
    together, after = network.logits(params, state, images, train=False)
    alone, _ = network.logits(params, state, images[:1], train=False)
    np.testing.assert_allclose(together[:1], alone, rtol=1e-5, atol=1e-5)
    for old, new in zip(*map(jax.tree.leaves, (state, after)), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.thorough
def test_a_student_of_another_workdirs_student(whole, npz, tmp_path):
    """Only distillation, in a workdir of its own; the teacher's network is its own."""
    teacher, _, _ = whole
    done = launch(
        *recipe(npz),
        f"--workdir={tmp_path / 'run'}",
        "--config.stages=('distill',)",
        f"--config.distill.teacher={teacher}",
        "--config.distill.teacher_stage=distill",
        *STUDENT[1:4],
    )
    assert done.returncode == 0, done.stderr
    found = results(tmp_path / "run")
    assert found["distill"]["teacher"] == results(teacher)["distill"]["student"]
    meta = checkpoint.read_meta(tmp_path / "run/stages/distill/student/checkpoints")
    assert meta["encoder"]["width"] == 0.0625  # the recipe's own


REFUSALS = [
    ("--config.stages=('distill',)", "config.stages", "has no teacher"),
    ("--config.stages=('pretrain','distill','finetune')", "'finetune' before"),
    ("--config.distill.teacher=/nowhere", "config.distill.teacher", "/nowhere"),
    ("--config.distill.teacher_stage=distill", "config.distill.teacher_stage"),
    ("--config.distill.teacher_stage=probe", "distill.teacher_stage", "supervised"),
    ("--config.distill.encoder.width=0.3", "config.distill.encoder.width", "1/64"),
    ("--config.distill.encoder.depth=19", "config.distill.encoder.depth", "18, 34"),
    ("--config.distill.temperature=0.0", "config.distill.temperature", "above 0"),
    ("--config.distill.label_weight=1.5", "config.distill.label_weight", "0 to 1"),
    ("--config.distill.batch_size=65", "config.distill.batch_size", "64"),
    ("--config.distill.label_batch_size=33", "config.distill.label_batch_size", "32"),
]


@pytest.mark.parametrize("flag, words", [(flag, words) for flag, *words in REFUSALS])
def test_a_wrong_request_is_one_line_and_exit_2(npz, tmp_path, flag, words, capsys):
    flags = [*recipe(npz), *STUDENT[1:], flag]
    if not flag.startswith("--config.stages"):  # given twice, tuples are added up
        flags.append("--config.stages=('pretrain','finetune','distill')")
    refuse(capsys, tmp_path / "run", flags, *words)
