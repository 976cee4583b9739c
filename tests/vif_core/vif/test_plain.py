"""What a processor gives is enough where it says where the pictures lie."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vif_core.errors import UsageError
from vif_core.vlm.tiny import tiny_samples


def test_plain_inputs_are_one_question_each(make, encode, logits_of):
    model = make()
    batch = encode(model.vlm, None)
    told = logits_of(model, batch)
    with torch.inference_mode():
        plain = {name: value for name, value in batch.inputs.items() if name != "turns"}
        assert torch.equal(model.base(**plain).logits, told)
        ids = plain.pop("input_ids")
        assert torch.equal(model.base(ids, **plain).logits, told)


def test_plain_inputs_of_several_pictures_lie_where_the_samples_do(family, make, logits_of):
    model = make(family)
    one, two, three = tiny_samples(3)
    pairs = [replace(one, images=one.images + two.images), replace(three, images=three.images + one.images)]
    batch = model.vlm.encode(pairs)
    told = logits_of(model, batch)
    del batch.inputs["turns"]
    assert torch.equal(logits_of(model, batch), told)


def test_plain_inputs_without_their_pictures_are_refused(make, encode):
    model = make()
    inputs = encode(model.vlm, None).inputs
    with pytest.raises(UsageError, match="0 images for the visual tokens of 3 prompts; expected as many images"):
        model.base(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])


def test_embeddings_without_turns_are_refused(make, encode):
    """Nothing would tell where the image lies, and VIF would do nothing in silence."""
    model = make()
    inputs = encode(model.vlm, None).inputs
    given = {"inputs_embeds": model.base.get_input_embeddings()(inputs["input_ids"])}
    with pytest.raises(UsageError, match="a prompt of tiny-llava without input_ids and without turns"):
        model.base(**given)
    model.base(**given, turns=inputs["turns"])
    with model.disable_vif():
        model.base(**given)


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"num_return_sequences": 2, "do_sample": True, "top_k": 1}])
def test_embeddings_generate_what_their_ids_do(options, make):
    model = make()
    inputs = model.vlm.encode(tiny_samples(2)).inputs
    kept = {name: inputs[name] for name in ("attention_mask", "turns")}
    with torch.inference_mode(), model.disable_vif():
        features = model.base.get_image_features(inputs["pixel_values"]).pooler_output
        ids = inputs["input_ids"]
        words = model.base.get_input_embeddings()(ids)
        seen = (ids == model.vlm.image_token_id)[..., None].expand_as(words)
        words = words.masked_scatter(seen, torch.cat([*features]))
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False} | options
    given = model.generate(inputs_embeds=words, **kept, **options)
    assert torch.equal(given, model.generate(**inputs, **options)[:, ids.shape[1] :])
