"""The probe set of a study: built once a stage, read between its steps.

Its rows have a text of every class that can be written down, the chosen one
first; what the policy itself says wrong, and random tokens, are made here.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxvlm import distributed, wholefile
from jaxvlm.data import rows as rows_lib
from jaxvlm.data.chat import Chat
from jaxvlm.data.rows import Encoder, Row
from jaxvlm.diagnostics import probes
from jaxvlm.diagnostics.calibration import Bins
from jaxvlm.diagnostics.probes import Limits, Panel
from jaxvlm.eval.harness import Evaluation
from jaxvlm.rollout import Generate
from jaxvlm.sampling import root_key
from jaxvlm.sharding import prompt_axes, shard_batch
from jaxvlm.study.config import setting
from jaxvlm.study.lab import Lab
from jaxvlm.tasks import Task, score
from jaxvlm.train import experience
from jaxvlm.train.probing import Prober, Probes
from jaxvlm.typing import Batch, Params

# Where an evaluation of the probe set is filed.
SET = "probes"
# Where the bins of its reliability diagram are, beside it.
BINS = "reliability"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeConfig:
  """How the probe set is read, and where it ends a stage."""

  problems: int = setting("problems of the probe set", 32)
  every: int = setting("steps between probes; 0: none", 25)
  most_drift: float = setting(
    "total variation from the reference that ends a stage; 0: none does", 0.0
  )
  most_lost: float = setting(
    "nats lost by the chosen answers that end a stage; 0: none do", 0.0
  )

  @property
  def limits(self) -> Limits:
    """Where probes end a stage."""
    return Limits(
      total_variation=self.most_drift or math.inf,
      chosen_drop=self.most_lost or math.inf,
    )


class ProbeSet(NamedTuple):
  """What a stage is probed with.

  Attributes:
    config: how often, and what ends it.
    rows: problems with a response of every class that is written down.
    texts: names of these classes.
    prober: the compiled programs.
    sample: draws completions, of which a wrong one is taken; None: there is no
      such class.
  """

  config: ProbeConfig
  rows: Sequence[Row]
  texts: tuple[str, ...]
  prober: Prober
  sample: Generate | None = None

  @property
  def classes(self) -> tuple[str, ...]:
    """Names of all classes: the written ones, the policy's own, random."""
    own = () if self.sample is None else (probes.ON_POLICY,)
    return (*self.texts, *own, probes.RANDOM)

  def watch(
    self,
    lab: Lab,
    folder: pathlib.Path,
    reference: Params,
    whole: Callable[[Params], Params],
  ) -> Probes:
    """Returns what the loop asks of a stage.

    Args:
      lab: what arms share.
      folder: of the stage; every probe is filed there as an evaluation.
      reference: whole parameters that the stage begins with.
      whole: trained part -> whole parameters.
    """
    begun: list[Callable[[Params], Panel]] = []

    def measure(step: int, part: Params) -> dict[str, float]:
      if not begun:  # a stage that is over needs none
        batch = self.batch(lab, reference)
        begun.append(self.prober.against(reference, batch))
      found = begun[0](whole(part))
      if distributed.is_writer():
        _file(folder, step, found, self.classes)
      return probes.record(found, self.classes)

    return Probes(self.config.every, measure, self.config.limits.broken)

  def batch(self, lab: Lab, policy: Params) -> Batch:
    """Returns the probe set on the devices, with wrong answers of a policy."""
    encoder, task = lab.problems.encoder, lab.problems.task
    host, own = written(self.rows, encoder), None
    if self.sample is not None:
      generate = experience.everywhere(self.sample, lab.mesh)
      ids = np.arange(len(self.rows), dtype=np.int32)
      key = jax.random.fold_in(root_key(lab.seed), lab.most_stages + 1)
      samples = jax.device_get(generate(policy, host.prompts, key, ids))
      drawn = samples.tokens, samples.mask
      own = wrong_ones(*drawn, self.rows, encoder.chat, task)
    completed = complete(host, own, encoder, lab.seed)
    places = experience.places(len(self.rows), lab.mesh)
    local = jax.tree.map(
      lambda x, axis: np.take(x, places, axis),
      completed,
      prompt_axes(completed),
    )
    return shard_batch(lab.mesh, local)


