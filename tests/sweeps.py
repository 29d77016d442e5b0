"""What the tests of sweeps share."""

import numpy as np

from simclr_jax.sweep import recipe


def toy(**changes):
    """A sweep of two rows."""
    given = {"rows": {"one": {}, "two": {"optimizer.lr": 0.5}}} | changes
    return recipe.parse(given, "here")


def by_row(matrix):
    """[rows, seeds] as the table takes it; NaN is a run that is missing."""
    return {
        f"row{r}": {s: float(x) for s, x in enumerate(line) if not np.isnan(x)}
        for r, line in enumerate(np.asarray(matrix, float))
    }
