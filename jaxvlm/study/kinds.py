"""The kinds of stage that arms are made of: supervised, on-policy, reinforced.

Each takes the parameters that the stage begins with and returns those at its
end. A stage of another kind calls `stages.train` with inputs of its own.
"""

from typing import NamedTuple

import numpy as np

from jaxvlm.data.pipeline import BatchSource
from jaxvlm.data.rows import Survey
from jaxvlm.rollout import Generate, Score
from jaxvlm.study import inputs, stages
from jaxvlm.study.config import GRPOConfig, StageConfig
from jaxvlm.study.inputs import MakeInputs
from jaxvlm.study.lab import Lab
from jaxvlm.study.probing import ProbeSet
from jaxvlm.study.stages import Stage
from jaxvlm.tasks import Task
from jaxvlm.train.assemble import Assembly
from jaxvlm.typing import Params


class Place(NamedTuple):
  """Where a stage stands.

  Attributes:
    arm: folder of the arm.
    stage: folder of the stage.
    number: of the stage in its arm, from 0; keys and order of data follow.
    first: a name for the policy that it begins with; None names none. A named
      policy is measured once in a study.
    last: a name for the policy that it ends with.
  """

  arm: str
  stage: str
  number: int
  first: str | None = None
  last: str | None = None


def supervised(
  lab: Lab,
  place: Place,
  config: StageConfig,
  assembly: Assembly,
  rows: Survey,
  params: Params,
  *,
  probes: ProbeSet | None = None,
) -> Params:
  """Trains on the responses of rows: SFT, and pairs (DPO, SFT-C)."""
  source = lab.source(rows, config, place.number)
  given = inputs.supervised(lambda start: lab.stream(source, start))
  stage = _stage(place, config, assembly, given)
  return _on_rows(lab, stage, source, params, probes)


def paired(
  lab: Lab,
  place: Place,
  config: StageConfig,
  assembly: Assembly,
  rows: Survey,
  params: Params,
  generate: Generate,
  *,
  fraction: float,
  task: Task | None = None,
  probes: ProbeSet | None = None,
) -> Params:
  """Trains on pairs of which a share has the policy's own negatives.

  As `supervised` otherwise; for `fraction` and `task` see `inputs.paired`.
  """
  source, key = lab.source(rows, config, place.number), lab.key(place.number)
  given = inputs.paired(
    lab, source, generate, key, fraction=fraction, task=task
  )
  stage = _stage(place, config, assembly, given)
  return _on_rows(lab, stage, source, params, probes)


def constrained(
  lab: Lab,
  place: Place,
  config: StageConfig,
  assembly: Assembly,
  rows: Survey,
  params: Params,
  score: Score,
  *,
  floor: float,
  rate: float,
  probes: ProbeSet | None = None,
) -> Params:
  """Trains on chosen responses under a hard constraint on the rejected ones."""
  source = lab.source(rows, config, place.number)
  given = inputs.constrained(lab, source, score, floor=floor, rate=rate)
  stage = _stage(place, config, assembly, given)._replace(
    row_ids=source.row_ids,
    probes=probes,
    carry=stages.on_all_devices(lab, np.float32(0.0)),
  )
  return stages.train(lab, stage, params)


def distilled(
  lab: Lab,
  place: Place,
  config: StageConfig,
  assembly: Assembly,
  rows: Survey,
  params: Params,
  generate: Generate,
  teacher: Params,
) -> Params:
  """Trains on the student's own completions, held against a teacher (OPD)."""
  source, key = lab.source(rows, config, place.number), lab.key(place.number)
  given = inputs.on_policy(lab, source, generate, key)
  stage = _stage(place, config, assembly, given)._replace(
    teacher=teacher, row_ids=source.row_ids
  )
  return stages.train(lab, stage, params)


def reinforced(
  lab: Lab,
  place: Place,
  config: GRPOConfig,
  assembly: Assembly,
  rows: Survey,
  params: Params,
  rollout: Generate,
) -> Params:
  """Trains on graded groups of the policy's completions (GRPO)."""
  source, given = graded(lab, place.number, config, rows, rollout)
  stage = _stage(place, config, assembly, given)._replace(
    # With a carry, the rows of a step are what was complete, not the plan's.
    row_ids=None if config.carry else source.row_ids,
    carry=stages.begin_carry(lab, config),
  )
  return stages.train(lab, stage, params)


def graded(
  lab: Lab, number: int, config: GRPOConfig, rows: Survey, rollout: Generate
) -> tuple[BatchSource, MakeInputs]:
  """Returns the prompts and the inputs of a stage of GRPO."""
  source = lab.source(rows, config, number, config.carry)
  key = lab.key(number)
  return source, inputs.reinforced(lab, source, config, rollout, key)


def _on_rows(
  lab: Lab,
  stage: Stage,
  source: BatchSource,
  params: Params,
  probes: ProbeSet | None,
) -> Params:
  """Trains a stage whose rows are planned ahead."""
  whole = stage._replace(row_ids=source.row_ids, probes=probes)
  return stages.train(lab, whole, params)


def _stage(
  place: Place, config: StageConfig, assembly: Assembly, given: MakeInputs
) -> Stage:
  return Stage(
    folder=f"{place.arm}/{place.stage}",
    title=f"{place.arm} · {place.stage}",
    config=config,
    assembly=assembly,
    inputs=given,
    first=place.first,
    last=place.last,
  )
