"""A run's report.html: verdict, results, curves, images, and what was run on what.

Every number comes from results.json or metrics.jsonl; the images come from the data
and the newest checkpoint (`images`, `maps`, `pairs`). A section with nothing to show is
left out. The page is one file and loads nothing over the network.
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from simclr_jax import checkpoint, processes
from simclr_jax.config.fields import Config, flatten
from simclr_jax.experiment import damaged
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.experiment.workdir import pretraining_folder
from simclr_jax.files import replace
from simclr_jax.report import (
    figures,
    gallery,
    glossary,
    html,
    images,
    maps,
    pairs,
    table,
    verdict,
)

_CURVES = (
    ("loss", "contrastive loss"),
    ("lr", "learning rate"),
    ("embedding_std", "embedding std x sqrt(D)"),
    ("contrastive_accuracy", "contrastive accuracy"),
    ("online_accuracy", "online probe, training accuracy"),
    ("rankme", "RankMe of h"),
    ("alignment", "alignment of z"),
    ("uniformity", "uniformity of z"),
)

_SPREAD = ("rankme", "alignment", "uniformity")
_SPREAD_MEANS = (
    "RankMe, alignment and uniformity need no labels. They are of images that "
    "pretraining sees. A falling RankMe is a sign of collapse. Lower alignment and "
    "lower uniformity are better, but each is easy to reach without the other."
)


def write(experiment: Experiment) -> str:
    """Writes report.html into the workdir; returns its path."""
    workdir = experiment.workdir
    results, metrics = workdir.results(), workdir.metrics()
    pretrained = any(line["stage"] == "pretrain" for line in metrics)
    sections = [
        html.lead(verdict.verdict(results, experiment.config)),
        html.beside(
            _results(results, experiment.config), _encoder(experiment, results)
        ),
        *_of_encoder(experiment),
        _curves(results, metrics),
        images.views(experiment) if pretrained else "",
        glossary.listed(),
        _provenance(results, metrics, damaged.count(workdir.path)),
    ]
    title, summary = workdir.path.resolve().name, _summary(experiment, results)
    path = workdir.path / "report.html"
    if processes.first():
        replace(path, html.page(title, summary, sections))
    return str(path)


def _summary(experiment: Experiment, results: dict[str, Any]) -> str:
    """What this run is, in a sentence."""
    config = experiment.config
    width = f" x {config.encoder.width:g}" if config.encoder.width != 1 else ""
    kernels = " with selective kernels" if config.encoder.sk else ""
    network = f"ResNet-{config.encoder.depth}{width}{kernels}"
    if config.init_from:
        network += f" begun from {Path(config.init_from).name}"
    if "pretrain" not in results:
        return f"{network} on {config.data.name}, seed {config.seed}."
    return (
        f"{network}, pretrained by {config.method.name} without labels on "
        f"{experiment.images.unlabelled.num_examples:,} images of {config.data.name}: "
        f"{table.in_epochs(results['pretrain']['epochs'])}, seed {config.seed}."
    )


def _of_encoder(experiment: Experiment) -> list[str]:
    """Sections on how the newest pretrained encoder arranges the test images.

    The list is empty if pretraining has no checkpoint.
    """
    folder = pretraining_folder(experiment.config, experiment.workdir.path)
    if not checkpoint.steps(folder):
        return []
    shown = gallery.load(experiment)
    return [
        maps.sections(experiment, shown),
        images.neighbours(experiment, shown),
        pairs.of_neighbours(experiment, shown),
    ]


def _encoder(experiment: Experiment, results: dict[str, Any]) -> str:
    """How to load what was pretrained."""
    if "pretrain" not in results:
        return ""
    path = repr(str(experiment.workdir.path))
    code = (
        "import simclr_jax\n\n"
        f"encoder = simclr_jax.load({path})\n"
        'h = encoder.embed(["photo.jpg"])  # one row for each image'
    )
    if tuned := next((x for x in ("finetune", "probe") if x in results), None):
        code += (
            f"\nclassifier = simclr_jax.load({path}, stage={tuned!r})\n"
            'names, probabilities = classifier.predict(["photo.jpg"])'
        )
    text = "In Python, where simclr_jax is installed. The path is that of the run."
    return html.section(
        "Use the encoder", glossary.paragraphs([text]) + html.snippet(code)
    )


def _results(results: dict[str, Any], config: Config) -> str:
    rows = table.rows(results, config)
    tops = table.tops(rows)
    with_published = any(row.published for row in rows)
    head = ["test accuracy, %", "", "top-1"]
    head += [f"top-{top[3:]}" for top in tops] + ["published"] * with_published
    body = []
    for row in rows:
        # A layer's entry in results.json is the number itself.
        top1 = row.where if "layers" in row.where else f"{row.where}.top1"
        cells = [html.bar(row.top1 or 0), _accuracy(row.top1, top1)]
        cells += [_accuracy(getattr(row, x), f"{row.where}.{x}") for x in tops]
        if with_published:
            cells.append(html.cell(table.published_figures(row)))
        label = row.label.strip()
        body.append(
            html.row(label, cells, baseline=row.is_baseline, mark=glossary.marked)
        )
    notes = []
    if with_published:
        notes.append(f"Published, not ours: {config.published.source}.")
    if rows and (seen := table.seen_in_training(config)):
        notes.append(seen)
    if "pretrain" in results:
        notes.append(table.pretraining(results["pretrain"]))
    shown = html.results_table(head, body) if rows else ""
    return html.section("Results", shown + glossary.paragraphs(notes))


def _accuracy(fraction: float | None, source: str) -> str:
    return html.cell(table.percent(fraction), "" if fraction is None else source)


def _curves(results: dict[str, Any], metrics: list[dict[str, Any]]) -> str:
    """The curves of pretraining over its epochs."""
    lines = [line for line in metrics if line["stage"] == "pretrain"]

    def points(name: str) -> list[tuple[float, float]]:
        """The recorded values; one that was not finite is recorded as null.

        There are none of a short run's single value: a point is no curve.
        """
        kept = [x for x in lines if "epoch" in x and x.get(name) is not None]
        return [(x["epoch"], x[name]) for x in kept] if len(kept) > 1 else []

    supervised = results.get("supervised")
    frozen = _over_epochs(
        "accuracy",
        {"kNN": points("knn_top1"), "probe": points("probe_top1")},
        {
            "supervised": supervised,
            "probe, random encoder": results.get("probe", {}).get("random_init"),
        },
    )
    tuned = _over_epochs(
        "finetuned",
        {"fine-tuned": points("finetune_top1")},
        {
            "the same from scratch": results.get("finetune", {}).get("random_init"),
            "supervised, all labels": supervised,
        },
        "Each point is a fine-tuning that started from the network as pretraining had "
        "it at that epoch. The dashed lines are networks without pretraining.",
    )
    small = [
        f"<figure>{figures.curve(f'curve-{name}', title, points(name))}</figure>"
        for name, title in _CURVES
        if points(name)
    ]
    grid = f'<div class="curves">{"".join(small)}</div>' if small else ""
    if any(points(name) for name in _SPREAD):
        grid += glossary.paragraphs([_SPREAD_MEANS])
    return html.section("Pretraining", html.beside(frozen, tuned) + grid)


def _over_epochs(
    name: str,
    curves: dict[str, list[tuple[float, float]]],
    baselines: dict[str, dict[str, float] | None],
    caption: str = "",
) -> str:
    """Accuracy over the epochs; nothing before the first point of a curve.

    Args:
      baselines: label -> its entry in results.json, or None if it is not finished.
    """
    series = {label: points for label, points in curves.items() if points}
    if not series:
        return ""
    levels = {label: x["top1"] for label, x in baselines.items() if x}
    return html.large_figure(figures.accuracies(name, series, levels), caption)


def _provenance(
    results: dict[str, Any], metrics: list[dict[str, Any]], left_out: int
) -> str:
    title = "What was run"
    said = []
    if left_out:
        what = "1 file was" if left_out == 1 else f"{left_out:,} files were"
        said.append(f"{what} left out as damaged; see {damaged.NAME} in the workdir.")
    if not results:
        said.append("No stage has finished yet.")
        return html.section(title, html.paragraphs(said))
    clock = {
        f"{line['stage']} {line['variant']}".strip(): f"{line['seconds']:.0f} s"
        for line in metrics
        if "seconds" in line
    }
    names = ("command", "commit", "device", "devices", "cpus", "seed")
    facts = {name: results.get(name) for name in names}
    facts["training time"] = ", ".join(f"{run} {took}" for run, took in clock.items())
    recipe = dict(flatten(ConfigDict(results["config"])))
    return html.section(
        title,
        html.paragraphs(said)
        + html.provenance(facts, results["versions"], "The whole recipe", recipe),
    )
