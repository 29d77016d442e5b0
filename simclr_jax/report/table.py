"""The rows of a results table, for the report's page, and as text for the terminal."""

from typing import Any, NamedTuple

from simclr_jax.config.validate import Config


class Row(NamedTuple):
    """One line of the results table; accuracies are fractions or None."""

    label: str
    top1: float | None
    top3: float | None
    where: str  # its place in results.json: "probe.pretrained"
    published: tuple[float | None, float | None] | None = None  # percent

    @property
    def is_baseline(self) -> bool:
        """Whether it stands under the result that it puts in proportion."""
        return self.label.startswith(" ")


def rows(results: dict[str, Any], config: Config) -> list[Row]:
    """The results that exist, each followed by its baseline."""
    published = {name: (top1, top3) for name, top1, top3 in config.published.rows}

    def row(label: str, stage: str, variant: str = "") -> Row:
        result = results[stage][variant] if variant else results[stage]
        where = f"{stage}.{variant}".rstrip(".")
        label += _of_step(results, stage, config)
        theirs = published.get(where.replace(".", " "))
        return Row(label, result["top1"], result.get("top3"), where, theirs)

    table = []
    if "finetune" in results:
        share = _percent_of_labels(results["finetune"]["label_fraction"])
        table.append(row(f"fine-tuned on {share}", "finetune", "pretrained"))
        table.append(row("  the same from scratch", "finetune", "random_init"))
    if "probe" in results:
        share = _percent_of_labels(results["probe"]["label_fraction"])
        scored = results["probe"].get("features", "h")
        on = "" if scored == "h" else f" on {scored}"
        table.append(row(f"linear probe{on}, {share}", "probe", "pretrained"))
        of_step = _of_step(results, "probe", config)
        for level, top1 in results["probe"]["layers"].items():
            if level != scored:
                label = f"  on {level} instead of {scored}{of_step}"
                table.append(Row(label, top1, None, f"probe.layers.{level}"))
        table.append(row("  random encoder", "probe", "random_init"))
        if "target" in results["probe"]:
            table.append(row("  target network", "probe", "target"))
    if "knn" in results:
        table.append(row(f"kNN, k {config.knn.k}", "knn"))
    if "supervised" in results:
        table.append(row("supervised, all labels", "supervised"))
    if "distill" in results:
        share = _percent_of_labels(results["distill"]["label_fraction"])
        table.append(row("distilled student", "distill", "student"))
        table.append(row("  its teacher", "distill", "teacher"))
        table.append(row(f"  the student on {share} alone", "distill", "random_init"))
    return table


def _of_step(results: dict[str, Any], stage: str, config: Config) -> str:
    """Marks what an earlier step of pretraining gave, and was not run again since."""
    newest = results.get("pretrain", {}).get("step")
    step, own = results[stage]["step"], stage != "supervised"
    if stage == "distill":
        own = not config.distill.teacher and config.distill.teacher_stage == "finetune"
    return f" (step {step})" if own and newest not in (None, step) else ""


def _percent_of_labels(fraction: float) -> str:
    return f"{100 * fraction:.3g} % of the labels" if fraction < 1 else "all labels"


def percent(fraction: float | None) -> str:
    """A fraction in percent with one decimal: 0.812 -> "81.2"; None -> ""."""
    return "" if fraction is None else f"{100 * fraction:.1f}"


def published_figures(row: Row) -> str:
    """The published top-1 and top-3 in percent: "90.2 / 99.1", or the one there is."""
    numbers = row.published or ()
    return " / ".join(f"{x:.1f}" for x in numbers if x is not None)


def table(results: dict[str, Any], config: Config) -> str:
    """The results as an aligned text table, in percent."""
    lines = [["test accuracy, %", "top-1", "top-3", "published"]]
    lines += [
        [row.label, percent(row.top1), percent(row.top3), published_figures(row)]
        for row in rows(results, config)
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
    if "pretrain" in results:
        text.append(pretraining(results["pretrain"]))
    return "\n".join(text)


def pretraining(result: dict[str, Any]) -> str:
    """One line on results.json's `pretrain`: epochs, seconds, rate and last loss."""
    line = f"pretraining: {result['epochs']:.4g} epochs in {result['seconds']:.0f} s"
    if result["images_per_second"]:
        line += f", {result['images_per_second']:.0f} images/s"
    if result["loss"] is not None:
        line += f", loss {result['loss']:.4f}"
    return line
