"""SFT, DPO and GRPO on rows of your own, with a reward of your own.

  python examples/twenty_rows.py mine
  python examples/sft_dpo_grpo.py mine/rows.jsonl runs/mine

Called again it resumes; each stage begins with the model that the last one
exported, a Hugging Face folder.
"""

import dataclasses
import pathlib
import re
import sys

from jaxvlm.sharding import MeshConfig, make_mesh
from jaxvlm.study import main as studies
from jaxvlm.tools import publish
from jaxvlm.tools.training import run as runs
from jaxvlm.tools.training.config import DataConfig, RunConfig
from jaxvlm.tools.training.recipes import RECIPES


def reward(response: str, reference: str) -> float:
  """0.9 for the right answer in the last box, 0.1 for a thought before it."""
  boxed = re.findall(r"\\boxed\{([^{}]*)\}", response)
  right = bool(boxed) and boxed[-1].strip() == reference
  return 0.9 * right + 0.1 * ("</think>" in response)


def train(
  objective: str,
  model: str | pathlib.Path,
  rows: pathlib.Path,
  workdir: pathlib.Path,
  steps: int,
  longest: int | None = None,
  **settings,
) -> pathlib.Path:
  """Trains one stage, writes its report; returns the trained model's folder.

  Args:
    objective: as `jaxvlm train --objective`.
    model: folder, or a shipped model's name, that the stage begins with.
    rows: file of rows.
    workdir: what the stage writes goes here.
    steps: optimizer steps.
    longest: completion, tokens; None: the rows' longest.
    **settings: other fields of `RunConfig`.
  """
  config = RunConfig(
    objective=objective,
    model_dir=str(model),
    data=DataConfig(path=str(rows), max_new_tokens=longest),
    stage=dataclasses.replace(RECIPES[objective].stage, steps=steps),
    **settings,
  )
  ready = runs.prepare(config, workdir / "pictures")
  print(studies.execute(runs.study(ready), ready.config, workdir))
  begun, saved = pathlib.Path(ready.config.model_dir), workdir / "model"
  checkpoints = runs.checkpoints(workdir, ready.config)
  publish.export(begun, checkpoints, saved, make_mesh(MeshConfig()))
  return saved


def main(rows: pathlib.Path, workdir: pathlib.Path, steps: int = 20) -> None:
  own = f"{__file__}:reward"
  model = train("sft", "nano-base", rows, workdir / "sft", steps)
  model = train("dpo", model, rows, workdir / "dpo", steps // 2)
  train("grpo", model, rows, workdir / "grpo", steps // 2, 44, reward=own)


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
