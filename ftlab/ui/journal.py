"""The log of an app for several people: lines of JSON on standard error for whoever runs it.

No line holds a name, an address, a file or anything a person wrote. An error is known by its kind,
the places in the code it came through, and an id that is the same whenever it comes that way again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import traceback
from pathlib import PurePath

PLACES = 6  # of an error, the innermost
QUIET_SECONDS = 1.0  # between two lines about refusals of one kind
log = logging.getLogger("ftlab.app")
_refused: dict[str, list] = {}  # kind -> [when last said, how many since]; kinds are the program's


class Lines(logging.Formatter):
    """A record as one line of JSON; only what `note` was told, and where an error came from."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        line = {"time": moment, **getattr(record, "said", {"event": record.levelname.lower()})}
        if record.exc_info and record.exc_info[1]:
            line |= _error(record.exc_info[1])
        elif not hasattr(record, "said"):
            line["at"] = [f"{record.module}:{record.lineno}"]
        return json.dumps(line)


def begin() -> None:
    """Write what ftlab and its server have to say to standard error as such lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    for name, level in (("ftlab", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)


def note(event: str, **about: str | int | float) -> None:
    """Log an event; `about` holds words of the program and numbers, nothing of a person's."""
    log.info(event, extra={"said": {"event": event, **about}})


def refused(kind: str) -> None:
    """Log that something was refused; many of a kind are told of together."""
    last = _refused.setdefault(kind, [-QUIET_SECONDS, 0])
    last[1] += 1
    if time.monotonic() - last[0] >= QUIET_SECONDS:
        note("refused", kind=kind, times=last[1])
        last[:] = time.monotonic(), 0


def _error(error: BaseException) -> dict:
    frames = traceback.extract_tb(error.__traceback__)[-PLACES:]
    places = [f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in frames]
    kind = type(error).__name__
    digest = hashlib.sha256(" ".join((kind, *places)).encode()).hexdigest()
    return {"kind": kind, "id": digest[:8], "at": places}
