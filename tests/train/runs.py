"""Whole runs of four objectives that cost a second: for kills and clusters.

The model is `tiny.bag`, the sampler draws token by token from its own
distribution, and rewards come from the text: small, but each run has all that
has to survive: parameters, optimizer, guard, on-policy data, log, checkpoints.

As a program it serves a `Nursery`: it forks the processes of a run, which may
be hurt and killed, and tells what became of them.
"""

import contextlib
import functools
import hashlib
import json
import math
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import tensorboardX  # noqa: F401  (the journal's; a life need not wait for it)
from jax.sharding import PartitionSpec as P

from jaxvlm import distributed, journal, sharding
from jaxvlm.data.rows import HostBatch, Row
from jaxvlm.sampling import Samples
from jaxvlm.sharding import MeshConfig, prompt_axes
from jaxvlm.tasks import Task, one_by_one
from jaxvlm.train import experience, loop, objectives
from jaxvlm.train.optimizer import OptimizerConfig, make_optimizer
from jaxvlm.train.step import init_state, make_train_step
from jaxvlm.typing import Batch
from tests import compiling, tiny

KINDS = ("sft", "opd", "cw_dpo", "grpo")
STEPS, SAVE_EVERY, EVALUATE_EVERY = 12, 2, 5
N, G, T = 4, 2, 5
OPTIMIZER = make_optimizer(OptimizerConfig(1e-2, warmup_steps=2))
RULES = (
  ("embed", P("fsdp", None)),
  ("reads", P(None, "fsdp")),
  ("head/kernel", P("fsdp", None)),
  ("norm/weight|norm/bias", P()),
)


@functools.cache
def bag():
  """Returns (model, NumPy parameters); no devices before a cluster is up."""
  model, params = tiny.bag()
  return model, jax.tree.map(np.asarray, params)


@functools.partial(jax.jit)
def generate(params, prompts, key, prompt_ids) -> Samples:
  """Draws T tokens of G completions, each from the bag's distribution."""
  fold = jax.vmap(jax.random.fold_in, (None, 0))
  keys = jax.vmap(fold, (0, None))(fold(key, prompt_ids), jnp.arange(G))
  n, (model, _) = len(prompt_ids), bag()
  tokens = jnp.zeros((n, G, T), jnp.int32)
  mask = jnp.ones((n, G, T), bool)
  logprobs, entropies = [], []
  for t in range(T):
    hidden = model.forward(params, Batch(prompts, tokens, mask))[:, :, t]
    logits = (hidden @ model.head(params))[..., : tiny.VOCAB]
    logp = jax.nn.log_softmax(logits)
    at = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (0, None))(keys, t)
    drawn = jax.vmap(jax.vmap(jax.random.categorical))(at, logits)
    tokens = tokens.at[..., t].set(drawn)
    logprobs.append(jnp.take_along_axis(logp, drawn[..., None], -1)[..., 0])
    entropies.append(-jnp.sum(jnp.exp(logp) * logp, -1))
  logp, entropy = jnp.stack(logprobs, -1), jnp.stack(entropies, -1)
  done = jnp.ones((n, G), bool)
  return Samples(tokens, mask, done, logp, entropy, jnp.exp(-entropy), logp)


@functools.cache
def train_step(kind: str):
  vocab, (model, _) = {"vocab_size": tiny.VOCAB}, bag()
  objective = {
    "sft": lambda: objectives.sft(model, **vocab),
    "opd": lambda: objectives.opd(model, model, **vocab),
    "cw_dpo": lambda: objectives.cw_dpo(
      model, beta=0.1, floor=-3.0, tau=1.0, **vocab
    ),
    "grpo": lambda: objectives.grpo(model, kl_coef=1e-2, **vocab),
  }[kind]()
  return make_train_step(objective, objectives.count, OPTIMIZER, rules=RULES)


def host_batch(step: int, mesh, bad=()) -> HostBatch:
  """Returns the rows of a step that this process holds."""
  batch = tiny.batch(step, group=G, length=T)
  if step in bad:
    patches = np.full_like(batch.prompts.patches, np.nan)
    batch = batch._replace(prompts=batch.prompts._replace(patches=patches))
  own = experience.places(N, mesh)
  batch = jax.tree.map(
    lambda x, axis: np.take(x, own, axis), batch, prompt_axes(batch)
  )
  rows = (Row(f"{step}-{i}", "?", str(i)) for i in own)
  if mesh is not None:
    batch = sharding.shard_batch(mesh, batch)
  return HostBatch(batch, tuple(rows))


