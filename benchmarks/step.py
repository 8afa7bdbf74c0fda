"""A full train step on this machine's accelerator, and its matrix ceiling.

  python -m benchmarks.step         3B on an accelerator (80 GB), nano on a CPU
  python -m benchmarks.step --model=7b --master=bfloat16 --rule=adafactor

SFT with all parameters trained, one prompt with a picture and its completion,
4,096 tokens in all by default; bfloat16 products. One synthetic batch is used
again and again; the first steps do not count, the rest give the median. FLOPs
are the model's (`models.flops`): three times the forward pass,
causal attention as a triangle, no recomputation. The ceiling is the best of a
few square matrix products timed in the same process.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxvlm import assets, models, sharding
from jaxvlm.data import layout
from jaxvlm.data.rows import Bucket, EncodedPrompt, collate_prompts
from jaxvlm.models.flops import Shapes
from jaxvlm.models.remat import Remat
from jaxvlm.plan import programs
from jaxvlm.plan.setting import Objective, Setting
from jaxvlm.train.optimizer import (
  OptimizerConfig,
  Precision,
  Rule,
  make_optimizer,
  master_params,
)
from jaxvlm.train.step import TrainState, init_state
from jaxvlm.typing import Batch

NANO = "nano"
# Data sheets, bfloat16 without sparsity, TFLOP/s.
PEAKS = {"H100": 989, "H200": 989, "A100": 312}


def random_batch(s: Setting, side: int) -> Batch:
  """Returns prompts that each show one picture of side × side patches."""
  rng = np.random.default_rng(0)
  vision, image = s.model.layout, s.model.image_token_id
  grid = ((1, side, side),) if side else ()
  arranged = layout.arrange(vision, grid)
  words = s.prompt_tokens - sum(layout.image_tokens(vision, g) for g in grid)
  tokens = np.full(s.prompt_tokens, image, np.int32)
  tokens[:words] = rng.integers(0, image, words)
  positions, after = layout.mrope_positions(
    vision, tokens, np.ones(len(tokens), bool), grid, image
  )
  slots = np.full(len(tokens), -1, np.int32)
  slots[tokens == image] = arranged.merged_slots
  patches = rng.normal(size=(len(arranged.source), vision.patch_values))
  prompt = EncodedPrompt(
    tokens,
    positions,
    after,
    slots,
    patches.astype(np.float32),
    arranged.segments,
    arranged.positions,
  )
  prompts = collate_prompts(
    [prompt] * s.prompts, Bucket(s.prompt_tokens, s.patches), 0
  )
  shape = (s.prompts, s.group, s.completion_tokens)
  return Batch(
    prompts,
    rng.integers(0, image, shape).astype(np.int32),
    np.ones(shape, bool),
  )


def start(s: Setting, mesh: jax.sharding.Mesh) -> TrainState:
  """Returns a state with random parameters, made where it lies."""
  params = models.init_sharded(s.model, jax.random.key(0), mesh)
  params = jax.jit(lambda p: master_params(s.optimizer, p), donate_argnums=0)(
    params
  )
  rules = models.partition_rules(s.model)
  return init_state(params, make_optimizer(s.optimizer), rules=rules)


def seconds(run, repeats: int, warmup: int = 3) -> list[float]:
  """Returns the time of each run after the first ones."""
  times = []
  for _ in range(warmup + repeats):
    begin = time.perf_counter()
    jax.block_until_ready(run())
    times.append(time.perf_counter() - begin)
  return times[warmup:]


def ceiling() -> float:
  """Returns FLOP/s of the fastest square product, bfloat16 (CPU: float32)."""
  on_cpu = jax.default_backend() == "cpu"
  sizes = (1024, 2048) if on_cpu else (4096, 8192, 16384)
  best = 0.0
  for n in sizes:
    a = jnp.ones((n, n), jnp.float32 if on_cpu else jnp.bfloat16)
    product = jax.jit(jnp.matmul)
    fastest = min(seconds(lambda f=product, a=a: f(a, a), repeats=10))
    best = max(best, 2 * n**3 / fastest)
  return best


def flags() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  on_cpu = jax.default_backend() == "cpu"
  parser.add_argument(
    "--model", choices=[*models.PRESETS, NANO], default=NANO if on_cpu else "3b"
  )
  parser.add_argument("--prompts", type=int, default=1, help="per device")
  parser.add_argument("--prompt_tokens", type=int)
  parser.add_argument("--completion_tokens", type=int)
  parser.add_argument("--side", type=int, help="picture, in patches")
  parser.add_argument("--remat", default="full", help="none, full, …")
  parser.add_argument("--master", default="float32", help="or bfloat16")
  parser.add_argument("--rule", default="adamw", help="or adafactor")
  parser.add_argument("--repeats", type=int, default=20)
  found = parser.parse_args()
  # 4,096 tokens; of nano, what it was made for and a CPU bears.
  usual = (56, 44, 8) if found.model == NANO else (2048, 2048, 32)
  names = ("prompt_tokens", "completion_tokens", "side")
  for name, value in zip(names, usual, strict=True):
    if getattr(found, name) is None:
      setattr(found, name, value)
  return found


def setting(f: argparse.Namespace, devices: int) -> Setting:
  """Returns what is measured."""
  if f.model == NANO:
    model = models.read_config(assets.folder("nano-base"))
  else:
    model = models.PRESETS[f.model]
  window = model.layout.window_slots
  return Setting(
    model,
    Objective.SFT,
    "this machine",
    prompts=f.prompts * devices,
    prompt_tokens=f.prompt_tokens,
    completion_tokens=f.completion_tokens,
    patches=-(-(f.side**2) // window) * window,
    optimizer=OptimizerConfig(
      1e-5, master=Precision[f.master.upper()], rule=Rule[f.rule.upper()]
    ),
    remat=Remat[f.remat.upper()],
  )


def main() -> None:
  f = flags()
  s = setting(f, jax.device_count())
  mesh = sharding.make_mesh(s.mesh)
  with jax.set_mesh(mesh):
    step = programs.build(s, mesh).function
    batch = random_batch(s, f.side)
    batch = sharding.shard_batch(mesh, batch)
    state = start(s, mesh)
    begin = time.perf_counter()
    compiled = step.lower(state, {}, batch).compile()
    compile_s = time.perf_counter() - begin
    losses = []

    def run():
      nonlocal state
      state, metrics = compiled(state, {}, batch)
      losses.append(metrics["loss/total"])
      return losses[-1]

    times = seconds(run, f.repeats)
    del state
    top = ceiling()
  shapes = Shapes(
    s.prompts, s.group, s.prompt_tokens, s.completion_tokens, s.patches
  )
  once = models.forward_flops(s.model, shapes, vocab_size=s.vocab_size)
  work = 3 * once.total
  median = statistics.median(times)
  rate = work / median / jax.device_count()
  tokens = s.prompts * (s.prompt_tokens + s.group * s.completion_tokens)
  print(f"{jax.device_count()} × {jax.devices()[0].device_kind}")
  print(f"{f.model}, {s.optimizer.rule.name}, remat {s.remat.name}")
  print(
    f"compile {compile_s:.1f} s; step {1e3 * median:.1f} ms"
    f" [{1e3 * min(times):.1f}, {1e3 * max(times):.1f}], {f.repeats} steps"
  )
  print(f"{tokens / median:,.0f} tokens/s, loss {float(losses[-1]):.3f}")
  kind = jax.devices()[0].device_kind
  peak = next((n for name, n in PEAKS.items() if name in kind), None)
  print(
    f"model {rate / 1e12:.2f} TFLOP/s a device: {rate / top:.0%} of the"
    f" {top / 1e12:.2f} TFLOP/s of a matrix product here"
    + (f", {rate / peak / 1e12:.0%} of the data sheet's {peak}" if peak else "")
  )


if __name__ == "__main__":
  main()
