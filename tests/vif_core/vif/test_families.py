"""VIF attaches to, trains and generates with every family whose visual tokens lie on a map; others are refused."""

from __future__ import annotations

import pytest
import torch

from vif_core.data.conversation import Conversation
from vif_core.data.sample import Sample
from vif_core.errors import SampleError, UnsupportedModel, UsageError
from vif_core.train.collate import collate_rows
from vif_core.train.conversations import Reader, conversation_row
from vif_core.vif.config import VIFConfig
from vif_core.vif.model import add_vif
from vif_core.vlm.tiny import ALL_FAMILIES, tiny_model, tiny_samples

LATENT = ("aria", "blip-2", "granite4_vision", "idefics2", "instructblip")
CROSSING = ("florence2", "idefics", "mllama")
"""Their decoders see the image by cross-attention."""
STREAMS = ("glm5_next", "qwen4_exp")
"""Their blocks hand on several streams a position."""


TRAINED = [family for family in ALL_FAMILIES if family not in (*LATENT, *CROSSING, *STREAMS)]
PICTURED = ("paligemma", "pp_chart2table")
"""Their processors take no words without a picture."""


@pytest.mark.parametrize("family", TRAINED)
def test_rows_of_pictures_and_of_words_train_it_and_it_generates(family, make, encode, answered):
    first, *_, last = (layer.index for layer in tiny_model(family).layers)
    model = make(family, pairs=((first, last),)).train()
    words = [] if family in PICTURED else [Sample("words", (), "what is this?", answer="red")]
    reader = Reader.of(model.vlm)
    rows = [conversation_row(Conversation.of(sample), reader, 4096) for sample in answered + words]
    batch = collate_rows(rows, model.vlm.tokenizer.pad_token_id)
    told = {name: batch[name] for name in ("turns", "labels", "label_weights")}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        torch.manual_seed(0)
        out = model(**batch["inputs"], use_cache=False, **told)
        out.loss.backward()
        optimizer.step()
        losses.append(out.loss.item())
    assert losses[1] < losses[0]
    prompts = encode(model.eval().vlm, None)
    answer = model.generate(**prompts.inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert answer.shape == (3, prompts.length + 3)
    with model.disable_vif():
        plain = model.generate(**prompts.inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert plain.shape == answer.shape


@pytest.mark.parametrize("family", TRAINED)
def test_a_row_gives_the_model_what_it_is_given_when_it_is_read(family, answered):
    vlm = tiny_model(family)
    row = conversation_row(Conversation.of(answered[0]), Reader.of(vlm), 4096)
    inputs = collate_rows([row], vlm.tokenizer.pad_token_id)["inputs"]
    assert inputs.keys() == vlm.encode(answered[:1]).inputs.keys() - {"turns"}


@pytest.mark.parametrize("family", PICTURED)
def test_words_alone_are_refused_as_a_row_where_the_processor_takes_none(family):
    words = Conversation.of(Sample("words", (), "what is this?", answer="red"))
    with pytest.raises(SampleError, match=r"the processor refuses sample words \(.*images"):
        conversation_row(words, Reader.of(tiny_model(family)), 4096)


@pytest.mark.parametrize(
    ("family", "line"),
    [
        *((family, "no map reached the injection layers") for family in LATENT),
        *((family, "the decoder of tiny-.* sees the image by cross-attention; expected image") for family in CROSSING),
        *(
            (family, "decoder blocks of tiny-.* hand on .* features a position; expected one stream")
            for family in STREAMS
        ),
    ],
)
def test_others_are_refused_and_work_as_before(family, line):
    vlm = tiny_model(family)
    pairs = ((vlm.layers[0].index, vlm.layers[-1].index),)
    with pytest.raises(UnsupportedModel, match=line):
        add_vif(vlm, VIFConfig(pairs=pairs, width=8))
    assert vlm.vif is None
    assert all(len(ids) <= 3 for ids in vlm.generate(tiny_samples(2), max_new_tokens=3))


@pytest.mark.parametrize("family", ["granite_docling", "internvl", "idefics3", "llama4"])
def test_inputs_that_do_not_tell_how_tiles_lie_are_refused(family, make):
    """They would pass for as many pictures as there are tiles."""
    model = make(family)
    inputs = model.vlm.encode(tiny_samples(1)).inputs
    inputs.pop("turns")
    with pytest.raises(UsageError, match=r"without turns, whose pictures may be cut into tiles; expected all that"):
        model(**inputs)
