"""Writes a synthetic run, in a process that can be killed: write_run.py RUN SAMPLES."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from vifscope.runs.writer import RunWriter

synthetic_record = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["synthetic_record"]

with RunWriter.open(sys.argv[1], {"seed": 0}) as writer:
    left = [i for i in range(int(sys.argv[2])) if f"synthetic-{i:05d}" not in writer.done]
    for start in range(0, len(left), 5):
        writer.write([synthetic_record(i) for i in left[start : start + 5]])
    writer.finish("done", {"samples": int(sys.argv[2])})
