"""What is planned is what is trained: one assembly, the same program.

The study's stages and the planner's cells of the same settings are lowered on
shapes and compared as texts. Nothing is compiled or trained.
"""

import dataclasses

import jax
import pytest

from experiments.stage1_entropy import arms, config
from jaxvlm import assets
from jaxvlm.plan import programs
from jaxvlm.plan.setting import Objective, Setting
from jaxvlm.sharding import MeshConfig, make_mesh
from jaxvlm.study import folders, planned
from jaxvlm.train import freeze

N, G, T, S, P = 2, 2, 8, 64, 64
replace = dataclasses.replace


def small(c):
  """Returns settings at the sizes above; what `jaxvlm plan` has no flag for."""
  sized = {
    name: replace(
      stage,
      prompts=N,
      group=G if name in ("opd", "grpo") else 1,
      micro_batches=1,
    )
    for name, stage in c.stages.items()
  }
  sized["grpo"] = replace(sized["grpo"], clip_low=0.2, clip_high=0.2)
  return replace(
    c,
    mesh=MeshConfig(),
    data=replace(
      c.data, prompt_tokens=(S,), patch_slots=(P,), max_new_tokens=T
    ),
    **sized,
  )


POD = small(config.pod())
STUDIES = {
  "pod": POD,
  "frozen tower": replace(POD, freeze_vision=True),
  "8-bit teacher": replace(POD, int8_teacher=True),
  "colab": replace(small(config.colab()), lora_rank=4, lora_alpha=8.0),
}
CELLS = [
  ("pod", "sft_early"),
  ("pod", "opd"),
  ("pod", "grpo"),
  ("colab", "grpo"),
  ("frozen tower", "grpo"),
  ("8-bit teacher", "opd"),
]
# Lowering takes seconds; the other cells differ in what is frozen.
LOWERED = (("pod", "sft_early"), ("colab", "grpo"))


def abstract(tree):
  """Returns path -> (shape, dtype) of every leaf; names of fields count."""
  return {
    jax.tree_util.keystr(path): (x.shape, str(x.dtype))
    for path, x in jax.tree_util.tree_leaves_with_path(tree)
  }


@pytest.fixture(scope="module")
def nano():
  return [folders.read(assets.folder(f"nano-{x}")) for x in ("base", "teacher")]


def cells(c, nano):
  student, teacher = nano
  stages = arms.planned(c, arms.make_programs(c, student, teacher), teacher)
  return {
    name: (setting, build)
    for name, setting, build in planned.cells(
      c, student.config, stages, "v5e:2x2"
    )
  }


@pytest.mark.parametrize("name, stage", CELLS)
def test_a_stage_is_planned_as_it_is_trained(name, stage, nano):
  setting, build = cells(STUDIES[name], nano)[stage]
  mesh = make_mesh(MeshConfig())
  # As from the flags of `jaxvlm plan`: field by field.
  asked = Setting(**{f.name: getattr(setting, f.name) for f in FIELDS})
  ours, theirs = build(setting, mesh), programs.build(asked, mesh)
  assert type(ours.args[2]) is type(theirs.args[2])
  assert abstract(ours.args) == abstract(theirs.args)
  if (name, stage) == ("colab", "grpo"):  # the adapters that enter RL
    reference = abstract(ours.args[1]["reference"])
    names = {path.rsplit("'", 2)[1] for path in reference}
    assert names == {"lora_a", "lora_b", "lora_scale"}
  if (name, stage) not in LOWERED:
    return
  with jax.set_mesh(mesh):
    texts = [p.function.lower(*p.args).as_text() for p in (ours, theirs)]
  assert texts[0] == texts[1]


FIELDS = dataclasses.fields(Setting)


def test_every_stage_and_every_sampler_is_planned(nano):
  found = cells(POD, nano)
  assert list(found) == [
    *("sft_early", "sft_over", "opd", "opd rollout", "grpo", "grpo rollout"),
  ]
  for name in ("opd rollout", "grpo rollout"):
    setting, build = found[name]
    assert setting.objective is Objective.ROLLOUT
    assert build(setting, make_mesh(MeshConfig())).trips == T


def test_the_rest_completes_policy_and_reference():
  def objective(params, frozen, batch, totals):
    return params, frozen["reference"], frozen["teacher"]

  found = freeze.with_frozen(objective)(
    {"a": {"x": 1}},
    {"base": {"a": {"y": 2}}, "reference": {"a": {"x": 0}}, "teacher": 9},
    None,
    None,
  )
  assert found == ({"a": {"x": 1, "y": 2}}, {"a": {"x": 0, "y": 2}}, 9)
