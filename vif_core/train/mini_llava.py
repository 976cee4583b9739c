"""mini-llava before training: configuration, first weights, tokenizer and processor."""

from __future__ import annotations

import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from vif_core.data.specks.scenes import GRID, IMAGE_PX, PATCH_PX
from vif_core.data.specks.words import SPECIAL_TOKENS, vocabulary

PIXEL_MEAN, PIXEL_STD = 127.5, 60.0

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'user' %}USER: {% elif message.role == 'assistant' %}ASSISTANT: {% endif %}"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content if part.type == 'image' %}<image>\n{% endfor %}"
    "{% for part in message.content if part.type == 'text' %}{{ part.text }}{% endfor %}"
    "{% endif %}"
    "{% if message.role == 'assistant' %}</s>{% else %} {% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def config(layers: int = 16, width: int = 128, heads: int = 4) -> LlavaConfig:
    """A LLaVA of about 5 million parameters: a 12 x 12 grid of visual tokens and, by default, 16 decoder layers."""
    words = {token: i for i, token in enumerate(vocabulary())}
    vision = CLIPVisionConfig(
        hidden_size=160,
        intermediate_size=640,
        num_hidden_layers=5,
        num_attention_heads=5,
        image_size=IMAGE_PX,
        patch_size=PATCH_PX,
        hidden_act="gelu",
        projection_dim=160,
    )
    text = LlamaConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 1e5},
        bos_token_id=words["<s>"],
        eos_token_id=words["</s>"],
        pad_token_id=words["<pad>"],
        tie_word_embeddings=True,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=words["<image>"],
        projector_hidden_act="gelu",
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=GRID * GRID,
        tie_word_embeddings=True,
    )


def draw_weights(model: LlavaForConditionalGeneration) -> None:
    """First weights, from torch's current random state."""
    decoder = model.model.language_model
    wide = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
    with torch.no_grad():
        for name, module in decoder.named_modules():
            if isinstance(
                module, nn.Linear
            ):  # three times the usual spread where a layer reads, so that it learns to look
                nn.init.normal_(module.weight, std=0.06 if name.endswith(wide) else 0.02)
        nn.init.normal_(decoder.embed_tokens.weight, std=decoder.config.hidden_size**-0.5)
        projector = model.model.multi_modal_projector
        for linear in (projector.linear_1, projector.linear_2):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)


def build_processor() -> LlavaProcessor:
    """A word-level tokenizer over the closed vocabulary, a 96 px image processor and a LLaVA-1.5 chat template."""
    words = {token: i for i, token in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(" +"), "removed"),
            *(pre_tokenizers.Split(mark, "isolated") for mark in ("\n", "?", ",", ".")),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", words["<s>"])])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    image_processor = CLIPImageProcessorPil(
        size={"height": IMAGE_PX, "width": IMAGE_PX},
        do_resize=True,
        do_center_crop=False,
        resample=3,
        image_mean=[PIXEL_MEAN / 255] * 3,
        image_std=[PIXEL_STD / 255] * 3,
        do_convert_rgb=True,
    )
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=fast,
        patch_size=PATCH_PX,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=CHAT_TEMPLATE,
    )
