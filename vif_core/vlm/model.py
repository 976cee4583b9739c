"""A loaded vision-language model with what was discovered about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from vif_core.data.sample import Sample
from vif_core.errors import UnsupportedModel
from vif_core.vlm.batch import Batch, encode
from vif_core.vlm.discover import decoder_of, discover_layers, num_blocks
from vif_core.vlm.prompt import write_prompt
from vif_core.vlm.visual import crosses, image_token_id

PROBE = Sample("probe", (Image.new("RGB", (64, 64), "gray"),), "what is this?")


class VLM:
    """A vision-language model: it encodes samples, generates responses, and knows its decoder's attention modules.

    name, revision: what was loaded.      family: the configuration's model type.
    origin:         what it can be loaded by again, a folder or an id; of a model with VIF, its base's.
    origin_revision: that of what lay there when it was loaded.
    crosses:        its decoder sees the image by cross-attention.
    layers:         decoder layers with an attention matrix over visual tokens, in execution order.
    num_layers:     all decoder blocks; num_heads: query heads of the first of `layers`.
    traced:         what a tracer keeps with the model between passes.
    vif:            the VIFModel that was attached, or None. Inputs of `encode` tell it its turns.
    Raises UnsupportedModel where the attention op or the visual tokens cannot be found.
    """

    def __init__(self, model: Any, processor: Any, name: str, revision: str = "", origin: str = "") -> None:
        self.model = model.eval()
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.name = name
        self.revision = revision
        self.origin = origin or name
        self.origin_revision = revision
        self.family: str = model.config.model_type
        self.crosses = crosses(model.config)
        self.image_token_id: int = processor.image_token_id if self.crosses else image_token_id(model.config)
        self.traced: Any = None
        self.vif: Any = None
        self.tokenizer.padding_side = "right" if model.config.is_encoder_decoder else "left"
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        probe = self.probe()
        self.layers = discover_layers(model, probe.inputs, probe.num_keys if self.crosses else None)
        self.num_layers = num_blocks(model)
        self.num_heads = self.layers[0].num_heads

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def attention(self) -> str:
        """Name of the attention implementation that the decoder uses, such as "sdpa"."""
        return decoder_of(self.model).config._attn_implementation

    @property
    def eos_ids(self) -> frozenset[int]:
        """Token ids that end a response."""
        ids = self.model.generation_config.eos_token_id
        ids = self.tokenizer.eos_token_id if ids is None else ids
        return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])

    def refuse_crossing(self) -> None:
        """Raises UnsupportedModel where the decoder sees the image by cross-attention: for VIF and for training."""
        if self.crosses:
            raise UnsupportedModel(
                f"the decoder of {self.name} sees the image by cross-attention",
                expected="image features among the decoder's own tokens",
                next_step="Choose a model that puts image features at image tokens, such as LLaVA, Qwen-VL or Gemma 3",
            )

    def prompt_text(self, sample: Sample) -> str:
        """The prompt before tokenisation: the model's chat template, or the plain LLaVA-1.5 form without one."""
        return write_prompt(self.processor, sample).text

    def encode(self, samples: Sequence[Sample], responses: Sequence[Sequence[int]] | None = None) -> Batch:
        """Padded inputs of samples, with `responses` (token ids) appended, and where everything is in them.

        Raises SampleError for a sample that cannot be used, GridMismatch where visual tokens and grid disagree,
        UnsupportedModel for a video where the family's cannot be read.
        """
        batch = encode(self.model, self.processor, self.image_token_id, samples, responses)
        return batch if self.vif is None else self.vif.told(batch)

    def probe(self) -> Batch:
        """A grey picture and a short question: what discovery and proofs run over."""
        return self.encode([PROBE])

    def generate(self, samples: Sequence[Sample], max_new_tokens: int) -> list[list[int]]:
        """Responses as token ids, without what ends them (end of sequence, padding).

        Each token is the likeliest one, after what the model's generation_config does to all (a repetition penalty).
        """
        batch = self.encode(samples)
        with torch.inference_mode():
            tokens = (self.vif or self.model).generate(
                **batch.inputs,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        ends = self.eos_ids
        responses = tokens[:, batch.length :].tolist()
        return [row[: next((i for i, token in enumerate(row) if token in ends), len(row))] for row in responses]

    def response_ids(self, text: str) -> list[int]:
        """Token ids of a response given as text."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of response tokens, special tokens left out."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True).strip()
