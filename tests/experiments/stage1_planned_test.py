"""What is planned is what is trained: the same trees, types and shapes.

The study's stages say what they would give the loop, the planner what it
would compile. All of it is traced on shapes: nothing is compiled or trained.
"""

import dataclasses
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.stage1_entropy import arms, config
from jaxvlm import assets
from jaxvlm.data.rows import HostBatch
from jaxvlm.models import qwen2_5_vl
from jaxvlm.plan import programs
from jaxvlm.plan.setting import Setting, Task
from jaxvlm.sampling import Samples
from jaxvlm.sharding import MeshConfig, make_mesh
from jaxvlm.study import programs as study_programs
from jaxvlm.study import stages
from jaxvlm.train import experience, freeze
from jaxvlm.typing import Batch

MODEL = qwen2_5_vl.Config.from_folder(assets.folder("nano-base"))
TEACHER = qwen2_5_vl.Config.from_folder(assets.folder("nano-teacher"))
N, G, T, S, P = 2, 2, 8, 64, 64
POD = dataclasses.replace(config.pod(), mesh=MeshConfig())
COLAB = dataclasses.replace(config.colab(), lora_rank=4, lora_alpha=8.0)
STUDIES = {
  "pod": POD,
  "frozen tower": dataclasses.replace(POD, freeze_vision=True),
  "8-bit teacher": dataclasses.replace(POD, int8_teacher=True),
  "colab": COLAB,
}
STAGES = {"sft_early": Task.SFT, "opd": Task.OPD, "grpo": Task.GRPO}
CELLS = [
  *(("pod", stage) for stage in STAGES),
  *(("colab", stage) for stage in STAGES),
  ("frozen tower", "grpo"),
  ("8-bit teacher", "opd"),
]


def abstract(tree):
  """Returns path -> (shape, dtype) of every leaf; names of fields count."""
  return {
    jax.tree_util.keystr(path): (x.shape, str(x.dtype))
    for path, x in jax.tree_util.tree_leaves_with_path(tree)
  }


def trained(c: config.StudyConfig, stage: str, monkeypatch):
  """Returns the state, frozen parameters and inputs of a stage's first step."""
  mesh, seen = make_mesh(MeshConfig()), []
  compute = jnp.bfloat16 if c.bfloat16 else jnp.float32
  prompts = programs.prompt_shapes(N, S, P, MODEL.layout.patch_values)
  prompts = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), prompts)
  tokens, mask = np.zeros((N, G, T), np.int32), np.ones((N, G, T), bool)
  host = HostBatch(Batch(prompts, tokens, mask), ())
  lab = types.SimpleNamespace(
    config=c,
    seed=0,
    identity={},
    mesh=mesh,
    key=jax.random.key,
    problems=types.SimpleNamespace(
      training={"traces": None, "prompts": None},
      evaluation=(),
      chat=types.SimpleNamespace(decode=None),
      task=None,
    ),
    source=lambda *_: types.SimpleNamespace(row_ids=None),
    stream=lambda *_: iter([host]),
    workdir=pathlib.Path("/nowhere"),
    model=MODEL,
    evaluate=None,
  )
  compiled = arms.Programs(dict.fromkeys(STAGES), None, None, None, None)

  def sample(*_):
    return host.batch, Samples(
      tokens, mask, mask[..., 0], *[np.float32(tokens)] * 4
    )

  def run(folder, name, state, step, frozen, make_inputs, *_, **__):
    params = state.trainable
    data, _, _ = make_inputs(0)(0, params, ())
    seen.append((state._replace(carry=()), frozen, data))
    return state

  monkeypatch.setattr(stages.loop, "run", run)
  monkeypatch.setattr(experience, "sample", sample)
  monkeypatch.setattr(experience, "rollout_metrics", lambda *_: {})
  monkeypatch.setattr(experience, "count_tokens", lambda _: 0.0)
  zeros = np.zeros((N, G), np.float32)
  graded = dict.fromkeys(("reward", "accuracy", "format"), zeros)
  monkeypatch.setattr(experience, "grade", lambda *_, **__: graded)

  def group_experience(batch, samples, rewards, **_):
    return experience.Experience(batch, samples.logprobs, rewards), {}

  # The original spreads arrays over devices, which traced ones cannot be.
  monkeypatch.setattr(experience, "group_experience", group_experience)

  def shapes(config, dtype):
    made = jax.eval_shape(lambda: qwen2_5_vl.init(config, jax.random.key(0)))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), made)

  def whole(base, teacher):
    base = study_programs.with_adapters(c, mesh, MODEL, base)
    if c.int8_teacher:
      teacher = study_programs.in_8_bits(mesh, TEACHER, teacher)
    if stage == "grpo":
      arms.stage2(lab, compiled, "opd", base)
    else:
      arms.stage1(lab, compiled, stage, base, teacher)
    state, frozen, data = seen.pop()
    return state, frozen or {}, data

  with jax.set_mesh(mesh):
    return jax.eval_shape(
      whole,
      shapes(MODEL, compute if c.lora_rank else jnp.float32),
      shapes(TEACHER, compute),
    )


@pytest.mark.parametrize("name, stage", CELLS)
def test_a_stage_is_planned_as_it_is_trained(name, stage, monkeypatch):
  c, task = STUDIES[name], STAGES[stage]
  setting = Setting(
    model=MODEL,
    task=task,
    topology="v5e:2x2",
    teacher=TEACHER if task is Task.OPD else None,
    prompts=N,
    group=G,
    prompt_tokens=S,
    completion_tokens=T,
    patches=P,
    optimizer=getattr(c, stage).optimizer,
    lora_rank=c.lora_rank,
    freeze_vision=c.freeze_vision,
    # A setting is of one stage: where nothing is frozen it is refused.
    int8_teacher=c.int8_teacher and (task is Task.OPD or c.lora_rank > 0),
    kl_coef=c.grpo.kl_coef if task is Task.GRPO else 0.0,
  )
  planned = programs.build(setting, make_mesh(MeshConfig())).args
  state, frozen, data = trained(c, stage, monkeypatch)
  assert type(data) is type(planned[2])
  for theirs, ours in zip((state, frozen, data), planned, strict=True):
    assert abstract(theirs) == abstract(ours)
  if (name, stage) == ("colab", "grpo"):  # the adapters that enter RL
    names = {path.rsplit("'", 2)[1] for path in abstract(frozen["reference"])}
    assert names == {"lora_a", "lora_b", "lora_scale"}


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
