"""Load a model by name: the embedded one, a local folder, or a model id of the Hugging Face hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from huggingface_hub.utils import get_session
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils import logging
from transformers.video_processing_utils import VideoProcessorMixin

from vif_core.errors import UnsupportedModel, UsageError, VifError
from vif_core.vif.checkpoint import ADAPTER_CONFIG, read_config, read_weights
from vif_core.vif.checkpoint import CONFIG as VIF_CONFIG
from vif_core.vif.checkpoint import WEIGHTS as VIF_WEIGHTS
from vif_core.vif.model import VIFModel, add_vif
from vif_core.vlm.model import VLM
from vif_core.vlm.processor import without_video

_ASSETS = Path(__file__).parent / "assets"
EMBEDDED = {name: _ASSETS / name for name in ("mini-llava", "mini-llava-vif") if (_ASSETS / name).is_dir()}
"""Models that come with the package."""

FILES = ("config.json", "*.safetensors", "*processor_config.json", "tokenizer*")
"""What a model's folder holds at least."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

HUB_TIMEOUT_SECONDS = 5

NEWEST = "main"
"""The hub's name of it."""


def load(model: str | Path, device: str = "auto", dtype: str = "auto", attn: str = "sdpa") -> VLM:
    """A vision-language model, ready for analysis.

    model:  "mini-llava", a folder with a model and its processor, a folder that VIFModel.save_pretrained wrote, or a
            model id of the hub.
    device: "auto" takes a GPU where there is one.       dtype: "auto" is float32 on the CPU, else the checkpoint's.
    attn:   attention implementation; a model that cannot run under sdpa gets transformers' own choice for it.
    Only safetensors are read and no code from the model's folder is run. Raises UsageError for what cannot be found,
    UnsupportedModel for a family that cannot be read, VifError for damaged weights and a hub that does not answer.
    """
    folder = _folder(model)
    if (folder / VIF_CONFIG).is_file():
        return _load_with_vif(folder, device, dtype, attn)
    return _load_plain(model, device, dtype, attn)


def _load_plain(model: str | Path, device: str, dtype: str, attn: str, revision: str = NEWEST) -> VLM:
    """revision: of a model of the hub."""
    where, local_only = _locate(model)
    on = _device(device)
    kind = _dtype(dtype, on)
    offline = local_only and not isinstance(where, Path)
    with _quiet(), _explained(model, offline):
        config = AutoConfig.from_pretrained(where, local_files_only=local_only, revision=revision)
        weights = _weights(where, kind, attn, local_only, revision)
        processor = _processor(where, config, local_only, revision)
    revision = _fingerprint(where) if isinstance(where, Path) else getattr(config, "_commit_hash", None) or ""
    name = where.resolve().name if isinstance(where, Path) else where
    origin = str(model) if str(model) in EMBEDDED or not isinstance(where, Path) else str(where.resolve())
    try:
        weights = weights.to(on)
    except RuntimeError as error:
        raise VifError(
            f"model {name} does not fit on {on} ({_first_line(error)})",
            expected="a device with room for it",
            next_step="Give another device, or a dtype of half the size",
        ) from error
    return VLM(weights, processor, name=name, revision=revision, origin=origin)


def load_vif(
    folder: str | Path, device: str = "auto", dtype: str = "auto", attn: str = "sdpa", base: str | Path | None = None
) -> VIFModel:
    """The model that `VIFModel.save_pretrained` wrote, or "mini-llava-vif". Options and errors as in `load`.

    base: what VIF was trained on, where it is not in the folder and has moved.
    """
    path = _folder(folder)
    if not (path / VIF_CONFIG).is_file():
        raise UsageError(
            f"model {folder} has no VIF", expected=f"a folder with {VIF_CONFIG}", next_step="Give it one with add_vif"
        )
    return _load_with_vif(path, device, dtype, attn, base).vif


