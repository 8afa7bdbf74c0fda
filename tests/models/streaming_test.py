"""Folders are read tensor by tensor: what a host holds, measured."""

import json
import subprocess
import sys

import numpy as np
import pytest

# Loads a folder onto eight devices and prints, in bytes: the arrays, the
# largest tensor of the file, and the most anonymous memory that was in use
# beyond what was before.
PROGRAM = """
import json, sys, threading
import jax
import safetensors
from jaxvlm import models
from jaxvlm.sharding import MeshConfig, make_mesh

def anonymous():
  for line in open("/proc/self/status"):
    if line.startswith("RssAnon"):
      return int(line.split()[1]) * 1024

peak, done = [0], threading.Event()

def watch():
  while not done.wait(0.001):
    peak[0] = max(peak[0], anonymous())

folder = sys.argv[1]
mesh = make_mesh(MeshConfig(), jax.devices())
jax.device_put(1.0).block_until_ready()
before = anonymous()
thread = threading.Thread(target=watch)
thread.start()
_, params = models.load_sharded(folder, mesh, None)
jax.block_until_ready(params)
done.set()
thread.join()
arrays = sum(
  s.data.nbytes for x in jax.tree.leaves(params) for s in x.addressable_shards
)
with safetensors.safe_open(folder + "/model.safetensors", "numpy") as file:
  largest = max(file.get_tensor(name).nbytes for name in file.keys())
print(json.dumps([arrays, largest, peak[0] - before]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_host_holds_the_shards_and_less_than_two_tensors(tmp_path):
  """0.7 GB of Qwen2, the largest tensor 100 MB: below shards + 2 × of it."""
  import dataclasses

  from jaxvlm import models
  from tests import compiling, tiny

  config = dataclasses.replace(
    tiny.TEXTS["qwen2"],
    vocab_size=16384,
    hidden_size=1536,
    intermediate_size=4096,
    num_hidden_layers=6,
    num_attention_heads=12,
    num_key_value_heads=4,
    head_dim=128,
  )
  import jax

  shapes = jax.eval_shape(lambda: models.init(config, jax.random.key(0)))
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: rng.standard_normal(x.shape, np.float32), shapes
  )
  models.save_pretrained(tmp_path, config, params)
  del params
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM, str(tmp_path)],
    env=compiling.environment(JAX_NUM_CPU_DEVICES="8"),
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  arrays, largest, peak = json.loads(done.stdout.splitlines()[-1])
  print(f"shards {arrays:,}, largest tensor {largest:,}, peak {peak:,}")
  assert arrays > 4e8 and peak < arrays + 2 * largest
