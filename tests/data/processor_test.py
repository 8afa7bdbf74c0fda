"""Settings of pictures: read as transformers reads them, or refused by name."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from jaxvlm.data import images, layout
from jaxvlm.data.images import CLIP, PixelBudget
from jaxvlm.data.processor import FAMILY, PictureSettings, settings

SHARED = pathlib.Path(__file__).parents[3] / "shared/data"
OFFICIAL = SHARED / "model_configs/preprocessor_config.json"
QWEN = layout.VisionLayout()
OLD, NEW = "preprocessor_config.json", "processor_config.json"
FULL = {
  "min_pixels": 3136,
  "max_pixels": 12544,
  "patch_size": 14,
  "temporal_patch_size": 2,
  "merge_size": 2,
  "image_mean": [0.4, 0.5, 0.6],
  "image_std": [0.2, 0.3, 0.25],
  "image_processor_type": "Qwen2VLImageProcessor",
  "processor_class": "Qwen2_5_VLProcessor",
}


def write(folder: pathlib.Path, files: dict) -> pathlib.Path:
  for name, content in files.items():
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text)
  return folder


def without(*names: str, **changes) -> dict:
  return {k: v for k, v in (FULL | changes).items() if k not in names}


SIZE = {"shortest_edge": 4000, "longest_edge": 9000}
READ = {
  "all": {OLD: FULL},
  "empty": {OLD: {}},
  "size": {OLD: without("min_pixels", "max_pixels", size=SIZE)},
  "limits win over size": {OLD: FULL | {"size": SIZE}},
  "one limit and size": {OLD: without("max_pixels", size=SIZE)},
  "one limit": {OLD: without("max_pixels")},
  "nulls": {OLD: FULL | {"size": None, "min_pixels": None}},
  "one number for all": {OLD: FULL | {"image_mean": 0.5, "image_std": 0.25}},
  "newer": {NEW: {"image_processor": FULL, "processor_class": "x"}},
  "newer wins": {NEW: {"image_processor": FULL}, OLD: {"min_pixels": 5000}},
  "newer without pictures": {NEW: {"processor_class": "x"}, OLD: FULL},
}


@pytest.mark.parametrize("name", list(READ))
def test_a_folder_is_read_as_by_transformers(tmp_path, name):
  module = pytest.importorskip(
    "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl",
    reason="the processor of transformers needs torch",
    exc_type=ImportError,
  )
  theirs = module.Qwen2VLImageProcessorPil.from_pretrained(
    write(tmp_path, READ[name]), local_files_only=True
  )
  ours = settings(tmp_path, QWEN)
  assert ours.budget == PixelBudget(
    theirs.size.shortest_edge, theirs.size.longest_edge
  )
  for got, want in zip(
    ours.colors, (theirs.image_mean, theirs.image_std), strict=True
  ):
    np.testing.assert_array_equal(got, np.broadcast_to(want, 3))
  rng = np.random.default_rng(0)
  picture = Image.fromarray(rng.integers(0, 256, (61, 95, 3), np.uint8))
  want = theirs(images=[picture], return_tensors="np")
  x, grid = images.patchify(QWEN, picture, ours.budget, ours.colors)
  assert [list(grid)] == want["image_grid_thw"].tolist()
  np.testing.assert_allclose(x, want["pixel_values"], atol=2e-6, rtol=0)


def test_a_folder_that_says_nothing_has_the_familys_defaults(tmp_path):
  assert settings(tmp_path, QWEN) == FAMILY
  assert FAMILY.budget == PixelBudget(56 * 56, 28 * 28 * 1280)


@pytest.mark.skipif(
  not OFFICIAL.is_file(), reason="shared data absent: ../shared/data"
)
def test_the_official_settings_are_read():
  found = settings(OFFICIAL.parent, QWEN)
  assert found == PictureSettings(PixelBudget(3136, 12_845_056), CLIP)


REFUSED = {
  "do_resize is False": {OLD: {"do_resize": False}},
  "do_rescale is False": {OLD: {"do_rescale": False}},
  "do_normalize is False": {OLD: {"do_normalize": False}},
  "do_convert_rgb is False": {OLD: {"do_convert_rgb": False}},
  "do_center_crop is True": {OLD: {"do_center_crop": True}},
  "resample is 2": {OLD: {"resample": 2}},
  "rescale_factor is 0.5": {OLD: {"rescale_factor": 0.5}},
  "rescale_factor is 'x'": {OLD: {"rescale_factor": "x"}},
  "image_processor_type is 'CLIPImageProcessor'": {
    OLD: {"image_processor_type": "CLIPImageProcessor"}
  },
  "patch_size is 16, but config.json says 14": {OLD: {"patch_size": 16}},
  "merge_size is 1, but": {OLD: {"merge_size": 1}},
  "temporal_patch_size is 1, but": {OLD: {"temporal_patch_size": 1}},
  "min_pixels is 9 and max_pixels 8": {OLD: {"min_pixels": 9, "max_pixels": 8}},
  "min_pixels is 0": {OLD: {"min_pixels": 0}},
  "smallest picture has 3136.0": {OLD: {"min_pixels": 3136.0}},
  "smallest picture has True": {OLD: {"min_pixels": True}},
  "largest picture has None": {OLD: {"size": {"shortest_edge": 3136}}},
  "smallest picture has None": {
    OLD: {"size": {"min_pixels": 3136, "max_pixels": 9000}}
  },
  "size is 224": {OLD: {"size": 224}},
  "image_mean is None, expected three": {OLD: {"image_mean": None}},
  r"image_mean is \[0.5, 0.5\]": {OLD: {"image_mean": [0.5, 0.5]}},
  "image_mean is 'x'": {OLD: {"image_mean": "x"}},
  r"image_std is \[1, 0, 1\], .* all positive": {OLD: {"image_std": [1, 0, 1]}},
  r"image_std is \[1, nan, 1\]": {OLD: '{"image_std": [1, NaN, 1]}'},
  "is not JSON": {OLD: '{"min_pixels": 3136'},
  "is empty: expected a JSON object": {NEW: ""},
  "holds a list: expected a JSON object": {OLD: "[]"},
  "image_processor is 'x', expected an object": {NEW: {"image_processor": "x"}},
}


@pytest.mark.parametrize("message", list(REFUSED))
def test_what_is_not_supported_is_refused_by_file_and_name(tmp_path, message):
  write(tmp_path, REFUSED[message])
  (name,) = REFUSED[message]
  with pytest.raises(ValueError, match=message) as caught:
    settings(tmp_path, QWEN)
  assert str(tmp_path / name) in str(caught.value)


def test_a_given_limit_replaces_that_of_the_folder():
  budget = PixelBudget(100, 1000)
  assert budget.replaced(None, None) == budget
  assert budget.replaced(200, None) == PixelBudget(200, 1000)
  assert budget.replaced(None, 500) == PixelBudget(100, 500)
  # The other limit gives way where the given one goes beyond it.
  assert budget.replaced(2000, None) == PixelBudget(2000, 2000)
  assert budget.replaced(None, 50) == PixelBudget(50, 50)
  for both in ((9, 8), (0, 8), (-5, None)):
    with pytest.raises(ValueError, match="1 ≤ min_pixels ≤ max_pixels"):
      budget.replaced(*both)
