"""Files that are either whole or absent, and the lock that keeps two commands from writing one run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from vif_core.errors import UsageError, VifError

try:
    import fcntl
except ImportError:  # Windows has no POSIX locks; two commands on one run are not caught there
    fcntl = None  # type: ignore[assignment]

TEMPORARY = ".tmp"


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns an OSError (a full disk, no permission) into one line that names the file."""
    try:
        yield
    except OSError as error:
        raise VifError(
            f"{path} cannot be written ({error.strerror or error})",
            next_step="Free some space or mend the folder, then run the same command again: finished samples are kept",
        ) from error


def write_file(path: Path, data: bytes | memoryview) -> None:
    """Writes `data` so that `path` is whole after a crash at any moment, or as it was before. Raises VifError.

    A hidden temporary file beside it is written and synced, then renamed, then the folder is synced.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    with disk_errors(path):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def make_folders(*folders: Path) -> None:
    """Creates `folders` and their parents. Raises VifError."""
    for folder in folders:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)


def lock(path: Path, what: str, waiting: Callable[[], None] | None = None) -> TextIO:
    """Holds `path` for this process until the returned file is closed or the process ends, however it ends.

    Where another process holds it, raises UsageError, which says `what` is held; with `waiting`, calls that and waits.
    """
    with disk_errors(path):
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115  held open by the caller
    if fcntl is None:
        return file
    try:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is None:
                raise UsageError(
                    f"{what} is being written by another process",
                    expected="one writer at a time",
                    next_step="Wait until it ends, or name another place with --out",
                ) from None
            waiting()
            fcntl.lockf(file, fcntl.LOCK_EX)
    except BaseException:
        file.close()
        raise
    return file


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there; NTFS orders renames itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
