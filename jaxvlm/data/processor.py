"""What a Hugging Face folder says about its pictures.

Sizes and statistics stand in preprocessor_config.json, or in newer folders
under `image_processor` of processor_config.json. They are read as
transformers' `Qwen2VLImageProcessor` reads them; what our path cannot do is
refused by name, because a model that sees other pixels than it was trained
with answers worse without a word.
"""

import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxvlm import jsonfile
from jaxvlm.data.images import CLIP, Colors, PixelBudget
from jaxvlm.data.layout import VisionLayout

_FILES = ("processor_config.json", "preprocessor_config.json")
_TYPES = (
  "Qwen2VLImageProcessor",
  "Qwen2VLImageProcessorFast",
  "Qwen2VLImageProcessorPil",
  "Qwen2_5_VLImageProcessor",  # early folders
)
_ALWAYS = ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb")
_NEVER = ("do_center_crop", "do_pad")
_BICUBIC = 3  # Pillow's number


class PictureSettings(NamedTuple):
  """How a model's pictures are prepared.

  Attributes:
    budget: size of a resized picture; what `sample` and `evaluate` take where
      no flag says otherwise.
    colors: mean and standard deviation that pixels are normalized by.
  """

  budget: PixelBudget = PixelBudget()
  colors: Colors = CLIP


# Of a folder that says nothing; transformers' class has the same.
FAMILY = PictureSettings()
_GEOMETRY = VisionLayout()


def settings(
  folder: str | pathlib.Path, vision: VisionLayout
) -> PictureSettings:
  """Returns what a local Hugging Face folder says about its pictures.

  As transformers: `image_processor` of processor_config.json wins over
  preprocessor_config.json; `min_pixels` and `max_pixels` win over `size`; what
  is absent has the defaults of its class, Qwen2.5-VL's, and so has a folder
  with neither file; they do not fit a model with other patches.

  Args:
    folder: a local folder.
    vision: the geometry in the folder's config.json.

  Raises:
    ValueError: a file that is no JSON object, a setting that is not
      supported, or sizes that contradict config.json.
  """
  file, found = _read(pathlib.Path(folder))
  try:
    _check_supported(found)
    _check_geometry(found, vision)
    return PictureSettings(
      _budget(found),
      Colors(
        _three(found, "image_mean", CLIP.mean),
        _three(found, "image_std", CLIP.std, least=1e-6),
      ),
    )
  except ValueError as e:
    raise ValueError(f"{file}: {e}") from e


def _read(folder: pathlib.Path) -> tuple[pathlib.Path, Mapping[str, Any]]:
  """Returns (file, settings) of the file that transformers would use."""
  for name in _FILES:
    file = folder / name
    if not file.is_file():
      continue
    found = jsonfile.read(file)
    if name == "processor_config.json":
      if "image_processor" not in found:
        continue  # an older file, which says nothing about pictures
      found = found["image_processor"]
      if not isinstance(found, dict):
        raise ValueError(
          f"{file}: image_processor is {found!r}, expected an object"
        )
    # null means the default, but for the statistics.
    keep = ("image_mean", "image_std")
    return file, {k: v for k, v in found.items() if v is not None or k in keep}
  return folder, {}


def _check_supported(found: Mapping[str, Any]) -> None:
  """Raises ValueError for what would change pixels and is not done here."""
  expected: dict[str, Any] = {name: True for name in _ALWAYS}
  expected |= {name: False for name in _NEVER}
  expected["resample"] = _BICUBIC
  for name, value in expected.items():
    if found.get(name, value) != value:
      raise ValueError(
        f"{name} is {found[name]!r}, expected {value!r}: pictures are resized"
        " by Pillow's bicubic filter (3), divided by 255 and normalized,"
        " nothing else is supported"
      )
  scale = found.get("rescale_factor", 1 / 255)
  if not _is_number(scale) or not math.isclose(scale, 1 / 255, rel_tol=1e-6):
    raise ValueError(f"rescale_factor is {scale!r}, expected 1/255")
  kind = found.get("image_processor_type", _TYPES[0])
  if kind not in _TYPES:
    raise ValueError(
      f"image_processor_type is {kind!r}, expected one of {', '.join(_TYPES)}"
    )


def _check_geometry(found: Mapping[str, Any], vision: VisionLayout) -> None:
  sizes = {
    "patch_size": "patch",
    "merge_size": "merge",
    "temporal_patch_size": "temporal_patch",
  }
  for name, field in sizes.items():
    value, default = getattr(vision, field), getattr(_GEOMETRY, field)
    if name not in found and value != default:
      raise ValueError(
        f"{name} is not said, which means {default}, but config.json says"
        f" {value}: copy the preprocessor_config.json that belongs to the model"
      )
    if found.get(name, default) != value:
      raise ValueError(
        f"{name} is {found[name]!r}, but config.json says {value}: use the"
        " files of one folder"
      )


def _budget(found: Mapping[str, Any]) -> PixelBudget:
  default = FAMILY.budget
  size = found.get(
    "size",
    {
      "shortest_edge": default.min_pixels,
      "longest_edge": default.max_pixels,
    },
  )
  if not isinstance(size, dict):
    raise ValueError(
      f"size is {size!r}, expected an object with shortest_edge and"
      " longest_edge, both in pixels of area"
    )
  least = found.get("min_pixels", size.get("shortest_edge"))
  most = found.get("max_pixels", size.get("longest_edge"))
  for name, value in (("smallest", least), ("largest", most)):
    if not isinstance(value, int) or isinstance(value, bool):
      raise ValueError(
        f"the {name} picture has {value!r} pixels, expected an integer in"
        " min_pixels and max_pixels, or in size as shortest_edge and"
        " longest_edge"
      )
  return PixelBudget(least, most)


def _three(
  found: Mapping[str, Any],
  name: str,
  default: tuple[float, float, float],
  least: float = -math.inf,
) -> tuple[float, float, float]:
  """Returns a statistic of red, green and blue; one number serves all."""
  value = found.get(name, default)
  values = tuple([value] * 3 if _is_number(value) else value or ())
  good = len(values) == 3 and all(_is_number(v) and v >= least for v in values)
  if not good:
    raise ValueError(
      f"{name} is {value!r}, expected three finite numbers"
      + (", all positive" if least > 0 else "")
    )
  red, green, blue = (float(v) for v in values)
  return red, green, blue


def _is_number(value: Any) -> bool:
  return (
    isinstance(value, int | float)
    and not isinstance(value, bool)
    and math.isfinite(value)
  )
