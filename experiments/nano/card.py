"""The model card of a shipped model: scores and how it was made."""

import pathlib
import subprocess

import jax

from experiments.nano.config import NanoConfig, World
from jaxvlm import models
from jaxvlm.data.rows import Encoder
from jaxvlm.eval import harness
from jaxvlm.rollout import make_generate
from jaxvlm.sampling import Sampling

_SAMPLES = 4


def score(
  folder: pathlib.Path, encoder: Encoder, world: World
) -> dict[str, dict]:
  """Returns scores at temperature 1 by problem set, as stored (bf16)."""
  config, params = models.load_pretrained(folder)
  chat = encoder.chat
  generate = make_generate(
    models.bind(config),
    group=_SAMPLES,
    sampling=Sampling(),
    max_new_tokens=encoder.max_new_tokens,
    eos_ids=chat.eos_ids,
    pad_id=chat.pad_id,
    vocab_size=chat.vocab_size,
  )
  out = {}
  task = world.task()
  for name, (split, count) in world.sets.items():
    problems = harness.make_problem_set(
      name, task.rows(split)[:count], encoder, 70, task=task
    )
    result = harness.evaluate(
      problems,
      generate,
      params,
      jax.random.key(0),
      decode=chat.decode,
    )
    families: dict[str, list[float]] = {}
    headline = result.scores[task.metrics[0]]
    for row, right in zip(problems.rows, headline, strict=True):
      families.setdefault(row.group, []).append(float(right.mean()))
    out[name] = {
      **{k: round(v, 4) for k, v in result.summary().items()},
      "families": {
        k: round(sum(v) / len(v), 3) for k, v in sorted(families.items())
      },
    }
  return out


def commit() -> str:
  """Returns the commit of the working tree, or "unknown" outside git."""
  done = subprocess.run(
    ["git", "describe", "--always", "--dirty"],
    capture_output=True,
    text=True,
    check=False,
  )
  return done.stdout.strip() or "unknown"


def write(
  nano: NanoConfig,
  *,
  parameters: int,
  scores: dict[str, dict],
  digest: str,
  seconds: float,
  steps: int,
) -> str:
  """Returns the card's text."""
  world = nano.world
  metrics = world.task().metrics
  if "accuracy" in metrics:
    metrics = ("accuracy", f"pass@{_SAMPLES}", *metrics[1:])
  columns = (*metrics, "entropy", "length")
  lines = [
    f"# {nano.name}",
    "",
    f"A {nano.kind.name} of {parameters:,} parameters that {world.about}, in"
    " the Hugging Face folder format (bf16). Trained from nothing on"
    f" `{world.made_by}` by this project's supervised path.",
    "",
    f"* command: `python -m experiments.nano.run --only={nano.name}`"
    " (`make nano` makes all)",
    f"* commit: {commit()}",
    f"* data: {nano.prompts * steps:,} generated problems, seen once each;"
    f" {nano.corpus}",
    f"* training: {steps:,} steps of {nano.prompts} problems, AdamW, peak"
    f" learning rate {nano.optimizer.peak_lr:g}, seed {nano.seed}",
    f"* cost: {seconds / 60:.0f} minutes on a shared machine with 2 cores",
    f"* sha256 of model.safetensors: `{digest}`",
    "",
    "Scores at temperature 1, four samples a problem, validation problems"
    " (`python -m experiments.nano.run` writes them); entropy in nats, length"
    " in tokens:",
    "",
    f"| set | {' | '.join(columns)} |",
    "|---" * (1 + len(columns)) + "|",
  ]
  for name, s in scores.items():
    numbers = (f"{s[column]:.3f}" for column in columns)
    lines.append(f"| {name} | {' | '.join(numbers)} |")
  lines += ["", f"| family | {metrics[0]} |", "|---|---|"]
  for s in scores.values():
    lines += [f"| {k} | {v:.2f} |" for k, v in s["families"].items()]
  return "\n".join(lines) + "\n"
