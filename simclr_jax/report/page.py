"""report.html: the results, the curves, the images, and what was run on what.

Every number comes from results.json or metrics.jsonl; the images come from the data
and the newest checkpoint (`report_images.py`). A section without anything to show is
left out. The page is one file that asks the network for nothing.
"""

import html
import importlib.resources
import json
import string
from collections.abc import Sequence
from typing import Any

from simclr_jax.config.validate import flatten
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.report import figures
from simclr_jax.report import images as report_images
from simclr_jax.report import table as report
from simclr_jax.report.images import section

_CURVES = (
    ("loss", "contrastive loss"),
    ("lr", "learning rate"),
    ("embedding_std", "embedding std x sqrt(D)"),
    ("contrastive_accuracy", "contrastive accuracy"),
    ("online_accuracy", "online probe, training accuracy"),
)


def write(experiment: Experiment) -> str:
    """Writes report.html into the workdir; returns its path."""
    workdir = experiment.workdir
    results, metrics = workdir.results(), workdir.metrics()
    pretrained = any(line["stage"] == "pretrain" for line in metrics)
    sections = [
        _results(results, experiment.config),
        *report_images.of_encoder(experiment),
        _curves(results, metrics),
        report_images.views(experiment) if pretrained else "",
        _provenance(results, metrics),
    ]
    title, summary = workdir.path.resolve().name, _summary(experiment, results)
    path = workdir.path / "report.html"
    path.write_text(page(title, summary, sections))
    return str(path)


def page(title: str, summary: str, sections: Sequence[str]) -> str:
    """A whole page: plain text above, HTML sections below it."""
    template = importlib.resources.files("simclr_jax.report") / "page.html"
    return string.Template(template.read_text()).substitute(
        title=html.escape(title),
        summary=html.escape(summary),
        body="\n".join(sections),
    )


def _summary(experiment: Experiment, results: dict[str, Any]) -> str:
    """What this run is, in a sentence."""
    config = experiment.config
    width = f" x {config.encoder.width:g}" if config.encoder.width != 1 else ""
    kernels = " with selective kernels" if config.encoder.sk else ""
    network = f"ResNet-{config.encoder.depth}{width}{kernels}"
    if "pretrain" not in results:
        return f"{network} on {config.data.name}, seed {config.seed}."
    return (
        f"{network}, pretrained by {config.method.name} without labels on "
        f"{experiment.images.unlabelled.num_examples:,} images of {config.data.name}: "
        f"{results['pretrain']['epochs']:.4g} epochs, seed {config.seed}."
    )


# Numbers --------------------------------------------------------------------


def _results(results: dict[str, Any], config) -> str:
    lines = report.rows(results, config)
    with_top3 = any(row.top3 is not None for row in lines)
    with_published = any(row.published for row in lines)

    def accuracy(value: float | None, where: str) -> str:
        if value is None:
            return "<td></td>"
        return f'<td data-result="{where}">{report.percent(value)}</td>'

    head = ["test accuracy, %", "", "top-1"]
    head += ["top-3"] * with_top3 + ["published"] * with_published
    body = ["<tr>" + "".join(f'<th scope="col">{x}</th>' for x in head) + "</tr>"]
    for row in lines:
        level = "layers" in row.where  # whose entry is the number itself
        cells = [
            f'<th scope="row">{html.escape(row.label.strip())}</th>',
            f'<td class="bar"><i style="width:{100 * (row.top1 or 0):.1f}%"></i></td>',
            accuracy(row.top1, row.where if level else f"{row.where}.top1"),
        ]
        if with_top3:
            cells.append(accuracy(row.top3, f"{row.where}.top3"))
        if with_published:
            cells.append(f"<td>{report.published_figures(row)}</td>")
        kind = ' class="baseline"' if row.is_baseline else ""
        body.append(f"<tr{kind}>{''.join(cells)}</tr>")
    notes = []
    if with_published:
        notes.append(f"Published, not ours: {config.published.source}.")
    if "pretrain" in results:
        notes.append(report.pretraining(results["pretrain"]))
    table = f'<table class="results">{"".join(body)}</table>' if lines else ""
    return section(
        "Results", table + "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    )


def _curves(results: dict[str, Any], metrics: list[dict[str, Any]]) -> str:
    """Pretraining over its epochs."""
    lines = [line for line in metrics if line["stage"] == "pretrain"]

    def points(name: str) -> list[tuple[float, float]]:
        """What there is of it; a value that was not finite is null on record."""
        return [(x["epoch"], x[name]) for x in lines if x.get(name) is not None]

    series = {"kNN": points("knn_top1"), "probe": points("probe_top1")}
    series = {label: found for label, found in series.items() if found}
    big = ""
    if series:
        levels = {
            "supervised": results.get("supervised"),
            "probe, random encoder": results.get("probe", {}).get("random_init"),
        }
        found = {name: result["top1"] for name, result in levels.items() if result}
        picture = figures.accuracies("accuracy", series, found)
        big = f'<figure class="big">{picture}</figure>'
    small = [
        f"<figure>{figures.curve(f'curve-{name}', title, points(name))}</figure>"
        for name, title in _CURVES
        if points(name)
    ]
    grid = f'<div class="curves">{"".join(small)}</div>' if small else ""
    return section("Pretraining", big + grid)


# Provenance -----------------------------------------------------------------


def _provenance(results: dict[str, Any], metrics: list[dict[str, Any]]) -> str:
    if not results:
        return section("What was run", "<p>No stage has come to its end yet.</p>")
    clock = {
        f"{line['stage']} {line['variant']}".strip(): f"{line['seconds']:.0f} s"
        for line in metrics
        if "seconds" in line
    }
    facts = {name: results.get(name) for name in ("command", "commit", "device")}
    facts |= {name: results.get(name) for name in ("cpus", "seed")}
    facts |= {"training time": ", ".join(f"{k} {v}" for k, v in clock.items())}
    versions = results["versions"].items()
    facts |= {"versions": ", ".join(f"{name} {v}" for name, v in versions)}
    terms = "".join(
        f"<dt>{name}</dt><dd>{html.escape(str(value))}</dd>"
        for name, value in facts.items()
        if value not in (None, "")
    )
    recipe = "\n".join(
        f"{path} = {json.dumps(value)}"
        for path, value in flatten(_nested(results["config"]))
        if value is not None
    )
    return section(
        "What was run",
        f"<dl>{terms}</dl><details><summary>The whole recipe</summary>"
        f"<pre>{html.escape(recipe)}</pre></details>",
    )


def _nested(config: dict[str, Any]):
    from ml_collections import ConfigDict

    return ConfigDict(config)
