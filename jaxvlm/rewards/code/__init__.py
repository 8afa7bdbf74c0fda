"""Programs as answers: unit tests in a sandbox that a policy cannot cheat.

with Sandbox() as sandbox:
  verdicts = sandbox.run([(program, Tests("assert f(1) == 2")), …])
"""

from jaxvlm.rewards.code.limits import Limits
from jaxvlm.rewards.code.sandbox import Level, Sandbox, run_tests
from jaxvlm.rewards.code.suite import Tests
from jaxvlm.rewards.code.verdict import Outcome, Verdict
from jaxvlm.rewards.code.worker import Unavailable

__all__ = [
  "Level",
  "Limits",
  "Outcome",
  "Sandbox",
  "Tests",
  "Unavailable",
  "Verdict",
  "run_tests",
]
