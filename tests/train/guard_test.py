"""The guard against a plain Python reading of the rule."""

import functools
import math
import statistics

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxvlm.train import guard as guards

WINDOW, MINIMUM, SIGMAS = 16, 4, 3.0
check = jax.jit(functools.partial(guards.check, sigmas=SIGMAS, minimum=MINIMUM))

VALUES = st.one_of(
  st.floats(0.5, 1.5, width=32),
  st.floats(0.5, 1.5, width=32),
  # XLA's CPU may read a subnormal number as 0, which is no gradient.
  st.floats(-2.0, 2e4, width=32, allow_subnormal=False),
  st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0]),
)


def excess(value, history):
  """How far above mean + k·std, in float64; −∞ where nothing is a spike."""
  recent = history[-WINDOW:]
  if len(recent) < MINIMUM:
    return -math.inf
  spread = statistics.stdev(recent)
  if spread <= 2**-20 * max(map(abs, recent)):
    return -math.inf
  return value - (statistics.fmean(recent) + SIGMAS * spread)


@hypothesis.settings(max_examples=200, deadline=None, derandomize=True)
@hypothesis.given(st.lists(st.tuples(VALUES, VALUES), max_size=40))
def test_equals_the_plain_python_rule(pairs):
  state = guards.init(WINDOW)
  losses, norms, in_row, total = [], [], 0, 0
  for loss, norm in pairs:
    ok, state = check(state, loss, norm)
    if not (math.isfinite(loss) and math.isfinite(norm)):
      expected = False
    elif norm == 0:  # no gradient: taken, not remembered
      expected = True
    else:
      over = max(excess(loss, losses), excess(norm, norms))
      # A decision nearer than float32 resolves may go either way.
      scale = max(map(abs, [*losses[-WINDOW:], *norms[-WINDOW:], 1.0]))
      expected = bool(ok) if abs(over) < 1e-5 * scale else over <= 0
      losses.append(loss)
      norms.append(norm)
    assert bool(ok) == expected
    in_row, total = (0, total) if expected else (in_row + 1, total + 1)
    assert int(state.skipped_in_row) == in_row
    assert int(state.skipped_total) == total
    assert int(state.count) == len(losses)
  kept = np.asarray(losses[-WINDOW:], np.float32)
  written = np.asarray(state.losses)[: len(kept)]
  np.testing.assert_array_equal(np.sort(written), np.sort(kept))
  assert np.all(np.isfinite(state.losses))
  assert np.all(np.isfinite(state.grad_norms))


def steady(steps=20):
  state = guards.init(WINDOW)
  for i in range(steps):
    _, state = check(state, 1.0 + 0.01 * (i % 3), 2.0 + 0.01 * (i % 2))
  assert int(state.skipped_total) == 0
  return state


@pytest.mark.parametrize(
  "loss, norm, expected",
  [
    (1.01, 2.005, True),
    (1.5, 2.005, False),  # one spike is enough, in either
    (1.01, 2.5, False),
    (-50.0, 0.1, True),  # far below is no spike
    (math.nan, 2.0, False),
    (1.0, math.inf, False),
    (-math.inf, 2.0, False),
  ],
)
def test_skips_what_is_not_finite_or_spikes(loss, norm, expected):
  ok, state = check(steady(), loss, norm)
  assert bool(ok) == expected
  assert int(state.skipped_in_row) == int(not expected)


def test_minimum_of_history_before_anything_spikes():
  state = guards.init(WINDOW)
  for _ in range(MINIMUM - 1):
    _, state = check(state, 1.0, 1.0)
  ok, state = check(state, 100.0, 1.0)
  assert bool(ok)
  _, state = check(guards.init(WINDOW), math.nan, 1.0)
  assert int(state.count) == 0


def test_a_lasting_new_level_is_accepted():
  state = steady()
  decisions = []
  for _ in range(WINDOW):
    ok, state = check(state, 10.0, 2.0)
    decisions.append(bool(ok))
  assert not decisions[0] and all(decisions[3:])


