"""The drift alarm: each way to train on another policy's samples fires it.

A whole run, sampler and trainer of the same small Qwen2.5-VL through the loop,
undisturbed and with one fault each.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm import journal
from jaxvlm.models import qwen2_5_vl
from jaxvlm.rollout import make_generate
from jaxvlm.sampling import Sampling
from jaxvlm.train import drift, loop, objectives
from jaxvlm.train.optimizer import OptimizerConfig, make_optimizer
from jaxvlm.train.step import init_state, make_train_step
from jaxvlm.typing import Batch
from tests import tiny

GROUP, LENGTH, TEMPERATURE = 3, 6, 0.8
IDS = np.arange(4, dtype=np.int32)
# One layer of each kind: what is compiled twice has to be small.
CONFIG = dataclasses.replace(
  tiny.CONFIG,
  num_hidden_layers=1,
  vision=dataclasses.replace(
    tiny.CONFIG.vision, depth=1, fullatt_block_indexes=(0,)
  ),
)
OPTIMIZER = make_optimizer(OptimizerConfig(1e-3))


def cast(params):
  """Returns parameters that have been bfloat16 on their way."""
  return jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(x.dtype), params)


def reheated(params):
  """Returns parameters whose sampler draws at 0.85 where 0.8 is meant.

  z·(0.8 / 0.85) / 0.8 = z / 0.85: the same distribution, without a second
  program.
  """
  decoder = params["model"]
  head = decoder["lm_head"] * (TEMPERATURE / (TEMPERATURE + 0.05))
  return {**params, "model": {**decoder, "lm_head": head}}


class Lab:
  """Programs of one precision, compiled once for all runs."""

  def __init__(self, dtype):
    model = qwen2_5_vl.bind(CONFIG, dtype=dtype)
    kwargs = {"vocab_size": tiny.VOCAB, "temperature": TEMPERATURE}
    self.generate = make_generate(
      model,
      group=GROUP,
      sampling=Sampling(TEMPERATURE),
      max_new_tokens=LENGTH,
      eos_ids=(tiny.EOS,),
      pad_id=tiny.PAD,
      vocab_size=tiny.VOCAB,
    )
    self.steps = {
      name: make_train_step(objective, objectives.count, OPTIMIZER)
      for name, objective in {
        "grpo": objectives.grpo(model, **kwargs),
        "opd": objectives.opd(model, model, **kwargs),
      }.items()
    }

  def run(self, folder, objective, *, fault=None, first=1, steps=20, bounds):
    """Runs with a fault from step `first` on; returns the records."""
    prompts = tiny.prompts()

    def make_inputs(start):
      older = []  # parameters of the step before

      def inputs(step, params, carry):
        key = jax.random.fold_in(jax.random.key(5), step)
        used = params
        if step >= first and fault == "stale":
          used = older[-1]
        elif step >= first and fault == "temperature":
          used = reheated(params)
        elif step >= first and fault == "cast":
          used = cast(params)
        samples = self.generate(used, prompts, key, IDS)
        older[:] = [jax.tree.map(jnp.copy, params)]  # the step donates them
        advantages = np.random.default_rng(step).normal(size=(4, GROUP))
        batch = Batch(prompts, samples.tokens, samples.mask)
        data = objectives.Experience(
          batch,
          samples.logprobs,
          advantages.astype("f4") if objective == "grpo" else None,
        )
        return data, carry, {}

      return inputs

    loop.run(
      folder,
      "run",
      init_state(tiny.params(CONFIG), OPTIMIZER),
      self.steps[objective],
      {"teacher": tiny.params(CONFIG, seed=1)},
      make_inputs,
      loop.Schedule(steps, checkpoint_every=0),
      identity={"run": "x"},
      drift_bounds=bounds,
    )
    return journal.read(folder / "metrics.jsonl")


@pytest.fixture(scope="module")
def exact() -> Lab:
  return Lab(jnp.float32)


@pytest.fixture(scope="module")
def rounded() -> Lab:
  return Lab(jnp.bfloat16)


def said(caplog):
  return [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]


OBJECTIVES = ("grpo", pytest.param("opd", marks=pytest.mark.slow))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_undisturbed_run_stays_silent(exact, objective, tmp_path, caplog):
  records = exact.run(tmp_path, objective, bounds=drift.FLOAT32)
  assert len(records) == 20
  largest = [max(r[k] for r in records) for k in (drift.GAP, drift.KL)]
  print(f"{objective}: gap {largest[0]:.1e}, KL {largest[1]:.1e}")
  assert largest[0] < 1e-4 and largest[1] < 1e-6
  assert {r["rollout/alarm"] for r in records} == {0}
  assert said(caplog) == []


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("fault", ["stale", "temperature", "cast"])
def test_every_fault_fires(exact, fault, objective, tmp_path, caplog):
  records = exact.run(
    tmp_path, objective, fault=fault, first=2, steps=4, bounds=drift.FLOAT32
  )
  print(fault, [(r[drift.GAP], r[drift.KL]) for r in records])
  assert [r["rollout/alarm"] for r in records] == [0, 0, 1, 1]
  (message,) = said(caplog)  # once, when it starts
  assert message.startswith("step 3: rollout/logprob_gap is ")
  for cause in ("older weights", "another temperature", "another dtype"):
    assert cause in message


@pytest.mark.slow
@pytest.mark.parametrize("fault", [None, "stale", "temperature"])
def test_growth_tells_faults_from_rounding_in_bfloat16(
  rounded, fault, tmp_path, caplog
):
  """Sixteen quiet steps, then the fault: no bound would fit every model."""
  bounds = drift.LOW_PRECISION
  records = rounded.run(
    tmp_path, "grpo", fault=fault, first=16, steps=20, bounds=bounds
  )
  print(fault, [(r[drift.GAP], r[drift.KL]) for r in records])
  assert min(r[drift.GAP] for r in records) > drift.FLOAT32.gap
  expected = [0] * 16 + [int(fault is not None)] * 4
  assert [r["rollout/alarm"] for r in records] == expected
  if fault:
    (message,) = said(caplog)
    assert "5 times" in message and "its median over 16 steps" in message


def figures(gap, kl=0.0):
  return {drift.GAP: gap, drift.KL: kl}


def test_each_bound_fires_by_itself_and_a_nan_fires():
  for bad in (figures(2e-4), figures(0, 2e-6), figures(math.nan, 0)):
    alarm = drift.Alarm(drift.FLOAT32)
    assert alarm.check(1, figures(9e-5, 9e-7)) == {"rollout/alarm": 0}
    assert alarm.check(2, bad) == {"rollout/alarm": 1}


def test_an_objective_without_samples_has_no_alarm(caplog):
  assert drift.Alarm(drift.FLOAT32).check(1, {"loss/total": 1.0}) == {}
  assert said(caplog) == []


def test_growth_is_measured_against_quiet_steps_and_not_before_eight(caplog):
  alarm = drift.Alarm(drift.LOW_PRECISION)
  rung = []
  for step, kl in enumerate([1e-4] * 7 + [6e-4] + [1e-4] + [6e-4] * 30):
    (value,) = alarm.check(step, figures(0.05, kl)).values()
    rung.append(value)
  # The eighth is too early to judge, and a lasting fault never gets usual.
  assert rung == [0] * 9 + [1] * 30
  (message,) = said(caplog)
  assert message.startswith("step 9: rollout/logprob_kl is 0.0006,")


def test_the_alarm_warns_again_after_silence(caplog):
  alarm = drift.Alarm(drift.FLOAT32)
  for step, gap in enumerate([0, 1, 1, 0, 1]):
    alarm.check(step, figures(gap))
  starts = [message.partition(":")[0] for message in said(caplog)]
  assert starts == ["step 1", "step 4"]


def test_growth_below_what_float32_rounds_is_none():
  alarm = drift.Alarm(drift.LOW_PRECISION)
  for step in range(20):
    alarm.check(step, figures(0.0))
  assert alarm.check(20, figures(9e-5, 9e-7)) == {drift.ALARM: 0}
  assert alarm.check(21, figures(9e-5, 2e-6)) == {drift.ALARM: 1}


@pytest.mark.parametrize("cut", [3, 8, 9, 15, 20])
def test_a_resumed_run_decides_alike(cut, caplog):
  rng = np.random.default_rng(3)
  kls = 1e-4 * np.exp(rng.normal(size=40, scale=1.2))
  steps = list(enumerate(kls.tolist()))

  def go(alarm, steps):
    return [
      figures(0.05, kl) | alarm.check(step, figures(0.05, kl))
      for step, kl in steps
    ]

  whole = go(drift.Alarm(drift.LOW_PRECISION), steps)
  assert 0 < sum(r[drift.ALARM] for r in whole) < 30
  before = len(said(caplog))
  caplog.clear()
  records = [{"eval/accuracy": 0.5}, *whole[:cut]]  # step 0 is an evaluation
  resumed = drift.Alarm(drift.LOW_PRECISION, records)
  assert go(resumed, steps[cut:]) == whole[cut:]
  assert len(said(caplog)) <= before


def test_figures_by_hand_and_finite_far_away():
  new = jnp.array([[-1.0, -2.0, jnp.nan], [-3.0, -200.0, 0.0]])
  old = jnp.array([[-1.5, -1.0, 0.0], [-3.0, 0.0, -jnp.inf]])
  mask = jnp.array([[True, True, False], [True, False, False]])
  found = {
    k: float(m.value()) for k, m in drift.figures(new, old, mask).items()
  }
  k3 = [math.exp(d) - 1 - d for d in (0.5, -1.0, 0.0)]
  assert found == pytest.approx({drift.GAP: 1.0, drift.KL: sum(k3) / 3})
  far = drift.figures(jnp.zeros(1), jnp.full(1, -500.0), jnp.ones(1, bool))
  assert far[drift.GAP].value() == 500 and jnp.isfinite(far[drift.KL].value())


def test_small_differences_keep_their_digits():
  """exp(d) − 1 − d is d²/2, which float32 would lose by cancellation."""
  apart = np.float32(3e-5)
  found = drift.figures(jnp.full(4, apart), jnp.zeros(4), jnp.ones(4, bool))[
    drift.KL
  ].value()
  assert found == pytest.approx(float(apart) ** 2 / 2, rel=2e-2)
  assert (
    drift.figures(jnp.zeros(2), jnp.zeros(2), jnp.ones(2, bool))[
      drift.KL
    ].value()
    == 0
  )
