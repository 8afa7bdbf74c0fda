"""Real cells: compiled for TPU slices. Slow: XLA takes its time."""

import dataclasses

import jax
import pytest

from jaxvlm.models.qwen2_5_vl import presets
from jaxvlm.models.remat import Remat
from jaxvlm.plan import cell, topology
from jaxvlm.plan.setting import PAIRS, Objective, Setting
from jaxvlm.sharding import MeshConfig

pytestmark = [pytest.mark.slow]
pytest.importorskip("libtpu")
GIB = topology.GIB

# Every part of the family, small.
SMALL = dataclasses.replace(
  presets.QWEN_3B,
  vocab_size=4096,
  hidden_size=256,
  intermediate_size=512,
  num_hidden_layers=10,
  num_attention_heads=2,
  eos_token_id=5,
  vision=dataclasses.replace(
    presets.QWEN_3B.vision,
    depth=6,
    hidden_size=256,
    intermediate_size=512,
    num_heads=2,
    out_hidden_size=256,
    fullatt_block_indexes=(2, 5),
  ),
)


@pytest.fixture(autouse=True)
def as_trained():
  """Products as in a run, not the exact ones of the other tests."""
  with jax.default_matmul_precision("default"):
    yield


def _small(objective: Objective, **changes) -> Setting:
  changes = {
    "prompts": 8,
    "group": 2 if objective in PAIRS else 1,
    "prompt_tokens": 256,
    "completion_tokens": 256,
    "patches": 256,
    "teacher": SMALL if objective is Objective.OPD else None,
    **changes,
  }
  return Setting(SMALL, objective, "v5e:2x2", **changes)


@pytest.mark.parametrize("objective", Objective)
def test_every_objective_compiles_and_passes_the_checks(objective):
  changes = {}
  if objective is Objective.ROLLOUT:
    changes = {"mesh": MeshConfig(data=2, fsdp=1, tensor=2)}
  r = cell.measure(_small(objective, **changes))
  assert isinstance(r, cell.Report)
  assert r.faults == ()
  m = r.memory
  held = m.parameters + m.optimizer + m.frozen + m.batch
  assert held <= m.peak <= m.hbm
  assert r.hbm_bytes > held  # everything is read at least once
  assert r.bounds.seconds > 0 and 0 < r.bounds.mfu < 1
  # Whole squares of attention and a second forward pass, not more.
  assert r.flops.model < r.flops.executed < 2.5 * r.flops.model


def test_layers_multiply_traffic_and_flops_alike():
  """What a loop's body counts for: twice the layers, about twice the work."""
  one = cell.measure(_small(Objective.SFT, patches=0))
  longer = dataclasses.replace(SMALL, num_hidden_layers=20)
  two = cell.measure(
    dataclasses.replace(_small(Objective.SFT, patches=0), model=longer)
  )
  head = one.flops.head * 4 / 3  # its logits are made twice
  decoder = one.flops.executed - head
  assert two.flops.executed - head == pytest.approx(2 * decoder, rel=0.02)
  gathers = [r.communication[0] for r in (one, two)]
  assert gathers[0].kind == gathers[1].kind == "all-gather"
  assert 1.5 < gathers[1].bytes / gathers[0].bytes <= 2.05


def test_recomputation_costs_flops_and_saves_memory():
  full, kept = (
    cell.measure(_small(Objective.SFT, patches=0, remat=remat))
    for remat in (Remat.FULL, Remat.NONE)
  )
  assert full.memory.temporaries < kept.memory.temporaries
  assert full.flops.executed > kept.flops.executed
  assert full.flops.model == kept.flops.model


def test_what_does_not_fit_says_how_much_and_what_to_change():
  setting = Setting(presets.QWEN_72B, Objective.SFT, "v5e:2x2", prompts=4)
  found = cell.measure(setting)
  assert isinstance(found, cell.Misfit)
  assert found.available == topology.CHIPS["v5e"].hbm
  assert found.needed > 200 * GIB
  assert "HBM" in found.reason
  assert any("--lora_rank" in line for line in found.advice)


def test_7b_full_fine_tuning_on_64_small_chips():
  """The goal of issue 5: at most 4.5 GiB per chip."""
  setting = Setting(presets.QWEN_7B, Objective.SFT, "v5e:8x8", prompts=64)
  found = cell.measure(setting)
  assert found.faults == ()
  assert found.memory.peak <= 4.5 * GIB
