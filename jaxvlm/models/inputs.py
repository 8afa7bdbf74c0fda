"""What a Hugging Face processor returns, as our batch."""

from typing import Any

import numpy as np

from jaxvlm.data import layout
from jaxvlm.data.prompts import lay_out, lay_out_text, pad_prompts
from jaxvlm.typing import Batch, Prompts


def batch_from_hf(
  config: Any,
  input_ids: Any,
  attention_mask: Any = None,
  pixel_values: Any = None,
  image_grid_thw: Any = None,
) -> Batch:
  """Turns the outputs of a Hugging Face processor into a prompts-only batch.

  Args:
    config: the architecture.
    input_ids: int[N, S], padded on either side.
    attention_mask: int[N, S]; all ones if None.
    pixel_values: f32[patches, C] of all rows, or None without pictures.
    image_grid_thw: int[pictures, 3] in order of appearance, or None.

  Returns:
    A Batch with G = 0 whose prompts keep the positions of `input_ids`.

  Raises:
    ValueError: image tokens, grids and pixel values that do not match.
  """
  tokens = np.asarray(input_ids, np.int32)
  mask = np.ones_like(tokens, bool)
  if attention_mask is not None:
    mask = np.asarray(attention_mask).astype(bool)
  if config.layout is None:
    if pixel_values is not None:
      raise ValueError("pixel_values for a model that reads text only")
    encoded = [
      lay_out_text(row[kept]) for row, kept in zip(tokens, mask, strict=True)
    ]
    return _prompts_only(pad_prompts(encoded, mask, 0, pad_id=0), tokens)
  if (tokens[mask] == config.video_token_id).any():
    raise ValueError(
      f"input_ids contain video token {config.video_token_id}: only pictures"
      " are supported; sample frames as pictures"
    )
  grids = [] if image_grid_thw is None else np.asarray(image_grid_thw).tolist()
  grids = [tuple(grid) for grid in grids]
  pixels = np.zeros((0, config.layout.patch_values), np.float32)
  if pixel_values is not None:
    pixels = np.asarray(pixel_values, np.float32)
  need = sum(t * h * w for t, h, w in grids)
  if need != len(pixels):
    raise ValueError(
      f"image_grid_thw {grids} needs {need} patches, but pixel_values has"
      f" {len(pixels)}"
    )
  encoded, start = [], 0
  for i, row in enumerate(_grids_by_row(config, tokens, mask, grids)):
    count = sum(t * h * w for t, h, w in row)
    encoded.append(
      lay_out(
        config.layout,
        tokens[i][mask[i]],
        row,
        [pixels[start : start + count]],
        config.image_token_id,
      )
    )
    start += count
  slots = max(e.patch_count for e in encoded)
  return _prompts_only(pad_prompts(encoded, mask, slots, pad_id=0), tokens)


def _prompts_only(prompts: Prompts, tokens: np.ndarray) -> Batch:
  """Returns a batch without completions, its padding as it was given."""
  return Batch(
    prompts=prompts._replace(tokens=tokens),
    tokens=np.zeros((len(tokens), 0, 1), np.int32),
    mask=np.zeros((len(tokens), 0, 1), bool),
  )


def _grids_by_row(config, tokens, mask, grids):
  """Deals pictures to rows by counting each row's image tokens."""
  rows, queue = [], list(grids)
  for i in range(len(tokens)):
    left = int((tokens[i][mask[i]] == config.image_token_id).sum())
    row = []
    while left > 0 and queue:
      layout.check_grid(config.layout, queue[0])
      row.append(queue.pop(0))
      left -= layout.image_tokens(config.layout, row[-1])
    if left:
      raise ValueError(
        f"row {i}: its image tokens do not add up to whole pictures with"
        f" grids {row} (off by {-left}); expected rows × columns /"
        f" {config.layout.merge**2} tokens per picture"
      )
    rows.append(row)
  if queue:
    raise ValueError(
      f"{len(queue)} picture(s) with grids {queue} have no image tokens in"
      " input_ids"
    )
  return rows
