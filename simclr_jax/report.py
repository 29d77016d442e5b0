"""results.json and metrics.jsonl as people look at them: a table, and report.html."""

import html
import io
import json
from typing import Any, NamedTuple

from simclr_jax.config import Config
from simclr_jax.workdir import Workdir


class Row(NamedTuple):
    """One line of the results table; accuracies are fractions or None."""

    label: str
    top1: float | None
    top3: float | None
    published: tuple[float | None, float | None] | None = None  # percent


def rows(results: dict[str, Any], config: Config) -> list[Row]:
    """The results that exist, each followed by its baseline."""
    published = {name: (top1, top3) for name, top1, top3 in config.published.rows}

    def row(label: str, stage: str, variant: str = "") -> Row:
        result = results[stage][variant] if variant else results[stage]
        key = f"{stage} {variant}".strip()
        label += _of_step(results, stage)
        return Row(label, result["top1"], result.get("top3"), published.get(key))

    table = []
    if "finetune" in results:
        share = _percent_of_labels(results["finetune"]["label_fraction"])
        table.append(row(f"fine-tuned on {share}", "finetune", "pretrained"))
        table.append(row("  the same from scratch", "finetune", "random_init"))
    if "probe" in results:
        share = _percent_of_labels(results["probe"]["label_fraction"])
        table.append(row(f"linear probe, {share}", "probe", "pretrained"))
        for level, top1 in results["probe"]["layers"].items():
            if level != "h":
                of_step = _of_step(results, "probe")
                table.append(Row(f"  on {level} instead of h{of_step}", top1, None))
        table.append(row("  random encoder", "probe", "random_init"))
    if "knn" in results:
        table.append(row(f"kNN, k {config.knn.k}", "knn"))
    if "supervised" in results:
        table.append(row("supervised, all labels", "supervised"))
    return table


def _of_step(results: dict[str, Any], stage: str) -> str:
    """Marks what an earlier step of pretraining gave, and was not run again since."""
    newest = results.get("pretrain", {}).get("step")
    step = results[stage]["step"]
    stale = newest is not None and stage != "supervised" and step != newest
    return f" (step {step})" if stale else ""


def _percent_of_labels(fraction: float) -> str:
    return f"{100 * fraction:g} % of the labels" if fraction < 1 else "all labels"


def _cells(row: Row) -> list[str]:
    ours = ["" if x is None else f"{100 * x:.1f}" for x in (row.top1, row.top3)]
    theirs = ["" if x is None else f"{x:.1f}" for x in row.published or (None, None)]
    return [row.label, *ours, " / ".join(filter(None, theirs))]


def table(results: dict[str, Any], config: Config) -> str:
    """The results as an aligned text table, in percent."""
    lines = [["test accuracy, %", "top-1", "top-3", "published"]]
    lines += [_cells(row) for row in rows(results, config)]
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
        text.append(_pretraining(results["pretrain"]))
    return "\n".join(text)


def _pretraining(result: dict[str, Any]) -> str:
    line = f"pretraining: {result['epochs']:.4g} epochs in {result['seconds']:.0f} s"
    if result["images_per_second"]:
        line += f", {result['images_per_second']:.0f} images/s"
    if result["loss"] is not None:
        line += f", loss {result['loss']:.4f}"
    return line


def write(workdir: Workdir, config: Config) -> None:
    """Writes report.html: the table, the curves and what was run on what."""
    results = workdir.results()
    body = "\n".join(
        [
            _html_table(results, config),
            _curves(workdir.metrics()),
            _provenance(results),
        ]
    )
    page = _PAGE.format(title=html.escape(workdir.path.name), body=body)
    (workdir.path / "report.html").write_text(page)


def _html_table(results: dict[str, Any], config: Config) -> str:
    head = ["test accuracy, %", "top-1", "top-3", "published"]
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    for row in rows(results, config):
        kind = ' class="baseline"' if row.label.startswith(" ") else ""
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(row))
        lines.append(f"<tr{kind}>{cells}</tr>")
    notes = [config.published.source] if config.published.rows else []
    if "pretrain" in results:
        notes.append(_pretraining(results["pretrain"]))
    text = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return f"<table>{''.join(lines)}</table>{text}"


_CURVES = (
    ("loss", "contrastive loss"),
    ("contrastive_accuracy", "contrastive accuracy"),
    ("embedding_std", "embedding standard deviation x sqrt(D)"),
    ("online_accuracy", "online probe, training accuracy"),
    ("knn_top1", "kNN on the test split"),
    ("probe_top1", "probe on the test split"),
    ("lr", "learning rate"),
)


def _curves(lines: list[dict[str, Any]]) -> str:
    """Pretraining over its epochs, one small figure per quantity, as inline SVG."""
    lines = [line for line in lines if line["stage"] == "pretrain"]
    shown = [c for c in _CURVES if sum(c[0] in line for line in lines) > 1]
    if not shown:
        return ""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.4 * ((len(shown) + 1) // 2)), layout="constrained")
    axes = figure.subplots((len(shown) + 1) // 2, 2, squeeze=False).flat
    for axis, (name, title) in zip(axes, shown, strict=False):
        points = [(line["epoch"], line[name]) for line in lines if name in line]
        axis.plot(*zip(*points, strict=True), linewidth=1.2)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("epoch", fontsize=8)
        axis.grid(alpha=0.3)
    for axis in list(axes)[len(shown) :]:
        axis.remove()
    picture = io.StringIO()
    figure.savefig(picture, format="svg", metadata={"Date": None})
    svg = picture.getvalue()
    return f"<h2>Pretraining</h2>{svg[svg.index('<svg') :]}"


def _provenance(results: dict[str, Any]) -> str:
    names = ("command", "commit", "device", "cpus", "seed", "versions", "config")
    lines = []
    for name in names:
        value = results.get(name)
        text = value if isinstance(value, str) else json.dumps(value, indent=1)
        lines.append(f"<dt>{name}</dt><dd><pre>{html.escape(text)}</pre></dd>")
    return f"<h2>What was run</h2><dl>{''.join(lines)}</dl>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; color: #222; background: #fff; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .25rem .8rem; text-align: right; }}
th:first-child, td:first-child {{ text-align: left; white-space: pre; }}
tr {{ border-bottom: 1px solid #ddd; }}
.baseline {{ color: #777; }}
svg {{ max-width: 100%; height: auto; background: #fff; border-radius: 6px; }}
pre {{ overflow-x: auto; margin: 0; font-size: 13px; }}
@media (prefers-color-scheme: dark) {{
  body {{ color: #ddd; background: #181818; }} tr {{ border-color: #333; }}
  .baseline {{ color: #999; }} }}
</style></head><body><h1>{title}</h1>
{body}
</body></html>
"""
