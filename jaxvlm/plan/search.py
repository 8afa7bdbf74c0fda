"""The largest micro-batch that fits, then the cheapest recomputation."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from jaxvlm.models.remat import Remat
from jaxvlm.plan.cell import Misfit, Report
from jaxvlm.plan.setting import Objective, Setting

# By time: what is kept need not be computed again. OFFLOAD, the last resort,
# waits for the host's memory.
LADDER = (Remat.NONE, Remat.SAVE_PROJECTIONS, Remat.FULL, Remat.OFFLOAD)


class Found(NamedTuple):
  """Outcome of a search.

  Attributes:
    setting: the best that fits; the smallest attempt if nothing does.
    result: of `setting`.
    tried: (prompts per chip and micro-batch, remat, whether it fits).
  """

  setting: Setting
  result: Report | Misfit
  tried: tuple[tuple[int, Remat, bool], ...]


def search(
  setting: Setting,
  devices: int,
  measure: Callable[[Setting], Report | Misfit],
) -> Found:
  """Returns the largest micro-batch and the cheapest remat that fit.

  Prompts per step stay as they are; micro-batches and remat are chosen. The
  largest micro-batch is found by bisection with FULL (OFFLOAD if one prompt
  per chip does not fit otherwise), and remat is then made cheaper while it
  fits: larger micro-batches collect the weights less often, which on a slice
  costs more than recomputation. About log2(prompts per chip) + 2 compiles.

  Args:
    setting: where to start from.
    devices: chips that prompts are spread over.
    measure: compiles a setting.

  Raises:
    ValueError: a rollout, which has neither; prompts that do not spread.
  """
  if setting.objective is Objective.ROLLOUT:
    raise ValueError(
      "search: a rollout has no micro-batches and no backward pass, expected"
      " a training objective; lower --prompts until it fits"
    )
  if setting.prompts % devices:
    raise ValueError(
      f"search: prompts is {setting.prompts}, expected a multiple of"
      f" {devices}, the chips that prompts are spread over"
    )
  tried: list[tuple[int, Remat, bool]] = []
  per_chip = setting.prompts // devices
  sizes = [n for n in range(1, per_chip + 1) if per_chip % n == 0]

  def attempt(size: int, remat: Remat) -> tuple[Setting, Report | Misfit]:
    one = dataclasses.replace(
      setting, micro_batches=per_chip // size, remat=remat
    )
    result = measure(one)
    tried.append((size, remat, isinstance(result, Report)))
    return one, result

  for start in (Remat.FULL, Remat.OFFLOAD):
    best = attempt(1, start)
    if isinstance(best[1], Report):
      break
  else:
    return Found(*best, tuple(tried))
  low, high = 0, len(sizes)  # sizes[low] fits, sizes[high] does not
  while high - low > 1:
    middle = (low + high) // 2
    one = attempt(sizes[middle], start)
    if isinstance(one[1], Report):
      best, low = one, middle
    else:
      high = middle
  # Where FULL does not fit, nothing cheaper does.
  cheaper = LADDER[: LADDER.index(Remat.FULL)] if start is Remat.FULL else ()
  for remat in cheaper:
    one = attempt(sizes[low], remat)
    if isinstance(one[1], Report):
      best = one
      break
  return Found(*best, tuple(tried))
