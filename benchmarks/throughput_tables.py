"""The results of throughput.py as tables in Markdown."""

from typing import Any

# The peer's modes on a GPU.
GPU_MODES = ("step", "compiled", "train")


def gpu_table(results: list[dict[str, Any]]) -> str:
    """Markdown: our training and the peer's steps."""
    header = ["case", "train img/s", "TFLOP/s", "share of peak", "compile s"]
    header += ["augment ms", "peer step", "ratio", "compiled", "ratio", "peer train"]
    lines = [[*header, "ratio"], ["---"] * (len(header) + 1)]
    for result in results:
        train = result["train"]
        cells = [result["case"], f"{train['images_per_s']:,.0f}"]
        cells += [f"{result['tflops']:.0f}", _number(result["share"], ".0%")]
        cells += [f"{train['compile_s']:.0f}", f"{result['parts_ms']['augment']:.2f}"]
        for mode in GPU_MODES:
            row = result.get(f"peer_{mode}", {})
            cells.append(_number(row.get("peer_images_per_s"), ",.0f"))
            cells.append(_number(row.get("ratio"), ".2f"))
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: images/s of both modes, the ratios to the peer, FLOP rates."""
    lines = [["case", "train img/s", "peer", "ratio", "step img/s", "peer", "ratio"]]
    lines[0] += ["TFLOP/s", "share of peak"]
    lines.append(["---"] * len(lines[0]))
    for result in results:
        cells = [result["case"]]
        for mode in ("train", "step"):
            row = result[mode]
            cells.append(f"{row['images_per_s']:.1f}")
            cells.append(_number(row.get("peer_images_per_s"), ".1f"))
            low, high = row.get("ratio_range", (None, None))
            spread = f" ({low:.2f}-{high:.2f})" if low is not None else ""
            cells.append(_number(row.get("ratio"), ".2f") + spread)
        cells += [f"{result['tflops']:.3f}", _number(result["share"], ".0%")]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"
