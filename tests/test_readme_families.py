"""The README's list of families is what the families are found to be."""

from __future__ import annotations

from pathlib import Path

from vif_core.vlm.tiny import ALL_FAMILIES, tiny_model, tiny_samples

README = Path(__file__).parents[1] / "README.md"
KINDS = {
    "one grid an image": {"image"},
    "tiles put together, and a thumbnail": {"tile", "thumbnail"},
    "no map (latent queries)": set(),
}


def families_table() -> str:
    by_kind: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for family in sorted(set(ALL_FAMILIES) - {"sinks"}):
        frames = {grid.frame for grid in tiny_model(family).encode(tiny_samples(3)).layouts[1].grids}
        by_kind[next(kind for kind, wanted in KINDS.items() if wanted == frames)].append(family)
    rows = [f"| {kind} | {', '.join(names)} |" for kind, names in by_kind.items()]
    return "\n".join(["| map | families |", "| --- | --- |", *rows])


def test_the_readme_lists_every_family_as_it_is_found():
    text = README.read_text()
    shown = text.split("tests/test_readme_families.py -->\n")[1].split("\n<!-- end of families")[0]
    assert shown == families_table()


if __name__ == "__main__":
    print(families_table())
