"""The search, over a memory model that stands in for the compiler."""

import dataclasses

import pytest

from jaxvlm.models.qwen2_5_vl import presets
from jaxvlm.models.remat import Remat
from jaxvlm.plan import advice, search, topology
from jaxvlm.plan.cell import Misfit, Report
from jaxvlm.plan.setting import Objective, Setting
from jaxvlm.train.optimizer import OptimizerConfig, Rule

# What a prompt costs under each policy, of a memory of 100.
COST = {
  Remat.NONE: 40,
  Remat.SAVE_PROJECTIONS: 12,
  Remat.FULL: 10,
  Remat.OFFLOAD: 4,
}


def _setting(**changes) -> Setting:
  one = Setting(presets.QWEN_3B, Objective.SFT, "v5e:2x2", prompts=32)
  return dataclasses.replace(one, **changes)


def _compiler(state: int, compiled: list):
  """Returns a `measure` for a slice of 4 chips; notes what it was asked."""

  def measure(s: Setting):
    compiled.append(s)
    need = state + COST[s.remat] * s.prompts // s.micro_batches // 4
    if need > 100:
      return Misfit(4, need, 100, "too much", ())
    return Report(*[None] * len(dataclasses.fields(Report)))

  return measure


@pytest.mark.parametrize(
  "state,micro_batches,remat",
  [
    (10, 1, Remat.FULL),  # 8 prompts a chip at 10 each
    (0, 1, Remat.SAVE_PROJECTIONS),  # 8 at 12 fit, too
    (45, 2, Remat.SAVE_PROJECTIONS),  # 4
    (60, 2, Remat.FULL),
    (79, 4, Remat.FULL),  # 2
    (88, 8, Remat.SAVE_PROJECTIONS),  # 1
    (94, 8, Remat.OFFLOAD),  # one prompt fits only when its states leave
  ],
)
def test_the_largest_micro_batch_then_the_cheapest_policy(
  state, micro_batches, remat
):
  compiled = []
  found = search.search(_setting(), 4, _compiler(state, compiled))
  assert found.setting.micro_batches == micro_batches
  assert found.setting.remat is remat
  assert isinstance(found.result, Report)
  assert len(compiled) == len(found.tried) <= 6


def test_nothing_fits():
  found = search.search(_setting(), 4, _compiler(99, []))
  assert found.setting.micro_batches == 8
  assert found.setting.remat is Remat.OFFLOAD
  assert isinstance(found.result, Misfit)
  assert [fits for _, _, fits in found.tried] == [False, False]


def test_prompts_that_do_not_spread_are_refused():
  with pytest.raises(ValueError, match="prompts is 32, expected a multiple"):
    search.search(_setting(), 5, _compiler(0, []))


def test_a_rollout_is_refused():
  with pytest.raises(ValueError, match="no micro-batches"):
    search.search(_setting(objective=Objective.ROLLOUT), 4, _compiler(0, []))


SLICE = topology.parse("v5e:2x2")
SIZES = {"data": 1, "fsdp": 4, "tensor": 1}


def _advised(s: Setting, sizes=SIZES, **held: float):
  held = {name: int(x * topology.GIB) for name, x in held.items()}
  return " ".join(advice.advice(s, held, SLICE, sizes))


def test_advice_names_what_is_large():
  text = _advised(_setting(), parameters=4, optimizer=8)
  assert "--lora_rank" in text and "--first_moment=bfloat16" in text
  assert "--int8_teacher" not in text
  assert "--int8_teacher" not in _advised(_setting(), frozen=8)
  pairs = _setting(objective=Objective.DPO, group=2)
  assert "--int8_teacher" in _advised(pairs, frozen=8)
  assert "--lora_rank" not in _advised(_setting(), frozen=8)


def test_advice_does_not_repeat_what_is_done():
  done = _setting(
    lora_rank=8,
    micro_batches=16,
    remat=Remat.OFFLOAD,
    int8_teacher=True,
    optimizer=OptimizerConfig(rule=Rule.ADAFACTOR),
  )
  sizes = {"data": 1, "fsdp": 2, "tensor": 2}
  text = _advised(done, sizes, parameters=9, frozen=9)
  assert text == "a larger slice than v5e:2x2 (4 devices)"


def test_advice_for_activations():
  text = _advised(_setting(remat=Remat.NONE))
  assert "--remat=full" in text and "--micro_batches=2" in text
  assert "8 prompts at once" in text
  assert "--mesh.data=1" not in text
  copies = {"data": 4, "fsdp": 1, "tensor": 1}
  assert "--mesh.data=1" in _advised(_setting(), copies, frozen=8)


def test_advice_for_a_rollout():
  text = _advised(_setting(objective=Objective.ROLLOUT), frozen=12)
  assert "--prompts" in text and "--mesh.tensor" in text
  assert "remat" not in text and "int8" not in text
