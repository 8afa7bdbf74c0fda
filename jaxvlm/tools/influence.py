"""What one update does to everything else: a heat map of any checkpoint.

For a few pictures and captions of every class (chosen, wrong by a word, another
picture's, shuffled, random …): how SFT on one class changes the log-probability
of another, to first order and exactly; and where the probability goes that
unlearning a class frees.
"""

import logging
import pathlib
from collections.abc import Sequence

import jax
import numpy as np
from absl import flags

from jaxvlm import config as configs
from jaxvlm import models, program, wholefile
from jaxvlm.data import rows as rows_lib
from jaxvlm.data import scenes
from jaxvlm.data.chat import Chat
from jaxvlm.data.rows import Encoder, Row
from jaxvlm.data.sources import caption_probes, coco
from jaxvlm.data.sources.scenes import SceneRows
from jaxvlm.diagnostics.influence import Influence
from jaxvlm.diagnostics.probes import CLASSES
from jaxvlm.diagnostics.squeezing import Squeeze
from jaxvlm.eval import dynamics
from jaxvlm.rollout import influence as influences
from jaxvlm.sampling import Sampling, root_key
from jaxvlm.study import probing
from jaxvlm.tasks import Task
from jaxvlm.tasks import coco as coco_task
from jaxvlm.tasks import scenes as scene_task
from jaxvlm.tools import compute, shapes
from jaxvlm.tools import folder as folders
from jaxvlm.tools.compute import ComputeConfig
from jaxvlm.typing import Batch

_MODEL = configs.define_path(
  "model_dir", "nano-base", "Hugging Face folder, or a shipped model's name"
)
_DATA = configs.define_path(
  "data_dir", "", "COCO folder; empty: the generated scenes"
)
_SPLIT = flags.DEFINE_string("split", "test", "split of --data_dir")
_PICTURES = flags.DEFINE_integer(
  "pictures", 4, "pictures; the kernel has 64 entries for each pair of them",
  lower_bound=2,
)  # fmt: skip
_SAMPLES = flags.DEFINE_integer(
  "samples", 4, "own captions of which a wrong one is taken", lower_bound=1
)
_LENGTH = flags.DEFINE_integer(
  "max_new_tokens", 32, "longest caption", lower_bound=1
)
_RATE = flags.DEFINE_float(
  "rate", 1e-3, "of the step that unlearns a caption, for squeezing"
)
_MIN_PIXELS = flags.DEFINE_integer(
  "min_pixels", None, "smallest picture; default: as the folder says"
)
_MAX_PIXELS = flags.DEFINE_integer(
  "max_pixels", None, "largest picture; default: as the folder says"
)
_SEED = flags.DEFINE_integer("seed", 0, "root of pictures and samples")
_OUT = configs.define_path(
  "out", "influence", "folder for the heat maps (.png) and all numbers (.npz)"
)
configs.define_flags(ComputeConfig())
_GROUPS = {
  "The model": ("model_dir", "bfloat16"),
  "The pictures": ("data_dir", "split", "pictures", "seed"),
  "The captions": ("samples", "max_new_tokens"),
  "The result": ("rate", "out"),
}


def main() -> None:
  config = configs.from_flags(ComputeConfig())
  if _RATE.value <= 0:
    raise ValueError(f"rate is {_RATE.value}, expected a positive number")
  task, rows = _rows()
  _, chat = folders.describe(_MODEL.value)
  encoder = _encoder(chat, rows)
  mesh = compute.make_mesh(config)
  with jax.set_mesh(mesh):
    model = folders.load(_MODEL.value, config.dtype, mesh)
    bound = models.bind(model.config, dtype=config.dtype)
    batch = _batch(model, task, rows, encoder)
    vocab = {"vocab_size": chat.vocab_size}
    logging.info("%d pictures × %d classes …", len(rows), len(CLASSES))
    found = jax.device_get(
      jax.jit(lambda p, b: influences.influence(bound, p, b, **vocab))(
        model.params, batch
      )
    )
    squeezed = jax.device_get(
      jax.jit(
        lambda p, b: influences.squeeze(bound, p, b, rate=_RATE.value, **vocab)
      )(model.params, batch)
    )
  _store(pathlib.Path(_OUT.value), found, squeezed, batch.mask, len(rows))


def _rows() -> tuple[Task, tuple[Row, ...]]:
  """Returns pictures with captions of every class that is a text."""
  count, seed = _PICTURES.value, _SEED.value
  if not _DATA.value:
    indices = range(seed * count, (seed + 1) * count)
    written = caption_probes.ProbeCaptions()
    rows = SceneRows(scenes.VALIDATION, indices, written)
    return scene_task.task(), tuple(rows)
  rows = coco.rows(_DATA.value, _SPLIT.value)[:count]
  return (
    coco_task.task(_DATA.value),
    caption_probes.of_captions(rows, seed=seed),
  )


