"""Equations 6 and 7 by blending outputs: the same as building the matrices, whatever mask, heads or sinks."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
import torch
from torch import nn

from vif_core.flow.blend import Blend
from vif_core.flow.call import AttentionCall
from vif_core.flow.interventions import Intervention

TOKENS = 9
VISUAL = [[2, 3, 4, 5], [1, 2, 3, -1]]
"""Keys of two samples, the first of which is padded on the left by one token."""


def causal(window=TOKENS):
    seen = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril().triu(1 - window).expand(2, 1, -1, -1).clone()
    seen[0, :, :, 0] = False  # padding
    return seen


def additive(seen):
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)


PADDING = torch.ones(2, TOKENS, dtype=torch.long)
PADDING[0, 0] = 0
CALLS = {
    "causal": (None, {}),
    "boolean": (causal(), {}),
    "additive": (additive(causal()), {"scaling": 0.3}),
    "sliding": (causal(4), {}),
    "sliding-additive": (additive(causal(4)), {}),
    "flash-padding": (PADDING, {}),
    "flash-sliding": (PADDING, {"sliding_window": 4}),
    "softcap": (causal(), {"softcap": 2.0}),
    "sinks": (causal(), {"s_aux": torch.tensor([0.5, -1.0, 1.5, 0.0])}),
}


def made_call(name="boolean"):
    """Four query heads over two key heads."""
    mask, extras = CALLS[name]
    random = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, TOKENS, 8, generator=random)
    key, value = torch.randn(2, 2, 2, TOKENS, 8, generator=random)
    return AttentionCall(nn.Module(), query, key, value, mask, dict(extras))


def made_blend(alpha=0.5, **options):
    """Two turns of the first sample, one of the second; text before the images has none."""
    maps = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1], [0.2, 0.5, 0.3, 0.0]])
    turn = torch.tensor([[-1, -1, -1, -1, 0, 0, 0, 1, 1], [-1, -1, 2, -1, 2, 2, 2, 2, -1]])
    return Blend(alpha, torch.tensor(VISUAL), maps, turn, **options)


@pytest.fixture(params=CALLS)
def call(request):
    return made_call(request.param)


EVERY = torch.arange(TOKENS).expand(2, -1)


# -- by hand


def even_call(n_keys=4, visible=None):
    """One head whose rows are uniform over the keys they see; the values are the keys' names."""
    mask = None if visible is None else visible[None, None]
    value = torch.eye(n_keys)[None, None]
    return AttentionCall(nn.Module(), torch.zeros(1, 1, n_keys, n_keys), value, value, mask, {})


def blended(call, blend, attended):
    """The flow as the blended output tells it: with values that name their keys, the output is the flow."""
    return blend.after(call, attended(call.rows(torch.arange(call.query.shape[2])), call.value))[0, :, 0]


def test_equation_5_is_the_softmax_of_scaled_scores_over_visible_keys():
    """Width 4, so that scores are halved: exp(2 ln 3 / 2) = 3 against 1 and a hidden key."""
    query = torch.tensor([1.0, 0, 0, 0]).expand(1, 1, 3, 4)
    key = torch.zeros(1, 1, 3, 4)
    key[0, 0, 1, 0] = 2 * log(3)
    call = AttentionCall(nn.Module(), query, key, key, None, {})
    torch.testing.assert_close(call.rows(torch.tensor([[1]])).flatten(), torch.tensor([1 / 4, 3 / 4, 0]))


def test_equation_6_mixes_a_row_with_its_map(attended):
    blend = Blend(0.5, torch.tensor([[1, 2]]), torch.tensor([[0.75, 0.25]]), torch.tensor([[-1, -1, -1, 0]]))
    flow = blended(even_call(), blend, attended)
    torch.testing.assert_close(flow[3], torch.tensor([0.125, 0.5, 0.25, 0.125]))  # half of 1/4 each, and half of B
    torch.testing.assert_close(flow[2], torch.tensor([1 / 3, 1 / 3, 1 / 3, 0]))


def test_equation_7_leaves_out_hidden_keys_and_makes_the_row_sum_to_one(attended):
    visible = torch.ones(4, 4, dtype=torch.bool).tril()
    visible[3, 2:] = False  # the row sees keys 0 and 1 alone: A = (1/2, 1/2)
    blend = Blend(0.5, torch.tensor([[1, 2]]), torch.tensor([[0.75, 0.25]]), torch.tensor([[-1, -1, -1, 0]]))
    flow = blended(even_call(visible=visible), blend, attended)
    torch.testing.assert_close(flow[3], torch.tensor([2 / 7, 5 / 7, 0, 0]))  # (1/4, 1/4 + 3/8) over their sum


