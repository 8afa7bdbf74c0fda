"""Program of mesh_test.py: the same work on one device and on meshes of eight.

`python -m tests.mesh_cases MESH,… OBJECTIVE,…` prints one JSON line a case:
its name and the errors against one device; `sft/2` is sft in two micro-batches
against one, `llama.sft` another family's. The number of devices is fixed when
jax starts, so this runs in a process of its own.
"""

import functools
import json
import sys
import warnings

import jax
import numpy as np

from jaxvlm import assets, models
from jaxvlm.models import qwen2_5_vl
from jaxvlm.models.lora import init_lora
from jaxvlm.models.quantize import quantize_int8
from jaxvlm.rollout import make_generate
from jaxvlm.sampling import Sampling
from jaxvlm.sharding import MeshConfig, make_mesh, partition, shard_batch
from jaxvlm.train import freeze, objectives
from jaxvlm.train.optimizer import OptimizerConfig, make_optimizer
from jaxvlm.train.step import init_state, make_train_step
from tests import tiny

MODEL = qwen2_5_vl.bind(tiny.CONFIG)
# Other families, by the name that stands before an objective.
FAMILIES = {**tiny.TEXTS, "qwen3_vl": tiny.QWEN3}
CUT = {"vocab_size": tiny.VOCAB}
# No clipping: the first moment is a tenth of the gradient.
OPTIMIZER = make_optimizer(OptimizerConfig(1e-3, clip_norm=1e9))

# name -> (objective, totals)
OBJECTIVES = {
  "sft": (
    objectives.sft(MODEL, label_smoothing=0.1, **CUT),
    objectives.count,
  ),
  "sft_c": (
    objectives.sft_c(MODEL, floor=20.0, weight=0.5, **CUT),
    objectives.sft_c_totals(MODEL, **CUT),
  ),
  "opd": (objectives.opd(MODEL, MODEL, **CUT), objectives.count),
  "dpo": (objectives.dpo(MODEL, beta=0.1, **CUT), objectives.count),
  "cw_dpo": (
    objectives.cw_dpo(MODEL, beta=0.1, floor=-4.0, tau=1.0, **CUT),
    objectives.count,
  ),
  "grpo": (objectives.grpo(MODEL, kl_coef=0.1, **CUT), objectives.count),
  # Adapters on an 8-bit base, which is the reference too.
  "lora": (
    freeze.with_frozen(
      freeze.with_base_as_reference(
        objectives.cw_dpo(MODEL, beta=0.1, floor=-4.0, tau=1.0, **CUT)
      )
    ),
    objectives.count,
  ),
}
for family, config in FAMILIES.items():
  bound = models.bind(config)
  OBJECTIVES |= {
    f"{family}.sft": (objectives.sft(bound, **CUT), objectives.count),
    f"{family}.grpo": (
      objectives.grpo(bound, kl_coef=0.1, **CUT),
      objectives.count,
    ),
  }


def config_of(name):
  """Returns the configuration of a case."""
  return FAMILIES.get(name.partition(".")[0], tiny.CONFIG)


@functools.cache
def arrays(config=tiny.CONFIG):
  """Returns (trainable, other parameters, batch of eight prompts)."""
  make = tiny.text_batch
  if config.layout is not None:
    make = functools.partial(tiny.batch, config=config)
  batch, more = make(group=2), make(seed=1, group=2)
  both = jax.tree.map(
    lambda a, b, axis: np.concatenate([a, b], axis),
    batch,
    more,
    jax.tree.map(lambda _: 0, batch)._replace(
      prompts=jax.tree.map(lambda _: 0, batch.prompts)._replace(positions=1)
    ),
  )
  return tiny.params(config), tiny.params(config, seed=1), both


def inputs_of(name, batch):
  if not name.endswith(("grpo", "opd")):
    return batch
  rng = np.random.default_rng(0)
  old = np.where(batch.mask, rng.normal(size=batch.mask.shape) * 0.3 - 4, 0)
  advantages = rng.normal(size=batch.mask.shape[:2]).astype(np.float32)
  return objectives.Experience(batch, old.astype(np.float32), advantages)


@functools.cache
def adapters():
  """Returns adapters that do something: B is not 0."""
  tree = init_lora(
    tiny.params(), jax.random.key(0), rank=4, alpha=8.0, pattern="model/layers"
  )
  return jax.tree.map(lambda x: x + 0.05, tree)


