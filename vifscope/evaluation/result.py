"""What an evaluation found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vif_core.data.sample import Sample
from vifscope.evidence.blind import majority_elsewhere
from vifscope.figures.frames import ALL
from vifscope.scoring.answers import score_response
from vifscope.stats import bootstrap_mean
from vifscope.summary import count, groups, interval, plain_numbers

MEASURES = ("exact", "correct", "score")
BLIND = ("blank", "majority")
_COLUMNS = ("sample_id", "kind", "size", "question", "answer", "response", "exact", "correct", "score", "error")


@dataclass(frozen=True)
class Evaluation:
    """The answers to n questions, and which of them are right.

    configuration: what decides the numbers.     path: its file, if any.
    records:       a dict a sample, failed ones too, in the order of their ids.

    exact:    the same text.          correct: the rule of its kind (relaxed match; a place from an IoU of 0.5 on, a
    description from an F1 of 0.5 on).
    score:    IoU of a place (in words or as four numbers, in the answer's unit), F1 of a description's facts, 0 or 1
    for the others.
    blank:    right from a grey image.          majority: right by the most common answer to like questions about other
    images; None where no like question about another image has an answer. Both only where the evaluation was asked for
    its blind baselines.
    """

    configuration: dict[str, Any]
    records: tuple[dict[str, Any], ...]
    path: Path | None = None

    @property
    def errors(self) -> list[str]:
        """The error lines of the samples that failed."""
        return [record["error"] for record in self.records if record["error"]]

    @property
    def measures(self) -> tuple[str, ...]:
        return (*MEASURES, *BLIND) if self.configuration["blind"] else MEASURES

    def samples(self) -> pd.DataFrame:
        """A row a sample: sample_id, kind, size, question, answer, response, exact, correct, score, error; and with
        blind baselines blank_response, blank, majority_response, majority."""
        frame = pd.DataFrame(self.records).reindex(columns=[*_COLUMNS, "image", "blank_response", "blank_correct"])
        frame = frame.rename(columns={"blank_correct": "blank"})
        if not self.configuration["blind"]:
            return frame.drop(columns=["image", "blank_response", "blank"])
        answered = [place for place, record in enumerate(self.records) if not record["error"]]
        known = [
            Sample(r["sample_id"], (), r["question"], r["answer"], kind=r["kind"], size=r["size"])
            for r in (self.records[place] for place in answered)
        ]
        said = majority_elsewhere(known, [self.records[place]["image"] for place in answered])
        verdicts = [
            None if response is None else score_response(sample, response)[0]
            for sample, response in zip(known, said, strict=True)
        ]
        majority = pd.DataFrame({"majority_response": said, "majority": verdicts}, index=answered, dtype=object)
        return frame.drop(columns="image").join(majority)

    def frame(self) -> pd.DataFrame:
        """Every measure with its 95 % bootstrap interval over images: overall, by kind, by size, by kind and size.

        Columns group ("all", "kind", "size", "kind and size"), kind, size ("" where it is of all), n (samples with an
        answer), and for each measure its mean, MEASURE_low and MEASURE_high.
        """
        return self._frame.copy()

    def summary_dict(self) -> dict[str, Any]:
        """What was found, ready for JSON; undefined numbers are None.

        model, data, n (answered samples), failed, file, configuration; accuracy: {n, and a dict {mean, low, high} a
        measure}; by_kind, by_size: the same by name; by_kind_and_size: by kind, then size; sentence.
        """
        rows = {(row["group"], row["kind"], row["size"]): _measured(row, self.measures) for row in self._rows}
        kinds = [kind for group, kind, _ in rows if group == "kind"]
        both = {(kind, size): row for (group, kind, size), row in rows.items() if group == "kind and size"}
        summary: dict[str, Any] = {
            "model": self.configuration["model"],
            "data": self.configuration["data"],
            "n": len(self.records) - len(self.errors),
            "failed": len(self.errors),
            "file": None if self.path is None else str(self.path),
            "configuration": self.configuration,
            "accuracy": rows["all", "", ""],
            "by_kind": {kind: rows["kind", kind, ""] for kind in kinds},
            "by_size": {size: row for (group, _, size), row in rows.items() if group == "size"},
            "by_kind_and_size": {
                kind: {size: row for (of, size), row in both.items() if of == kind}
                for kind in dict.fromkeys(kind for kind, _ in both)
            },
        }
        summary = plain_numbers(summary)
        return summary | {"sentence": _sentence(summary)}

    @property
    def _rows(self) -> list[dict[str, Any]]:
        return self._frame.to_dict("records")  # type: ignore[return-value]

    @cached_property
    def _frame(self) -> pd.DataFrame:
        samples = self.samples()
        samples = samples[samples["error"].isna()].assign(
            image=[record["image"] for record in self.records if not record["error"]]
        )
        samples = samples[samples["correct"].notna()]
        values = samples[list(self.measures)].to_numpy(dtype=np.float64)
        rows = samples.to_dict("records")
        kinds, sizes = groups(rows, "kind"), groups(rows, "size")  # type: ignore[arg-type]
        chosen = [(ALL, "", "", list(range(len(rows))))]
        chosen += [("kind", kind, "", places) for kind, places in kinds.items()]
        chosen += [("size", "", size, places) for size, places in sizes.items()]
        for kind, of_kind in kinds.items():
            both = ((size, sorted(set(of_kind) & set(places))) for size, places in sizes.items())
            chosen += [("kind and size", kind, size, places) for size, places in both if places]
        return pd.DataFrame([self._row(samples["image"].to_numpy(), values, *group) for group in chosen])

    def _row(
        self, units: np.ndarray, values: np.ndarray, group: str, kind: str, size: str, places: list[int]
    ) -> dict[str, Any]:
        row: dict[str, Any] = {"group": group, "kind": kind, "size": size, "n": len(places)}
        mean, low, high = bootstrap_mean(values[places], units[places])
        for column, measure in enumerate(self.measures):
            row |= {measure: mean[column], f"{measure}_low": low[column], f"{measure}_high": high[column]}
        return row


def _measured(row: dict[str, Any], measures: tuple[str, ...]) -> dict[str, Any]:
    ends = {"mean": "", "low": "_low", "high": "_high"}
    return {"n": row["n"]} | {m: {key: row[f"{m}{end}"] for key, end in ends.items()} for m in measures}


def _sentence(summary: dict[str, Any]) -> str:
    accuracy = summary["accuracy"]
    words = [f"{summary['model']} on {count(summary['n'], 'sample')} of {summary['data']}:"]
    if accuracy["n"]:
        right = interval(accuracy["correct"], percent=True)
        words.append(f"{right} right, {100 * accuracy['exact']['mean']:.1f} % to the letter.")
    else:
        words.append("accuracy is unknown, for no sample has an answer.")
    if accuracy["n"] and "blank" in accuracy:
        ways = zip(BLIND, ("from a grey image", "by majority answers"), strict=True)
        means = [(accuracy[name]["mean"], way) for name, way in ways]
        said = ", ".join(f"{100 * mean:.1f} % {way}" for mean, way in means if mean is not None)
        words.append(f"Without looking: {said}.")
    if accuracy["n"] < summary["n"] and accuracy["n"]:
        words.append(f"{count(summary['n'] - accuracy['n'], 'sample')} without an answer.")
    if summary["failed"]:
        words.append(f"Left out: {count(summary['failed'], 'sample')} that failed.")
    return " ".join(words)
