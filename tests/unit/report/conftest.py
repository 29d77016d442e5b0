"""The run that some of these tests look at: 24 images of class folders, one split."""

from made_run import photos, run

__all__ = ["photos", "run"]
