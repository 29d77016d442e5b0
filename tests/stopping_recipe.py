"""tests/tiny_recipe.py, whose process gets a signal at a point that is known, or fails.

--config=tests/stopping_recipe.py:record/pretrain/8/SIGKILL
    once step 8 of pretraining is on record
--config=tests/stopping_recipe.py:save/pretrain/9/SIGKILL
    when checkpoint 9 is written, but not yet in its place
--config=tests/stopping_recipe.py:tune/10/SIGTERM
    at the tenth batch of the fine-tunings within pretraining
--config=tests/stopping_recipe.py:record/pretrain/8/DataError
    raises it there

Of several processes, this happens in process STOP_IN of the environment.
"""

import os
import signal
from pathlib import Path

import jax

from simclr_jax.errors import DataError
from tests import tiny_recipe


def get_config(point):
    """`WHEN/STAGE[/VARIANT]/STEP/SIGNAL`; "tune" has no stage."""
    when, *training, step, name = point.split("/")
    stop = {"record": _on_record, "save": _on_save, "tune": _in_tuning}[when]
    stop(training, int(step), name)
    config = tiny_recipe.get_config()
    config.checkpoint.every_steps = 3  # so that there is one before each point
    return config


def _stop(name):
    if int(os.environ.get("STOP_IN", 0)) != jax.process_index():
        return
    if name == "DataError":
        raise DataError("path", "x.jpg is damaged")
    os.kill(os.getpid(), signal.Signals[name])


def _on_record(training, number, name):
    from simclr_jax.experiment.workdir import Workdir

    record = Workdir.record

    def and_stop(self, stage, variant, step, **values):
        record(self, stage, variant, step, **values)
        if [stage, *filter(None, [variant])] == training and step == number:
            _stop(name)

    Workdir.record = and_stop


def _on_save(training, number, name):
    rename = os.rename
    folders = ["stages", *training] if training != ["pretrain"] else []
    place = (*folders, "checkpoints", str(number))

    def or_stop(source, target, **options):
        if Path(target).parts[-len(place) :] == place:
            _stop(name)
        rename(source, target, **options)

    os.rename = or_stop


def _in_tuning(training, number, name):
    from simclr_jax.stages import classify

    fit_quietly, count = classify.fit_quietly, iter(range(1, 1000))

    def or_stop(experiment, training):
        def batches(done):
            for batch in training.batches(done):
                if next(count) == number:
                    _stop(name)
                yield batch

        return fit_quietly(experiment, training._replace(batches=batches))

    classify.fit_quietly = or_stop