def _encoder(chat: Chat, rows: Sequence[Row]) -> Encoder:
  budget = chat.pictures.budget.replaced(_MIN_PIXELS.value, _MAX_PIXELS.value)
  buckets = shapes.buckets_for(rows, chat, budget)[-1:]
  encoder = Encoder(chat, budget, buckets, _LENGTH.value)
  for row in rows:
    rows_lib.bucket_of(row, encoder)  # a caption that is too long is named
  return encoder


def _batch(
  model: folders.Folder, task: Task, rows: Sequence[Row], encoder: Encoder
) -> Batch:
  """Returns the probe batch; a class that a picture lacks is empty there."""
  batch = probing.written(rows, encoder)
  generate = model.sampler(_SAMPLES.value, Sampling(1.0), _LENGTH.value)
  ids = np.arange(len(rows), dtype=np.int32)
  key = root_key(_SEED.value)
  drawn = jax.device_get(generate(model.params, batch.prompts, key, ids))
  chat = encoder.chat
  own = probing.wrong_ones(drawn.tokens, drawn.mask, rows, chat, task)
  return probing.complete(batch, own, encoder, _SEED.value)


def by_class(values: np.ndarray, written: np.ndarray, *, same: bool):
  """Returns f64[K, K] means over pairs of pictures; NaN where there is none.

  Args:
    values: f[N·K, N·K], completions of a picture side by side.
    written: bool[N, K] completions that have tokens.
    same: of updates and observations on one picture, or on two.
  """
  n, k = written.shape
  cube = values.reshape(n, k, n, k).astype(float)
  there = written[:, :, None, None] & written[None, None]
  pairs = np.eye(n, dtype=bool) if same else ~np.eye(n, dtype=bool)
  there = there & pairs[:, None, :, None]
  count = there.sum((0, 2))
  total = np.where(there, cube, 0.0).sum((0, 2))
  return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def squeezed_by_class(
  found: Squeeze, mask: np.ndarray
) -> dict[str, np.ndarray]:
  """Returns f64[K] token means of every number of the squeezing meter.

  Args:
    found: f32[N·K, T] each.
    mask: bool[N, K, T].
  """
  count = np.maximum(mask.sum((0, 2)), 1)

  def mean(x):
    return np.where(mask, np.reshape(x, mask.shape), 0.0).sum((0, 2)) / count

  return {name: mean(x) for name, x in found._asdict().items()}


def _store(
  out: pathlib.Path,
  found: Influence,
  squeezed: Squeeze,
  mask: np.ndarray,
  pictures: int,
) -> None:
  mask = np.asarray(mask)
  written = mask.any(-1)
  out.mkdir(parents=True, exist_ok=True)
  for same, name, where in (
    (True, "same", "the same picture"),
    (False, "other", "another picture"),
  ):
    values = by_class(found.change, written, same=same)
    title = f"SFT on a class, observed on {where}"
    picture = dynamics.heat_map(values, CLASSES, CLASSES, title=title)
    (out / f"influence_{name}.png").write_bytes(picture.png)
    (out / f"influence_{name}.csv").write_text(picture.csv, "utf-8")
    print(f"\nΔ log-probability a token per unit of the rate, {where}:")
    _print(values)
  means = squeezed_by_class(squeezed, mask)
  print(
    f"\nUnlearning a class by a step of {_RATE.value:g}, means over its"
    " tokens:\np(y⁻) is the token's, y* the likeliest other token"
  )
  print(f"{'':18s}" + "".join(f"{name:>10s}" for name in means))
  for k, name in enumerate(CLASSES):
    cells = "".join(f"{x[k]:10.2g}" for x in means.values())
    print(f"{name:18s}{cells}")
  with wholefile.writing(out / "influence.npz") as file:
    np.savez(file, mask=mask, **found._asdict(), **squeezed._asdict())
  print(f"\n{out}: heat maps and all numbers, {pictures} pictures")


def _print(values: np.ndarray) -> None:
  print(f"{'updated on':18s}" + "".join(f"{c[:9]:>10s}" for c in CLASSES))
  for name, row in zip(CLASSES, values, strict=True):
    print(f"{name:18s}" + "".join(f"{x:10.2g}" for x in row))


def run() -> None:
  program.run(main, "jaxvlm influence", groups=_GROUPS)
