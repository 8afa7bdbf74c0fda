"""What is said of a program: whether it passed, and why not."""

import dataclasses
import enum
import signal

from jaxvlm.rewards.code.template import Ended


class Outcome(enum.Enum):
  """Why a program passed or not; its value is how reports call it."""

  PASSED = "passed"
  WRONG = "wrong"
  RAISED = "raised"
  NOT_LOADED = "not loaded"
  TIMEOUT = "timeout"
  KILLED = "killed"
  UNSENDABLE = "unsendable"
  UNCALLED = "uncalled"
  UNREADABLE = "unreadable"
  LOST = "lost"


_OF_CODE = {
  "P": Outcome.PASSED,
  "W": Outcome.WRONG,
  "R": Outcome.RAISED,
  "L": Outcome.NOT_LOADED,
  "U": Outcome.UNSENDABLE,
  "N": Outcome.UNCALLED,
  "G": Outcome.KILLED,
}


@dataclasses.dataclass(frozen=True)
class Verdict:
  """The verdict on one program.

  Attributes:
    outcome: why it passed or not.
    detail: what else is known (line of the tests, exception), never a value.
    weaker: program and tests shared a process, so that the program could have
      forged the verdict: a measure perhaps, never a reward.
    seconds: wall time inside the sandbox.
  """

  outcome: Outcome
  detail: str = ""
  weaker: bool = False
  seconds: float = 0.0

  @property
  def passed(self) -> bool:
    """Whether every test passed."""
    return self.outcome is Outcome.PASSED


def of(ended: Ended, in_process: bool) -> Verdict:
  """Returns the verdict on what a template reports."""
  found = ended.found
  if ended.timed_out or ended.signal == signal.SIGXCPU:
    outcome, detail = Outcome.TIMEOUT, ""
  elif found is None:
    outcome, detail = Outcome.KILLED, "the tests' process ended"
  else:
    outcome = _OF_CODE.get(found.code, Outcome.KILLED)
    where = f" in line {found.line} of the tests" if found.line else ""
    detail = (found.name + where).strip()
  if outcome is Outcome.KILLED and ended.signal:
    detail = f"signal {ended.signal}"
  return Verdict(outcome, detail, in_process, ended.seconds)
