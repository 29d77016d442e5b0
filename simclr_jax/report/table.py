"""The results table: its rows for the report's page, and as text for the terminal."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from simclr_jax.config.fields import Config
from simclr_jax.config.stages import of_own_pretraining


class Row(NamedTuple):
    """One line of the results table; accuracies are fractions or None."""

    label: str
    top1: float | None
    top3: float | None
    where: str  # its place in results.json: "probe.pretrained"
    # Top-1, top-3 and, if the recipe has it, top-5; percent.
    published: tuple[float | None, ...] | None = None
    top5: float | None = None  # None also where there are at most five classes

    @property
    def is_baseline(self) -> bool:
        """Whether it is the baseline of the result that it stands under."""
        return self.label.startswith(" ")


def rows(results: dict[str, Any], config: Config) -> list[Row]:
    """The results that exist, each followed by its baseline."""
    published = {name: tuple(figures) for name, *figures in config.published.rows}
    table = []
    for stage, described in ROWS.items():
        if stage not in results:
            continue
        of_step = _of_step(results, stage, config)
        for label, place in described(results[stage], config):
            value: Any = results[stage]
            for name in place.split(".") if place else ():
                value = value[name]
            scores = value if isinstance(value, dict) else {"top1": value}
            where = f"{stage}.{place}".rstrip(".")
            table.append(
                Row(
                    label + of_step,
                    scores["top1"],
                    scores.get("top3"),
                    where,
                    published.get(where.replace(".", " ")),
                    scores.get("top5"),
                )
            )
    return table


def numbers(results: dict[str, Any], config: Config) -> dict[str, float]:
    """The accuracies of the rows, as `{"probe/pretrained/top1": 0.9, ...}`."""
    return {
        f"{row.where.replace('.', '/')}/{top}": value
        for row in rows(results, config)
        for top in ("top1", "top3", "top5")
        if (value := getattr(row, top)) is not None
    }


def tops(rows: Sequence[Row]) -> list[str]:
    """Which of "top3" and "top5" at least one row has."""
    return [
        top
        for top in ("top3", "top5")
        if any(getattr(row, top) is not None for row in rows)
    ]


# The rows of a stage: (label, place in the stage's entry of results.json). The place
# holds a number or a dict with "top1"; "" is the entry itself.
Rows = Iterator[tuple[str, str]]


def _finetune(result: dict[str, Any], config: Config) -> Rows:
    share = share_of_labels(result["label_fraction"])
    yield f"fine-tuned on {share}", "pretrained"
    yield "  the same from scratch", "random_init"


def _probe(result: dict[str, Any], config: Config) -> Rows:
    share = share_of_labels(result["label_fraction"])
    scored = result.get("features", "h")
    on = "" if scored == "h" else f" on {scored}"
    kind = _kind(config.probe)
    yield f"{kind}{on}, {share}", "pretrained"
    for level in result["layers"]:
        if level != scored:
            yield f"  on {level} instead of {scored}", f"layers.{level}"
    yield "  random encoder", "random_init"
    if "target" in result:
        yield "  target network", "target"
    if "second" not in result:
        return
    other = _kind(config.probe.second)
    yield f"{'second ' * (other == kind)}{other}{on}, {share}", "second.pretrained"
    yield "  random encoder", "second.random_init"
    if "target" in result["second"]:
        yield "  target network", "second.target"


def _kind(fields: Any) -> str:
    return "linear probe" if fields.standardize else "linear probe of raw features"


def _knn(result: dict[str, Any], config: Config) -> Rows:
    yield f"kNN, k {config.knn.k}", ""


def _supervised(result: dict[str, Any], config: Config) -> Rows:
    yield "supervised, all labels", ""


def _distill(result: dict[str, Any], config: Config) -> Rows:
    share = share_of_labels(result["label_fraction"])
    yield "distilled student", "student"
    yield "  its teacher", "teacher"
    yield f"  the student on {share} alone", "random_init"


# By stage, in the order of the table.
ROWS: dict[str, Callable[[dict[str, Any], Config], Rows]] = {
    "finetune": _finetune,
    "probe": _probe,
    "knn": _knn,
    "supervised": _supervised,
    "distill": _distill,
}


def _of_step(results: dict[str, Any], stage: str, config: Config) -> str:
    """Marks a result of an earlier pretraining step that was not run again since."""
    if not of_own_pretraining(stage, config):
        return ""
    newest, step = results.get("pretrain", {}).get("step"), results[stage]["step"]
    return "" if newest in (None, step) else f" (step {step})"


def share_of_labels(fraction: float) -> str:
    """ "10 % of the labels" or "all labels"."""
    return f"{100 * fraction:.3g} % of the labels" if fraction < 1 else "all labels"


def percent(fraction: float | None) -> str:
    """A fraction in percent with one decimal: 0.812 -> "81.2"; None -> ""."""
    return "" if fraction is None else f"{100 * fraction:.1f}"


def published_figures(row: Row) -> str:
    """The published top-1, top-3 and top-5 in percent: "90.2 / 99.1".

    A "-" stands for one that is not published, unless none follows it.
    """
    numbers = list(row.published or ())
    while numbers and numbers[-1] is None:
        numbers.pop()
    return " / ".join("-" if x is None else f"{x:.1f}" for x in numbers)


def table(results: dict[str, Any], config: Config) -> str:
    """The results as an aligned text table, in percent."""
    shown = rows(results, config)
    top5 = "top5" in tops(shown)
    lines = [["test accuracy, %", "top-1", "top-3", *["top-5"] * top5, "published"]]
    lines += [
        [
            row.label,
            percent(row.top1),
            percent(row.top3),
            *[percent(row.top5)] * top5,
            published_figures(row),
        ]
        for row in shown
    ]
    if not config.published.rows:
        lines = [line[:-1] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for label, *cells in lines:
        padded = [c.rjust(w) for c, w in zip(cells, widths[1:], strict=True)]
        text.append("  ".join([label.ljust(widths[0]), *padded]).rstrip())
    text.insert(1, "-" * max(map(len, text)))
    if len(lines) == 1:
        text = []
    if config.published.rows:
        text.append(f"({config.published.source})")
    if shown and (seen := seen_in_training(config)):
        text.append(seen)
    if "pretrain" in results:
        text.append(pretraining(results["pretrain"]))
    return "\n".join(text)


def seen_in_training(config: Config) -> str:
    """A warning if the scores are of images that the classifiers were trained on."""
    if config.data.test_split != config.data.train_split:
        return ""
    return (
        "The test images are the training images: probe, fine-tuning and supervised "
        "training have seen them with their labels. kNN leaves out the image itself."
    )


def in_epochs(number: float) -> str:
    """A number of epochs as text: 1 epoch, 2.5 epochs."""
    return f"{number:.4g} {'epoch' if number == 1 else 'epochs'}"


def pretraining(result: dict[str, Any]) -> str:
    """One line on results.json's `pretrain`: epochs, seconds, rate and last loss."""
    line = f"pretraining: {in_epochs(result['epochs'])} in {result['seconds']:.0f} s"
    if result["images_per_second"]:
        line += f", {result['images_per_second']:.0f} images/s"
    if result["loss"] is not None:
        line += f", loss {result['loss']:.4f}"
    return line
