"""Prompts as arrays: one laid out, many padded to one shape."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxvlm.data import layout
from jaxvlm.data.layout import Grid, VisionLayout
from jaxvlm.typing import Prompts


class EncodedPrompt(NamedTuple):
  """One prompt before padding; fields as in `jaxvlm.typing.Prompts`."""

  tokens: np.ndarray
  positions: np.ndarray
  next_position: int
  image_slots: np.ndarray
  patches: np.ndarray
  patch_segments: np.ndarray
  patch_positions: np.ndarray


def lay_out(
  vision: VisionLayout,
  tokens: np.ndarray,
  grids: Sequence[Grid],
  pixels: Sequence[np.ndarray],
  image_token_id: int,
) -> EncodedPrompt:
  """Returns one prompt with its pictures in padded window order.

  Args:
    vision: geometry of the tower.
    tokens: i32[S] without padding, image placeholders expanded.
    grids: one per picture.
    pixels: f32[patches, C] of each picture in reading order.
    image_token_id: id of the placeholder.

  Raises:
    ValueError: placeholders and grids that do not match.
  """
  arranged = layout.arrange(vision, grids)
  positions, next_position = layout.mrope_positions(
    vision, tokens, np.ones(len(tokens), bool), grids, image_token_id
  )
  slots = np.full(len(tokens), -1, np.int32)
  slots[tokens == image_token_id] = arranged.merged_slots
  patches = np.zeros((len(arranged.source), vision.patch_values), np.float32)
  if pixels:
    filled = arranged.source >= 0
    patches[filled] = np.concatenate(pixels)[arranged.source[filled]]
  return EncodedPrompt(
    tokens,
    positions,
    next_position,
    slots,
    patches,
    arranged.segments,
    arranged.positions,
  )


def pad_prompts(
  encoded: Sequence[EncodedPrompt],
  mask: np.ndarray,
  patch_slots: int,
  pad_id: int,
) -> Prompts:
  """Puts prompts where `mask` says and patches first, and pads the rest.

  Args:
    encoded: N prompts.
    mask: bool[N, S], as many True in a row as its prompt has tokens.
    patch_slots: P.
    pad_id: token of the padding.
  """
  n, s = mask.shape
  out = Prompts(
    tokens=np.full((n, s), pad_id, np.int32),
    mask=mask,
    positions=np.ones((3, n, s), np.int32),
    next_position=np.zeros(n, np.int32),
    image_slots=np.full((n, s), -1, np.int32),
    patches=np.zeros((n, patch_slots, encoded[0].patches.shape[1]), np.float32),
    patch_segments=np.full((n, patch_slots), -1, np.int32),
    patch_positions=np.zeros((n, patch_slots, 2), np.int32),
  )
  for i, e in enumerate(encoded):
    slots = len(e.patches)
    out.tokens[i, mask[i]] = e.tokens
    out.positions[:, i, mask[i]] = e.positions
    out.next_position[i] = e.next_position
    out.image_slots[i, mask[i]] = e.image_slots
    out.patches[i, :slots] = e.patches
    out.patch_segments[i, :slots] = e.patch_segments
    out.patch_positions[i, :slots] = e.patch_positions
  return out