def train(name, place, rows, micro_batches=1):
  """Returns (metrics, gradients, parameters after one step)."""
  rules = models.partition_rules(config_of(name))
  trainable, other, batch = arrays(config_of(name))
  objective, totals = OBJECTIVES[name]
  frozen = {"teacher": other, "reference": other}
  if name == "lora":
    frozen = {"base": quantize_int8(trainable, "model/layers")}
    trainable = adapters()
  step = make_train_step(
    objective, totals, OPTIMIZER, micro_batches=micro_batches, rules=rules
  )
  state = init_state(place(trainable), OPTIMIZER, rules=rules)
  before = jax.tree.map(lambda x: x.sharding, state)
  frozen = {part: place(tree) for part, tree in frozen.items()}
  state, metrics = step(state, frozen, rows(inputs_of(name, batch)))
  kept = jax.tree.map(
    lambda x, s: s.is_equivalent_to(x.sharding, x.ndim), state, before
  )
  assert all(jax.tree.leaves(kept)), f"layout changed: {kept}"
  adam = next(s for s in state.opt_state[1] if hasattr(s, "mu"))
  return jax.device_get((metrics, adam.mu, state.trainable))


def rollout(place, rows):
  trainable, _, batch = arrays()
  generate = make_generate(
    MODEL,
    group=2,
    sampling=Sampling(),
    max_new_tokens=6,
    eos_ids=(tiny.EOS,),
    pad_id=tiny.PAD,
    **CUT,
  )
  ids = np.arange(len(batch.tokens), dtype=np.int32)
  key = jax.random.key(3)
  return jax.device_get(
    generate(place(trainable), rows(batch.prompts), key, rows(ids))
  )


def check_parameters(mesh):
  """Raises unless parameters made or read in pieces are the same ones."""
  folder = assets.folder("nano-base")
  _, expected = qwen2_5_vl.load_pretrained(folder)
  _, found = models.load_sharded(folder, mesh)
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  key = jax.random.key(0)
  made = models.init_sharded(tiny.CONFIG, key, mesh)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-6),
    made,
    qwen2_5_vl.init(tiny.CONFIG, key),
  )
  for tree in (found, made):
    places = partition(mesh, tree, models.partition_rules(tiny.CONFIG))
    same = jax.tree.map(
      lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), tree, places
    )
    assert all(jax.tree.leaves(same)), same


def relative(found, expected):
  """Returns the largest error of a leaf, relative to its largest entry."""
  errors = jax.tree.map(
    lambda a, b: float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-6)),
    found,
    expected,
  )
  return max(jax.tree.leaves(errors))


def compare(found, expected):
  (metrics, grads, params), (metrics0, grads0, params0) = found, expected

  def moved(a, b, g):
    # Where a gradient is rounding, Adam's first step is ± the rate.
    clear = np.abs(g) > 1e-4 * max(np.abs(g).max(), 1e-6)
    return float(np.abs(a - b)[clear].max(initial=0))

  return {
    "loss": relative(metrics["loss/total"], metrics0["loss/total"]),
    "norm": float(metrics0["grad/norm"]),
    "gradients": relative(grads, grads0),
    "parameters": max(
      jax.tree.leaves(jax.tree.map(moved, params, params0, grads0))
    ),
  }


def main(meshes, names):
  same = lambda x: x  # noqa: E731
  expected = {}
  for case in names:  # always one part on one device
    name = case.partition("/")[0]
    expected[case] = (
      rollout(same, same) if name == "rollout" else train(name, same, same)
    )
  for sizes in meshes:
    mesh = make_mesh(MeshConfig(*sizes))
    rows = functools.partial(shard_batch, mesh)
    with jax.set_mesh(mesh):
      check_parameters(mesh)
      for name in names:
        rules = models.partition_rules(config_of(name))
        place = lambda tree: jax.device_put(tree, partition(mesh, tree, rules))  # noqa: E731, B023
        if name == "rollout":
          found, one = rollout(place, rows), expected[name]
          errors = {
            "tokens": int((found.tokens != one.tokens).sum()),
            "logprobs": float(np.abs(found.logprobs - one.logprobs).max()),
            "entropies": float(np.abs(found.entropies - one.entropies).max()),
          }
        else:
          objective, _, parts = name.partition("/")
          found = train(objective, place, rows, int(parts or 1))
          errors = compare(found, expected[name])
        print(json.dumps({"case": [list(sizes), name], **errors}), flush=True)


if __name__ == "__main__":
  # A state whose layout changed could not be donated.
  warnings.filterwarnings("error", message="Some donated buffers")
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", 8)
  jax.config.update("jax_default_matmul_precision", "highest")
  main(
    [tuple(map(int, m.split("x"))) for m in sys.argv[1].split(",")],
    sys.argv[2].split(","),
  )