def _load_with_vif(folder: Path, device: str, dtype: str, attn: str, base: str | Path | None = None) -> VLM:
    """The base (in the folder, or where it came from), its adapter where there is one, and VIF."""
    origin, config = read_config(folder)
    whole = (folder / "config.json").is_file() if origin.kind is None else origin.kind == "whole"
    adapted = (folder / ADAPTER_CONFIG).is_file() if origin.kind is None else origin.kind == "adapter"
    known = not whole and base is None and origin.base_revision
    place = folder if whole else base or origin.base
    try:
        hub = known and not _folder(place).is_dir()
        vlm = _load_plain(place, device, dtype, attn, origin.base_revision if hub else NEWEST)
    except UsageError as error:
        if whole:
            raise
        raise UsageError(
            f"the base of {folder} is not found ({error})", next_step="Give load_vif its place as `base`"
        ) from error
    if known and vlm.revision != origin.base_revision:
        raise UsageError(
            f"the base of {folder} has changed: {place} is revision {vlm.revision}, not {origin.base_revision}",
            expected="what VIF was trained on",
            next_step="Give load_vif its place as `base`, which is taken as it is",
        )
    if adapted:
        _load_adapter(vlm, folder)
    vlm.name = folder.resolve().name
    vlm.revision = _fingerprint_vif(folder, vlm.revision)
    model = add_vif(vlm, config)
    read_weights(model, folder)
    model.maps_from = origin.maps_from
    return vlm


def _folder(model: str | Path) -> Path:
    """Where a model lies if it is on this machine, whether there is anything or not."""
    path = Path(model)
    with suppress(RuntimeError):  # a home that nobody has
        path = path.expanduser()
    return EMBEDDED.get(str(model), path)


def _locate(model: str | Path) -> tuple[str | Path, bool]:
    """A complete folder or a hub id, and whether only files on this machine may be used."""
    folder = _folder(model)
    if folder.is_dir():
        for pattern in FILES:
            if not any(folder.glob(pattern)):
                raise UsageError(
                    f"model folder {folder} has no {pattern}",
                    expected=f"{', '.join(FILES)}, as save_pretrained of a model and its processor writes them",
                    next_step="Check the path, or complete the folder",
                )
        return folder, True
    if isinstance(model, Path) or not re.fullmatch(r"[\w.-]+/[\w.-]+", model) or model.startswith("."):
        raise UsageError(
            f"model {str(model)!r} is no folder, no embedded model and no model id",
            expected=f"one of {', '.join(EMBEDDED)}, a folder, or a hub id such as llava-hf/llava-1.5-7b-hf",
            next_step="Check the name",
        )
    return model, not _online()


def _online() -> bool:
    """Whether the hub answers. Asked once, since transformers would retry every file for minutes."""
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_SECONDS)
    except Exception:  # whatever the reason, offline mode included: files on this machine are what is left
        return False
    return True


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"device {device!r} cannot be used ({str(error).splitlines()[0]})", expected="auto, cpu, cuda or cuda:0"
        ) from error


def _dtype(dtype: str, device: torch.device) -> Any:
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    if dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r}", expected=f"auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _weights(where: str | Path, dtype: Any, attn: str | None, local_only: bool, revision: str) -> Any:
    auto: Any = AutoModelForImageTextToText
    try:
        model, info = auto.from_pretrained(
            where,
            dtype=dtype,
            attn_implementation=attn,
            use_safetensors=True,
            local_files_only=local_only,
            revision=revision,
            output_loading_info=True,
        )
    except ValueError as error:
        if attn != "sdpa" or "scaled_dot_product_attention" not in str(error):
            raise
        return _weights(where, dtype, None, local_only, revision)
    if info["missing_keys"]:
        raise VifError(
            f"weights of {where} lack {len(info['missing_keys'])} tensors, such as {min(info['missing_keys'])}",
            expected="a complete checkpoint",
            next_step="Save or download it again",
        )
    return model


