"""Run a module in processes that meet one another: `python -m vif_core.train.processes COUNT -m MODULE ...`.

It is torchrun, which by itself ends with a traceback and exit code 1 whatever ended a process.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run


def main(count: str, command: Sequence[str]) -> int:
    """The exit code of the process that failed first, which a signal makes negative; 0 where none did."""
    try:
        run(parse_args(["--standalone", "--nproc-per-node", count, *command]))
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
