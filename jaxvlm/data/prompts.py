"""Prompts as arrays: one laid out, many padded to one shape."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxvlm.data import layout
from jaxvlm.data.layout import Grid, VisionLayout
from jaxvlm.typing import Prompts


class EncodedPrompt(NamedTuple):
  """One prompt before padding.

  Attributes:
    tokens, positions, next_position, image_slots, patch_segments,
      patch_positions: as in `jaxvlm.typing.Prompts`.
    pixels: f32[n, C] patches in the order in which they were read. They are
      many megabytes, and are brought into that of their slots only when they
      are put into a batch.
    source: i32[P] which of them stands in a slot, -1 for an empty one; None:
      one after the other.
  """

  tokens: np.ndarray
  positions: np.ndarray
  next_position: int
  image_slots: np.ndarray | None = None
  pixels: np.ndarray | None = None
  patch_segments: np.ndarray | None = None
  patch_positions: np.ndarray | None = None
  source: np.ndarray | None = None

  @property
  def patch_count(self) -> int:
    """Patch slots that the pictures take."""
    return 0 if self.patch_segments is None else len(self.patch_segments)

  def put_patches(self, out: np.ndarray) -> None:
    """Writes the patches into the first slots of `out` f32[slots, C]."""
    if self.pixels is None:
      return
    there = out[: self.patch_count]
    if self.source is None:
      there[...] = self.pixels
      return
    index = np.maximum(self.source, 0)
    # Checked indices would be buffered: another copy of everything.
    np.take(self.pixels, index, axis=0, out=there, mode="clip")
    there[self.source < 0] = 0

  @property
  def image_tokens(self) -> int:
    """Tokens that stand for pictures."""
    return 0 if self.image_slots is None else int((self.image_slots >= 0).sum())


def lay_out_text(tokens: np.ndarray) -> EncodedPrompt:
  """Returns the prompt i32[S] of a model that reads text only."""
  length = len(tokens)
  return EncodedPrompt(tokens, np.arange(length, dtype=np.int32)[None], length)


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
  every = np.zeros((0, vision.patch_values), np.float32)
  if pixels:
    every = pixels[0] if len(pixels) == 1 else np.concatenate(pixels)
  return EncodedPrompt(
    tokens,
    positions,
    next_position,
    slots,
    every,
    arranged.segments,
    arranged.positions,
    arranged.source if pixels else None,
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
  tokens = np.full((n, s), pad_id, np.int32)
  positions = np.ones((len(encoded[0].positions), n, s), np.int32)
  following = np.zeros(n, np.int32)
  for i, e in enumerate(encoded):
    tokens[i, mask[i]] = e.tokens
    positions[:, i, mask[i]] = e.positions
    following[i] = e.next_position
  out = Prompts(tokens, mask, positions, following)
  if encoded[0].pixels is None:
    return out
  values = encoded[0].pixels.shape[1]
  return _with_pictures(out, encoded, patch_slots, values)


def _with_pictures(
  prompts: Prompts,
  encoded: Sequence[EncodedPrompt],
  patch_slots: int,
  values: int,
) -> Prompts:
  n, s = prompts.mask.shape
  image_slots = np.full((n, s), -1, np.int32)
  patches = np.zeros((n, patch_slots, values), np.float32)
  segments = np.full((n, patch_slots), -1, np.int32)
  positions = np.zeros((n, patch_slots, 2), np.int32)
  for i, e in enumerate(encoded):
    slots = e.patch_count
    image_slots[i, prompts.mask[i]] = e.image_slots
    e.put_patches(patches[i])
    segments[i, :slots] = e.patch_segments
    positions[i, :slots] = e.patch_positions
  return prompts._replace(
    image_slots=image_slots,
    patches=patches,
    patch_segments=segments,
    patch_positions=positions,
  )
