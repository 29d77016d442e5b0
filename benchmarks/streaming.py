"""Times the reading of ImageNet-sized JPEGs on the host's cores: no network, no device.

    python benchmarks/streaming.py
    python benchmarks/streaming.py --output=benchmarks/results/streaming_cpu.json
    python benchmarks/streaming.py --only=stream_array_record,folder
    python benchmarks/streaming.py --peer=PYTHON --only=stream,folder,peer_resize

Writes 8 shards of 256 made-up JPEGs (`jpeg_shards`) and reads them as
configs/imagenet.py does: `stored_size` 256, shuffled, in batches of 256. Each round
starts a process that may use one core, then one that may use two. "cpu_ms" is
processor time for each image, in all threads: other jobs on the machine hardly change
it. "images_per_s" is wall clock. Every figure is [median, least, most] of the rounds.

    stream, stream_array_record   the whole reader
    stream_squares                the same of a copy of the data, made once, with the
                                  central squares at 256 pixels (quality 95)
    folder                        the same JPEGs as files of a folder: Pillow in threads
    records                       its shuffled records, nothing decoded
    decode, decode_resize         tf.data's map over JPEGs in memory, nothing else
    loop_*                        a plain Python loop over the same JPEGs, without
                                  tf.data; what the figure would be at best
    skip, fill                    until the first record: from the middle of the epoch,
                                  and with a shuffle buffer for the whole split;
                                  cpu_ms is for each image passed over or held
    half                          one of two processes: rows 0 to 127 of each batch

With `--peer`, which names a Python with torch, torchvision and lightly, that folder is
also read by torchvision's ImageFolder and PyTorch's DataLoader, with a worker process
for each core, after our rows in each round (`peer_loader.py`):

    peer_resize                   the work of row `folder`: the central square at 256
    peer_crop                     RandomResizedCrop(224) and ToTensor: one view
    peer_simclr                   lightly's SimCLRTransform(224): two views, on the CPU;
                                  ours are made on the device, in no row here
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import PIL
from PIL import Image

from benchmarks import jpeg_shards
from simclr_jax import data
from simclr_jax.data._tensorflow import resized
from simclr_jax.data.image_files import decode
from simclr_jax.experiment import provenance

BATCH, SIZE, SEED, RATE = 256, 256, (0,), 2500


def timed(run: Callable[[], int]) -> dict[str, float]:
    """Times `run`, which returns for how many images the time is."""
    wall, cpu = time.perf_counter(), time.process_time()
    images = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"cpu_ms": 1e3 * cpu / images, "images_per_s": images / wall}


def count(batches: Iterable[dict[str, Any]]) -> int:
    return sum(len(batch["index"]) for batch in batches)


def opened(folder: Path, copy: str, buffer: int) -> Any:
    dataset = data.open_dataset(jpeg_shards.NAME, data_dir=str(folder / copy))
    return dataset.reader("train", stored_size=SIZE, shuffle_buffer=buffer)


def first_record(reader: Any, start: int, images: int) -> dict[str, float]:
    """The time until the reader has its first record, for each of so many images."""

    def run() -> int:
        records = reader._encoded(None, SEED, start, reader.num_examples)
        next(records.as_numpy_iterator())
        return images

    return timed(run)


def pipelines(
    folder: Path, files: list[bytes], only: list[str]
) -> dict[str, dict[str, float]]:
    """The reader and tf.data's parts of it; `only` these rows, [] for all."""
    tf, number = data.tensorflow(), len(files)
    reader = opened(folder, "tfrecord", number)
    indexed = opened(folder, "array_record", 0)
    squares = opened(folder, "squares", number)
    narrow = opened(folder, "tfrecord", BATCH)
    photos = data.open_dataset("folder", path=str(folder / "photos"))
    pictures: Any = photos.reader("train", stored_size=SIZE)
    for warm in (reader, indexed, squares, pictures):
        next(iter(warm.read(BATCH, stop=BATCH)))

    def drained(dataset: Any) -> Callable[[], int]:
        return lambda: int(dataset.reduce(0, lambda n, *_: n + 1))

    def mapped(function: Callable) -> Callable[[], int]:
        encoded = tf.data.Dataset.from_tensor_slices(files)
        return drained(encoded.map(function, num_parallel_calls=tf.data.AUTOTUNE))

    mine = slice(0, BATCH // 2)

    def passed(rows: slice | None, reads: Any) -> Callable[[], dict[str, float]]:
        return lambda: timed(lambda: count(reads.read(BATCH, shuffle=SEED, rows=rows)))

    def half() -> dict[str, float]:
        images = count(reader.read(BATCH, shuffle=SEED, rows=mine))
        return {"images": images} | passed(mine, reader)()

    def decode_resize(text: Any) -> Any:
        return resized(tf.io.decode_jpeg(text, channels=3), SIZE)

    rows = {
        "stream": passed(None, reader),
        "stream_array_record": passed(None, indexed),
        "stream_squares": passed(None, squares),
        "folder": passed(None, pictures),
        "records": lambda: timed(drained(reader._encoded(None, SEED, 0, number))),
        "decode": lambda: timed(mapped(lambda x: tf.io.decode_jpeg(x, channels=3))),
        "decode_resize": lambda: timed(mapped(decode_resize)),
        "skip": lambda: first_record(narrow, number // 2, number // 2),
        "fill": lambda: first_record(reader, 0, number),
        "half": half,
    }
    return {name: row() for name, row in rows.items() if not only or name in only}


def loops(files: list[bytes]) -> dict[str, dict[str, float]]:
    """Decoders in one thread, one image after the other."""
    tf = data.tensorflow()

    def before(image: Any) -> Any:  # `resized`, as it was: the whole image, then a crop
        sides = tf.cast(tf.shape(image)[:2], tf.float32)
        scaled = tf.cast(tf.round(sides * SIZE / tf.reduce_min(sides)), tf.int32)
        image = tf.image.resize(image, scaled, method="bilinear", antialias=True)
        top, left = (scaled[0] - SIZE) // 2, (scaled[1] - SIZE) // 2
        return tf.cast(tf.round(image[top : top + SIZE, left : left + SIZE]), tf.uint8)

    def square(text: Any) -> Any:
        shape = tf.image.extract_jpeg_shape(text)[:2]
        side = tf.reduce_min(shape)
        window = tf.concat([(shape - side) // 2, [side, side]], 0)
        return tf.image.decode_and_crop_jpeg(text, window, channels=3)

    def jpeg(**options: Any) -> Callable:
        return lambda text: tf.io.decode_jpeg(text, channels=3, **options)

    text = tf.TensorSpec([], tf.string)
    graphs = {
        "decode": jpeg(),
        "decode_fast_dct": jpeg(dct_method="INTEGER_FAST"),
        "decode_half_size": jpeg(ratio=2),
        "decode_square": square,
        "decode_resize": lambda x: resized(jpeg()(x), SIZE),
        "decode_resize_before": lambda x: before(jpeg()(x)),
    }
    calls = {
        name: tf.function(function, input_signature=[text], autograph=False)
        for name, function in graphs.items()
    }
    calls["pillow_resize"] = lambda x: decode(io.BytesIO(x), SIZE)

    def run(call: Callable, images: list[bytes]) -> int:
        for image in images:
            call(image)
        return len(images)

    for call in calls.values():
        call(files[0])
    measured = {f"loop_{x}": timed(lambda c=c: run(c, files)) for x, c in calls.items()}
    real = photographs()
    measured["loop_decode_photographs"] = timed(lambda: run(calls["decode"], real * 50))
    return measured


def photographs() -> list[bytes]:
    """scikit-learn's two photographs at 500 x 333, to compare the made-up ones with."""
    from sklearn.datasets import load_sample_image

    files = []
    for name in ("china.jpg", "flower.jpg"):
        file = io.BytesIO()
        image = Image.fromarray(load_sample_image(name)).resize((500, 333))
        image.save(file, "JPEG", quality=95)
        files.append(file.getvalue())
    return files


def child(folder: Path, cores: int, only: list[str]) -> None:
    """Measures with the first `cores` cores; prints one JSON line."""
    os.sched_setaffinity(
        0, sorted(os.sched_getaffinity(0))[:cores]
    )  # before TensorFlow
    files = np.load(folder / "files.npy", allow_pickle=True).tolist()
    measured = {"load": os.getloadavg()[0], **pipelines(folder, files, only)}
    if cores == 1 and not only:
        measured |= loops(files[:512])
    print(json.dumps(measured))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--images", type=int, default=256, help="in a shard")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output")
    parser.add_argument("--only", default="", help="rows, with commas; no loops then")
    parser.add_argument("--peer", help="a Python with torch, torchvision and lightly")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "CORES"))
    options = parser.parse_args()
    only = [name for name in options.only.split(",") if name]
    if options.child:
        child(Path(options.child[0]), int(options.child[1]), only)
        return
    peers = [name for name in only if name.startswith("peer_")]
    peer_too = options.peer and (peers or not only)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = jpeg_shards.make(options.shards * options.images)
        np.save(folder / "files.npy", np.array(files, object))
        write_copies(folder, files, options.shards)
        rounds: dict[int, list[dict]] = {1: [], 2: []}
        versions: dict[str, str] = {}
        for _ in range(options.rounds):
            for cores, measured in rounds.items():
                command = [sys.executable, __file__, "--child", place, str(cores)]
                command.append(f"--only={options.only}")
                measured.append(answer(command))
                if peer_too:
                    peer = peer_rows(options.peer, folder / "peer", cores, peers)
                    measured[-1] |= peer["rows"]
                    versions = peer["versions"]
                # All of it takes minutes: who ends it early keeps these.
                part = {"cores": cores, **measured[-1]}
                print(json.dumps(part), file=sys.stderr, flush=True)
    result = summary(files, rounds) | {"rounds": options.rounds}
    if peer_too:
        result["peer_versions"] = versions
    text = json.dumps(result, indent=1)
    print(text)
    if options.output:
        Path(options.output).write_text(text + "\n")


def answer(command: list[str]) -> Any:
    """What a command prints as its last line, in JSON."""
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(printed.stdout.splitlines()[-1])


def peer_rows(python: str, folder: Path, cores: int, rows: list[str]) -> Any:
    """The peer's rows; all of them if none is named."""
    script = str(Path(__file__).with_name("peer_loader.py"))
    return answer([python, script, str(folder), str(cores), ",".join(rows)])


def write_copies(folder: Path, files: list[bytes], shards: int) -> None:
    for kind in ("tfrecord", "array_record"):
        jpeg_shards.write(folder / kind, files, shards=shards, kind=kind)
    (folder / "photos").mkdir()
    for k, file in enumerate(files):
        (folder / "photos" / f"{k}.jpg").write_bytes(file)
    (folder / "peer").mkdir()  # ImageFolder wants a class
    (folder / "peer" / "photos").symlink_to(folder / "photos")
    squares = [io.BytesIO() for _ in files]
    for square, file in zip(squares, files, strict=True):
        image = Image.fromarray(decode(io.BytesIO(file), SIZE))
        image.save(square, "JPEG", quality=95)
    jpeg_shards.write(
        folder / "squares",
        [square.getvalue() for square in squares],
        shards=shards,
        kind="tfrecord",
        side=SIZE,
    )


def summary(files: list[bytes], rounds: dict[int, list[dict]]) -> dict[str, Any]:
    """The medians and spreads, and what follows from them."""
    made: dict[str, Any] = {}
    for cores, measured in rounds.items():
        made[f"load_{cores}"] = spread([x.pop("load") for x in measured])
        made[f"cores_{cores}"] = {
            name: {
                field: spread([x[name][field] for x in measured]) for field in values
            }
            for name, values in measured[0].items()
        }
    one = made["cores_1"]
    real = photographs()
    machine = provenance.collect()
    machine["versions"]["tensorflow"] = data.tensorflow().__version__
    machine["versions"]["pillow"] = PIL.__version__
    about = machine | {
        "cpu": cpu_model(),
        "images": len(files),
        "kilobytes": round(statistics.mean(map(len, files)) / 1e3, 1),
        "photographs_kilobytes": round(statistics.mean(map(len, real)) / 1e3, 1),
    }
    if "half" not in one or "stream_squares" not in one:  # not all rows
        return about | made
    cost = one["stream"]["cpu_ms"][0]
    return about | {
        "images_per_core_s": round(1e3 / cost),
        f"cores_for_{RATE}": round(RATE * cost / 1e3, 1),
        f"cores_for_{RATE}_squares": round(
            RATE * one["stream_squares"]["cpu_ms"][0] / 1e3, 1
        ),
        "half_of_the_cpu": round(
            one["half"]["cpu_ms"][0] * one["half"]["images"][0] / cost / len(files), 3
        ),
        **made,
    }


def spread(values: list[float]) -> list[float]:
    three = statistics.median(values), min(values), max(values)
    return [round(value, 3) for value in three]


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(x for x in lines if x.startswith("model name")).partition(": ")[2]


if __name__ == "__main__":
    main()
