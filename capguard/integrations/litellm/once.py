"""Warnings that matter once, not once per call."""

from __future__ import annotations

import logging


class Once:
    """Logs each text the first time."""

    def __init__(self, log: logging.Logger):
        self._log = log
        self._said: set[str] = set()

    def warn(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._log.warning(text)
