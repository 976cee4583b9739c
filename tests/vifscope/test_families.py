"""What `vifscope models` and the README say of each family is what is found of it.

`python -W ignore tests/vifscope/test_families.py` writes what is found, and prints the README's table.
"""

from __future__ import annotations

import csv
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from vif_core.errors import UnsupportedModel
from vif_core.vif.config import VIFConfig
from vif_core.vif.model import add_vif
from vif_core.vlm.tiny import ALL_FAMILIES, tiny_model, tiny_samples
from vif_core.vlm.visual import image_token_id
from vifscope.families import FOUND, Family, families

ROOT = Path(__file__).parents[2]
WORDS = {
    "image": "one grid an image",
    "tiles": "tiles put together, and mostly a thumbnail",
    "none": "no map (latent queries)",
}
PROVED = sorted(set(ALL_FAMILIES) - {"sinks"})
OTHERS = sorted({*MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES} - {*PROVED})


def found(name: str) -> Family:
    vlm = tiny_model(name)
    frames = {grid.frame for layout in vlm.encode(tiny_samples(3)).layouts for grid in layout.grids}
    kind = "tiles" if "tile" in frames else "image" if frames else "none"
    try:
        add_vif(vlm, VIFConfig(pairs=((vlm.layers[0].index, vlm.layers[-1].index),), width=8))
    except UnsupportedModel as error:
        line = str(error).replace(f"tiny-{name}", "the model")
        return Family(name, "proved", kind, "refused", "" if kind == "none" else f"VIF: {line.split(';')[0]}")
    return Family(name, "proved", kind, "trains", "")


def refused(name: str) -> Family:
    """Of families that no small model is built of: whether their configuration alone says that they cannot be read.

    An image token that only checkpoints name stands in the class's configuration as None, or in its vocabulary.
    """
    config = CONFIG_MAPPING[name]()
    if any(hasattr(config, given) and getattr(config, given) is None for given in ("image_token_id", "vocabulary_map")):
        return Family(name, "untried", "", "", "")
    try:
        image_token_id(config)
    except UnsupportedModel as error:
        return Family(name, "refused", "", "", str(error).split(";")[0])
    return Family(name, "untried", "", "", "")


def readme_table() -> str:
    """The proved families in Markdown, by how their map lies on the image."""
    proved = [family for family in families() if family.rows == "proved"]
    rows = [
        f"| {words} | {', '.join(each.name for each in proved if each.map == kind)} |" for kind, words in WORDS.items()
    ]
    return "\n".join(["| map | families |", "| --- | --- |", *rows])


def told(name: str) -> Family:
    return next(family for family in families() if family.name == name)


@pytest.mark.parametrize("name", PROVED)
def test_what_is_said_of_a_proved_family_is_found(name):
    assert told(name) == found(name)


def test_what_is_said_of_the_others_is_found():
    assert [told(name) for name in OTHERS] == [refused(name) for name in OTHERS]


def test_every_family_is_listed_once():
    assert [family.name for family in families()] == sorted({*PROVED, *OTHERS})
    assert len(PROVED) >= 60


def test_the_readme_shows_the_same():
    text = (ROOT / "README.md").read_text()
    assert text.split("tests/vifscope/test_families.py -->\n")[1].split("\n<!-- end of families")[0] == readme_table()


if __name__ == "__main__":
    rows = sorted([*map(found, PROVED), *map(refused, OTHERS)], key=lambda family: family.name)
    with (ROOT / "vifscope" / FOUND).open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Family)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    print(readme_table())
