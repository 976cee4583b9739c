"""One checked, frozen value holds every choice; the two presets differ where the paper and its release do."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, asdict, fields

import pytest

from vif_core.errors import UsageError
from vif_core.vif.config import VIFConfig, default_width, layer_pairs

PAPER_AND_RELEASE = {
    "normalise": ("sum", "softmax"),  # equation 4
    "volume_of": ("amplitude", "variance"),  # equation 9
    "entropy_of": ("weights", "map"),  # equation 9
    "losses_of": ("all-pairs", "first-pair"),
    "inference": ("mean", "draw"),
    "later": ("turn", "none"),
    "points": ("centres", "linspace"),
    "shared_queries": (False, True),
    "width": (None, -1),
    "depth": (2, 3),
}


@pytest.mark.parametrize("name", PAPER_AND_RELEASE)
def test_each_difference_of_the_release_is_one_field(name):
    paper, release = PAPER_AND_RELEASE[name]
    assert getattr(VIFConfig(), name) == paper
    assert getattr(VIFConfig(preset="release"), name) == release
    assert getattr(VIFConfig(**{name: release}), name) == release


def test_the_presets_differ_nowhere_else():
    paper, release = asdict(VIFConfig()), asdict(VIFConfig(preset="release"))
    assert {name for name in paper if paper[name] != release[name]} == {"preset", *PAPER_AND_RELEASE}


def test_what_is_given_stands_over_the_preset():
    config = VIFConfig(preset="release", width=512, later="turn")
    assert (config.width, config.later, config.normalise) == (512, "turn", "softmax")


def test_hyper_parameters_are_those_of_the_release():
    config = VIFConfig(preset="release")
    assert (config.slots, config.min_spread, config.alpha, config.heads, config.logvar_bound) == (16, 0.035, 0.5, 4, 5)
    assert (config.lambda_kl, config.lambda_sp, config.entropy_weight, config.volume_weight) == (0.1, 0.1, 1, 1)
    assert config.feed_forward == 4
    assert config.kl_reduction == "mean"


def test_it_is_frozen():
    with pytest.raises(FrozenInstanceError):
        VIFConfig().alpha = 0.1


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("preset", "papr", "VIFConfig.preset is 'papr'; expected one of paper, release."),
        ("mapping", "deep", "VIFConfig.mapping is 'deep'; expected one of default, early, late, five-pairs."),
        ("variant", "x", "no-posterior, no-sparsity, full-sequence, deep-only, mid-feature"),
        ("normalise", "max", "VIFConfig.normalise is 'max'; expected one of sum, softmax."),
        ("kl_reduction", "max", "VIFConfig.kl_reduction is 'max'; expected one of mean, sum."),
        ("alpha", 1.5, "VIFConfig.alpha is 1.5; expected a number of at least 0 and at most 1, as in"),
        ("alpha", float("nan"), "VIFConfig.alpha is nan; expected a number"),
        ("slots", 0, "VIFConfig.slots is 0; expected a whole number, 1 or more."),
        ("depth", 2.0, "VIFConfig.depth is 2.0; expected a whole number, 1 or more."),
        ("heads", "4", "VIFConfig.heads is '4'; expected a whole number"),
        ("width", 0, "VIFConfig.width (-1: the decoder's) is 0; expected a whole number, 1 or more."),
        ("width", 128.0, "VIFConfig.width (-1: the decoder's) is 128.0; expected a whole number"),
        ("min_spread", 0.0, "VIFConfig.min_spread is 0.0; expected a number of at least 0.0001 and at most 1"),
        ("min_spread", 1e-25, "VIFConfig.min_spread is 1e-25; expected a number of at least 0.0001"),
        ("min_spread", float("nan"), "VIFConfig.min_spread is nan; expected a number"),
        ("logvar_bound", 0, "VIFConfig.logvar_bound is 0; expected a number above 0 and at most 20"),
        ("logvar_bound", 200.0, "VIFConfig.logvar_bound is 200.0; expected a number above 0 and at most 20"),
        ("lambda_kl", -0.1, "VIFConfig.lambda_kl is -0.1; expected a number of at least 0"),
        ("lambda_sp", float("nan"), "VIFConfig.lambda_sp is nan; expected a number of at least 0"),
        ("pairs", ((7.9, 15),), "VIFConfig.pairs is ((7.9, 15),); expected [[extraction, injection], ...]."),
        ("pairs", ((25, 11),), r"layer pairs [(25, 11)]; expected each extraction layer before its injection layer"),
        ("pairs", ((1, 5), (2, 5)), "each injection layer once"),
        ("pairs", (), "layer pairs []"),
        ("pairs", (3, 5), "VIFConfig.pairs is (3, 5); expected [[extraction, injection], ...]."),
    ],
)
def test_what_is_wrong_is_one_line(field, value, line):
    with pytest.raises(UsageError) as caught:
        VIFConfig(**{field: value})
    assert line in str(caught.value)


@pytest.mark.parametrize("preset", ["paper", "release"])
@pytest.mark.parametrize("resolved", [False, True])
def test_it_comes_back_from_json(preset, resolved):
    config = VIFConfig(preset=preset, variant="no-posterior", mapping="late")
    config = config.resolved(32, 4096) if resolved else config
    assert VIFConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config


def test_json_with_an_unknown_field_or_a_wrong_type_is_one_line():
    with pytest.raises(UsageError, match="VIFConfig has no field 'alhpa'; expected preset, mapping"):
        VIFConfig.from_dict({"alhpa": 0.5})
    with pytest.raises(UsageError, match=r"VIFConfig\.slots is 'many'; expected a whole number"):
        VIFConfig.from_dict({"slots": "many"})


# -- layer pairs


TABLE_4 = {
    "default": ((11, 25), (13, 27), (15, 29), (17, 31)),
    "early": ((9, 25), (11, 27), (13, 29), (15, 31)),
    "late": ((13, 25), (15, 27), (17, 29), (19, 31)),
    "five-pairs": ((9, 23), (11, 25), (13, 27), (15, 29), (17, 31)),
}


@pytest.mark.parametrize("mapping", TABLE_4)
def test_mappings_at_32_layers_are_those_of_table_4(mapping):
    assert layer_pairs(mapping, 32) == TABLE_4[mapping]


@pytest.mark.parametrize(
    ("num_layers", "pairs"),
    [
        (28, ((10, 21), (12, 23), (14, 25), (16, 27))),  # spacing floor(1.75 + 0.5) = 2, start floor(9.625 + 0.5)
        (16, ((6, 12), (7, 13), (8, 14), (9, 15))),  # spacing 1, start floor(5.5 + 0.5)
        (40, ((14, 30), (17, 33), (20, 36), (23, 39))),  # spacing floor(2.5 + 0.5) = 3, start floor(13.75 + 0.5)
        (64, ((22, 51), (26, 55), (30, 59), (34, 63))),  # spacing 4, start 22
    ],
)
def test_other_depths_follow_the_rule(num_layers, pairs):
    assert layer_pairs("default", num_layers) == pairs


@pytest.mark.parametrize("mapping", TABLE_4)
def test_injection_ends_at_the_last_layer_at_any_depth(mapping):
    for num_layers in range(16, 100):
        assert layer_pairs(mapping, num_layers)[-1][1] == num_layers - 1


def test_a_decoder_too_shallow_for_the_rule_is_refused():
    with pytest.raises(UsageError, match="Give `pairs` for a decoder this shallow"):
        layer_pairs("default", 4)


def test_pairs_beyond_the_decoder_are_refused():
    with pytest.raises(UsageError, match=r"pair \(11, 25\) of a decoder with 16 layers; expected layers below 16"):
        VIFConfig(pairs=((11, 25),)).resolved(16, 128)


def test_deep_only_reads_the_input_of_the_injection_layer():
    config = VIFConfig(variant="deep-only").resolved(32, 4096)
    assert config.pairs == ((24, 25), (26, 27), (28, 29), (30, 31))
    assert config.resolved(32, 4096) == config


def test_injected_layers_are_those_of_the_pairs():
    assert VIFConfig().resolved(32, 4096).injected == [25, 27, 29, 31]


# -- width


@pytest.mark.parametrize(
    ("hidden", "width"), [(128, 128), (1024, 128), (1032, 192), (2048, 256), (3584, 448), (4096, 512), (8192, 512)]
)
def test_the_width_is_an_eighth_of_the_decoders_within_bounds(hidden, width):
    assert default_width(hidden) == width
    assert VIFConfig().resolved(32, hidden).width == width


def test_the_release_keeps_the_decoders_width():
    assert VIFConfig(preset="release").resolved(32, 4096).width == 4096


def test_a_width_that_its_heads_do_not_divide_is_refused():
    with pytest.raises(UsageError, match=r"VIFConfig\.width is 130; expected a multiple of its 4 heads"):
        VIFConfig(width=130).resolved(32, 4096)


def test_every_field_is_explained():
    assert all(f"{field.name}" in (VIFConfig.__doc__ or "") for field in fields(VIFConfig))
