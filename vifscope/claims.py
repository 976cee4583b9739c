"""The paper's claims beside what runs show: its number, ours with its interval, and whether the direction agrees.

Zhu and Feng, arXiv 2604.12508. Every verdict is computed: "yes" where the 95 % interval lies wholly on the claim's
side, "no" where it lies wholly on the other, "open" where it does not tell or where nothing was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from vifscope.comparison import Comparison
from vifscope.comparison.words import PAPER
from vifscope.figures.frames import image_units, measured_samples
from vifscope.figures.lights import branch_frame, has_spotlights
from vifscope.metrics.attenuation import deep_layers, nothing_else_seen
from vifscope.runs import RunStore
from vifscope.runs.manifest import vif_facts
from vifscope.stats import bootstrap_mean, groups_difference
from vifscope.summary import count


@dataclass(frozen=True)
class Claim:
    """One claim and what was measured for it.

    where:   in the paper.             paper: its number, in words; "a figure" where it gives none.
    measure: what `ours` is, unit included.
    ours, low, high: our number and its 95 % bootstrap interval over images; NaN where nothing was measured.
    n:       samples with a value, or pairs of them.      threshold, above: the claim holds above (or below) it.
    """

    claim: str
    where: str
    measure: str
    paper: str
    ours: float
    low: float
    high: float
    n: int
    threshold: float
    above: bool

    @property
    def agrees(self) -> str:
        """
        >>> Claim("", "", "", "", 2.0, 1.5, 2.5, 9, threshold=1.0, above=True).agrees
        'yes'
        """
        if self.low > self.threshold:
            return "yes" if self.above else "no"
        if self.high < self.threshold:
            return "no" if self.above else "yes"
        return "open"

    @property
    def sentence(self) -> str:
        """The verdict in one sentence, with our number."""
        if np.isnan(self.ours):
            return f"Not measured here: {self.measure}."
        if np.isnan(self.low):
            return f"Measured without an interval, so that nothing is settled: {self.measure}: {self.ours:.4g}."
        verdict = {"yes": "holds here", "no": "does not hold here", "open": "is neither borne out nor refuted here"}
        return (
            f"“{self.claim}” {verdict[self.agrees]}: {self.measure}: {self.ours:.4g} "
            f"(95 % interval {self.low:.4g} to {self.high:.4g}, n = {self.n}); the paper: {self.paper}."
        )


def attenuation_claim(run: RunStore) -> Claim:
    """Section 2: the visual ratio is high in shallow layers (here the first half) and falls in the deep ones.

    This claim and the next two are of models without VIF: they are not measured by a run with it.
    """
    change, units, half = _deep_less_shallow(run, "visual_ratio")
    return _of_base(run, Claim(
        "Attention to the image falls off in deep layers", "section 2, Figures 1 and 2",
        f"visual ratio of the deep layers less that of layers 0 to {half - 1}",
        "a falling curve", *_interval(change, units), threshold=0.0, above=False,
    ))  # fmt: skip


def tail_claim(run: RunStore) -> Claim:
    """Section 2, violins of Figure 2: in deep layers no few visual tokens hold much of the weight any more."""
    change, units, half = _deep_less_shallow(run, "top_share")
    return _of_base(run, Claim(
        "The weights of single visual tokens lose their long tail in deep layers", "section 2, Figure 2",
        f"share of the visual attention on the top 5 % of visual tokens, deep layers less layers 0 to {half - 1}",
        "violins that near uniform", *_interval(change, units), threshold=0.0, above=False,
    ))  # fmt: skip


def focus_claim(run: RunStore) -> Claim:
    """Section 2, Figure 3: deep layers attend more diffusely than the middle one, L / 2."""
    entropy, units = _by_layer(run, "visual_entropy")
    num_layers = entropy.shape[1]
    change = _mean(entropy[:, list(deep_layers(num_layers))]) - entropy[:, num_layers // 2]
    return _of_base(run, Claim(
        "Middle layers focus, deep layers are diffuse", "section 2, Figure 3",
        f"visual entropy of the deep layers less that of layer {num_layers // 2}, nats",
        "maps that spread", *_interval(change, units), threshold=0.0, above=True,
    ))  # fmt: skip


def vif_claims(comparison: Comparison) -> list[Claim]:
    """Section 5.3.4, Tables 1 and 2: the second run, with VIF, against the first: entropy, accuracy, tiny objects, and
    questions for a place (kind "grounding"). Not measured by other runs than one without VIF and one with it."""
    other = comparison.summary_dict()["others"][0]
    entropy = other["deep"].get("deep injected", {}).get("visual_entropy", {})
    percent = _numbers(entropy, "percent", "percent_low", "percent_high")
    tiny, places = other["accuracy_by_size"].get("tiny", {}), other["accuracy_by_kind"].get("grounding", {})
    found = [
        Claim(
            "VIF focuses the attention of the layers that it injects into", "section 5.3.4",
            "change of visual entropy in the injected deep layers, %",
            f"{PAPER['baseline']} to {PAPER['other']} nats ({PAPER['percent']} %)",
            *percent, int(entropy.get("n") or 0), threshold=0.0, above=False,
        ),
        Claim(
            "VIF answers more questions rightly", "Table 1", "change of accuracy, points",
            "LLaVA-v1.5 67.2 to 70.8 on SEED-I", *_points(other["accuracy"]), threshold=0.0, above=True,
        ),
        Claim(
            "VIF helps with small details", "Table 2", "change of accuracy on tiny objects, points",
            "LLaVA-v1.5 45.0 to 50.8 on V*", *_points(tiny), threshold=0.0, above=True,
        ),
        Claim(
            "VIF locates more of what is asked for", "Table 2", "change of accuracy on questions for a place, points",
            "LLaVA-v1.5 30.4 to 34.3 on RefCOCO val", *_points(places), threshold=0.0, above=True,
        ),
    ]  # fmt: skip
    return [_of_vif(claim, comparison) for claim in found]


def answer_claim(run: RunStore) -> Claim:
    """Figure 5: where the question alone is ambiguous, spotlights that know the answer lie on what it is about.

    Ambiguous are the third of the samples whose maps from the question alone are the broadest.
    """
    frame = branch_frame(run)
    frame = frame[frame["ambiguous"]].groupby(["sample_id", "image", "branch"])["box_lift"].mean().unstack()
    known = frame.reindex(columns=["prior", "posterior"]).dropna()
    change = (known["posterior"] - known["prior"]).to_numpy(float)
    return Claim(
        "With the answer, spotlights lie on what is asked about", "Figure 5",
        "box lift of the maps with the answer less that of the maps from the question alone, ambiguous questions",
        "maps of a few questions", *_interval(change, known.index.get_level_values("image").to_numpy()),
        threshold=0.0, above=True,
    )  # fmt: skip


def limit_claim(comparison: Comparison) -> Claim:
    """Limitations: objects smaller than a patch gain less from VIF than larger ones. Not measured by other runs than
    those of `vif_claims`."""
    targets = comparison.targets
    small = (targets["side_patches"] < 1).to_numpy(bool)
    ours = (np.nan,) * 3
    if small.any() and not small.all():
        gains = 100 * targets["gain"].to_numpy(float)
        ours = tuple(map(float, groups_difference(gains, small, targets["image"].to_numpy())))  # type: ignore[assignment]
    found = Claim(
        "Objects smaller than a patch gain less", "Limitations",
        "gain in accuracy on objects smaller than a patch less that on larger ones, points",
        "no number", *ours, len(targets), threshold=0.0, above=False,
    )  # fmt: skip
    return _of_vif(found, comparison)


def ablation_claim(table: pd.DataFrame) -> Claim:
    """Table 3's "VIF": what it gains on tiny objects over a control trained alike.

    table: `ablation.csv` of `vifscope ablate`. Its intervals are over seeds and images; of one seed alone they say
    nothing of another training, and are left out.
    """
    row = table[(table["arm"] == "vif") & (table["measure"] == "accuracy_tiny")].to_dict("records")
    found = row[0] if row else {}
    seeds = int(found.get("control_seeds") or 0)
    ours, low, high = _numbers(found, "difference", "difference_low", "difference_high")
    return Claim(
        "VIF helps with small details", "Table 3",
        f"accuracy on tiny objects less that of a control trained alike, points, {count(seeds, 'seed')}",
        "LLaVA-v1.5 45.0 to 50.8 on V*", 100 * ours, *((100 * low, 100 * high) if seeds > 1 else (np.nan, np.nan)),
        int(found.get("n") or 0), threshold=0.0, above=True,
    )  # fmt: skip


def parts_claim(table: pd.DataFrame) -> Claim:
    """Table 3: VIF gains more than each variant that lacks a part of it. table: as of `ablation_claim`.

    Its number is the least that VIF gains on tiny objects over one of these variants, over the seeds of both. So are
    the ends of its interval: it holds where it holds against each variant, and not where it does not against one, which
    is not corrected for their number. Without an interval where a variant is missing, or has one seed.
    """
    variants = ("no-posterior", "no-sparsity", "full-sequence", "deep-only", "mid-feature")
    measure, ours = _lead(table, "vif", variants)
    return Claim(
        "Each part of VIF adds to its gain", "Table 3", measure,
        "V*: 50.8 against 50.8 at most; HR-Bench 4K: 44.8 against 42.3", *ours, threshold=0.0, above=True,
    )  # fmt: skip


def mapping_claim(table: pd.DataFrame) -> Claim:
    """Table 4: the default layer mapping gains more than earlier and later extraction layers (and as much as five
    pairs). table: as of `ablation_claim`; the number is made as that of `parts_claim`.
    """
    measure, ours = _lead(table, "default", ("early", "late"))
    return Claim(
        "The default layer mapping gains more than earlier and later layers", "Table 4", measure,
        "50.8 against 49.6 at most on V*", *ours, threshold=0.0, above=True,
    )  # fmt: skip


def claims(runs: Sequence[RunStore]) -> list[Claim]:
    """What the runs say on the paper's claims: of the first run alone, of the second against it, and of the spotlights
    of the last of these two that has any."""
    found = [attenuation_claim(runs[0]), tail_claim(runs[0]), focus_claim(runs[0])]
    if len(runs) > 1:
        comparison = Comparison(runs[:2])
        found += [*vif_claims(comparison), limit_claim(comparison)]
    return found + [answer_claim(run) for run in runs[:2] if has_spotlights(run)][-1:]


def claims_frame(found: Sequence[Claim]) -> pd.DataFrame:
    """Claims as a table: claim, where, measure, paper, ours, low, high, n, agrees."""
    rows = [asdict(claim) | {"agrees": claim.agrees} for claim in found]
    return pd.DataFrame(rows).drop(columns=["threshold", "above"])


def _by_layer(run: RunStore, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """A metric of every measured sample and layer [N, L], and the image of each sample."""
    layers = run.layers()
    table = layers[layers["map"] == "raw"].pivot(index="sample_id", columns="layer", values=metric)
    samples = {sample["sample_id"]: sample for sample in measured_samples(run)}
    return table.to_numpy(float), image_units([samples[sample_id] for sample_id in table.index])


def _deep_less_shallow(run: RunStore, metric: str) -> tuple[np.ndarray, np.ndarray, int]:
    """A metric's mean over the deep layers less that over the first half, by sample [N]; their images; L // 2.

    NaN where the ratio is 1 by construction, as nothing else is seen.
    """
    values, units = _by_layer(run, metric)
    num_layers = values.shape[1]
    half = max(1, num_layers // 2)
    change = _mean(values[:, list(deep_layers(num_layers))]) - _mean(values[:, :half])
    if metric == "visual_ratio" and nothing_else_seen(values):
        change = np.full_like(change, np.nan)
    return change, units, half


def _of_base(run: RunStore, claim: Claim) -> Claim:
    """The claim as it is of a run without VIF; else with no number, and why."""
    return _unmeasured(claim, "which takes a run without VIF") if vif_facts(run.manifest) else claim


def _of_vif(claim: Claim, comparison: Comparison) -> Claim:
    """The claim as it is where the second run has VIF and the first has not; else with no number, and why."""
    baseline, other = comparison.sides[:2]
    if other.vif and not baseline.vif:
        return claim
    return _unmeasured(claim, "which takes a first run without VIF and a second one with it")


def _unmeasured(claim: Claim, why: str) -> Claim:
    return replace(claim, measure=f"{claim.measure}, {why}", ours=np.nan, low=np.nan, high=np.nan, n=0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the layers [N, L] that are defined; NaN where none is."""
    known = ~np.isnan(values)
    return np.where(known, values, 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)


