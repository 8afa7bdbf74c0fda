"""The program of a slice, compiled without one: what is sent, what is kept."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest

from jaxvlm.models import partition, qwen2_5_vl
from jaxvlm.models.qwen2_5_vl import presets
from jaxvlm.models.qwen2_5_vl.partition import RULES
from jaxvlm.models.remat import Remat
from jaxvlm.plan import hlo, hlo_text, programs, topology
from jaxvlm.plan.setting import Objective, Setting
from jaxvlm.sharding import MeshConfig, batch_sharding, make_mesh
from jaxvlm.train import objectives
from jaxvlm.train.optimizer import OptimizerConfig, make_optimizer
from jaxvlm.train.step import init_state, make_train_step, state_sharding
from jaxvlm.typing import Batch, Prompts

# Widths of the 7B model; its layers and its tower are cut short.
CONFIG = dataclasses.replace(
  presets.QWEN_7B,
  num_hidden_layers=3,
  vision=dataclasses.replace(
    presets.QWEN_7B.vision, depth=3, fullatt_block_indexes=(1,)
  ),
)
VOCAB = 151_665
# A collective's result: what arrives on one device.
ARRIVES = re.compile(
  r"= \(?(?P<result>.*?)\)? (?P<kind>all-gather|all-reduce|reduce-scatter"
  r"|all-to-all|collective-permute)(?:-start)?\("
)
ARRAY = re.compile(r"\b(?P<dtype>[a-z]+\d+)\[(?P<shape>[\d,]*)\]")


def abstract_batch(n, s, g, t, p):
  def of(dtype, *shape):
    return jax.ShapeDtypeStruct(shape, dtype)

  i, b = jnp.int32, jnp.bool_
  return Batch(
    Prompts(
      tokens=of(i, n, s),
      mask=of(b, n, s),
      positions=of(i, 3, n, s),
      next_position=of(i, n),
      image_slots=of(i, n, s),
      patches=of(jnp.float32, n, p, CONFIG.layout.patch_values),
      patch_segments=of(i, n, p),
      patch_positions=of(i, n, p, 2),
    ),
    of(i, n, g, t),
    of(b, n, g, t),
  )


def compiled(config, sizes, slice_name, batch, *, vocab=VOCAB, remat):
  """Returns (optimized HLO, memory analysis, bytes of the state a device)."""
  mesh = make_mesh(
    MeshConfig(*sizes), topology.devices(topology.parse(slice_name))
  )
  model = qwen2_5_vl.bind(config, dtype=jnp.bfloat16, remat=remat)
  optimizer = make_optimizer(OptimizerConfig(1e-5))

  def placed(tree, places):
    return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      tree,
      places,
    )

  # The kernels of attention have 16-bit operands only.
  with jax.set_mesh(mesh), jax.default_matmul_precision("default"):
    state = jax.eval_shape(
      lambda: init_state(
        qwen2_5_vl.init(config, jax.random.key(0)), optimizer, rules=RULES
      )
    )
    state = placed(state, state_sharding(mesh, state, RULES))
    step = make_train_step(
      objectives.sft(model, vocab_size=vocab),
      objectives.count,
      optimizer,
      rules=RULES,
    )
    batch = placed(batch, batch_sharding(mesh, batch))
    program = step.lower(state, None, batch).compile()
  held = sum(
    jnp.dtype(x.dtype).itemsize * jnp.prod(jnp.array(piece)).item()
    for x in jax.tree.leaves(state)
    for piece in [x.sharding.shard_shape(x.shape)]
  )
  return program.as_text(), program.memory_analysis(), held


def arrivals(text):
  """Yields (kind, dtype, shape) of every array that a collective brings."""
  for line in text.splitlines():
    found = ARRIVES.search(line)
    if found:
      for array in ARRAY.finditer(found["result"]):
        shape = tuple(int(n) for n in array["shape"].split(",") if n)
        yield found["kind"], array["dtype"], shape


def test_the_gradient_of_a_collected_matrix_arrives_in_pieces():
  """Half of what a sum that every device gets would send."""
  pytest.importorskip("libtpu")
  mesh = make_mesh(
    MeshConfig(2, 4, 1), topology.devices(topology.parse("v5e:2x4"))
  )
  rows, pieces = jax.P(("data", "fsdp")), jax.P("fsdp", "tensor")

  def loss(kernel, x):
    tree = {"mlp": {"up_proj": {"kernel": kernel}}}
    whole = partition.layer(tree, dtype=jnp.bfloat16)
    y = x @ whole["mlp"]["up_proj"]["kernel"]
    return jnp.sum(jnp.square(y.astype(jnp.float32)))

  def abstract(shape, dtype, spec):
    where = jax.NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=where)

  with jax.set_mesh(mesh), jax.default_matmul_precision("default"):
    text = (
      jax.jit(jax.grad(loss))
      .lower(
        abstract((512, 1024), jnp.float32, pieces),
        abstract((8, 64, 512), jnp.bfloat16, rows),
      )
      .compile()
      .as_text()
    )
  found = hlo.traffic(hlo_text.parse(text)).collectives
  sizes = {(c.kind, c.array.size) for c in found}
  assert ("reduce-scatter", 512 * 1024) in sizes
  assert ("all-reduce", 512 * 1024) not in sizes


@pytest.mark.parametrize(
  "tied", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_a_rollout_collects_its_weights_once(tied):
  """Before the loop; inside it, each token would send the whole model."""
  pytest.importorskip("libtpu")
  steps, width, words = 32, 256, 1000
  config = dataclasses.replace(
    CONFIG,
    vocab_size=1024,
    hidden_size=width,
    intermediate_size=512,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    eos_token_id=5,
    tie_word_embeddings=tied,
    vision=dataclasses.replace(CONFIG.vision, out_hidden_size=width),
  )
  mesh = make_mesh(
    MeshConfig(1, 4, 2), topology.devices(topology.parse("v5e:2x4"))
  )
  cell = Setting(
    config,
    Objective.ROLLOUT,
    "v5e:2x4",
    MeshConfig(1, 4, 2),
    prompts=4,
    prompt_tokens=64,
    completion_tokens=steps,
    patches=0,
  )
  program = programs.build(cell, mesh)
  with jax.set_mesh(mesh), jax.default_matmul_precision("default"):
    lowered = program.function.lower(*program.args)
    text = lowered.compile().as_text()
  found = hlo.traffic(hlo_text.parse(text)).collectives
  smallest = width * width // 2  # a projection's share of `tensor`
  inside = [c for c in found if c.count > 2]
  assert inside and all(c.count == steps - 1 for c in inside), inside
  assert max(c.array.size for c in inside) < smallest
  outside = [c for c in found if c.kind == "all-gather" and c.count == 1]
  heads = {width * words // 2, width * 1024 // 2}
  assert any(c.array.size in heads for c in outside), outside


@pytest.mark.slow
@pytest.mark.parametrize(
  "sizes,remat",
  [
    ((1, 8, 1), Remat.FULL),
    ((1, 8, 1), Remat.NONE),
    ((1, 2, 4), Remat.FULL),
    ((2, 2, 2), Remat.FULL),
  ],
)
def test_what_travels_and_what_is_donated(sizes, remat):
  batch = abstract_batch(n=8, s=512, g=1, t=128, p=512)
  text, memory, held = compiled(CONFIG, sizes, "v5e:2x4", batch, remat=remat)
  found = list(arrivals(text))
  assert any(kind == "all-gather" for kind, *_ in found)
  layers, width = CONFIG.num_hidden_layers, CONFIG.hidden_size
  for kind, dtype, shape in found:
    if kind == "all-gather":
      # A layer at a time, not the stack.
      stack = shape[:1] == (layers,) and width in shape
      assert not stack, f"{kind} of {dtype}{shape}"
      # A layer travels in the compute type; only vectors may be float32.
      assert dtype == "bf16" or len(shape) < 2 or min(shape) < 1024, shape
    tokens = 8 * 128 // 8
    logits = shape[-1:] in ((VOCAB,), (CONFIG.vocab_size,))
    if logits and dtype == "f32" and kind == "all-gather":
      assert shape[0] not in (tokens, tokens * 8), f"{kind} of {shape}"
  # Donated: all of the state is updated where it lies.
  assert memory.alias_size_in_bytes >= 0.99 * held
