"""Which learning rate RL bears: runs at several rates, and one on noise alone.

A policy enters GRPO at several rates and is measured every few steps. A variant
may shuffle the advantages of every group among its completions: the updates
keep their size and lose their signal, so that what they do to the policy is the
work of noise. The rule that chooses the rate is `chosen`; seeds and problems
should be others than those of the study that takes it.
"""

import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from jaxvlm import config as configs
from jaxvlm.eval import harness
from jaxvlm.study.config import GRPOConfig
from jaxvlm.study.inputs import MakeInputs
from jaxvlm.study.lab import Lab
from jaxvlm.train import objectives
from jaxvlm.train.optimizer import OptimizerConfig, decayed
from jaxvlm.train.step import init_state, make_train_step
from jaxvlm.typing import Params

# `--help` lists the flags of a command with those of its own module.
flags.disclaim_key_flags()


class Variant(NamedTuple):
  """One way to train.

  Attributes:
    rate: learning rate after warm-up.
    shuffled: whether advantages change places within their group.
  """

  rate: float
  shuffled: bool = False


def chosen(rows: Sequence[Mapping[str, Any]]) -> float:
  """Returns the largest rate at which no seed falls below its entry.

  Compared with the entry is the mean of the evaluations in the first half of
  the run: a single one varies by more than a point.

  Args:
    rows: of `tune`.

  Raises:
    ValueError: every rate falls.
  """
  real = [row for row in rows if not row["shuffled"]]
  steady = {row["rate"] for row in real} - {
    row["rate"] for row in real if _early(row) < row["accuracy"][0]
  }
  if not steady:
    raise ValueError("accuracy falls below its entry at every rate; try lower")
  return max(steady)


def _early(row: Mapping[str, Any]) -> float:
  half = row["evaluated"][-1] / 2
  pairs = zip(row["evaluated"], row["accuracy"], strict=True)
  return float(np.mean([value for step, value in pairs if 0 < step <= half]))


def tune(
  lab: Lab,
  entry: Params,
  stage: GRPOConfig,
  objective: objectives.Objective,
  give: MakeInputs,
  problems: harness.ProblemSet,
  variants: Sequence[Variant],
  every: int,
) -> Iterator[dict[str, Any]]:
  """Yields the row of every variant.

  Args:
    lab: of the seed; its sampler of evaluations measures.
    entry: the policy that enters RL.
    stage: settings of RL but for the rate.
    objective: of RL.
    give: inputs of RL's steps.
    problems: what is measured.
    variants: how to train.
    every: steps between evaluations.
  """
  # The rate is an argument of the program: all variants share one.
  adam = optax.inject_hyperparams(lambda rate: _adam(rate, stage.optimizer))
  optimizer = adam(rate=0.0)
  update = make_train_step(objective, objectives.count, optimizer)

  def score(params: Params) -> float:
    found = harness.evaluate(
      problems,
      lab.evaluate,
      params,
      lab.evaluation_key,
      decode=lab.problems.chat.decode,
    )
    return float(found.accuracy.mean())

  for variant in variants:
    draw, state = give(0), init_state(entry, optimizer)
    evaluated, accuracy, trained, moved = [0], [score(entry)], [], []
    for step in range(stage.steps):
      data, _, logged = draw(step, state.trainable, ())
      if variant.shuffled:
        rng = np.random.default_rng(step)
        mixed = rng.permuted(np.array(data.advantages), axis=1)
        data = data._replace(advantages=jnp.asarray(mixed))
      known = state.opt_state.hyperparams
      rate = variant.rate * min(1.0, (step + 1) / stage.optimizer.warmup_steps)
      known = {**known, "rate": jnp.asarray(rate, known["rate"].dtype)}
      at_rate = state.opt_state._replace(hyperparams=known)
      state, _ = update(state._replace(opt_state=at_rate), None, data)
      trained.append(logged["reward/accuracy"])
      if (step + 1) % every == 0:
        evaluated.append(step + 1)
        accuracy.append(score(state.trainable))
        change = jax.tree.map(jnp.subtract, state.trainable, entry)
        moved.append(float(optax.tree.norm(change)))
    yield {
      "seed": lab.seed,
      **variant._asdict(),
      "evaluated": evaluated,
      "accuracy": [round(value, 4) for value in accuracy],
      "train_accuracy": [round(value, 4) for value in trained],
      "distance": [round(value, 4) for value in moved],
    }


def _adam(rate, given: OptimizerConfig) -> optax.GradientTransformation:
  """Returns a study's AdamW at another rate."""
  return optax.chain(
    optax.clip_by_global_norm(given.clip_norm),
    optax.adamw(
      rate,
      b1=given.b1,
      b2=given.b2,
      weight_decay=given.weight_decay,
      mask=decayed,
    ),
  )


def define_flags(out: str) -> None:
  """Defines the flags of `run`; `out` is the default of --out."""
  configs.define_path(
    "workdir", "runs/stability", "warm starts; the same one resumes"
  )
  configs.define_path("out", out, "JSON lines, a row a run")
  flags.DEFINE_multi_integer("seed", [10, 11], "may be repeated")


def run(
  variants: Sequence[Variant],
  rows_of: Callable[
    [int, pathlib.Path, Sequence[Variant]], Iterator[dict[str, Any]]
  ],
) -> None:
  """Appends a row a run to --out, prints them and the rate that is chosen.

  Runs found in the file are skipped.

  Args:
    variants: how to train with each seed.
    rows_of: (seed, its folder, variants) -> their rows.
  """
  out, workdir = map(pathlib.Path, (flags.FLAGS.out, flags.FLAGS.workdir))
  out.parent.mkdir(parents=True, exist_ok=True)
  rows = []
  if out.is_file():
    rows = [json.loads(line) for line in out.read_text().splitlines() if line]
  for seed in flags.FLAGS.seed:
    known = {(r["rate"], r["shuffled"]) for r in rows if r["seed"] == seed}
    rest = [variant for variant in variants if variant not in known]
    for row in rows_of(seed, workdir / f"seed-{seed}", rest) if rest else ():
      rows.append(row)
      with out.open("a") as file:
        file.write(json.dumps(row) + "\n")
      print(_line(row), flush=True)
  for row in sorted(rows, key=lambda r: (r["shuffled"], -r["rate"], r["seed"])):
    print(_line(row))
  print(f"learning rate chosen: {chosen(rows):g}")


def _line(row: Mapping[str, Any]) -> str:
  kind = "shuffled" if row["shuffled"] else "GRPO"
  curve = " ".join(f"{100 * value:5.1f}" for value in row["accuracy"])
  return f"seed {row['seed']} {kind:8s} rate {row['rate']:.0e}: {curve}"