def grade(text: str, answer: str) -> dict[str, float]:
  total = sum(map(int, text.split())) + int(answer)
  return {"reward": total % 7 / 7, "accuracy": float(total % 2)}


TASK = Task("toy", lambda split: (), one_by_one(grade), ("accuracy",))


def make_inputs(kind: str, mesh, bad, at):
  def inputs(step, params, carry):
    at("inputs", step)
    host = host_batch(step, mesh, bad)
    if kind in ("sft", "cw_dpo"):
      count = experience.count_tokens(host.batch)
      return host.batch, carry, {"batch/tokens": count}
    key = jax.random.fold_in(jax.random.key(7), step)
    batch, samples = experience.sample(generate, params, host, key, mesh)
    logged = experience.rollout_metrics(samples)
    if kind == "opd":
      return objectives.Experience(batch, samples.logprobs), carry, logged
    graded = experience.grade(
      samples,
      host,
      decode=lambda ids: " ".join(map(str, ids)),
      task=TASK,
      mesh=mesh,
    )
    data, metrics = experience.group_experience(
      batch, samples, graded["reward"], mesh=mesh
    )
    return data, carry, {**logged, **metrics}

  return lambda start: inputs


def run(
  kind: str,
  workdir: pathlib.Path,
  *,
  steps: int = STEPS,
  save: int = SAVE_EVERY,
  evaluate_every: int = EVALUATE_EVERY,
  mesh=None,
  bad=(),
  abort: int = 8,
  at=lambda moment, step: None,
):
  """Trains or resumes; `at(moment, step)` is called where it may be hurt."""
  _, params = bag()
  other = jax.tree.map(lambda x: x * 0.5, params)
  frozen = {"teacher": other, "reference": other}
  whole = experience.everywhere(generate, mesh)

  def evaluate(step, params):
    at("evaluate", step)
    ids = np.arange(N, dtype=np.int32)
    samples = whole(params, tiny.prompts(99), jax.random.key(1), ids)
    return {"eval/entropy": float(np.asarray(samples.entropies).mean())}

  return loop.run(
    workdir,
    kind,
    init_state(params, OPTIMIZER, rules=RULES),
    train_step(kind),
    frozen,
    make_inputs(kind, mesh, bad, at),
    loop.Schedule(steps, evaluate_every, save, abort, keep=2, keep_best=1),
    identity={"kind": kind},
    evaluate=evaluate,
    row_ids=lambda step: [f"{step}-{i}" for i in range(N)],
    score=lambda record: record.get("eval/entropy"),
  )


def records(workdir: pathlib.Path) -> list[str]:
  """Returns the journal without times; as text, for NaN ≠ NaN."""
  return [
    str({k: v for k, v in record.items() if not k.startswith("time/")})
    for record in journal.read(workdir / "metrics.jsonl")
  ]


def digest(state) -> str:
  """Returns one hash over every bit of a state."""
  found = hashlib.sha256()
  for x in jax.tree.leaves(distributed.gather(state)):
    found.update(np.asarray(x).tobytes())
  return found.hexdigest()


def _life(
  kind: str,
  workdir: str,
  *,
  processes: int,
  process: int,
  port: int,
  timeout_s: int = 10,
  hurt: dict | None = None,
  axes: dict | None = None,
  started: int | None = None,
  **options,
) -> None:
  """Is one process of a run.

  Args:
    kind: the objective.
    workdir: shared by all.
    processes: how many there are.
    process: which one this is.
    port: where process 0 listens.
    timeout_s: when silence is death.
    hurt: {process, moment, step, signal}: a signal to itself at that moment,
      or "error" instead of a number for an exception.
    axes: of a mesh of fake devices in one process; more processes have one
      device each.
    started: file descriptor that is told when the loop has begun.
    **options: of `run`.
  """

  def at(moment, step):
    nonlocal started
    if started is not None:
      os.write(started, b"x")
      started = None
    if hurt and (process, moment, step) == (
      hurt["process"],
      hurt["moment"],
      hurt["step"],
    ):
      if hurt["signal"] == "error":
        raise OSError(28, "No space left on device")
      os.kill(os.getpid(), hurt["signal"])

  config = distributed.DistributedConfig(
    coordinator_address=f"localhost:{port}" if processes > 1 else "",
    process_count=processes,
    process_id=process,
    timeout_s=timeout_s,
  )
  if axes:
    jax.config.update("jax_num_cpu_devices", math.prod(axes.values()))
  with distributed.session(config):
    alone = processes == 1 and not axes
    mesh = None if alone else sharding.make_mesh(MeshConfig(**axes or {}))
    with jax.set_mesh(mesh) if mesh else contextlib.nullcontext():
      state = run(kind, pathlib.Path(workdir), mesh=mesh, at=at, **options)
      print("digest", digest(state), flush=True)


