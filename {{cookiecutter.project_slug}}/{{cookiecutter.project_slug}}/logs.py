"""Keeps the log readable during an outage."""

import logging
import time


class OnceAMinute(logging.Filter):
    """Drop a line if the same line was logged in the last minute.

    Of the lines about responses, only those about 503 are dropped.
    """

    def __init__(self) -> None:
        super().__init__()
        self._logged: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell if the record is kept."""
        if getattr(record, "status_code", 503) != 503:
            return True
        now, line = time.monotonic(), record.getMessage()
        if now < self._logged.get(line, -60) + 60:
            return False
        self._logged[line] = now
        return True
