"""Why RL's accuracy dipped, and which learning rate ends the dip.

`python -m experiments.stage1_entropy.stability` takes the early-SFT warm start
into GRPO at several learning rates and measures it every ten steps. At one rate
it does so a second time with the advantages of every group shuffled among its
completions: the updates keep their size and lose their signal, so that what
they do to the policy is the work of noise alone.

Seeds and problems are others than the study's: what is tuned here is reported
there. One row a run is appended to stability.jsonl; runs found in it are
skipped. The rule that chooses the rate is `chosen`.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from experiments.stage1_entropy import arms, config
from jaxvlm import assets, models
from jaxvlm.data import chat as chats
from jaxvlm.data.diagrams import IN_DOMAIN, Split
from jaxvlm.data.sources.world import WorldRows
from jaxvlm.eval import harness
from jaxvlm.sharding import MeshConfig, make_mesh
from jaxvlm.study import inputs, problems
from jaxvlm.study.lab import Draws, Lab
from jaxvlm.study.programs import functions, make_programs
from jaxvlm.train import objectives
from jaxvlm.train.optimizer import decayed
from jaxvlm.train.step import TrainState, init_state, make_train_step
from jaxvlm.typing import Params

# A split of its own, beyond the blocks of seeds that the study draws from.
_TUNING = Split("tuning", 6, IN_DOMAIN, held_out=True)
_PROBLEMS, _SAMPLES, _BATCH = 210, 4, 70
_EVERY = 10
_WARMUP = 5


@dataclasses.dataclass(frozen=True)
class Variant:
  """One way to train.

  Attributes:
    rate: learning rate after warm-up.
    shuffled: whether advantages change places within their group.
  """

  rate: float
  shuffled: bool = False


VARIANTS = (
  Variant(2e-4),
  Variant(1e-4),
  Variant(5e-5),
  Variant(2e-4, shuffled=True),
)


def chosen(rows: Sequence[Mapping[str, Any]]) -> float:
  """Returns the largest rate at which no seed falls below its entry.

  Compared with the entry is the mean of the evaluations in the first half of
  the run: a single one varies by more than a point.

  Args:
    rows: of stability.jsonl.

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


class _Tuning:
  """What all runs of one seed share: problems, programs, the warm start."""

  def __init__(self, seed: int, workdir: pathlib.Path):
    self.study = config.laptop()
    mesh = make_mesh(MeshConfig())
    folder = assets.folder("nano-base")
    student, base = models.load_sharded(folder, mesh, jnp.float32)
    self.chat = chats.load(folder, student.layout)
    found = problems.load(self.study, self.chat)
    self.problems = harness.make_problem_set(
      _TUNING.name,
      WorldRows(_TUNING, _PROBLEMS),
      found.encoder,
      _BATCH,
      task=found.task,
    )
    few = dataclasses.replace(self.study.evaluation, samples=_SAMPLES)
    study = dataclasses.replace(self.study, evaluation=few)
    self.lab = Lab(
      study=self.study,
      mesh=mesh,
      problems=dataclasses.replace(found, evaluation=()),
      # No arm here has a teacher; the student stands in its place.
      programs=make_programs(study, student, student, self.chat),
      teacher=base,
      identity={"seed": str(seed)},
      seed=seed,
      workdir=workdir / f"seed-{seed}",
    )
    stage = self.lab.workdir / "sft_early" / "stage1"
    with jax.set_mesh(mesh):
      self.entry = arms.stage1(self.lab, "sft_early", base, stage)
    # The rate is an argument of the program: all variants share one.
    adam = optax.inject_hyperparams(_adam)
    objective = objectives.grpo(
      functions(student, self.study), vocab_size=self.chat.vocab_size
    )
    self.optimizer = adam(rate=0.0)
    self.step = make_train_step(objective, objectives.count, self.optimizer)

  def run(self, variant: Variant) -> dict[str, Any]:
    """Returns the row of one run."""
    grpo, lab = self.study.grpo, self.lab
    source = lab.source(lab.problems.prompts, grpo, Draws.GRPO)
    draw = inputs.reinforced(lab, source)(0)
    state = init_state(self.entry, self.optimizer)
    evaluated, accuracy, trained, moved = [0], [self._score(self.entry)], [], []
    for step in range(grpo.steps):
      data, _, logged = draw(step, state.trainable, ())
      if variant.shuffled:
        rng = np.random.default_rng(step)
        mixed = rng.permuted(np.array(data.advantages), axis=1)
        data = data._replace(advantages=jnp.asarray(mixed))
      rate = variant.rate * min(1.0, (step + 1) / _WARMUP)
      state, _ = self.step(_at(state, rate), None, data)
      trained.append(logged["reward/accuracy"])
      if (step + 1) % _EVERY == 0:
        evaluated.append(step + 1)
        accuracy.append(self._score(state.trainable))
        change = jax.tree.map(jnp.subtract, state.trainable, self.entry)
        moved.append(float(optax.tree.norm(change)))
    return {
      "seed": lab.seed,
      **dataclasses.asdict(variant),
      "evaluated": evaluated,
      "accuracy": [round(value, 4) for value in accuracy],
      "train_accuracy": [round(value, 4) for value in trained],
      "distance": [round(value, 4) for value in moved],
    }

  def _score(self, params: Params) -> float:
    found = harness.evaluate(
      self.problems,
      self.lab.programs.evaluate,
      params,
      self.lab.key(Draws.EVALUATION),
      decode=self.chat.decode,
    )
    return float(found.accuracy.mean())


