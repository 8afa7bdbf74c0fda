"""What a run or a checkpoint will do, measured before it is paid for."""

from jaxvlm.diagnostics.bootstrap import (
  Interval,
  bootstrap_interval,
  paired_bootstrap,
)
from jaxvlm.diagnostics.collapse import Calibration, calibrate, confusion
from jaxvlm.diagnostics.crossed import Intervals, crossed_intervals
from jaxvlm.diagnostics.diversity import distinct_answers, mode_share
from jaxvlm.diagnostics.groups import (
  GroupSize,
  Headroom,
  group_for_share,
  headroom,
)
from jaxvlm.diagnostics.headroom import (
  degenerate_probability,
  expected_group_variance,
  headroom_threshold,
)
from jaxvlm.diagnostics.passk import pass_at_k

__all__ = [
  "Calibration",
  "GroupSize",
  "Headroom",
  "Interval",
  "Intervals",
  "bootstrap_interval",
  "calibrate",
  "confusion",
  "crossed_intervals",
  "degenerate_probability",
  "distinct_answers",
  "expected_group_variance",
  "group_for_share",
  "headroom",
  "headroom_threshold",
  "mode_share",
  "paired_bootstrap",
  "pass_at_k",
]
