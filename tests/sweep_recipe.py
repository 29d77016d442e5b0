"""A sweep of seconds: one row that trains, one that diverges."""

import tiny_recipe


def get_config():
    config = tiny_recipe.get_config()
    config.stages = ("pretrain", "probe")
    config.encoder.depth = 10
    config.epochs = 15  # 60 steps
    config.log_every = 1
    config.checkpoint.every_steps = 3  # slow steps: the test must be in time
    config.probe.every_epochs = 0
    config.probe.epochs = 2
    return config


def sweep():
    return {
        "rows": {
            "of-z": {"probe.features": "z"},
            "diverges": {"optimizer.lr": 1e30},
        },
        "published": {"of-z": 12.34},
        "source": "nobody",
    }
