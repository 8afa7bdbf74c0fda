"""Is RL going to fail? Seen early, from what the steps log.

Stage 2 of the check of arXiv 2606.18487: runs whose entropy halves between two
early steps lose what the policy could do. Beside it stand the signs of a run
without signal: groups whose rewards are all equal, gradients of exactly 0, and
pass@k that falls.
"""

import collections
import dataclasses
import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from jaxvlm import distributed

ENTROPY, DEGENERATE = "policy/entropy", "reward/degenerate_groups"
GRADIENT = "grad/norm"
DROP, SIGNS = "monitor/entropy_drop", "monitor/signs"


def _setting(text: str, default: Any) -> Any:
  return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class MonitorConfig:
  """What is a sign of failure, and whether one may end the run.

  Attributes:
    early_stop: end a run that a sign condemns.
    first: step whose entropy the later one is compared with.
    second: step at which they are compared.
    drop: largest [H(first) − H(second)] / H(first) that is none.
    window: steps that one figure is a mean of; single steps are noise.
    degenerate: largest mean share of degenerate groups that is none.
    fall: largest relative fall of a set's pass@k below its first value.
  """

  early_stop: bool = _setting("end a run that a sign condemns", False)
  # The paper's steps and its τ₂; the other limits are ours.
  first: int = _setting("step whose entropy a later one is compared with", 10)
  second: int = _setting("that later step", 150)
  drop: float = _setting("fall of entropy between them that condemns", 0.5)
  window: int = _setting("steps that one figure is a mean of", 10)
  degenerate: float = _setting("share of degenerate groups that is told", 0.9)
  fall: float = _setting("relative fall of pass@k that is told", 0.2)


def check_settings(config: MonitorConfig) -> None:
  """Raises ValueError, naming the setting, for a number out of range."""
  for name in ("first", "window"):
    if getattr(config, name) < 1:
      raise ValueError(
        f"{name} is {getattr(config, name)}, expected at least 1"
      )
  if config.second <= config.first:
    raise ValueError(
      f"second is {config.second}, expected a step after the first,"
      f" {config.first}"
    )
  for name in ("drop", "degenerate", "fall"):
    value = getattr(config, name)
    if not 0 <= value <= 1:
      raise ValueError(f"{name} is {value}, expected a share from 0 to 1")


WATCHING = MonitorConfig()


class Sign(NamedTuple):
  """One sign of failure.

  Attributes:
    name: of the watch; each is told once while it lasts.
    text: what was seen.
    condemns: whether it is a reason to end the run.
  """

  name: str
  text: str
  condemns: bool = False


class Monitor:
  """Watches a run of GRPO, warns, and says when it is not worth its cost.

  What it decides is a function of the run's records alone, so a run that is
  resumed goes on as if nothing had happened.

  Args:
    config: what is a sign.
    records: what the journal of the run already holds, oldest first.
  """

  def __init__(
    self, config: MonitorConfig, records: Iterable[Mapping[str, float]] = ()
  ):
    self._config = config
    self._entropies = collections.deque(maxlen=config.window)
    self._degenerate = collections.deque(maxlen=config.window)
    self._gradients = collections.deque(maxlen=config.window)
    self._first: float | None = None
    self._passes: dict[str, float] = {}
    self._told: set[str] = set()
    self.reason = ""
    for record in records:
      self._look(int(record["step"]), record)
      for name, value in record.items():
        if _is_pass(name):
          self._passes.setdefault(name, float(value))

  def check(self, step: int, record: Mapping[str, float]) -> dict[str, float]:
    """Returns what to log of a step, and warns of signs that are new.

    Sets `reason` where a sign ends the run.

    Args:
      step: steps that are taken.
      record: what is logged of the step; without groups there is nothing to
        watch.
    """
    signs = self._look(step, record)
    for sign in signs:
      if sign.name not in self._told:
        logging.warning("step %d: %s", step, sign.text)
      if sign.condemns and self._config.early_stop:
        self.reason = self.reason or sign.text
    self._told = {sign.name for sign in signs}
    if DEGENERATE not in record:
      return {}
    out = {SIGNS: float(len(signs))}
    if self._first and self._entropies:
      out[DROP] = 1 - _mean(self._entropies) / self._first
    return out

  def _look(self, step: int, record: Mapping[str, float]) -> list[Sign]:
    if DEGENERATE not in record:
      return []
    for name, kept in (
      (ENTROPY, self._entropies),
      (DEGENERATE, self._degenerate),
      (GRADIENT, self._gradients),
    ):
      value = float(record.get(name, math.nan))
      if math.isfinite(value):
        kept.append(value)
    if step == self._config.first and self._entropies:
      self._first = _mean(self._entropies)
    return self._of_entropy(step) + self._of_signal()

  def _of_entropy(self, step: int) -> list[Sign]:
    config = self._config
    if step != config.second or not self._first or not self._entropies:
      return []
    now = _mean(self._entropies)
    drop = 1 - now / self._first
    if drop <= config.drop:
      return []
    text = (
      f"entropy fell by {drop:.0%}, from {self._first:.3f} nats at step"
      f" {config.first} to {now:.3f}, more than {config.drop:.0%}: such runs"
      " lost what the policy could do (arXiv 2606.18487)"
    )
    return [Sign("entropy", text, condemns=True)]

  def _of_signal(self) -> list[Sign]:
    window, out = self._config.window, []
    if len(self._degenerate) == window:
      share = _mean(self._degenerate)
      if share > self._config.degenerate:
        text = (
          f"{share:.0%} of groups of the last {window} steps were degenerate:"
          " larger groups, or problems nearer to the policy's reach, would"
          " give a gradient"
        )
        out.append(Sign("degenerate", text))
    if len(self._gradients) == window and not any(self._gradients):
      text = (
        f"no gradient in the last {window} steps: only weight decay and"
        " momentum move the weights"
      )
      out.append(Sign("gradient", text, condemns=True))
    return out

  def ending(self) -> str:
    """Returns why the run ends now, "" where it goes on; processes agree."""
    if not self._config.early_stop:
      return ""
    return distributed.from_writer(self.reason)

  def evaluated(self, step: int, record: Mapping[str, float]) -> None:
    """Warns where a set's pass@k has fallen below its first value.

    Args:
      step: steps that are taken.
      record: of an evaluation.
    """
    for name, value in record.items():
      if not _is_pass(name):
        continue
      first = self._passes.setdefault(name, float(value))
      if value < (1 - self._config.fall) * first:
        logging.warning(
          "step %d: %s fell from %.3f to %.3f", step, name, first, value
        )


def _is_pass(name: str) -> bool:
  return name.startswith("eval/") and "/pass@" in name


def _mean(values: Iterable[float]) -> float:
  values = list(values)
  return sum(values) / len(values)
