"""Programs on arrays that are not: every objective, every form of weights."""

import dataclasses

import jax
import pytest

from jaxvlm import sharding
from jaxvlm.models import qwen2_5_vl
from jaxvlm.models.qwen2_5_vl import presets
from jaxvlm.models.remat import Remat
from jaxvlm.plan import cell, programs, topology
from jaxvlm.plan.setting import PAIRS, Objective, Setting
from jaxvlm.train.optimizer import OptimizerConfig, Precision, Rule

pytest.importorskip("libtpu")
GIB = topology.GIB


def _built(objective=Objective.SFT, **changes):
  changes = {
    "model": presets.QWEN_7B,
    "topology": "v5e:8x8",
    "group": 2 if objective in PAIRS else 1,
    **changes,
  }
  s = Setting(objective=objective, **changes)
  devices = topology.devices(topology.parse(s.topology))
  program = programs.build(s, sharding.make_mesh(s.mesh, devices))
  held = {name: cell.chip_bytes(x) for name, x in program.trees.items()}
  return program, held


def _count(config) -> int:
  params = jax.eval_shape(lambda: qwen2_5_vl.init(config, jax.random.key(0)))
  return sum(x.size for x in jax.tree.leaves(params))


@pytest.mark.parametrize("objective", Objective)
def test_every_objective_has_a_program(objective):
  teacher = presets.QWEN_72B if objective is Objective.OPD else None
  program, held = _built(objective, teacher=teacher)
  assert all(x.sharding.mesh.size == 64 for x in jax.tree.leaves(program.args))
  assert held["batch"] > 0
  if objective is Objective.ROLLOUT:
    assert set(held) == {"frozen", "batch"}
    assert program.trips == 1024


def test_full_fine_tuning_holds_twelve_bytes_a_parameter_over_all_chips():
  _, held = _built()
  least = _count(presets.QWEN_7B) / 64
  assert 4 * least <= held["parameters"] <= 1.01 * 4 * least
  assert held["optimizer"] == pytest.approx(2 * held["parameters"], rel=0.01)
  assert held["frozen"] == 0


def test_a_teacher_lies_in_bfloat16_over_all_chips_or_in_int8():
  _, plain = _built(Objective.OPD, teacher=presets.QWEN_72B)
  _, small = _built(Objective.OPD, teacher=presets.QWEN_72B, int8_teacher=True)
  least = _count(presets.QWEN_72B) / 64
  assert 2 * least <= plain["frozen"] <= 1.01 * 2 * least
  # Embedding, head and the tower keep two bytes.
  assert 1.0 * least < small["frozen"] < 1.1 * least


def test_adapters_train_alone_and_their_base_is_the_reference():
  program, held = _built(
    Objective.CW_DPO, model=presets.QWEN_72B, lora_rank=64, freeze_vision=True
  )
  _, frozen, _ = program.args
  assert set(frozen) == {"base"}
  # 842 million numbers, 4 bytes each, over 64 chips.
  assert held["parameters"] == pytest.approx(842e6 * 4 / 64, rel=0.02)
  paths = jax.tree_util.tree_leaves_with_path(program.trees["parameters"])
  names = {
    jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in paths
  }
  assert all(name.startswith("model/layers/") for name in names)


def test_without_adapters_the_reference_is_a_second_copy():
  program, held = _built(Objective.DPO)
  _, frozen, _ = program.args
  assert set(frozen) == {"reference"}
  assert held["frozen"] == pytest.approx(held["parameters"] / 2, rel=0.01)


def test_frozen_vision_takes_no_moments():
  program, held = _built(freeze_vision=True)
  assert set(program.trees["parameters"]) == {"model"}
  assert set(program.args[1]) == {"base"}
  _, whole = _built()
  assert held["optimizer"] < whole["optimizer"]


def test_what_the_optimizer_keeps_is_counted():
  _, plain = _built()
  half = OptimizerConfig(first_moment=Precision.BFLOAT16)
  _, small = _built(optimizer=half)
  assert small["optimizer"] == pytest.approx(
    0.75 * plain["optimizer"], rel=0.01
  )
  _, factored = _built(optimizer=OptimizerConfig(rule=Rule.ADAFACTOR))
  assert factored["optimizer"] < 0.05 * plain["optimizer"]


def test_a_reference_only_where_grpo_asks_for_one():
  assert not _built(Objective.GRPO, group=8)[0].args[1]
  assert set(_built(Objective.GRPO, group=8, kl_coef=0.1)[0].args[1]) == {
    "reference"
  }


def test_prompts_that_do_not_spread_are_refused():
  with pytest.raises(ValueError, match="63 prompts does not divide"):
    _built(prompts=63)


def test_a_mesh_that_does_not_fit_the_slice_is_refused():
  with pytest.raises(ValueError, match="does not fit 64 device"):
    _built(mesh=sharding.MeshConfig(data=3, fsdp=5))


def test_unrolled_layers_are_placed_like_scanned_ones():
  config = dataclasses.replace(presets.QWEN_3B, num_hidden_layers=2)
  _, scanned = _built(model=config)
  _, unrolled = _built(model=config, scan=False)
  assert unrolled["parameters"] == scanned["parameters"]


@jax.default_matmul_precision("default")
@pytest.mark.slow
def test_a_fingerprint_is_that_of_the_program():
  small = dataclasses.replace(presets.QWEN_3B, num_hidden_layers=1)
  one = Setting(small, Objective.SFT, "v5e:2x2", prompts=4, patches=0)
  first = cell.fingerprint(one)
  assert cell.fingerprint(dataclasses.replace(one)) == first
  for changes in ({"remat": Remat.NONE}, {"prompts": 8}):
    assert cell.fingerprint(dataclasses.replace(one, **changes)) != first
