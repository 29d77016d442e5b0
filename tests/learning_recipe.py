"""Long enough to learn from tests/tiny.py's faint squares, whose class is a colour.

Views keep the hue; where the square is, how bright and how noisy, they do not.
"""

from tests import tiny_recipe


def get_config():
    config = tiny_recipe.get_config()
    config.stages = ("pretrain", "probe")
    config.batch_size = 32
    config.epochs = 12  # 96 steps
    config.checkpoint.every_steps = 96
    config.augment.crop_scale = (0.3, 1.0)
    config.augment.hue = config.augment.saturation = config.augment.grayscale = 0.0
    config.probe.label_fraction = 0.25
    config.probe.every_epochs = 0
    return config
