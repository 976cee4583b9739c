"""The file of an evaluation: JSON lines, the first its configuration, then one a sample.

Whole lines alone count, so that an evaluation that was killed loses at most the batch being answered.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from vif_core.errors import UsageError
from vifscope.runs.configuration import differences, plain
from vifscope.runs.disk import disk_errors, lock, make_folders


class AnswerLines:
    """The records of an evaluation that is under way, kept in a file where there is one.

    records: sample_id -> its record; of a sample that was tried again after a failure, the newest.
    done:    ids of the samples that were answered; failed ones are not among them.
    """

    def __init__(self, config: dict[str, Any], path: Path | None) -> None:
        """Opens the file at `path`, or begins it. Raises UsageError where it holds another configuration, is no file of
        an evaluation or is being written by another process; VifError where it cannot be written."""
        self.records: dict[str, dict[str, Any]] = {}
        self.done: set[str] = set()
        self._path = path
        self._file: TextIO | None = None
        if path is None:
            return
        make_folders(path.parent)
        self._file = lock(path, f"file {path}")
        try:
            self._resume(path, self._file, config)
        except BaseException:
            self._close()
            raise

    def add(self, records: Sequence[dict[str, Any]]) -> None:
        """Keeps the records of a batch. Raises VifError where the disk refuses."""
        self._keep(records)
        if self._file is not None and self._path is not None:
            with disk_errors(self._path):
                self._file.write("".join(f"{json.dumps(record)}\n" for record in records))
                self._file.flush()

    def __enter__(self) -> AnswerLines:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        """What was added has been flushed; closing tries again what a full disk refused."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

    def _keep(self, records: Sequence[dict[str, Any]]) -> None:
        self.records |= {record["sample_id"]: record for record in records}
        self.done |= {record["sample_id"] for record in records if not record["error"]}

    def _resume(self, path: Path, file: TextIO, config: dict[str, Any]) -> None:
        with disk_errors(path):
            file.seek(0)
            data = file.buffer.read()  # of the held file: to close another of its handles would give up the lock
        self._keep(read_records(path, data, config))
        with disk_errors(path):
            file.truncate(data.rfind(b"\n") + 1)  # a line that was cut short is answered again
            if not data:
                file.write(f"{json.dumps({'configuration': plain(config)})}\n")
                file.flush()


def read_records(path: Path, data: bytes, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Records of the whole lines that the file at `path` holds, in their order; none of an empty file.

    Raises UsageError where they are of another configuration, and where the file is none of an evaluation.
    """
    if not data:
        return []
    first, *others = data[: data.rfind(b"\n") + 1].splitlines() or [b""]
    begun, asked = _configuration(first), plain(config)
    if begun is None:
        raise UsageError(
            f"{path} is no file of an evaluation: its first line holds no configuration",
            expected="a new file, or one that vifscope wrote",
            next_step="Name another place with --out",
        )
    if begun != asked:
        raise UsageError(
            f"{path} has another configuration: {'; '.join(differences(begun, asked))}",
            expected="the same configuration to go on with it",
            next_step="Name another place with --out, or delete this file",
        )
    return [_record(path, number, line) for number, line in enumerate(others, 2)]


def _configuration(line: bytes) -> dict[str, Any] | None:
    """What the first line of an evaluation tells; None for any other line."""
    try:
        found = json.loads(line)["configuration"]
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    return found if isinstance(found, dict) else None


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
        value["sample_id"], value["error"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} line {number} is not a line of an evaluation",
            expected="JSON with sample_id and error",
            next_step="Delete that line, and its sample is answered again",
        ) from error
    return value
