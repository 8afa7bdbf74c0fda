"""Early signs of RL that fails: told once, kept over a resume, condemning."""

import itertools

import pytest

from jaxvlm.train.monitor import Monitor, MonitorConfig, check_settings

CONFIG = MonitorConfig(early_stop=True, first=4, second=8, window=2)


def record(step, entropy=1.0, degenerate=0.3, norm=1.0, **more):
  return {
    "step": step,
    "policy/entropy": entropy,
    "reward/degenerate_groups": degenerate,
    "grad/norm": norm,
    **more,
  }


def run(config, records, known=()):
  monitor = Monitor(config, known)
  logged = []
  for one in records:
    logged.append(monitor.check(one["step"], one))
    if monitor.ending():
      break
  return monitor, logged


def halving(end):
  """Entropy 1 up to step 4, then falling on a line to `end` at step 8."""
  for step in range(1, 13):
    yield record(step, 1 - (1 - end) * min(max(step - 4, 0), 4) / 4)


def test_the_fall_of_entropy_between_two_steps(caplog):
  # Means of two steps: (end + (1 + 3·end)/4)/2 at the later one.
  monitor, logged = run(CONFIG, halving(0.3))
  assert len(logged) == 8 and "entropy fell by 61%" in monitor.reason
  assert logged[-1]["monitor/entropy_drop"] == pytest.approx(0.6125)
  assert logged[-1]["monitor/signs"] == 1
  assert "monitor/entropy_drop" not in logged[2]
  spared, logged = run(CONFIG, halving(0.6))
  assert len(logged) == 12 and not spared.reason and not caplog.records[1:]


def test_a_resumed_run_decides_alike():
  records = list(halving(0.3))
  for cut in range(8):
    monitor, logged = run(CONFIG, records[cut:], records[:cut])
    assert cut + len(logged) == 8 and "61%" in monitor.reason


def test_without_early_stop_it_only_warns(caplog):
  monitor, logged = run(
    MonitorConfig(first=4, second=8, window=2), halving(0.1)
  )
  assert len(logged) == 12 and not monitor.ending()
  assert "entropy fell" in caplog.text


def test_groups_without_signal(caplog):
  monitor, logged = run(
    CONFIG, [record(step, degenerate=0.95) for step in range(1, 6)]
  )
  assert len(logged) == 5 and not monitor.reason
  assert caplog.text.count("95% of groups") == 1  # told once
  assert [one["monitor/signs"] for one in logged] == [0, 1, 1, 1, 1]


def test_no_gradient_at_all_condemns():
  norms = [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
  monitor, logged = run(
    CONFIG, [record(i + 1, norm=norm) for i, norm in enumerate(norms)]
  )
  assert len(logged) == 5 and "no gradient in the last 2" in monitor.reason


def test_passes_that_fall(caplog):
  monitor = Monitor(CONFIG, [{"step": 0, "eval/hard/pass@8": 0.5}])
  monitor.evaluated(3, {"eval/hard/pass@8": 0.45, "eval/hard/accuracy": 0.0})
  assert not caplog.records
  monitor.evaluated(6, {"eval/hard/pass@8": 0.3})
  assert "eval/hard/pass@8 fell from 0.500 to 0.300" in caplog.text


def test_stages_without_groups_are_not_watched():
  monitor = Monitor(CONFIG)
  for step in itertools.islice(itertools.count(1), 20):
    assert monitor.check(step, {"grad/norm": 0.0, "policy/entropy": 0.0}) == {}
  assert not monitor.reason


@pytest.mark.parametrize(
  "settings,said",
  [
    ({"first": 5, "second": 5}, "second is 5, expected a step after"),
    ({"first": 0}, "first is 0, expected at least 1"),
    ({"drop": 1.5}, "drop is 1.5, expected a share"),
    ({"degenerate": float("nan")}, "degenerate is nan"),
    ({"window": 0}, "window is 0"),
  ],
)
def test_settings_that_cannot_be(settings, said):
  with pytest.raises(ValueError, match=said):
    check_settings(MonitorConfig(**settings))
