"""`python -m lyrics_lm.orchestration.after URL COMMAND...`: become that command once a server answers.

Airflow's scheduler hands tasks to processes that report to its API server; those that find nobody there fail.
"""

import os
import sys
import time

import httpx

_POLL_SECONDS = 0.2


def main(url: str, *command: str) -> None:
    """Wait for as long as it takes: whoever supervises us also supervises the server."""
    while not _answers(url):
        time.sleep(_POLL_SECONDS)
    os.execv(command[0], command)  # noqa: S606  # no shell


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main(*sys.argv[1:])