# -- against the matrices


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_outputs_and_gradients_are_those_of_the_matrices(call, alpha, flows, attended):
    tensors = {name: getattr(call, name).requires_grad_() for name in ("query", "key", "value")}
    tensors["maps"] = made_blend().maps.requires_grad_()
    if call.sinks is not None:
        tensors["sinks"] = call.sinks.clone().requires_grad_()
        call = replace(call, extras={"s_aux": tensors["sinks"]})
    blend = replace(made_blend(alpha), maps=tensors["maps"])
    weigh = torch.randn(2, TOKENS, 4, 8, generator=torch.Generator().manual_seed(1))
    before, _, after, _ = flows(call, blend)
    rows = slice(1, None)  # the padding's own row sees nothing, and means nothing
    results = []
    for output in (attended(after, call.value), blend.after(call, attended(before, call.value))):
        gradients = torch.autograd.grad((output * weigh)[:, rows].sum(), list(tensors.values()), retain_graph=True)
        results.append((output[:, rows], *gradients))
    for name, reference, fast in zip(["output", *tensors], *results, strict=True):
        print(f"{name}: max difference {(reference - fast).abs().max():.1e}")
        torch.testing.assert_close(fast, reference, atol=1e-5, rtol=1e-5)


def test_the_flow_that_is_measured_is_that_of_the_matrices(call, flows):
    blend = made_blend()
    _, _, after, _ = flows(call, blend)
    torch.testing.assert_close(blend.rows(call, EVERY, call.rows(EVERY))[:, :, 1:], after[:, :, 1:], atol=1e-6, rtol=0)


def test_changed_rows_sum_to_one_and_hidden_keys_get_exactly_nothing(call, flows):
    blend = made_blend()
    *_, changed = flows(call, blend)
    flow = blend.rows(call, EVERY, call.rows(EVERY)).transpose(1, 2)  # [B Q H K]
    sums = flow[changed].sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    hidden = ~call.visible(EVERY, EVERY)  # [B Q K]
    assert changed.sum() >= 5
    assert (flow.transpose(2, 3)[changed][hidden[changed]] == 0).all()


def test_alpha_0_changes_no_bit(call, attended):
    output = attended(call.rows(EVERY), call.value)
    for alpha in (0.0, torch.tensor(0.0)):
        assert torch.equal(made_blend(alpha).after(call, output), output)
        assert torch.equal(made_blend(alpha).rows(call, EVERY, call.rows(EVERY)), call.rows(EVERY))


def test_alpha_1_leaves_the_map_alone(flows, attended):
    call, blend = made_call(), made_blend(1.0)
    flow = blend.rows(call, EVERY, call.rows(EVERY))
    expected = torch.zeros(TOKENS)
    expected[2:6] = blend.maps[1]  # row 8 of the first sample sees its whole map
    torch.testing.assert_close(flow[0, :, 8], expected.expand(4, -1))
    output = blend.after(call, attended(call.rows(EVERY), call.value))
    torch.testing.assert_close(output[0, 8], attended(expected[None, None, None].expand(1, 4, 1, -1), call.value)[0, 0])


def test_rows_that_see_none_of_their_map_keep_every_bit(call, flows, attended):
    blend = made_blend(1.0)
    *_, changed = flows(call, blend)
    output = attended(call.rows(EVERY), call.value).requires_grad_()
    after = blend.after(call, output)
    assert torch.equal(after[~changed], output[~changed])
    (gradient,) = torch.autograd.grad(after.sum(), output)
    assert torch.equal(gradient[~changed], torch.ones_like(gradient[~changed]))
    assert gradient.isfinite().all()


def test_a_sliding_window_that_has_passed_the_image_leaves_the_row_as_it_is(flows):
    *_, changed = flows(made_call("sliding"), made_blend())
    assert changed[0].tolist() == [False] * 4 + [True] * 5  # row 8 still sees key 5
    assert changed[1].tolist() == [False, False, True, False, True, True, True, False, False]  # row 7 sees 4 to 7


def test_a_strength_may_be_a_tensor(call, attended):
    output = attended(call.rows(EVERY), call.value)
    warm = made_blend(torch.tensor(0.3)).after(call, output)
    torch.testing.assert_close(warm, made_blend(0.3).after(call, output))


def test_rows_before_the_first_map_need_no_work(call, attended):
    output = attended(call.rows(EVERY), call.value)
    blend = made_blend()
    torch.testing.assert_close(replace(blend, first=2).after(call, output), blend.after(call, output))


def test_half_precision_stays_half_precision():
    call = made_call()
    half = replace(call, query=call.query.bfloat16(), key=call.key.bfloat16(), value=call.value.bfloat16())
    output = torch.randn(2, TOKENS, 4, 8)
    after = made_blend().after(half, output.bfloat16())
    assert after.dtype == torch.bfloat16
    torch.testing.assert_close(after.float(), made_blend().after(call, output), atol=0.03, rtol=0)


# -- where all of a map is seen