def _processor(where: str | Path, config: Any, local_only: bool, revision: str) -> Any:
    """The model's processor; of one that reads videos too, without the part that needs torchvision."""
    cls: Any = PROCESSOR_MAPPING.get(type(config), None)
    reads_video = cls is not None and "video_processor" in cls.get_attributes()
    processor = (without_video(cls) if reads_video else AutoProcessor).from_pretrained(
        where, local_files_only=local_only, revision=revision
    )
    if not (hasattr(processor, "tokenizer") and hasattr(processor, "image_processor")):
        raise ValueError(f"its {type(processor).__name__} does not read both text and pictures")
    if reads_video:
        with suppress(OSError):  # a folder that says nothing of videos: as its pictures are read
            found, _ = VideoProcessorMixin.get_video_processor_dict(
                str(where), local_files_only=local_only, revision=revision
            )
            processor.video_settings = found
    return processor


def _load_adapter(vlm: VLM, folder: Path) -> None:
    """LoRA weights onto the base. Raises VifError unless every tensor of the file finds its place."""
    try:
        result = vlm.model.load_adapter(str(folder), is_trainable=False)
    except ImportError as error:
        raise VifError(
            f"adapter {folder} needs PEFT", expected="the package peft", next_step="pip install 'vifscope[train]'"
        ) from error
    lost = [*getattr(result, "missing_keys", []), *getattr(result, "unexpected_keys", [])] if result else []
    lost = [name for name in lost if "lora_" in name or "modules_to_save" in name]  # the base has its own file
    if lost:
        raise VifError(
            f"adapter {folder} does not fit {vlm.name}: {len(lost)} tensors have no place, such as {lost[0]}",
            expected="an adapter that was trained on this model",
        )


def _fingerprint(folder: Path) -> str:
    """Identity of a folder's model, without VIF: configuration, and size, head and tail of each weight file."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    return _digest_weights(digest, [path for path in folder.glob("*.safetensors") if path.name != VIF_WEIGHTS])


def _fingerprint_vif(folder: Path, base: str) -> str:
    """Identity of a model with VIF: its base's, its configuration, and its weights."""
    digest = hashlib.sha256(base.encode() + (folder / VIF_CONFIG).read_bytes())
    return _digest_weights(digest, folder.glob("*.safetensors"))


def _digest_weights(digest: Any, files: Iterable[Path]) -> str:
    for path in sorted(files):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
            file.seek(max(0, size - (1 << 20)))
            digest.update(file.read())
    return digest.hexdigest()[:12]


@contextmanager
def _quiet() -> Iterator[None]:
    """Loading without progress bars and notices; what goes wrong is raised."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


@contextmanager
def _explained(model: str | Path, offline: bool) -> Iterator[None]:
    """Errors of loading, said in one line."""
    try:
        yield
    except VifError:
        raise
    except SafetensorError as error:
        raise VifError(
            f"weights of {model} are damaged ({error})",
            expected="readable safetensors",
            next_step="Copy or download them again",
        ) from error
    except OSError as error:
        raise (VifError if offline else UsageError)(
            f"model {model} cannot be loaded ({_first_line(error)})",
            expected="its files on this machine, or a hub that answers",
            next_step="Check the id and the network, or give a folder that holds the model",
        ) from error
    except RuntimeError as error:
        raise VifError(
            f"weights of {model} do not fit its configuration ({_first_line(error)})",
            expected="a config.json and safetensors of one model",
            next_step="Copy or download them again",
        ) from error
    except (ValueError, KeyError, ImportError) as error:
        if isinstance(error, ImportError) and "torchvision" in str(error).lower():
            raise UnsupportedModel(
                f"the processor of model {model} needs torchvision", next_step="pip install 'vifscope[video]'"
            ) from error
        raise UnsupportedModel(
            f"model {model} cannot be built ({_first_line(error)})",
            expected="an image-text-to-text model that transformers knows, with its processor",
            next_step="Choose another model, or complete its folder",
        ) from error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