def _adam(rate) -> optax.GradientTransformation:
  """Returns the study's optimizer (`config.laptop`) at another rate."""
  given = config.laptop().grpo.optimizer
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


def _at(state: TrainState, rate: float) -> TrainState:
  known = state.opt_state.hyperparams
  known = {**known, "rate": jnp.asarray(rate, known["rate"].dtype)}
  return state._replace(opt_state=state.opt_state._replace(hyperparams=known))


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments {argv[1:]}; see --help")
  out = pathlib.Path(flags.FLAGS.out)
  out.parent.mkdir(parents=True, exist_ok=True)
  rows = _read(out)
  for seed in flags.FLAGS.seed:
    known = [
      Variant(r["rate"], r["shuffled"]) for r in rows if r["seed"] == seed
    ]
    if all(variant in known for variant in VARIANTS):
      continue
    tuning = _Tuning(seed, pathlib.Path(flags.FLAGS.workdir))
    for variant in VARIANTS:
      if variant in known:
        continue
      rows.append(tuning.run(variant))
      with out.open("a") as file:
        file.write(json.dumps(rows[-1]) + "\n")
      print(_line(rows[-1]), flush=True)
  for row in sorted(rows, key=lambda r: (r["shuffled"], -r["rate"], r["seed"])):
    print(_line(row))
  print(f"learning rate chosen: {chosen(rows):g}")


def _read(path: pathlib.Path) -> list[dict[str, Any]]:
  if not path.is_file():
    return []
  return [json.loads(line) for line in path.read_text().splitlines() if line]


def _line(row: Mapping[str, Any]) -> str:
  kind = "shuffled" if row["shuffled"] else "GRPO"
  curve = " ".join(f"{100 * value:5.1f}" for value in row["accuracy"])
  return f"seed {row['seed']} {kind:8s} rate {row['rate']:.0e}: {curve}"


def run() -> None:
  """Defines the flags, then runs; importing this module defines none."""
  flags.DEFINE_string(
    "workdir", "runs/stability", "warm starts; the same one resumes"
  )
  flags.DEFINE_string(
    "out", "experiments/stage1_entropy/results/stability.jsonl", "a row a run"
  )
  flags.DEFINE_multi_integer("seed", [10, 11], "may be repeated")
  app.run(main)


if __name__ == "__main__":
  run()
