from __future__ import annotations

import json

import pytest
from PIL import Image

import vifscope
from vif_core.data.listed import Listed
from vif_core.data.sample import Sample, sample_order
from vif_core.data.specks import Specks
from vif_core.errors import SampleError, UnsupportedModel, UsageError, VifError
from vif_core.load import load
from vif_core.vlm.tiny import tiny_model
from vifscope.evaluation import evaluate, job
from vifscope.scoring.answers import score_response

N = 12


@pytest.fixture(scope="module")
def vlm():
    return load("mini-llava")


@pytest.fixture(scope="module")
def answered(vlm, tmp_path_factory):
    """Twelve questions of specks, answered with blind baselines: evaluation, file."""
    path = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    return evaluate(vlm, "specks", N, path, blind=True, max_new_tokens=60), path


@pytest.fixture
def tiny():
    return tiny_model("llava")


def coloured(n, **fields):
    samples = [
        Sample(f"s{i}", (Image.new("RGB", (32, 32), (i, 0, 0)),), "Which colour?", "red", **fields) for i in range(n)
    ]
    return Listed("colours", "1", samples)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def counted(vlm, monkeypatch):
    """Numbers of samples in the batches that the model was asked to answer."""
    asked = []
    generate = vlm.generate

    def count(samples, max_new_tokens):
        asked.append([sample.sample_id for sample in samples])
        return generate(samples, max_new_tokens)

    monkeypatch.setattr(vlm, "generate", count)
    return asked


def test_it_asks_the_samples_that_an_analysis_measures(answered):
    source = Specks("test")
    wanted = {source[index].sample_id for index in sample_order(source, 0)[:N]}
    assert {record["sample_id"] for record in answered[0].records} == wanted


def test_verdicts_are_those_of_the_scoring_rules(answered):
    source = {sample.sample_id: sample for sample in (Specks("test")[i] for i in sample_order(Specks("test"), 0)[:N])}
    for record in answered[0].records:
        sample = source[record["sample_id"]]
        assert (record["correct"], record["score"]) == score_response(sample, record["response"])
        assert record["exact"] == (record["response"] == sample.answer)
        assert record["blank_correct"] == score_response(sample, record["blank_response"])[0]


def test_the_model_answers_and_from_a_grey_image_it_does_not(answered):
    accuracy = answered[0].summary_dict()["accuracy"]
    assert accuracy["correct"]["mean"] >= 0.7
    assert accuracy["blank"]["mean"] <= 0.5


def test_the_file_holds_the_configuration_and_a_line_a_sample(answered):
    evaluation, path = answered
    first, *rest = lines_of(path)
    assert first == {"configuration": evaluation.configuration}
    assert len(rest) == N
    assert sorted(rest, key=lambda line: line["sample_id"]) == list(evaluation.records)


def test_a_finished_file_is_read_and_nothing_asked_again(answered, vlm, monkeypatch):
    evaluation, path = answered
    asked = counted(vlm, monkeypatch)
    before = path.read_bytes()
    assert evaluate(vlm, "specks", N, path, blind=True, max_new_tokens=60) == evaluation
    assert asked == []
    assert path.read_bytes() == before


def test_a_file_that_was_cut_off_is_completed_to_the_same_answers(answered, vlm, tmp_path, monkeypatch):
    evaluation, path = answered
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:6]) + b'{"sample_id": "spe')
    asked = counted(vlm, monkeypatch)
    again = evaluate(vlm, "specks", N, cut, blind=True, max_new_tokens=60, batch_size=5)
    assert again.records == evaluation.records
    assert sum(map(len, asked)) == 2 * (N - 5)  # as they are, and in grey
    assert sorted(cut.read_text().splitlines()) == sorted(path.read_text().splitlines())


def test_a_larger_n_extends_the_file_and_a_smaller_one_reads_a_part_of_it(tiny, tmp_path, monkeypatch):
    path, source = tmp_path / "a.jsonl", coloured(6)
    evaluate(tiny, source, 3, path, max_new_tokens=2)
    asked = counted(tiny, monkeypatch)
    assert len(evaluate(tiny, source, 5, path, max_new_tokens=2).records) == 5
    assert sum(map(len, asked)) == 2
    assert len(evaluate(tiny, source, 2, path, max_new_tokens=2).records) == 2
    assert sum(map(len, asked)) == 2


