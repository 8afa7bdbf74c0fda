"""The small files that make a folder whole for other readers.

transformers' `AutoProcessor` and `generate` look for them beside tokenizer and
weights; what they say is what `jaxvlm.data.chat.load` reads.
"""

import json
import pathlib
from typing import Any

from jaxvlm import jsonfile
from jaxvlm.data.chat import Chat

_PICTURES = "preprocessor_config.json"
_PROCESSOR = "processor_config.json"  # of newer folders; may hold the same
_GENERATION = "generation_config.json"


def complete(folder: str | pathlib.Path, chat: Chat) -> None:
  """Writes settings of pictures and generation where a folder has none.

  Args:
    folder: of a model; what it holds is left alone.
    chat: its tokenizer, with the pictures and ends that it was trained with.

  Raises:
    OSError: the folder cannot be written.
  """
  folder = pathlib.Path(folder)
  if chat.layout is not None and not _has_pictures(folder):
    _write(folder / _PICTURES, preprocessor_config(chat))
  if not (folder / _GENERATION).is_file():
    _write(folder / _GENERATION, generation_config(chat))


def preprocessor_config(chat: Chat) -> dict[str, Any]:
  """Returns the settings of pictures in the official form.

  Raises:
    ValueError: the model reads text only.
  """
  if chat.layout is None:
    raise ValueError(
      "the model reads text only: it has no settings of pictures"
    )
  budget, colors = chat.pictures
  return {
    "min_pixels": budget.min_pixels,
    "max_pixels": budget.max_pixels,
    "patch_size": chat.layout.patch,
    "temporal_patch_size": chat.layout.temporal_patch,
    "merge_size": chat.layout.merge,
    "image_mean": list(colors.mean),
    "image_std": list(colors.std),
    "image_processor_type": "Qwen2VLImageProcessor",
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_convert_rgb": True,
    "resample": 3,  # Pillow's bicubic
    "rescale_factor": 1 / 255,
    # The same limits as newer versions read them: areas, whatever the names.
    "size": {
      "shortest_edge": budget.min_pixels,
      "longest_edge": budget.max_pixels,
    },
  }


def generation_config(chat: Chat) -> dict[str, Any]:
  """Returns the tokens that end an answer, and the one that pads it."""
  return {"pad_token_id": chat.pad_id, "eos_token_id": list(chat.eos_ids)}


def _has_pictures(folder: pathlib.Path) -> bool:
  if (folder / _PICTURES).is_file():
    return True
  file = folder / _PROCESSOR
  return file.is_file() and "image_processor" in jsonfile.read(file)


def _write(file: pathlib.Path, content: dict[str, Any]) -> None:
  file.write_text(json.dumps(content, indent=2) + "\n")
