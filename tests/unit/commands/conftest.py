"""The run that these tests look at."""

from made_run import photos, run

__all__ = ["photos", "run"]