def ahead_blend(alpha=0.5, **options):
    """Turns whose rows all come after the keys of their maps; the last one's map is empty."""
    maps = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.2, 0.5, 0.3, 0.0], [0.0, 0.0, 0.0, 0.0]])
    turn = torch.tensor([[-1] * 6 + [0, 0, -1], [-1] * 4 + [1, 1, 1, 2, 2]])
    return Blend(alpha, torch.tensor(VISUAL), maps, turn, first=4, **options)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_knowing_that_all_of_a_map_is_seen_changes_neither_outputs_nor_gradients(alpha, attended):
    call = made_call("causal")
    value = call.value.requires_grad_()
    weigh = torch.randn(2, TOKENS, 4, 8, generator=torch.Generator().manual_seed(1))
    found = []
    for ahead in (False, True):
        blend = ahead_blend(alpha, ahead=ahead)
        raw = blend.maps.requires_grad_()  # its maps sum to 1 over keys that are there, whatever they are made from
        over = raw * torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 0]])
        blend = replace(blend, maps=over / over.sum(1, keepdim=True).clamp(min=1e-6))
        output = blend.after(call, attended(call.rows(EVERY), value))
        gradients = torch.autograd.grad((output * weigh).sum(), [value, raw], allow_unused=alpha == 0)
        found.append((output, *(each for each in gradients if each is not None)))
    for plain, fast in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain)
    untouched = blend.turn < 0
    untouched[1, 7:] = True  # an empty map
    assert torch.equal(found[1][0][untouched], attended(call.rows(EVERY), value)[untouched])


@pytest.mark.parametrize("name", ["boolean", "sliding", "flash-sliding", "sinks"])
def test_what_hides_keys_is_minded_all_the_same(name, attended):
    call = made_call(name)
    output = attended(call.rows(EVERY), call.value)
    assert torch.equal(ahead_blend(ahead=True).after(call, output), ahead_blend().after(call, output))


@pytest.mark.parametrize("ahead", [False, True])
def test_what_the_map_gives_to_generated_tokens_is_worked_out_once(ahead, attended):
    """Also where rows of the prompt stand among the keys of their map."""
    call, blend = made_call("causal"), known_to((ahead_blend if ahead else made_blend)(ahead=ahead), 7)
    with torch.no_grad():
        for position in (7, 8):
            masked = step(replace(call, mask=causal()), position)  # a mask that hides no key of theirs is minded
            one = replace(masked, mask=None)
            output = attended(one.rows(torch.tensor([0])), one.value)
            torch.testing.assert_close(blend.after(one, output), blend.after(masked, output))
            poisoned = replace(one, value=torch.full_like(one.value, torch.nan))
            assert torch.equal(blend.after(poisoned, output), blend.after(one, output))


# -- with a cache


def step(call, position):
    """The call of one cached step: the query at `position` alone, and keys up to it."""
    keys = slice(0, position + 1)
    return replace(
        call,
        query=call.query[:, :, position : position + 1],
        key=call.key[:, :, keys],
        value=call.value[:, :, keys],
        mask=call.mask[:, :, position : position + 1, keys],
        total=position + 1,
    )


def known_to(blend, length):
    return replace(blend, turn=blend.turn[:, :length])


@pytest.mark.parametrize("name", ["boolean", "additive", "sliding", "sinks"])
def test_a_cached_step_is_the_row_of_one_pass(name, attended):
    call, blend = made_call(name), made_blend()
    whole = blend.after(call, attended(call.rows(EVERY), call.value))
    for position in (5, 6):  # in the turns at which the known part ends
        one = step(call, position)
        output = known_to(blend, 6).after(one, attended(one.rows(torch.tensor([0])), one.value))
        torch.testing.assert_close(output, whole[:, position : position + 1], atol=1e-6, rtol=0)


def test_what_is_generated_takes_the_last_map_or_none(attended):
    call = step(made_call(), 8)
    output = attended(call.rows(torch.tensor([0])), call.value)
    blend = known_to(made_blend(), 8)  # its last position is of turn 1 of the first sample, of turn 2 of the second
    assert not torch.equal(blend.after(call, output), output)
    assert torch.equal(replace(blend, later=False).after(call, output), output)
    ends_in_padding = replace(blend, turn=torch.cat([blend.turn[:, :7], torch.full((2, 1), -1)], 1))
    first_alone = ends_in_padding.after(call, output)
    torch.testing.assert_close(first_alone[1], blend.after(call, output)[1])


def test_keys_that_a_sliding_cache_dropped_are_left_out_of_the_map():
    values = torch.eye(3)[None, None]  # keys 4, 5 and 6 of 7
    call = AttentionCall(nn.Module(), torch.zeros(1, 1, 1, 3), values, values, None, {}, total=7)
    blend = Blend(1.0, torch.tensor([[3, 4, 5]]), torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[-1] * 6 + [0]]))
    output = blend.after(call, torch.full((1, 1, 1, 3), 1 / 3))
    torch.testing.assert_close(output.flatten(), torch.tensor([0.6, 0.4, 0.0]))


# -- what it says of itself


def test_the_rows_it_changes_are_those_with_a_turn():
    rows = made_blend().changes(made_call())
    assert sorted(rows[0].tolist()) == [4, 5, 6, 7, 8]
    assert {2, 4, 5, 6, 7} <= set(rows[1].tolist())


def test_it_keeps_the_protocol():
    assert isinstance(made_blend(), Intervention)
    call = made_call()
    assert made_blend().before(call) is call
