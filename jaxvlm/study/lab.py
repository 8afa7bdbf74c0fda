"""What the arms of one seed share: problems, models, mesh, keys, streams."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from jaxvlm import __version__, models
from jaxvlm.data import pipeline
from jaxvlm.data.order import Plan
from jaxvlm.data.rows import HostBatch, Survey
from jaxvlm.eval import harness
from jaxvlm.journal import OpenBoard
from jaxvlm.rollout import Generate
from jaxvlm.sampling import root_key
from jaxvlm.sharding import device_layout, shard_batch
from jaxvlm.study import record
from jaxvlm.study.config import StageConfig, StudyConfig
from jaxvlm.study.folders import ModelFolder
from jaxvlm.study.problems import Problems
from jaxvlm.train import experience


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lab:
  """Everything the arms of one seed share.

  Attributes:
    config: settings of the study.
    mesh: where everything lies.
    problems: what is trained on and measured.
    model: configuration of the student.
    evaluate: samples the student's answers for an evaluation.
    identity: what a checkpoint must agree with to be resumed.
    seed: of data and samples.
    workdir: folder of the seed.
    most_stages: the number of stages of the longest arm; keys and orders of
      data are drawn apart by it.
    board: opens another place that shows what stages log; None: nothing does.
    evaluated: evaluations of policies that have a name.
  """

  config: StudyConfig
  mesh: jax.sharding.Mesh
  problems: Problems
  model: Any
  evaluate: Generate
  identity: Mapping[str, str]
  seed: int
  workdir: pathlib.Path
  most_stages: int = 2
  board: OpenBoard | None = None
  evaluated: dict[str, list[harness.Evaluation]] = dataclasses.field(
    default_factory=dict
  )

  def key(self, place: int) -> jax.Array:
    """Returns the key of the stage at a place in its arm, from 0."""
    if not 0 <= place < self.most_stages:
      raise ValueError(
        f"a stage has place {place} in its arm, expected 0 …"
        f" {self.most_stages - 1}: most_stages is {self.most_stages}"
      )
    return jax.random.fold_in(root_key(self.seed), place)

  @property
  def evaluation_key(self) -> jax.Array:
    """The same for all policies, which pairs their comparison."""
    return jax.random.fold_in(root_key(self.seed), self.most_stages)

  def source(
    self,
    rows: Survey,
    stage: StageConfig,
    place: int,
    carry: int = 0,
  ) -> pipeline.BatchSource:
    """Returns a stage's batches; the order depends on seed and place.

    With a carry, rows of several steps share a batch: all take the largest that
    one of them needs, and there is one batch more to begin with.
    """
    buckets = rows.buckets.tolist()
    if carry:
      buckets = [max(buckets)] * len(buckets)
    order = self.most_stages * self.seed + place
    return pipeline.BatchSource(
      rows,
      Plan(tuple(buckets), stage.prompts, order),
      self.problems.encoder,
      stage.steps + bool(carry),
      places=experience.places(stage.prompts, self.mesh),
    )

  def stream(
    self, source: pipeline.BatchSource, start: int
  ) -> Iterator[HostBatch]:
    """Yields batches on the devices, from a step on."""
    workers = self.config.data.workers
    for host in pipeline.batches(source, start=start, workers=workers):
      yield host._replace(batch=shard_batch(self.mesh, host.batch))


def identity(
  config: StudyConfig, problems: Problems, folders: Mapping[str, ModelFolder]
) -> dict[str, str]:
  """Returns what decides a study's results but for lengths, by name.

  Args:
    config: settings.
    problems: what is trained on and measured.
    folders: the weights that are read, by their part in the study.
  """
  return {
    "settings": record.digest(config),
    **{
      name: models.fingerprint(folder.path) for name, folder in folders.items()
    },
    "tokenizer": problems.chat.fingerprint,
    "data": "".join(survey.digest for survey in problems.training.values()),
    "problems": "".join(found.digest for found in problems.evaluation),
    **{
      f"held out {name}": survey.digest
      for name, survey in problems.held_out.items()
    },
    **({"reward": version} if (version := problems.task.version) else {}),
    "version": __version__,
    "device_layout": device_layout(),
  }