def _fork(job: dict, output: pathlib.Path, **more) -> int:
  """Returns the id of a child that lives one life; spares it the imports."""
  child = os.fork()
  if child:
    return child
  code = 1
  try:
    with output.open("wb") as file:
      os.dup2(file.fileno(), 1)
      os.dup2(file.fileno(), 2)
    _life(**job, **more)
    code = 0
  except SystemExit as error:
    code = error.code
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def free_port() -> Iterator[int]:
  """Yields a port that is held: another program cannot take it meanwhile.

  The coordinator can, for it shares its port as this socket does.
  """
  with socket.socket() as held:
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("localhost", 0))
    yield held.getsockname()[1]


def _serve(job: dict) -> dict:
  """Runs all processes of a job; returns codes, outputs and times of exit.

  With `kill_s`, the first process is killed so long after its loop began;
  with `limit_s`, what still runs then is killed, code "stuck".
  """
  folder = pathlib.Path(job["workdir"])
  folder.mkdir(parents=True, exist_ok=True)
  with free_port() as port:
    return _live(job, folder, port)


def _live(job: dict, folder: pathlib.Path, port: int) -> dict:
  kill_s, limit_s = job.pop("kill_s", None), job.pop("limit_s", 1800)
  outputs = [folder / f"output-{i}.txt" for i in range(job["processes"])]
  reads, writes = os.pipe()
  children = [
    _fork(job, output, process=i, port=port, started=writes)
    for i, output in enumerate(outputs)
  ]
  os.close(writes)
  if kill_s is not None:
    os.read(reads, 1)
    time.sleep(kill_s)
    os.kill(children[0], signal.SIGKILL)
  os.close(reads)
  begin = time.monotonic()
  codes, times = [None] * len(children), [0.0] * len(children)
  while None in codes:
    for i, child in enumerate(children):
      if codes[i] is None:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
          codes[i] = os.waitstatus_to_exitcode(status)
          times[i] = time.monotonic() - begin
        elif time.monotonic() - begin > limit_s:
          os.kill(child, signal.SIGKILL)
          os.waitpid(child, 0)
          codes[i] = "stuck"
    time.sleep(0.01)
  texts = [output.read_text(errors="replace") for output in outputs]
  return {"codes": codes, "outputs": texts, "times": times}


class Nursery:
  """A process that has imported everything and forks lives on demand."""

  def __init__(self, cache: pathlib.Path):
    environment = compiling.environment(
      JAX_PLATFORMS="cpu",
      JAX_DEFAULT_MATMUL_PRECISION="highest",
      # So that only the first life of a kind compiles.
      JAX_COMPILATION_CACHE_DIR=str(cache),
      JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
      JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
    )
    self._process = subprocess.Popen(
      [sys.executable, "-m", "tests.train.runs"],
      cwd=pathlib.Path(__file__).parents[2],
      env=environment,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

  def __call__(
    self, kind: str, workdir: pathlib.Path, *, processes: int = 1, **job
  ) -> dict:
    """Returns what `_serve` says of one job."""
    job |= {"kind": kind, "workdir": str(workdir), "processes": processes}
    self._process.stdin.write(json.dumps(job) + "\n")
    self._process.stdin.flush()
    return json.loads(self._process.stdout.readline())

  def close(self) -> None:
    self._process.stdin.close()
    self._process.wait()


if __name__ == "__main__":
  for line in sys.stdin:
    print(json.dumps(_serve(json.loads(line))), flush=True)
