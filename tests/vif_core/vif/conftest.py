"""Tiny random models with VIF."""

from __future__ import annotations

import pytest
import torch

from vif_core.data.sample import Sample
from vif_core.flow.op import intervene
from vif_core.vif.config import VIFConfig
from vif_core.vif.model import add_vif
from vif_core.vlm.tiny import TINY_FAMILIES, tiny_model, tiny_samples

RESPONSES = [[20, 30, 40], [50, 60, 70, 80, 90], [44]]


def with_vif(family="llava", attn="sdpa", seed=0, **options):
    """Two pairs, and spotlights that differ between samples more than fresh ones do."""
    vlm = tiny_model(family, attn)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = add_vif(vlm, VIFConfig(**{"pairs": ((0, 1), (1, 2)), "slots": 4, "width": 32, "depth": 1, **options}))
        torch.nn.init.normal_(model.generator.slots.read.weight, std=0.5)
    return model


def encoded(vlm, responses=RESPONSES):
    return vlm.encode(tiny_samples(3), responses)


def logits(model, batch):
    with torch.inference_mode():
        return model.base(**batch.inputs).logits


def parted(batch):
    return {name: value for name, value in batch.inputs.items() if name != "turns"}, batch.inputs["turns"]


def maps_made(model, given, draw="prior-mean"):
    inputs, turns = given
    with torch.inference_mode(), model.drawing(draw):
        return [reading.maps for reading in model(**inputs, turns=turns).readings]


class Recorder:
    """An intervention that changes nothing and keeps the calls it sees."""

    def __init__(self):
        self.calls = []

    def before(self, call):
        self.calls.append(call)
        return call

    def after(self, _call, output):
        return output

    def rows(self, _call, _rows, flow):
        return flow

    def changes(self, call):
        return torch.zeros(len(call.query), 1, dtype=torch.long)


def recorded(model, batch, layer, run):
    """The calls that layer's attention makes while `run()` runs."""
    recorder = Recorder()
    with intervene(model.vlm, {layer: recorder}, batch):
        recorder.calls.clear()
        run()
    return recorder.calls


@pytest.fixture(params=TINY_FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def make():
    return with_vif


@pytest.fixture
def encode():
    return encoded


@pytest.fixture
def logits_of():
    return logits


@pytest.fixture
def record():
    return recorded


@pytest.fixture
def answered():
    return [Sample(s.sample_id, s.images, s.question, answer="red", system=s.system) for s in tiny_samples(3)]


@pytest.fixture
def trained(make, encode):
    """A model in training, its batch, and labels on the answers."""

    def prepare(**options):
        model = make(**options).train()
        batch = encode(model.vlm)
        labels = torch.full_like(batch.inputs["input_ids"], -100)
        for b, layout in enumerate(batch.layouts):
            start = batch.pad[b] + layout.response_start
            labels[b, start:] = batch.inputs["input_ids"][b, start:]
        return model, batch, labels

    return prepare


@pytest.fixture
def split():
    return parted


@pytest.fixture
def maps_of():
    return maps_made