def written(rows: Sequence[Row], encoder: Encoder) -> Batch:
  """Returns the problems with their written completions, in NumPy.

  Raises:
    ValueError: a problem that does not fit or cannot be read; names it, for a
      probe set has no spares.
  """
  for row in rows:
    try:
      rows_lib.bucket_of(row, encoder)
    except (ValueError, FileNotFoundError) as error:
      raise ValueError(f"row {row.id!r} of the probe set: {error}") from error
  bucket = encoder.buckets[-1]
  return rows_lib.make_batch(rows, _no_spare, bucket, encoder).batch


def wrong_ones(
  tokens: np.ndarray,
  mask: np.ndarray,
  rows: Sequence[Row],
  chat: Chat,
  task: Task,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns (tokens i32[N, T], mask bool[N, T]) of the first wrong completion.

  Wrong is what the task's first score calls less than 1. A problem whose
  completions are all right has an empty mask: the class misses it.

  Args:
    tokens: i32[N, G, T] completions of the policy.
    mask: bool[N, G, T].
    rows: N problems.
    chat: decodes.
    task: scores.
  """
  n, g, _ = tokens.shape
  texts = [
    chat.decode(tokens[i, j][mask[i, j]].tolist())
    for i in range(n)
    for j in range(g)
  ]
  found = score(task, texts, [row for row in rows for _ in range(g)])
  wrong = found[task.metrics[0]].reshape(n, g) < 1
  first, each = wrong.argmax(1), np.arange(n)
  return tokens[each, first], mask[each, first] & wrong.any(1)[:, None]


def complete(
  batch: Batch,
  own: tuple[np.ndarray, np.ndarray] | None,
  encoder: Encoder,
  seed: int,
) -> Batch:
  """Returns a probe batch with the policy's own texts and random tokens.

  Random tokens are as many as the chosen answer has.

  Args:
    batch: completions of the classes that are texts.
    own: (tokens i32[N, T], mask bool[N, T]) of the policy's wrong answers; None
      where they are no class.
    encoder: whose ordinary tokens are drawn from.
    seed: of the random tokens.
  """
  chat = encoder.chat
  special = set(chat.tokenizer.all_special_ids)
  ordinary = [i for i in range(chat.vocab_size) if i not in special]
  mask = batch.mask[:, 0]
  drawn = np.random.default_rng(seed).choice(ordinary, mask.shape)
  drawn = np.where(mask, drawn, chat.pad_id).astype(np.int32)
  added = [] if own is None else [own]
  tokens, masks = zip(*added, (drawn, mask), strict=True)
  return batch._replace(
    tokens=np.concatenate([batch.tokens, np.stack(tokens, 1)], 1),
    mask=np.concatenate([batch.mask, np.stack(masks, 1)], 1),
  )


def check(config: ProbeConfig, batch: int) -> None:
  """Raises ValueError for a probe set that says too little.

  Args:
    config: settings.
    batch: problems of a training step.
  """
  if config.every < 0:
    raise ValueError(f"probes.every is {config.every}, expected 0 or more")
  if config.every and config.problems < batch:
    raise ValueError(
      f"probes.problems is {config.problems}, expected at least {batch}, the"
      " prompts of a step: a smaller probe set says less than a batch does;"
      " raise it, or set probes.every to 0"
    )
  for name in ("most_drift", "most_lost"):
    if getattr(config, name) < 0:
      raise ValueError(
        f"probes.{name} is {getattr(config, name)}, expected a positive number,"
        " or 0 for no limit"
      )


def _no_spare(number: int) -> Row:
  raise ValueError("a problem of the probe set cannot be read: it has no spare")


def _file(
  folder: pathlib.Path, step: int, found: Panel, classes: Sequence[str]
) -> None:
  """Writes a probe as the evaluation of a problem set, for claims to read.

  Scores are those of the chosen answers, and of the other classes under
  "<quantity>_<class>".
  """
  scores = {}
  for quantity, values in found.numbers.items():
    for k, name in enumerate(classes):
      scores[f"{quantity}_{name}" if k else quantity] = values[:, k, None]
  entropies = scores.pop("entropy")
  one = np.ones_like(entropies, int)
  evaluation = Evaluation(
    name=SET,
    scores=scores,
    lengths=one,
    finished=one.astype(bool),
    entropies=entropies,
    neg_logprobs=-scores["logprob"],
    answers=(("",),) * len(entropies),
  )
  bins = Bins(*(x[0] for x in found.bins))._asdict()
  for name, arrays in ((SET, evaluation.to_arrays()), (BINS, bins)):
    path = folder / "eval" / f"{name}-{step:05d}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with wholefile.writing(path) as file:
      np.savez(file, **arrays)
