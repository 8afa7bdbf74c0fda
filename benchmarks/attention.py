"""Memory of the attention kernels beside plain attention, for a TPU v5p.

  JAX_PLATFORMS=cpu python -m benchmarks.attention calls    one call, seconds
  JAX_PLATFORMS=cpu python -m benchmarks.attention model    minutes a row

Needs the libtpu wheel and no TPU. Every line is value and gradient for one
prompt on one chip, bfloat16, with the heads of 7B. `calls` is one attention;
`model` two decoder and two vision layers of 7B widths (one windowed, one
full), rematerialized, with a small vocabulary: the gradient of a table of
152,064 words would hide everything else. Temporaries are what the program
holds beside its arguments and results.
"""

import argparse
import dataclasses
import functools
import time

from jaxvlm.plan import topology

topology.quiet_libtpu()  # before jax is imported

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from jaxvlm import sharding  # noqa: E402
from jaxvlm.models import attention, qwen2_5_vl  # noqa: E402
from jaxvlm.models.qwen2_5_vl import presets  # noqa: E402
from jaxvlm.models.remat import Remat  # noqa: E402
from jaxvlm.typing import Batch, Prompts  # noqa: E402

GIB = 2**30
CONFIG = dataclasses.replace(
  presets.QWEN_7B,
  num_hidden_layers=2,
  vocab_size=1024,
  vision=dataclasses.replace(
    presets.QWEN_7B.vision, depth=2, fullatt_block_indexes=(1,)
  ),
)
# (completions, prompt tokens, completion tokens, patches)
ROWS = ((8, 1024, 1025, 1024), (1, 1024, 1025, 1024), (1, 2048, 1025, 4096))


def shapes(group: int, prompt: int, completion: int, patches: int):
  """Returns (parameters, batch) as ShapeDtypeStructs."""
  struct = jax.ShapeDtypeStruct
  params = jax.eval_shape(lambda: qwen2_5_vl.init(CONFIG, jax.random.key(0)))
  params = jax.tree.map(lambda x: struct(x.shape, jnp.bfloat16), params)
  prompts = Prompts(
    tokens=struct((1, prompt), jnp.int32),
    mask=struct((1, prompt), jnp.bool_),
    positions=struct((3, 1, prompt), jnp.int32),
    next_position=struct((1,), jnp.int32),
    image_slots=struct((1, prompt), jnp.int32),
    patches=struct((1, patches, CONFIG.layout.patch_values), jnp.bfloat16),
    patch_segments=struct((1, patches), jnp.int32),
    patch_positions=struct((1, patches, 2), jnp.int32),
  )
  tokens = struct((1, group, completion), jnp.int32)
  return params, Batch(prompts, tokens, struct(tokens.shape, jnp.bool_))


def call_shapes(group: int, prompt: int, queries: int, heads: int, kv: int):
  """Returns (q, keys of every block, ids of every block) of one attention."""
  d = 80 if heads == kv else 128
  struct = jax.ShapeDtypeStruct
  lengths = [(1, prompt)] if prompt else []
  lengths.append((group, queries))
  keys = [
    2 * (struct((1, g, length, kv, d), jnp.bfloat16),) for g, length in lengths
  ]
  ids = [struct((1, length), jnp.int32) for _, length in lengths]
  return struct((1, group, queries, heads, d), jnp.bfloat16), keys, ids


def call(attend: attention.Attend, causal: bool):
  """Returns the loss of one attention as a function of its arguments."""

  def loss(q, keys, ids):
    marks = [attention.Segments(x) for x in ids]
    marks[-1] = marks[-1]._replace(causal=causal)
    pairs = zip(keys, marks, strict=True)
    blocks = [attention.Block(*kv, seen) for kv, seen in pairs]
    return jnp.sum(attend(q, *blocks).astype(jnp.float32) ** 2)

  return loss


def temporaries(loss, arguments, argnums) -> tuple[float, float]:
  """Returns (GiB of temporary memory, seconds to compile)."""
  slice_ = topology.parse("v5p:2x2x1")
  devices = topology.devices(slice_)[:1]
  mesh = sharding.make_mesh(sharding.MeshConfig(), devices)
  where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  arguments = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), arguments
  )
  with jax.set_mesh(mesh):
    start = time.perf_counter()
    gradient = jax.jit(jax.value_and_grad(loss, argnums))
    compiled = gradient.lower(*arguments).compile()
  used = compiled.memory_analysis().temp_size_in_bytes / GIB
  return used, time.perf_counter() - start


def compare(name: str, loss_of, arguments, argnums=0) -> None:
  """Prints one line; `loss_of(attend)` is the loss."""
  plain, plain_s = temporaries(loss_of(attention.plain), arguments, argnums)
  ours, ours_s = temporaries(loss_of(attention.splash), arguments, argnums)
  print(
    f"{name:42} {plain:7.3f} {ours:7.3f} {ours / plain:6.3f} "
    f"{plain_s:5.0f}, {ours_s:3.0f} s",
    flush=True,
  )


def calls() -> None:
  for name, sizes, causal in (
    ("prompt of 2,048", (1, 0, 2048, 28, 4), True),
    ("1 completion of 1,024 after 1,024", (1, 1024, 1024, 28, 4), True),
    ("8 completions of 1,024 after 1,024", (8, 1024, 1024, 28, 4), True),
    ("picture of 1,024 patches", (1, 0, 1024, 16, 16), False),
    ("picture of 4,096 patches", (1, 0, 4096, 16, 16), False),
  ):
    compare(
      name, functools.partial(call, causal=causal), call_shapes(*sizes), (0, 1)
    )


def model() -> None:
  def loss_of(attend):
    forward = qwen2_5_vl.bind(
      CONFIG, dtype=jnp.bfloat16, remat=Remat.FULL, attend=attend
    ).forward
    return lambda p, batch: jnp.sum(forward(p, batch).astype(jnp.float32))

  for row in ROWS:
    group, prompt, completion, patches = row
    name = f"{group} x {completion} after {prompt}, {patches} patches"
    compare(name, loss_of, shapes(*row))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    "what", nargs="?", default="calls", choices=("calls", "model")
  )
  what = parser.parse_args().what
  print("GiB of temporaries, value and gradient, one v5p chip, ahead of time")
  print(f"{what:42} {'plain':>7} {'splash':>7} {'ratio':>6} {'compiled':>10}")
  {"calls": calls, "model": model}[what]()


if __name__ == "__main__":
  main()
