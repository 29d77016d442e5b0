"""Does a deeper head make up for small batches and short training?

    python launch.py --config=configs/head_depth.py --workdir=runs/depth --sweep
    python launch.py --config=configs/head_depth.py:cpu --workdir=... --sweep

Heads of 2, 3 and 4 layers, each trained in three ways: small batch and short, small
batch and long, large batch and long. The report's table has the published figures
(ImageNet, ResNet-50, batch 512 and 2,048, 100 and 800 epochs: arXiv 2011.02803, table
2) in the same cells. The default trains a ResNet-18 on CIFAR-10 with the published
batches and epochs, in the setting of `configs/batch_epochs.py`; `:cpu` has at most a
tenth of the epochs. To train in other ways, change `_PLACES`.
"""

from configs import batch_epochs

# (batch size, epochs), in the order of the published figures below.
_PLACES = {
    "cifar10": ((512, 100), (512, 800), (2048, 800)),
    "cpu": ((64, 5), (64, 20), (256, 20)),
}
_PUBLISHED = {2: (65.4, 69.3, 70.1), 3: (66.6, 71.0, 71.3), 4: (66.8, 70.7, 71.3)}


def get_config(variant: str = "cifar10"):
    return batch_epochs.get_config(variant)


def sweep(variant: str = "cifar10"):
    if variant not in _PLACES:
        raise ValueError(f"no variant {variant!r}; choose from {', '.join(_PLACES)}")
    rows, published = {}, {}
    for layers, figures in _PUBLISHED.items():
        for (batch, epochs), figure in zip(_PLACES[variant], figures, strict=True):
            row = f"{layers}-layers-batch-{batch}-epochs-{epochs}"
            rows[row] = {
                "projector.layers": layers,
                "batch_size": batch,
                "epochs": epochs,
            }
            published[row] = figure
    return {
        "rows": rows,
        "published": published,
        "source": "ImageNet, ResNet-50, batch 512 and 2,048, 100 and 800 epochs, arXiv "
        "2011.02803, table 2",
        "chart": {
            "kind": "grid",
            "down": ("projector.layers",),
            "across": ("batch_size", "epochs"),
        },
    }