def test_an_interrupted_evaluation_keeps_the_batches_that_were_answered(tiny, tmp_path, monkeypatch):
    path, source = tmp_path / "a.jsonl", coloured(6)
    answer = job.answer

    def interrupted(vlm, samples, most):
        if path.read_text().count("sample_id") == 4:
            raise KeyboardInterrupt
        return answer(vlm, samples, most)

    with monkeypatch.context() as patched:
        patched.setattr(job, "answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate(tiny, source, "all", path, max_new_tokens=2, batch_size=2)
    assert path.read_text().count("sample_id") == 4
    asked = counted(tiny, monkeypatch)
    assert len(evaluate(tiny, source, "all", path, max_new_tokens=2).records) == 6
    assert sum(map(len, asked)) == 2


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"max_new_tokens": 3}, "max_new_tokens is 2, not 3"),
        ({"blind": True}, "blind is false, not true"),
        ({"seed": 1}, "seed is 0, not 1"),
    ],
)
def test_another_configuration_is_refused(tiny, tmp_path, change, line):
    options = {"max_new_tokens": 2, "blind": False, "seed": 0}
    evaluate(tiny, coloured(2), 1, tmp_path / "a.jsonl", **options)
    with pytest.raises(UsageError, match=line):
        evaluate(tiny, coloured(2), 1, tmp_path / "a.jsonl", **(options | change))


def test_by_default_500_samples_are_asked_or_as_many_as_there_are(tiny, monkeypatch):
    assert len(evaluate(tiny, coloured(3), max_new_tokens=1).records) == 3
    monkeypatch.setattr(job, "DEFAULT_N", 2)
    assert len(evaluate(tiny, coloured(3), max_new_tokens=1).records) == 2
    assert len(evaluate(tiny, coloured(3), "all", max_new_tokens=1).records) == 3


@pytest.mark.parametrize(("n", "line"), [(0, "n is 0, but colours has 3 samples"), (4, "Use --n all for all of them")])
def test_a_number_that_there_is_not_is_refused(tiny, n, line):
    with pytest.raises(UsageError, match=line):
        evaluate(tiny, coloured(3), n)


def test_broken_samples_are_recorded_and_tried_again_once_they_are_mended(tiny, tmp_path):
    picture, path = tmp_path / "a.png", tmp_path / "a.jsonl"
    source = coloured(3)
    source.samples[1:] = [Sample("gone", (picture,), "Which colour?", "red"), Sample("mute", (), "", "red")]
    evaluation = evaluate(tiny, source, "all", path, max_new_tokens=2)
    failed = {record["sample_id"]: record["error"] for record in evaluation.records if record["error"]}
    assert "a.png does not exist" in failed["gone"]
    assert "has an empty question" in failed["mute"]
    assert evaluation.summary_dict()["n"] == 1
    assert evaluation.summary_dict()["sentence"].endswith("Left out: 2 samples that failed.")
    Image.new("RGB", (32, 32)).save(picture)
    assert len(evaluate(tiny, source, "all", path, max_new_tokens=2).errors) == 1


def test_one_sample_that_the_model_cannot_take_costs_no_other(tiny, monkeypatch):
    def refuse(vlm, samples, most):
        if any(sample.sample_id == "s2" for sample in samples):
            raise RuntimeError("too long\nby far")
        return ["red"] * len(samples)

    monkeypatch.setattr(job, "answer", refuse)
    evaluation = evaluate(tiny, coloured(4))
    assert evaluation.errors == ["RuntimeError: too long"]
    assert evaluation.summary_dict()["accuracy"]["correct"]["mean"] == 1


def test_where_nothing_can_be_answered_it_fails_with_the_first_reason(tiny, monkeypatch):
    def refuse(*_):
        raise SampleError("no grid")

    monkeypatch.setattr(job, "answer", refuse)
    with pytest.raises(VifError, match=r"none of the 2 samples could be answered; the first: no grid\."):
        evaluate(tiny, coloured(2))


def test_what_is_wrong_with_the_model_ends_it(tiny, monkeypatch):
    def refuse(*_):
        raise UnsupportedModel("no attention")

    monkeypatch.setattr(job, "answer", refuse)
    with pytest.raises(UnsupportedModel, match="no attention"):
        evaluate(tiny, coloured(2))


def test_the_images_of_a_sample_are_its_unit_by_their_pixels(tiny):
    red, other = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue"))
    samples = [
        Sample(f"s{i}", pictures, "Which?", "red") for i, pictures in enumerate([(red,), (red.copy(),), (other,), ()])
    ]
    units = [record["image"] for record in evaluate(tiny, Listed("four", "1", samples), max_new_tokens=1).records]
    assert units[0] == units[1] != units[2]
    assert units[3] == "s3"


def test_progress_counts_every_sample(tiny):
    told = []
    vifscope.evaluate(tiny, coloured(5), max_new_tokens=1, batch_size=2, progress=lambda *step: told.append(step))
    assert told[:2] == [("loading", 0, 1), ("loading", 1, 1)]
    counts = [done for stage, done, _ in told if stage == "answering"]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 5)


def test_a_model_loads_by_name_and_a_wrong_one_is_refused():
    with pytest.raises(UsageError, match="is no folder, no embedded model"):
        vifscope.evaluate("nothing", coloured(1))
