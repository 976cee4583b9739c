"""The run folder: write, commit, resume, open, verify. Storage only, no torch."""

from vifscope.runs.configuration import configuration_hash, default_run_name
from vifscope.runs.records import MapRecord, SampleRecord
from vifscope.runs.store import RunStore
from vifscope.runs.writer import RunWriter

__all__ = ["MapRecord", "RunStore", "RunWriter", "SampleRecord", "configuration_hash", "default_run_name"]
