"""What a config asks for, as objects."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common, simclrv2
from simclr_jax import losses
from simclr_jax.errors import RequestError
from simclr_jax.experiment import build
from simclr_jax.training import loss_scale


@pytest.fixture
def config():
    config = common.get_config()
    config.batch_size, config.epochs = 20, 4
    config.optimizer.name, config.optimizer.schedule = "sgd", "constant"
    config.optimizer.lr, config.optimizer.warmup_epochs = 0.5, 0
    return config


def test_a_plan_counts_whole_batches_and_stops_at_max_steps(config):
    plan, total = build.plan(config, "pretrain", 59)
    assert (plan.steps_per_epoch, total, plan.last_step) == (2, 8, 8)
    config.max_steps = 5
    plan, total = build.plan(config, "pretrain", 59)
    assert (plan.last_step, total) == (5, 8)  # the schedule stays
    with pytest.raises(RequestError, match=r"^config\.batch_size: 20 .* the 19 images"):
        build.plan(config, "pretrain", 19)
    config.probe.batch_size = 60
    with pytest.raises(RequestError, match=r"^config\.probe\.batch_size: 60 is larger"):
        build.plan(config, "probe", 59)


def test_the_second_probe_has_a_section_of_its_own(config):
    config.probe.second.update(batch_size=10, epochs=3)
    plan, total = build.plan(config, "probe.second", 59)
    assert (plan.batch_size, plan.steps_per_epoch, total) == (10, 5, 15)
    _, schedule = build.optimizer(config, "probe.second", plan, total)
    assert float(schedule(14)) == pytest.approx(1e-3)
    config.probe.second.batch_size = 60
    message = r"^config\.probe\.second\.batch_size: 60 is larger"
    with pytest.raises(RequestError, match=message):
        build.plan(config, "probe.second", 59)


@pytest.mark.parametrize(
    "precision, stage, scaled",
    [
        ("float32", "pretrain", False),
        ("bfloat16", "pretrain", False),
        ("float16", "pretrain", True),
        ("float16", "finetune", True),
        ("float16", "probe", False),  # trains on float32 features
        ("float16", "probe.second", False),
    ],
)
def test_float16_scales_the_loss_where_the_network_trains(
    config, precision, stage, scaled
):
    config.precision = precision
    plan, total = build.plan(config, stage, 50_000)
    tx, _ = build.optimizer(config, stage, plan, total)
    state = tx.init({"kernel": jnp.ones((2, 2))})
    assert isinstance(state, loss_scale.DynamicState) == scaled
    assert (float(loss_scale.current(state)) > 1) == scaled


def test_a_learning_rate_of_its_own_replaces_the_sections(config):
    plan, total = build.plan(config, "pretrain", 59)
    gradient = {"bias": jnp.ones(3)}
    for lr, expected in ((None, 0.5), (0.25, 0.25)):
        tx, schedule = build.optimizer(config, "pretrain", plan, total, lr)
        updates, _ = tx.update(gradient, tx.init(gradient), gradient)
        scale = float(schedule(0))
        assert scale == pytest.approx(expected)
        np.testing.assert_allclose(updates["bias"], -scale, rtol=1e-6)


def test_the_student_has_the_runs_encoder_but_for_what_is_set(config):
    config.distill.encoder.width = 0.5
    fields = build.student_fields(config)
    assert fields == dict(config.encoder) | {"width": 0.5}


# What SimCLRv2's code does with LARS and a linear classifier: adapt it only in
# distillation (colabs/distillation_self_training.ipynb; tf2/model.py: build_optimizer).
@pytest.mark.parametrize(
    "stage, name, adapted",
    [
        ("distill", "classifier", True),
        ("finetune", "classifier", False),
        ("pretrain", "online_probe", False),
    ],
)
def test_lars_adapts_the_students_classifier_alone(stage, name, adapted):
    config = simclrv2.get_config()
    section = config if stage == "pretrain" else config[stage]
    section.optimizer.warmup_epochs, section.optimizer.weight_decay = 0.0, 0.0
    plan, total = build.plan(config, stage, 4096)
    tx, schedule = build.optimizer(config, stage, plan, total)
    params = {name: {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.ones(2)}}
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    # ||w|| / ||g|| = 3; eta = 0.001.
    expected = -float(schedule(0)) * (0.001 * 3 if adapted else 1)
    np.testing.assert_allclose(updates[name]["kernel"], expected, rtol=1e-6)
    np.testing.assert_allclose(updates[name]["bias"], -float(schedule(0)), rtol=1e-6)


def test_distillation_at_a_low_temperature_survives_its_warm_up():
    """Its loss must fall. A temperature of 0.1 makes the gradient ten times as large;
    without the trust ratio the recipe's rate then drives logits into the thousands."""
    config = simclrv2.get_config()
    assert (config.distill.temperature, config.distill.batch_size) == (0.1, 1024)
    plan, total = build.plan(config, "distill", 1024)  # one step an epoch
    tx, schedule = build.optimizer(config, "distill", plan, total)
    np.testing.assert_allclose(schedule(20), 3.2, rtol=1e-6)  # 0.1 sqrt(1024)
    key_h, key_teacher = jax.random.split(jax.random.key(0))
    features = jax.nn.relu(jax.random.normal(key_h, (512, 512)))
    centred = features - features.mean(0)[None]
    teacher = centred @ jax.random.normal(key_teacher, (512, 100))
    teacher = 8.0 * teacher / teacher.std()
    params = {"classifier": {"kernel": jnp.zeros((512, 100)), "bias": jnp.zeros(100)}}

    def loss(params):
        layer = params["classifier"]
        logits = features @ layer["kernel"] + layer["bias"][None]
        return losses.distillation(logits, teacher, temperature=0.1).mean()

    @jax.jit
    def warmed_up():
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, tx.init(params)), length=20)[0][0]

    start = float(loss(params))
    np.testing.assert_allclose(start, np.log(100), rtol=1e-5)
    assert float(loss(warmed_up())) < start / 2
