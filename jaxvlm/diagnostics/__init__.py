"""What a run or a checkpoint will do, measured before it is paid for."""

from jaxvlm.diagnostics.bootstrap import (
  Interval,
  bootstrap_interval,
  paired_bootstrap,
)
from jaxvlm.diagnostics.crossed import Intervals, crossed_intervals
from jaxvlm.diagnostics.diversity import distinct_answers, mode_share
from jaxvlm.diagnostics.headroom import (
  degenerate_probability,
  expected_group_variance,
  headroom_threshold,
)
from jaxvlm.diagnostics.passk import pass_at_k

__all__ = [
  "Interval",
  "Intervals",
  "bootstrap_interval",
  "crossed_intervals",
  "degenerate_probability",
  "distinct_answers",
  "expected_group_variance",
  "headroom_threshold",
  "mode_share",
  "paired_bootstrap",
  "pass_at_k",
]
