"""The geometry of a picture: patches, windows, merged tokens, M-RoPE ids.

Everything that depends on a picture's size is computed here on the host, in
NumPy, so that the jitted model sees arrays of a few fixed shapes only.

Patches travel in *padded window order*: the slots of a row are consecutive
windows, every window has the same number of slots, and a window that is cut
at the edge of the picture leaves its outer slots empty. Attention inside
windows is then a reshape to [windows, slots] and one mask, and the merger
reads merge² consecutive slots; the model neither gathers nor permutes.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Grid = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class VisionLayout:
  """What the host must know of a vision tower.

  Attributes:
    patch: side of a patch in pixels.
    merge: side of a merged token in patches.
    window: side of an attention window in pixels; of a tower without windows
      that of one merged token, so that nothing is cut at an edge.
    temporal_patch: frames in a patch; a still picture is repeated.
    channels: color channels.
  """

  patch: int = 14
  merge: int = 2
  window: int = 112
  temporal_patch: int = 2
  channels: int = 3

  def __post_init__(self):
    if self.window % (self.patch * self.merge):
      raise ValueError(
        f"window is {self.window} pixels, expected a multiple of patch × merge"
        f" = {self.patch * self.merge}: windows must hold whole merged tokens"
      )

  @property
  def patch_values(self) -> int:
    """Numbers in a flattened patch."""
    return self.channels * self.temporal_patch * self.patch**2

  @property
  def window_units(self) -> int:
    """Merged tokens along the side of a window."""
    return self.window // (self.patch * self.merge)

  @property
  def window_slots(self) -> int:
    """Patch slots in a window."""
    return (self.window_units * self.merge) ** 2


class Arrangement(NamedTuple):
  """The pictures of one row in padded window order.

  Attributes:
    source: i32[P] index of the patch in reading order (merged tokens
      row by row, merge² patches each, as the Hugging Face processor emits
      them), -1 for an empty slot.
    segments: i32[P] which picture (every frame counts), -1 if empty.
    positions: i32[P, 2] (row, column) of the patch.
    merged_slots: i32[m] merged slot of every image token in reading order.
  """

  source: np.ndarray
  segments: np.ndarray
  positions: np.ndarray
  merged_slots: np.ndarray


def image_tokens(layout: VisionLayout, grid: Grid) -> int:
  """Returns how many merged tokens a picture of `grid` patches becomes."""
  t, h, w = grid
  return t * (h // layout.merge) * (w // layout.merge)


def slots(layout: VisionLayout, grid: Grid) -> int:
  """Returns how many patch slots a picture takes in padded window order."""
  t, h, w = grid
  side = layout.window_units * layout.merge
  return t * -(-h // side) * -(-w // side) * layout.window_slots


def check_grid(layout: VisionLayout, grid: Grid) -> None:
  """Raises ValueError unless `grid` is a positive multiple of the merge."""
  t, h, w = grid
  if t < 1 or h < 1 or w < 1 or h % layout.merge or w % layout.merge:
    raise ValueError(
      f"image grid is {tuple(grid)}, expected (frames, rows, columns), all"
      f" positive, rows and columns multiples of {layout.merge}"
    )


def _arrange_frame(layout: VisionLayout, h: int, w: int) -> Arrangement:
  """Returns the arrangement of one frame of h × w patches."""
  merge, units = layout.merge, layout.window_units
  rows, cols = h // merge, w // merge
  window_rows, window_cols = -(-rows // units), -(-cols // units)
  frame = np.full((window_rows * units, window_cols * units), -1, np.int32)
  frame[:rows, :cols] = np.arange(rows * cols).reshape(rows, cols)
  windows = frame.reshape(window_rows, units, window_cols, units)
  token = windows.transpose(0, 2, 1, 3).reshape(-1)  # [M] by window
  sub = np.arange(merge * merge, dtype=np.int32)
  full = token[:, None] >= 0
  source = np.where(full, token[:, None] * merge * merge + sub, -1)
  row = np.where(full, token[:, None] // cols * merge + sub // merge, 0)
  col = np.where(full, token[:, None] % cols * merge + sub % merge, 0)
  kept = np.flatnonzero(token >= 0)
  merged_slots = np.empty(rows * cols, np.int32)
  merged_slots[token[kept]] = kept
  return Arrangement(
    source=source.reshape(-1).astype(np.int32),
    segments=np.where(source >= 0, 0, -1).reshape(-1).astype(np.int32),
    positions=np.stack([row, col], -1).reshape(-1, 2).astype(np.int32),
    merged_slots=merged_slots,
  )


def arrange(layout: VisionLayout, grids: Sequence[Grid]) -> Arrangement:
  """Returns the pictures of one row laid out in padded window order.

  Args:
    layout: geometry of the vision tower.
    grids: (frames, rows, columns) in patches, one per picture.

  Returns:
    An Arrangement with P = the sum of `slots` over pictures.
  """
  parts: list[Arrangement] = []
  patches = merged = frames = 0
  for grid in grids:
    check_grid(layout, grid)
    t, h, w = (int(x) for x in grid)
    for _ in range(t):
      frame = _arrange_frame(layout, h, w)
      empty = frame.source < 0
      parts.append(
        Arrangement(
          source=np.where(empty, -1, frame.source + patches),
          segments=np.where(empty, -1, frames),
          positions=frame.positions,
          merged_slots=frame.merged_slots + merged,
        )
      )
      patches += h * w
      merged += len(frame.source) // layout.merge**2
      frames += 1
  if not parts:
    zero = np.zeros(0, np.int32)
    return Arrangement(zero, zero, np.zeros((0, 2), np.int32), zero)
  joined = (np.concatenate(x) for x in zip(*parts, strict=True))
  return Arrangement(*(x.astype(np.int32) for x in joined))


def mrope_positions(
  layout: VisionLayout,
  tokens: np.ndarray,
  mask: np.ndarray,
  grids: Sequence[Grid],
  image_token_id: int,
) -> tuple[np.ndarray, int]:
  """Returns the three-axis position ids of one row (M-RoPE).

  Text advances all three axes by one; a picture that starts at position p
  puts (p, p + row, p + column) on its merged tokens, and what follows starts
  one past the largest id used (arXiv 2409.12191, section 2.1).

  Args:
    layout: geometry of the vision tower.
    tokens: i32[S] token ids with expanded image placeholders.
    mask: bool[S] True on real tokens.
    grids: pictures in order of appearance.
    image_token_id: id of the placeholder.

  Returns:
    (positions i32[3, S], next_position); padded tokens have id 1, as in
    transformers.

  Raises:
    ValueError: if placeholders and grids do not match.
  """
  positions = np.ones((3, len(tokens)), np.int32)
  real = np.flatnonzero(mask)
  is_image = tokens[real] == image_token_id
  expected = sum(image_tokens(layout, grid) for grid in grids)
  if int(is_image.sum()) != expected:
    raise ValueError(
      f"the row has {int(is_image.sum())} image tokens, but its"
      f" {len(grids)} picture(s) with grids {[tuple(g) for g in grids]} need"
      f" {expected}: expand every placeholder to rows × columns /"
      f" {layout.merge**2} tokens, and never truncate image tokens"
    )
  pictures = iter(grids)
  cursor = at = 0
  while at < len(real):
    if not is_image[at]:
      positions[:, real[at]] = cursor
      cursor, at = cursor + 1, at + 1
      continue
    t, h, w = (int(x) for x in next(pictures))
    rows, cols = h // layout.merge, w // layout.merge
    count = t * rows * cols
    run = real[at : at + count]
    if not is_image[at : at + count].all():
      raise ValueError(
        f"a picture of grid {(t, h, w)} needs {count} consecutive image"
        f" tokens, but text interrupts them at token {int(run[0])} of the row"
      )
    index = np.arange(count)
    positions[0, run] = cursor + index // (rows * cols)
    positions[1, run] = cursor + index // cols % rows
    positions[2, run] = cursor + index % cols
    cursor, at = cursor + max(t, rows, cols), at + count
  return positions, cursor
