"""Is a checkpoint ready for group-relative RL? Numbers first, then words.

Two things can make GRPO fail from a checkpoint (arXiv 2606.18487): groups
whose rewards are all equal carry no gradient, and a policy of low entropy
loses what it can do while it is trained. Both are measured before; each verdict
says what it rests on and how sure it is.
"""

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from numpy.typing import ArrayLike

from jaxvlm.diagnostics.bootstrap import Interval, bootstrap_interval
from jaxvlm.diagnostics.collapse import ENTROPY_THRESHOLD
from jaxvlm.diagnostics.diversity import mode_share
from jaxvlm.diagnostics.groups import (
  GroupSize,
  Headroom,
  binary,
  group_for_share,
  headroom,
)
from jaxvlm.diagnostics.headroom import headroom_threshold
from jaxvlm.diagnostics.passk import pass_at_k


class Advice(enum.Enum):
  """What the numbers say; the value is what reports print."""

  READY = "ready"
  RISKY = "at risk"
  STARVED = "starved"
  SATURATED = "saturated"
  UNSURE = "unsure"


class Readiness(NamedTuple):
  """What is known of one checkpoint.

  Attributes:
    name: of the checkpoint.
    samples: of each problem.
    prompt_entropy: nats, mean over prompt tokens; None where not measured.
    completion_entropy: nats, mean over the policy's own tokens.
    pass_at: k -> pass@k.
    headroom: of groups.
    group: the group at which half of all groups are useful.
    distinct: different answers to a problem.
    mode: share of the most common answer.
    threshold: nats; entropy below it is flagged.
    advice: the verdict.
    reasons: sentences.
  """

  name: str
  samples: int
  prompt_entropy: Interval | None
  completion_entropy: Interval
  pass_at: Mapping[int, Interval]
  headroom: Headroom
  group: GroupSize
  distinct: Interval
  mode: float
  threshold: float
  advice: Advice
  reasons: tuple[str, ...]

  @property
  def entropy(self) -> Interval:
    """The entropy that is judged: the prompt's, or the policy's own."""
    return self.prompt_entropy or self.completion_entropy


def judge(
  name: str,
  rewards: ArrayLike,
  completion_entropies: ArrayLike,
  answers: Sequence[Sequence[str]],
  *,
  prompt_entropies: ArrayLike | None = None,
  g: int = 8,
  threshold: float,
) -> Readiness:
  """Returns what a checkpoint's rollouts say of RL from it.

  Args:
    name: of the checkpoint.
    rewards: f[P, n] of n samples of P problems, two values.
    completion_entropies: f[P] nats, mean over the tokens of a problem's
      samples.
    answers: P lists of n answers, "" for none.
    prompt_entropies: f[P] nats, mean over the tokens of each prompt.
    g: group size of the RL to come, at most n.
    threshold: nats below which entropy is flagged.

  Raises:
    ValueError: as `headroom`.
  """
  correct = binary(rewards)
  counts, n = correct.sum(1), correct.shape[1]
  groups = headroom(rewards, g)
  own = bootstrap_interval(completion_entropies)
  prompts = None
  if prompt_entropies is not None:
    prompts = bootstrap_interval(prompt_entropies)
  kinds = [len({a for a in row if a}) for row in answers]
  advice, reasons = advise(groups, prompts, own, threshold)
  return Readiness(
    name=name,
    samples=n,
    prompt_entropy=prompts,
    completion_entropy=own,
    pass_at={
      k: bootstrap_interval(pass_at_k(n, counts, k), bounds=(0, 1))
      for k in (1, 2, 4, 8, 10, 16, 32, 64, 128)
      if k <= n
    },
    headroom=groups,
    group=group_for_share(rewards, 0.5),
    distinct=bootstrap_interval(kinds),
    mode=mode_share([[a or None for a in row] for row in answers]),
    threshold=threshold,
    advice=advice,
    reasons=reasons,
  )


def advise(
  groups: Headroom,
  prompts: Interval | None,
  own: Interval,
  threshold: float,
) -> tuple[Advice, tuple[str, ...]]:
  """Returns the verdict on RL from a checkpoint, and its reasons.

  A side of a limit counts as known where the whole interval lies on it.

  Args:
    groups: what groups will carry.
    prompts: entropy over prompt tokens, nats; None where not measured.
    own: entropy over the policy's own tokens, nats; judged where the prompts'
      is not known.
    threshold: nats below which entropy is flagged.
  """
  g, useful = groups.group, groups.useful
  entropy, where = (own, "its own tokens") if prompts is None else (
    prompts, "prompt tokens"
  )  # fmt: skip
  reasons = [
    f"{_percent(useful)} of groups of {g} carry a gradient",
    _of_prompts(groups),
    f"entropy over {where} is {entropy.mean:.3f} nats"
    f" [{entropy.low:.3f}, {entropy.high:.3f}],"
    f" {_side(entropy, threshold)} {threshold:g}",
  ]
  if threshold == ENTROPY_THRESHOLD:
    reasons.append(
      "that threshold is of the paper's coders, over prompt tokens: calibrate"
      " it on runs of your own"
    )
  misled = abs(groups.useful_at_mean - useful.mean)
  if misled > 0.05:
    reasons.append(
      f"the mean pass rate alone would promise {groups.useful_at_mean:.0%} of"
      f" groups, {misled:.0%} off: prompts differ"
    )
  if useful.high < 0.5:
    solved = groups.above > groups.below
    return (Advice.SATURATED if solved else Advice.STARVED), tuple(reasons)
  if entropy.high < threshold:
    reasons.append(
      "the paper's runs that began below its threshold lost what they could do"
    )
    return Advice.RISKY, tuple(reasons)
  if useful.low < 0.5 or entropy.low < threshold:
    reasons.append("an interval holds the limit: more problems or samples tell")
    return Advice.UNSURE, tuple(reasons)
  return Advice.READY, tuple(reasons)


def _of_prompts(groups: Headroom) -> str:
  threshold = headroom_threshold(groups.group)
  return (
    f"{groups.below:.0%} of prompts are solved less often than p* ="
    f" {threshold:.3f}, {groups.above:.0%} more often than 1 − p*"
  )


def _percent(interval: Interval) -> str:
  return f"{interval.mean:.0%} [{interval.low:.0%}, {interval.high:.0%}]"


def _side(interval: Interval, limit: float) -> str:
  if interval.high < limit:
    return "below"
  return "above" if interval.low >= limit else "not told apart from"


_ORDER = (
  Advice.READY,
  Advice.UNSURE,
  Advice.RISKY,
  Advice.SATURATED,
  Advice.STARVED,
)


def rank(found: Sequence[Readiness]) -> list[Readiness]:
  """Returns checkpoints, the best start for RL first.

  By verdict, then by the share of useful groups: not by pass@1, whose order
  arXiv 2606.18487 found inverted after RL.
  """
  return sorted(
    found, key=lambda r: (_ORDER.index(r.advice), -r.headroom.useful.mean)
  )
