"""The only training loop: repeats a step, records, saves and evaluates until the plan
ends or a signal comes. It knows neither a config nor a data set.

A call takes one step, or several if steps are short (`Plan.steps_per_call`)."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import jax
import numpy as np
import optax

from simclr_jax import processes
from simclr_jax.errors import DataError, DivergedError, StoppedError
from simclr_jax.processes import StopVote
from simclr_jax.training import optimizers
from simclr_jax.training.progress import Progress
from simclr_jax.training.step import TrainState

# Training ends after this many steps in a row whose loss or gradient is not finite.
_MAX_SKIPPED = 10


class Plan(NamedTuple):
    """When to record, save and end, in steps."""

    last_step: int  # where training ends this time (max_steps included)
    steps_per_epoch: int
    batch_size: int
    log_every: int
    save_every: int
    # At most; a signal waits for the end of a call. 1: the step function is
    # `make_step`'s, else `make_steps`'.
    steps_per_call: int = 1


class Evaluation(NamedTuple):
    """What `run` does every so many steps with the state that the training has then.

    Attributes:
      every: steps between two evaluations; 0: never.
      run: `(state, step)`; evaluates and records.
      recorded: `(step)`, whether the step's evaluation is on record. A run that was
        killed during it evaluates again before it goes on.
      doing: what the terminal shows meanwhile.
      trains: it is a training of its own. The state is saved before it, so that a kill
        costs no more than the evaluation, and once it is on record it is never
        repeated. Its seconds do not count as this training's.
    """

    every: int
    run: Callable[[TrainState, int], None]
    recorded: Callable[[int], bool] = lambda step: False
    doing: str = "evaluating"
    trains: bool = False


class Hooks(NamedTuple):
    """What `run` calls when the plan says so.

    Attributes:
      record: `(step, **scalars)`, every `plan.log_every` steps and at the end.
      save: `(state)`, every `plan.save_every` steps, at the end and when stopped. If
        it goes on in the background, it has copied the state: the next step donates it.
      progress: shows on the terminal how far the training is.
      schedule: number of earlier updates -> learning rate. The record shows the rate
        of the last update; skipped steps are no updates.
      evaluations: each has its own period; those due at one step run in this order.
      check: `()`, before every step; raises the error of an earlier save.
    """

    record: Callable[..., None]
    save: Callable[[TrainState], None]
    progress: Progress
    schedule: optax.Schedule
    evaluations: tuple[Evaluation, ...] = ()
    check: Callable[[], None] = lambda: None


def run(
    step_fn: Callable,
    state: TrainState,
    key: jax.Array,
    batches: Iterator,
    plan: Plan,
    hooks: Hooks,
) -> TrainState:
    """Trains from `state` to `plan.last_step`.

    Args:
      step_fn: from `make_step`, or from `make_steps` if `plan.steps_per_call` is not 1.
      key: the training key; see `make_step`.
      batches: starts with the batch of step `state.step + 1`.
      plan: when to record, save and end.
      hooks: what to call then.

    Raises:
      StoppedError: a signal came; the state was given to `hooks.save`.
      DataError: an image can't be read. If this process trains alone, the state was
        given to `hooks.save`.
      DivergedError: loss or gradient was not finite; nothing was saved since.
    """

    start = saved = int(state.step)
    signal = StopVote()
    queued: deque[tuple[int, dict[str, jax.Array]]] = deque(maxlen=2)
    try:
        _evaluate(hooks, _due(hooks, start), state, start)
        step = start
        while step < plan.last_step:
            signal.check()
            hooks.check()
            count = _next_call(plan, hooks, step)
            several = plan.steps_per_call > 1
            batch = list(islice(batches, count)) if several else next(batches)
            # One call runs and one waits. The device is never idle, and no long queue
            # of batches fills its memory or delays a stop.
            if len(queued) == queued.maxlen:
                _await(*queued[0], hooks.progress)
            state, metrics = step_fn(state, key, batch)
            step += count
            queued.append((step, metrics))
            if step == start + count:
                jax.block_until_ready(metrics)
                hooks.progress.compiled(count)
            _record_due(hooks, plan, state, range(step - count + 1, step + 1), metrics)
            due, last = _due(hooks, step), step == plan.last_step
            if last or step % plan.save_every == 0 or any(x.trains for x in due):
                hooks.save(state)
                saved = step
            _evaluate(hooks, due, state, step)
    except (StoppedError, DataError) as error:
        # Only of a stop do all processes know, and they save together.
        together = isinstance(error, StoppedError) or processes.count() == 1
        if together and int(state.step) > saved:
            hooks.save(state)
        raise
    return state


def _await(step: int, metrics: dict[str, jax.Array], progress: Progress) -> None:
    """Waits for a call that ended with `step`, and shows it if that is due."""
    jax.block_until_ready(metrics)
    progress.passed(step, lambda: float(np.ravel(jax.device_get(metrics["loss"]))[-1]))


def _next_call(plan: Plan, hooks: Hooks, step: int) -> int:
    """How many steps the call after `step` takes.

    It ends where the state is needed: at a save, an evaluation, the last step.
    """
    periods = (plan.save_every, *(evaluation.every for evaluation in hooks.evaluations))
    ends = [(step // every + 1) * every for every in periods if every]
    return min(*ends, step + plan.steps_per_call, plan.last_step) - step


def _due(hooks: Hooks, step: int) -> list[Evaluation]:
    """The evaluations that a step still lacks."""
    return [
        evaluation
        for evaluation in hooks.evaluations
        if evaluation.every and step > 0 and step % evaluation.every == 0
        if not evaluation.recorded(step)
    ]


def _evaluate(
    hooks: Hooks, due: list[Evaluation], state: TrainState, step: int
) -> None:
    for evaluation in due:
        jax.block_until_ready(state.step)  # the pause must not include the step
        with hooks.progress.paused(evaluation.doing, apart=evaluation.trains):
            evaluation.run(state, step)


def _record_due(
    hooks: Hooks,
    plan: Plan,
    state: TrainState,
    steps: range,
    metrics: dict[str, jax.Array],
) -> None:
    """Records those steps of a call that are due.

    Lines of one call share the clock at its end: `seconds` and `images_per_second`.

    Args:
      state: after the call.
      steps: of the call.
      metrics: of each of them; of a single step [].

    Raises:
      DivergedError: the training has diverged.
    """
    due = [n for n in steps if n == plan.last_step or n % plan.log_every == 0]
    if not due:
        return
    if "updates_made" not in metrics:
        made = optimizers.updates_made(state.opt_state, steps[-1])
        metrics = metrics | {"updates_made": made}
    columns = {k: np.atleast_1d(v) for k, v in jax.device_get(metrics).items()}
    speed: dict[str, float] = {}
    for number in due:
        values = {k: float(v[number - steps[0]]) for k, v in columns.items()}
        skipped, made = int(values.pop("skipped")), int(values.pop("updates_made"))
        _check_finite(skipped, number, number == plan.last_step)
        if skipped:
            values["skipped"] = skipped
        rate = jax.device_get(hooks.schedule(max(made - 1, 0)))
        values |= {"lr": float(rate), "epoch": number / plan.steps_per_epoch}
        if number == due[0]:
            newest = float(columns["loss"][due[-1] - steps[0]])
            speed = hooks.progress.advance(steps[-1], newest)
        hooks.record(number, **values, **speed)


def _check_finite(skipped: int, step: int, last: bool) -> None:
    if skipped >= _MAX_SKIPPED or (last and skipped):
        raise DivergedError(
            f"loss or gradient not finite since step {step - skipped + 1}; "
            "the last good checkpoint is kept. Lower the learning rate, or raise "
            "the temperature"
        )
