"""Keeps what Orbax prints of failures off stderr: the caller gets the error."""

import logging
import os
import re
import sys
from typing import Any


def hush() -> None:
    """Drops Orbax's tracebacks of what failed; everything else is shown as before."""
    logging.getLogger("absl").addFilter(
        lambda record: f"{os.sep}orbax{os.sep}" not in record.pathname
    )
    # What asyncio says of a write or a read whose error nobody fetched, since another
    # one's had come already; its message quotes Orbax's path, TensorStore's request
    # or its OCDBT database.
    logging.getLogger("asyncio").addFilter(
        lambda record: not re.search("orbax|tensorstore|OCDBT", record.getMessage())
    )
    before = sys.unraisablehook

    def show(unraisable: Any) -> None:
        # After the first write of a save that fails, Orbax ends its event loop, and
        # TensorStore reports the end of each of the other writes to it in vain.
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = show
