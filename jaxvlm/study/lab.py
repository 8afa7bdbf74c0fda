"""What the arms of one seed share: problems, programs, mesh, order of data."""

import dataclasses
import enum
import pathlib
from collections.abc import Mapping

import jax

from jaxvlm.data import pipeline
from jaxvlm.data import rows as rows_lib
from jaxvlm.data.plan import Plan
from jaxvlm.eval import harness
from jaxvlm.sampling import root_key
from jaxvlm.sharding import shard_batch
from jaxvlm.study.config import StageConfig, StudyConfig
from jaxvlm.study.problems import Problems
from jaxvlm.study.programs import Programs
from jaxvlm.train import experience
from jaxvlm.typing import Params


class Draws(enum.IntEnum):
  """Folded into keys and seeds, so that the parts of a study draw apart."""

  STAGE1 = 0
  GRPO = 1
  EVALUATION = 2


@dataclasses.dataclass(frozen=True)
class Lab:
  """Everything the arms of one seed share."""

  study: StudyConfig
  mesh: jax.sharding.Mesh
  problems: Problems
  programs: Programs
  teacher: Params
  identity: Mapping[str, str]
  seed: int
  workdir: pathlib.Path
  evaluated: dict[str, list[harness.Evaluation]] = dataclasses.field(
    default_factory=dict
  )

  def key(self, draws: Draws) -> jax.Array:
    return jax.random.fold_in(root_key(self.seed), int(draws))

  def source(
    self,
    survey: rows_lib.Survey,
    stage: StageConfig,
    draws: Draws,
    carry: int = 0,
  ) -> pipeline.BatchSource:
    """Returns the stage's batches; the order depends on seed and stage.

    With a carry, rows of several steps share a batch: all take the largest that
    one of them needs, and there is one batch more to begin with.
    """
    buckets = survey.buckets.tolist()
    if carry:
      buckets = [max(buckets)] * len(buckets)
    return pipeline.BatchSource(
      survey,
      Plan(tuple(buckets), stage.prompts, 2 * self.seed + draws),
      self.problems.encoder,
      stage.steps + bool(carry),
      places=experience.places(stage.prompts, self.mesh),
    )

  def stream(self, source: pipeline.BatchSource, start: int):
    workers = self.study.data.workers
    for host in pipeline.batches(source, start=start, workers=workers):
      yield host._replace(batch=shard_batch(self.mesh, host.batch))
