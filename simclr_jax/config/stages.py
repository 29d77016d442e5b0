"""The list of stages, which config, experiment, stages, report and sweep read.

A new stage is a record here, a function of its name in `simclr_jax/stages/NAME.py`, and
its rows in `simclr_jax/report/table.py`.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple


class Stage(NamedTuple):
    """One stage.

    Attributes:
      name: as in `config.stages`; launch.py runs them in that order.
      about: what it does, in one line for `--help`.
      stream: the number of its stream of keys (`stream`); None: it draws nothing.
      makes: "encoder" if it trains the encoder that others need, else "".
      needs: "encoder", the newest pretraining checkpoint; "teacher", the newest
        checkpoint of `config.distill.teacher_stage`; "", nothing.
      labels: which training labels it uses: "all", those that the section "probe" or
        "finetune" of the recipe picks, or "" for none.
      teaches: the variant of it that can teach a student; "" if none can.
      records: whether it leaves an entry in results.json. If not, it runs every time.
      loads: whether it takes the network as the checkpoint describes it, so that the
        recipe may have another one.
    """

    name: str
    about: str
    stream: int | None = None
    makes: Literal["", "encoder"] = ""
    needs: Literal["", "encoder", "teacher"] = ""
    labels: Literal["", "all", "probe", "finetune"] = ""
    teaches: str = ""
    records: bool = True
    loads: bool = False

    @property
    def follows(self) -> str:
        """The network whose newer checkpoint makes this stage's result stale."""
        return self.makes or self.needs


_RECORDS = (
    Stage("pretrain", "train the encoder without labels", 3, makes="encoder"),
    Stage(
        "knn",
        "classify test images by their nearest training images",
        needs="encoder",
        labels="all",
    ),
    Stage(
        "probe",
        "train a linear classifier on the frozen features",
        4,
        needs="encoder",
        labels="probe",
    ),
    Stage(
        "finetune",
        "train the whole network on a few labels, pretrained and from scratch",
        5,
        needs="encoder",
        labels="finetune",
        teaches="pretrained",
    ),
    Stage(
        "supervised",
        "train the same network from scratch on all labels",
        6,
        labels="all",
        teaches="random_init",
    ),
    Stage(
        "distill",
        "train a student on the fine-tuned network's predictions for all images",
        8,
        needs="teacher",
        labels="finetune",
        teaches="student",
    ),
    Stage("report", "write report.html", 7, records=False),
    Stage(
        "embed",
        "write the features of all images into embeddings.npz",
        needs="encoder",
        records=False,
        loads=True,
    ),
    Stage(
        "export",
        "write encoder.safetensors, which simclr_jax.load reads",
        needs="encoder",
        records=False,
        loads=True,
    ),
)
STAGES = {stage.name: stage for stage in _RECORDS}

# The other streams of keys.
_STREAMS = {"init": 0, "data": 1, "labels": 2, "distill_labels": 9, "scores": 10}


def stream(name: str) -> int:
    """The number that is folded first into every key of a purpose.

    A purpose is a stage, "init", "data", "labels", "distill_labels" or "scores". Its
    number never changes: with another one an interrupted run would continue
    differently.

    Raises:
      KeyError: there is no stream of this name.
    """
    if name in _STREAMS:
        return _STREAMS[name]
    number = STAGES[name].stream
    if number is None:
        raise KeyError(name)
    return number


def having(**fields: str | bool) -> set[str]:
    """The stages whose record has these values: `having(labels="finetune")`."""
    return {
        name
        for name, stage in STAGES.items()
        if all(getattr(stage, field) == value for field, value in fields.items())
    }


def trained(config: Any) -> set[str]:
    """The stages that a run trains: those that the recipe asks for, and those that
    pretraining goes through every so many epochs (`every_epochs`)."""
    within = {name for name in ("probe", "finetune") if config[name].every_epochs}
    return set(config.stages) | (within if "pretrain" in config.stages else set())


def without_labels(config: Any) -> str:
    """The flags by which a recipe does all that needs no labels."""
    stages = [name for name in config.stages if not STAGES[name].labels]
    flags = [f"--config.stages={','.join(stages or ('pretrain', 'report'))}"]
    for section in ("probe", "finetune"):
        if config[section].every_epochs:
            flags.append(f"--config.{section}.every_epochs=0")
    return " ".join(flags)


def teachers() -> tuple[str, ...]:
    """The stages whose network can teach a student."""
    return tuple(name for name, stage in STAGES.items() if stage.teaches)


def of_own_pretraining(name: str, config: Any) -> bool:
    """Whether a stage's result comes from the pretraining of its own workdir.

    A teacher may come from another workdir, or from no pretraining.
    """
    if STAGES[name].needs != "teacher":
        return STAGES[name].follows == "encoder"
    taught_here = not config.distill.teacher
    return taught_here and STAGES[config.distill.teacher_stage].needs == "encoder"


def holds(
    result: Mapping[str, Any] | None, max_steps: int, origin: Mapping[str, int] | None
) -> bool:
    """Whether running a stage again would give its entry in results.json.

    Args:
      result: the stage's entry in results.json, if there is one.
      max_steps: the recipe's; the entry must have the same.
      origin: the steps of the checkpoints that the stage would start from now, named as
        in the entry (`step`, `teacher_step`). Empty if it needs none; None if it needs
        one that does not exist.
    """
    if result is None or origin is None or result.get("max_steps") != max_steps:
        return False
    return all(result.get(name) == step for name, step in origin.items())
