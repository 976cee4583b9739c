from __future__ import annotations

import numpy as np
import pytest

from vifscope.runs.maps import scaled, unscaled


@pytest.mark.parametrize("tokens", [1, 144, 16_384])
@pytest.mark.parametrize("size", [1e-30, 1e-8, 1e-3, 1.0])
def test_maps_come_back_within_2_to_the_minus_11_of_their_rows_maximum(tokens, size):
    values = np.random.default_rng(0).lognormal(sigma=3, size=(4, 5, tokens))
    values = (values / values.sum(-1, keepdims=True) * size).astype(np.float32)
    back = unscaled(*scaled(values))
    error = np.abs(back - values).max(-1) / values.max(-1)
    print(f"largest error over the row's maximum: {error.max():.2e}")
    assert error.max() <= 2**-11
    assert back.max(-1) == pytest.approx(values.max(-1), rel=0)


def test_what_plain_fp16_would_lose_is_kept():
    uniform = np.full((1, 1, 30_000), 1e-8, np.float32)
    assert (uniform.astype(np.float16) == 0).all()
    assert (unscaled(*scaled(uniform)) == uniform).all()


def test_rows_without_flow_stay_zero_and_undefined_layers_undefined():
    values = np.stack([np.zeros((2, 3)), np.full((2, 3), np.nan)]).astype(np.float32)
    stored, scale = scaled(values)
    assert stored.dtype == np.float16
    assert scale.dtype == np.float32
    np.testing.assert_array_equal(unscaled(stored, scale), values)


def test_a_prompt_without_visual_tokens_has_empty_maps():
    assert unscaled(*scaled(np.empty((2, 3, 0), np.float32))).shape == (2, 3, 0)