def test_bad_values_leave_the_history_alone():
  before = steady()
  state = before
  for bad in (math.nan, math.inf, -math.inf):
    _, state = check(state, bad, 2.0)
    _, state = check(state, 1.0, bad)
  np.testing.assert_array_equal(state.losses, before.losses)
  np.testing.assert_array_equal(state.grad_norms, before.grad_norms)
  assert int(state.skipped_in_row) == 6


def test_equal_values_never_spike():
  for value in (0.0, 0.1, 1e-30, 3.3e7):
    state = guards.init(WINDOW)
    for _ in range(2 * WINDOW):
      ok, state = check(state, value, value)
      assert bool(ok)


def test_huge_finite_values_do_not_lock_the_guard():
  state = steady()
  for value in (3e38, 3e38, -3e38, -3e38):
    _, state = check(state, value, abs(value))
  for _ in range(2 * WINDOW):
    ok, state = check(state, 1.0, 2.0)
    assert bool(ok)


def test_a_history_without_spread_calls_nothing_a_spike():
  for usual, then in ((0.1, 0.3), (3.3e7, 1e9), (1.0, 1.0 + 1e-6)):
    state = guards.init(WINDOW)
    for _ in range(2 * WINDOW):
      _, state = check(state, usual, usual)
    ok, state = check(state, then, usual)
    assert bool(ok)
    ok, _ = check(state, usual, then)
    assert bool(ok)


def decisions_of(losses, norms):
  """Returns ok of every step under the defaults of a run."""

  @jax.jit
  def run(pairs):
    def body(state, pair):
      ok, state = guards.check(state, *pair)
      return state, ok

    return jax.lax.scan(body, guards.init(), pairs)

  state, ok = run((jnp.float32(losses), jnp.float32(norms)))
  return np.asarray(ok), state


@pytest.mark.parametrize("rate", [0.005, 0.02, 0.1, 0.5])
def test_rare_ordinary_gradients_are_taken_and_a_real_spike_is_not(rate):
  rng = np.random.default_rng(3)
  steps = round(300 / rate)
  teaches = rng.random(steps) < rate
  norms = np.where(teaches, np.exp(0.3 * rng.normal(size=steps)), 0.0)
  losses = np.where(teaches, 0.02 * rng.normal(size=steps), 0.0)
  ok, state = decisions_of(losses, norms)
  assert np.all(ok[~teaches])
  assert np.mean(ok[teaches]) > 0.98
  assert int(state.count) == teaches.sum()
  last = np.flatnonzero(teaches)[-1]
  for spiking in (losses, norms):
    changed = spiking.copy()
    changed[last] = 50.0
    pair = (changed, norms) if spiking is losses else (losses, changed)
    assert not decisions_of(*pair)[0][last]


def test_a_step_without_gradient_is_taken_whatever_its_loss():
  before = steady()
  ok, state = check(before, 1e6, 0.0)
  assert bool(ok) and int(state.count) == int(before.count)
  ok, state = check(before, math.nan, 0.0)
  assert not bool(ok) and int(state.skipped_in_row) == 1
  for _ in range(2 * WINDOW):  # zeros do not push the history out
    _, state = check(state, 0.0, 0.0)
  np.testing.assert_array_equal(state.losses, before.losses)
  np.testing.assert_array_equal(state.grad_norms, before.grad_norms)


def test_runs_in_a_scan_and_donates():
  losses = (1.0 + 0.01 * (jnp.arange(50) % 2)).at[40].set(1e3)

  @functools.partial(jax.jit, donate_argnums=0)
  def run(state, losses):
    def body(state, loss):
      ok, state = guards.check(state, loss, jnp.ones(()))
      return state, ok

    return jax.lax.scan(body, state, losses)

  state, ok = run(guards.init(), losses)
  assert np.flatnonzero(~np.asarray(ok)).tolist() == [40]
  assert jax.tree.map(lambda x: x.dtype, state) == jax.tree.map(
    lambda x: x.dtype, guards.init()
  )


def test_arguments_are_checked():
  with pytest.raises(ValueError, match="window is 1"):
    guards.init(1)
  with pytest.raises(ValueError, match="minimum is 32, expected 2 … 16"):
    guards.check(guards.init(16), 1.0, 1.0)
