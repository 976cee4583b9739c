"""An analysis measures what it was asked to measure, whatever fails or interrupts it on the way."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vif_core.data.listed import Listed
from vif_core.data.sample import Sample
from vif_core.errors import GridMismatch, UnsupportedModel, UsageError, VifError
from vif_core.vif.config import VIFConfig
from vif_core.vif.model import add_vif
from vif_core.vlm.batch import Batch
from vif_core.vlm.model import VLM
from vif_core.vlm.tiny import tiny_model
from vifscope import measure as measuring
from vifscope import pipeline
from vifscope.measure import Reading
from vifscope.runs import RunStore, RunWriter, disk

FP16_STEP = 1.01 * 2**-10
READING = Reading(store_rows="text", max_new_tokens=4)


def noise(index: int) -> Image.Image:
    rng = np.random.default_rng(index)
    return Image.fromarray(rng.integers(0, 255, (28 + 7 * (index % 3), 40, 3), dtype=np.uint8))


def samples(n: int) -> list[Sample]:
    asked = ("what is this?", "how many red squares are there in the picture?", "where?")
    return [
        Sample(f"s{i}", (noise(i),), asked[i % 3], answer="a", boxes=((0.0, 0.0, 20.0, 20.0),), kind="ab"[i % 2])
        for i in range(n)
    ]


def source(n: int = 8, **changed: Sample) -> Listed:
    return Listed("noise", "1", [changed.get(sample.sample_id, sample) for sample in samples(n)])


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return tiny_model("llava")


def analyze(vlm: VLM, data: Listed, n: int, out: Path, reading: Reading = READING, **options) -> RunStore:
    return RunStore.open(pipeline.analyze(vlm, data, n, out, reading, **{"batch_size": 2, **options}))


def numbers(run: RunStore) -> tuple[np.ndarray, np.ndarray]:
    """Every metric of every layer, and every stored map, in one order of samples."""
    layers = run.layers().sort_values(["sample_id", "layer"])
    maps = [run.flow(sample_id).ravel() for sample_id in sorted(run.sample_ids)]
    return layers.select_dtypes("number").to_numpy(), np.concatenate(maps)


def assert_same(run: RunStore, other: RunStore) -> None:
    assert sorted(run.sample_ids) == sorted(other.sample_ids)
    for these, those, tolerance in zip(numbers(run), numbers(other), (1e-6, FP16_STEP), strict=True):
        np.testing.assert_allclose(these, those, rtol=tolerance, atol=1e-6)


def test_a_run_holds_every_sample_with_what_was_read_of_it(vlm, tmp_path):
    run = analyze(vlm, source(), 8, tmp_path / "run")
    rows = run.samples().set_index("sample_id")
    assert set(rows.index) == {f"s{i}" for i in range(8)}
    assert rows["error"].isna().all()
    assert (rows["answer_logprob"] < 0).all()
    for sample_id, row in rows.iterrows():
        assert row["measured"].sum() <= 4, "rows of the response, at most one a new token"
        assert len(row["query_rows"]) > row["measured"].sum(), "text rows are stored as well"
        layers, _, visual = vlm.num_layers, 0, len(row["visual"])
        assert run.flow(sample_id).shape == (layers, len(row["query_rows"]), visual)
        assert run.image(sample_id).size[0] == 40
        assert len(row["tokens"]) == len(row["input_ids"]) == len(row["segment"])
    assert run.manifest["status"] == "complete"
    assert run.manifest["counts"] == {"requested": 8, "measured": 8, "failed": 0}
    assert run.verify() == []


def test_a_model_with_vif_leaves_its_spotlights_and_others_none(vlm, tmp_path):
    lit = tiny_model("llava")
    vif = add_vif(lit, VIFConfig(pairs=((0, 1), (1, 2)), slots=4, width=32, depth=1))
    given = samples(4)
    given[1] = replace(given[1], answer=None)
    data = Listed("noise", "1", given)
    run = analyze(lit, data, 4, tmp_path / "lit")
    for sample in given:
        found = run.sample(sample.sample_id)["spotlights"]
        wanted = vif.spotlights(sample)
        assert {light["branch"] for light in found} == {"prior", "posterior"} - (
            {"posterior"} if not sample.answer else set()
        )
        for (mid, deep), branches in wanted.items():
            for branch, lights in branches.items():
                own = [
                    light for light in found if (light["mid"], light["deep"], light["branch"]) == (mid, deep, branch)
                ]
                got = [[light[name] for name in ("row", "col", "spread", "weight")] for light in own]
                exact = np.column_stack([lights.centres, lights.spreads, lights.weights])
                np.testing.assert_allclose(got, exact, atol=1e-5)
    assert analyze(vlm, data, 4, tmp_path / "plain").samples()["spotlights"].isna().all()


def test_the_logprob_is_that_of_the_response_under_the_model(vlm, tmp_path):
    import torch

    run = analyze(vlm, source(3), 3, tmp_path / "run", replace(READING, response="given"))
    for sample in samples(3):
        batch = vlm.encode([sample], [vlm.response_ids("a")])
        with torch.no_grad():
            logits = vlm.model(**batch.inputs).logits[0, -2]
        expected = logits.log_softmax(-1)[vlm.response_ids("a")[0]].item()
        assert run.sample(sample.sample_id)["answer_logprob"] == pytest.approx(expected, abs=1e-5)
        assert run.sample(sample.sample_id)["response"] == "a"


def test_the_logprob_is_that_of_the_logits_that_a_model_returns(vlm, monkeypatch):
    """Some scale or cap them after their head."""
    import torch

    sample = replace(samples(1)[0], answer="a")
    forward = vlm.model.forward

    def capped(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.logits = 2 * torch.tanh(out.logits / 2)
        return out

    monkeypatch.setattr(vlm.model, "forward", capped)
    (record,) = measuring.measure(vlm, [sample], replace(READING, response="given"))
    batch = vlm.encode([sample], [vlm.response_ids("a")])
    with torch.no_grad():
        expected = capped(**batch.inputs).logits[0, -2].log_softmax(-1)[vlm.response_ids("a")[0]].item()
    assert record.sample["answer_logprob"] == pytest.approx(expected, abs=1e-5)


def test_the_same_seed_gives_the_same_numbers(vlm, tmp_path):
    first, second = (analyze(vlm, source(), 5, tmp_path / name, seed=3) for name in "ab")
    assert_same(first, second)
    assert first.manifest["configuration_hash"] == second.manifest["configuration_hash"]


def test_another_seed_takes_other_samples(vlm, tmp_path):
    chosen = [set(analyze(vlm, source(), 3, tmp_path / str(seed), seed=seed).sample_ids) for seed in (0, 1)]
    assert chosen[0] != chosen[1]


def test_a_run_that_grows_equals_one_made_at_once(vlm, tmp_path):
    analyze(vlm, source(), 4, tmp_path / "grown")
    grown = analyze(vlm, source(), 8, tmp_path / "grown")
    assert_same(grown, analyze(vlm, source(), 8, tmp_path / "whole"))
    assert not grown.samples()["sample_id"].duplicated().any()


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_numbers_do_not_depend_on_the_batch_size(vlm, tmp_path, batch_size):
    batched = analyze(vlm, source(), 8, tmp_path / "b", batch_size=batch_size)
    assert_same(batched, analyze(vlm, source(), 8, tmp_path / "a"))


def test_a_sample_that_fails_is_recorded_and_the_others_are_measured(vlm, tmp_path):
    gone, silent = Path(tmp_path / "gone.png"), samples(8)[5]
    data = source(s2=replace(samples(8)[2], images=(gone,)), s5=replace(silent, question=" "))
    run = analyze(vlm, data, 8, tmp_path / "run")
    errors = run.samples().set_index("sample_id")["error"].dropna()
    assert set(errors.index) == {"s2", "s5"}
    assert f"image {gone} does not exist; expected a picture" in errors["s2"]
    assert "s5 has an empty question; expected some text" in errors["s5"]
    assert len(run.sample_ids) == 6
    assert run.manifest["status"] == "partial"
    assert run.manifest["counts"] == {"requested": 8, "measured": 6, "failed": 2}


def test_a_mended_sample_is_measured_when_the_command_is_run_again(vlm, tmp_path):
    late = tmp_path / "late.png"
    data = source(s2=replace(samples(8)[2], images=(late,)))
    analyze(vlm, data, 8, tmp_path / "run")
    noise(2).save(late)
    run = analyze(vlm, data, 8, tmp_path / "run")
    assert run.manifest["status"] == "complete"
    assert_same(run, analyze(vlm, source(), 8, tmp_path / "whole"))


def test_a_source_that_raises_costs_only_its_sample(vlm, tmp_path):
    class Broken(Listed):
        def __getitem__(self, index):
            if index == 2:
                raise OSError("row 2 cannot be decoded")
            return super().__getitem__(index)

    run = analyze(vlm, Broken("noise", "1", samples(4)), 4, tmp_path / "run")
    errors = run.samples().set_index("sample_id")["error"].dropna()
    assert errors.to_dict() == {"000002": "OSError: row 2 cannot be decoded"}


@pytest.fixture
def upset(monkeypatch):
    """The model raises an error whenever sample s3 is in a batch."""

    def raise_for(error: Exception) -> None:
        encode = VLM.encode

        def upset_encode(self, batch, responses=None):
            if any(sample.sample_id == "s3" for sample in batch):
                raise error
            return encode(self, batch, responses)

        monkeypatch.setattr(VLM, "encode", upset_encode)

    return raise_for


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            GridMismatch("grid 3x3 has 9 cells but the prompt holds 8 visual tokens"),
            "grid 3x3 has 9 cells but the prompt ",
        ),
        (RuntimeError("out of memory\nTried to allocate"), "RuntimeError: out of memory"),
    ],
    ids=["grid", "memory"],
)
def test_only_the_bad_sample_of_a_batch_fails(vlm, tmp_path, upset, error, line):
    upset(error)
    run = analyze(vlm, source(), 8, tmp_path / "run", batch_size=8)
    errors = run.samples().set_index("sample_id")["error"].dropna()
    assert list(errors.index) == ["s3"]
    assert errors["s3"].startswith(line)
    assert "\n" not in errors["s3"]


def test_a_model_that_is_not_supported_ends_the_run(vlm, tmp_path, upset):
    upset(UnsupportedModel("no operation attention_interface_1"))
    with pytest.raises(UnsupportedModel, match="no operation"):
        analyze(vlm, source(), 8, tmp_path / "run")


def test_a_run_in_which_every_sample_fails_is_a_failure(vlm, tmp_path):
    data = Listed("bad", "1", [replace(sample, question="") for sample in samples(3)])
    with pytest.raises(VifError, match="none of the 3 samples could be measured; the first one says: sample s"):
        analyze(vlm, data, 3, tmp_path / "run")


def test_an_empty_response_has_maps_and_no_numbers(vlm, tmp_path, monkeypatch):
    monkeypatch.setattr(VLM, "generate", lambda self, batch, _: [[] for _ in batch])
    run = analyze(vlm, source(2), 2, tmp_path / "run", Reading(max_new_tokens=4))
    row = run.sample("s0")
    assert (row["response"], row["correct"], row["measured"]) == ("", False, [False])
    assert row["query_rows"] == [len(row["input_ids"]) - 1], "the last position of the prompt"
    assert run.layers()["visual_ratio"].isna().all()
    assert np.isfinite(run.flow("s0")).all()
    assert np.isnan(row["answer_logprob"])


def test_a_given_response_needs_an_answer(vlm, tmp_path):
    data = source(4, s1=replace(samples(4)[1], answer=None))
    run = analyze(vlm, data, 4, tmp_path / "run", Reading(response="given"))
    errors = run.samples().set_index("sample_id")["error"].dropna()
    assert errors.index.tolist() == ["s1"]
    assert "s1 has no answer to be given as its response" in errors["s1"]


@pytest.mark.parametrize("n", [0, 9])
def test_n_outside_the_data_is_refused_with_both_numbers(vlm, tmp_path, n):
    with pytest.raises(UsageError, match=rf"n is {n}, but noise has 8 samples; expected a number from 1 to 8\."):
        analyze(vlm, source(), n, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_configuration_is_refused_with_what_differs(vlm, tmp_path):
    analyze(vlm, source(), 2, tmp_path / "run")
    with pytest.raises(UsageError, match=r'rows is "response", not "last".*Add --overwrite'):
        analyze(vlm, source(), 2, tmp_path / "run", replace(READING, rows="last"))
    run = analyze(vlm, source(), 2, tmp_path / "run", replace(READING, rows="last"), overwrite=True)
    assert [sum(measured) for measured in run.samples()["measured"]] == [1, 1]


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"rows": "all"}, "rows is 'all'; expected one of response, last, question, text"),
        ({"response": "none"}, "response is 'none'; expected one of generated, given"),
        ({"max_rows": 0}, "max_rows is 0; expected at least 1"),
    ],
)
def test_a_reading_is_checked(wrong, line):
    with pytest.raises(UsageError, match=line):
        Reading(**wrong)


@pytest.mark.parametrize("rows", ["response", "last", "question", "text"])
def test_max_rows_bounds_the_rows_that_are_read(vlm, tmp_path, rows):
    run = analyze(vlm, source(3), 3, tmp_path / "run", Reading(rows, rows, max_rows=2, max_new_tokens=4))
    assert all(0 < len(positions) <= 2 for positions in run.samples()["query_rows"])
    assert all(measured.all() for measured in run.samples()["measured"])


def interrupt_after(monkeypatch, batches: int, error: BaseException) -> None:
    capture, left = measuring.capture, [batches]

    def interrupted(*args):
        left[0] -= 1
        if left[0] < 0:
            raise error
        return capture(*args)

    monkeypatch.setattr(measuring, "capture", interrupted)


@pytest.mark.parametrize("batches", [0, 3, 5])
def test_an_interrupted_run_keeps_its_shards_and_resumes(vlm, tmp_path, monkeypatch, batches):
    with monkeypatch.context() as patched:
        interrupt_after(patched, batches, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            analyze(vlm, source(), 8, tmp_path / "run", batch_size=1)
    stopped = RunStore.open(tmp_path / "run")
    assert len(stopped.sample_ids) == batches // pipeline.BATCHES_PER_SHARD * pipeline.BATCHES_PER_SHARD
    assert stopped.manifest["status"] == "interrupted"
    resumed = analyze(vlm, source(), 8, tmp_path / "run", batch_size=1)
    assert resumed.manifest["status"] == "complete"
    assert_same(resumed, analyze(vlm, source(), 8, tmp_path / "whole", batch_size=1))


def test_a_finished_run_is_not_measured_again(vlm, tmp_path, monkeypatch):
    analyze(vlm, source(), 8, tmp_path / "run")
    monkeypatch.setattr(pipeline, "measure", None)
    analyze(vlm, source(), 8, tmp_path / "run")


def test_a_full_disk_is_one_line_and_the_run_resumes(vlm, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        write = RunWriter.write

        def write_when_full(self, records, worker=0):
            if self.done:
                patched.setattr(disk.os, "replace", full)
            return write(self, records, worker)

        patched.setattr(RunWriter, "write", write_when_full)
        with pytest.raises(VifError, match=r"cannot be written .No space left on device.*run the same command again"):
            analyze(vlm, source(), 8, tmp_path / "run", batch_size=1)
    assert len(RunStore.open(tmp_path / "run").sample_ids) == 4
    assert_same(analyze(vlm, source(), 8, tmp_path / "run"), analyze(vlm, source(), 8, tmp_path / "whole"))


KILLED = """
import importlib.util, os, pathlib, signal, sys
from vifscope.runs import parts
spec = importlib.util.spec_from_file_location("t", sys.argv[1])
t = importlib.util.module_from_spec(spec)
spec.loader.exec_module(t)
write, left = parts.write_file, [int(sys.argv[3])]
def killed(path, data):
    left[0] -= 1
    if left[0] < 0:
        path.with_name(f".{path.name}.tmp").write_bytes(bytes(data)[:100])
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, data)
parts.write_file = killed
t.analyze(t.tiny_model("llava"), t.source(), 8, pathlib.Path(sys.argv[2]), batch_size=1)
"""


def test_a_killed_run_resumes_with_every_sample_once_and_the_same_numbers(vlm, tmp_path):
    root = Path(__file__).parents[2]
    for files in (2, 7):  # in the first shard, and in the second one after it
        command = [sys.executable, "-c", KILLED, __file__, str(tmp_path / "run"), str(files)]
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
    run = analyze(vlm, source(), 8, tmp_path / "run")
    assert not run.samples()["sample_id"].duplicated().any()
    assert run.verify() == []
    assert_same(run, analyze(vlm, source(), 8, tmp_path / "whole"))


def test_progress_is_told_up_to_the_end(vlm, tmp_path):
    told = []
    analyze(vlm, source(), 5, tmp_path / "run", progress=lambda *step: told.append(step))
    assert told[:2] == [("loading", 0, 1), ("loading", 1, 1)]
    measuring = [done for stage, done, total in told if stage == "measuring" and total == 5]
    assert measuring == sorted(measuring)
    assert (measuring[0], measuring[-1]) == (0, 5)


def test_the_default_folder_is_named_after_model_data_and_configuration(vlm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = analyze(vlm, source(), 2, None)
    short = run.manifest["configuration_hash"][:8]
    assert run.path == Path("runs") / f"tiny-llava-noise-{short}"


class Given:
    """What an analysis asks of a VIFModel, in the place of one that changes nothing."""

    def __init__(self, vlm: VLM, enabled: bool = True) -> None:
        self.vlm, self.enabled = vlm, enabled
        self.config = VIFConfig(pairs=((0, 2),), variant="mid-feature")

    def facts(self) -> dict:
        return {"pairs": [[0, 2]], "alpha": 0.5, "preset": "paper", "variant": "none"}

    def fingerprint(self) -> str:
        return "abc"

    def told(self, batch: Batch) -> Batch:
        return batch

    def generate(self, **inputs):
        return self.vlm.model.generate(**inputs)


def test_the_model_s_vif_is_in_the_manifest_and_in_the_configuration(tmp_path):
    vlm, stored = tiny_model("llava"), {}
    for name, vif in (("without", None), ("with", Given(vlm)), ("disabled", Given(vlm, enabled=False))):
        vlm.vif = vif
        manifest = analyze(vlm, source(2), 1, tmp_path / name).manifest
        stored[name] = manifest["model"]["vif"], manifest["configuration"].get("vif", "not there")
    facts = Given(vlm).facts()
    identity = facts | {"weights": "abc"}
    assert stored == {"without": (None, "not there"), "with": (facts, identity), "disabled": (None, None)}


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        (lambda vif: setattr(vif, "alpha", 0.25), "vif.alpha is 0.5, not 0.25"),
        (lambda vif: setattr(vif, "maps_from", "constant"), 'vif.maps_from is "own", not "constant"'),
        (lambda vif: vif.generator.slots.read.bias.data.add_(1.0), "vif.weights is"),
    ],
    ids=["alpha", "maps", "weights"],
)
def test_another_vif_in_memory_does_not_resume_the_first_ones_run(change, phrase, tmp_path):
    vlm = tiny_model("llava")
    vif = add_vif(vlm, VIFConfig(pairs=((0, 1),), slots=4, width=16, depth=1))
    analyze(vlm, source(2), 2, tmp_path / "run")
    change(vif)
    with pytest.raises(UsageError, match=phrase):
        analyze(vlm, source(2), 2, tmp_path / "run")
