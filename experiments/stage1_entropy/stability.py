"""Why RL's accuracy dipped, and which learning rate ends the dip.

`python -m experiments.stage1_entropy.stability` takes the early-SFT warm start
into GRPO at several rates, and at one of them with shuffled advantages
(`jaxvlm.study.stability`). Seeds and problems are others than the study's: what
is tuned here is reported there. A row a run is appended to stability.jsonl.
"""

import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax

from experiments.stage1_entropy import arms, config, problems
from jaxvlm import assets, program
from jaxvlm.data.diagrams import IN_DOMAIN, Split
from jaxvlm.data.sources.world import WorldRows
from jaxvlm.eval import harness
from jaxvlm.sharding import MeshConfig, make_mesh
from jaxvlm.study import folders, kinds, programs, stability
from jaxvlm.study.lab import Lab
from jaxvlm.study.stability import Variant
from jaxvlm.train.assemble import functions

# A split of its own, beyond the blocks of seeds that the study draws from.
_TUNING = Split("tuning", 6, IN_DOMAIN, held_out=True)
_PROBLEMS, _SAMPLES, _BATCH, _EVERY = 210, 4, 70, 10
VARIANTS = (
  Variant(2e-4),
  Variant(1e-4),
  Variant(5e-5),
  Variant(2e-4, shuffled=True),
)


def tune(
  seed: int, folder: pathlib.Path, variants: Sequence[Variant]
) -> Iterator[dict[str, Any]]:
  """Yields the row of every variant, from one warm start."""
  c, mesh = config.laptop(), make_mesh(MeshConfig())
  student = folders.read(assets.folder("nano-base"))
  found = problems.load(c, student.chat)
  tuning = harness.make_problem_set(
    _TUNING.name,
    WorldRows(_TUNING, _PROBLEMS),
    found.encoder,
    _BATCH,
    task=found.task,
  )
  few = replace(c, evaluation=replace(c.evaluation, samples=_SAMPLES))
  # No arm here has a teacher; the student stands in its place.
  compiled = arms.make_programs(c, student, student)
  model = functions(student.config, c.form)
  lab = Lab(
    config=c,
    mesh=mesh,
    problems=replace(found, evaluation=()),
    model=student.config,
    evaluate=programs.make_evaluator(few, student.chat, model),
    identity={"seed": str(seed)},
    seed=seed,
    workdir=folder,
  )
  with jax.set_mesh(mesh):
    base = programs.load_student(c, mesh, student)
    entry = arms.stage1(lab, compiled, "sft_early", base, None)
  objective = programs.grpo(model, c.grpo, student.chat.vocab_size)
  prompts = found.training["prompts"]
  _, give = kinds.graded(lab, 1, c.grpo, prompts, compiled.rollout)
  yield from stability.tune(
    lab, entry, c.grpo, objective, give, tuning, variants, _EVERY
  )


def main() -> None:
  stability.run(VARIANTS, tune)


if __name__ == "__main__":
  out = "experiments/stage1_entropy/results/stability.jsonl"
  program.run(main, "stability", define=lambda: stability.define_flags(out))