def _lead(table: pd.DataFrame, arm: str, others: Sequence[str]) -> tuple[str, tuple[float, float, float, int]]:
    """The least that an arm gains on tiny objects over one of its variants, over the seeds that both have.

    First in words, which name the variants and the fewest seeds; then the number and its interval, in points, and the
    samples.
    """
    tiny = table[(table["measure"] == "accuracy_tiny") & (table["reference"] == arm) & table["from_reference"].notna()]
    variants = tiny[tiny["arm"].isin(others)]
    words = f"accuracy on tiny objects of {arm} less that of the best of "
    if variants.empty:
        return f"{words}{', '.join(others)}, points", (np.nan, np.nan, np.nan, 0)
    seeds = int(variants["reference_seeds"].min())
    words += f"{', '.join(variants['arm'])}, points, {count(seeds, 'seed')}"
    ends = ["from_reference", "from_reference_high", "from_reference_low"]
    ours, low, high = (-100 * float(variants[end].max(skipna=False)) for end in ends)
    if missing := [name for name in others if name not in set(variants["arm"])]:
        words += f", without {', '.join(missing)}"
    if missing or seeds == 1:
        low = high = np.nan
    return words, (ours, low, high, int(variants["n"].min()))


def _interval(values: np.ndarray, units: np.ndarray) -> tuple[float, float, float, int]:
    """Mean, low, high, and of how many values; NaN is left out."""
    mean, low, high = bootstrap_mean(values, units)
    return float(mean), float(low), float(high), int((~np.isnan(values)).sum())


def _numbers(found: dict[Any, Any], *names: str) -> tuple[float, float, float]:
    first, second, third = (float("nan") if found.get(name) is None else float(found[name]) for name in names)
    return first, second, third


def _points(change: dict[str, Any]) -> tuple[float, float, float, int]:
    """difference, low, high in points of 100, and the number of pairs."""
    mean, low, high = _numbers(change, "difference", "low", "high")
    return 100 * mean, 100 * low, 100 * high, int(change.get("n") or 0)
