"""A few problems with completions, for the report's painted text."""

import base64
import io
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxvlm import distributed, wholefile
from jaxvlm.data import images
from jaxvlm.data.rows import Row
from jaxvlm.eval.harness import ProblemSet
from jaxvlm.study.lab import Lab
from jaxvlm.tasks import Task, score
from jaxvlm.train import experience
from jaxvlm.typing import Params


def write(
  lab: Lab,
  folder: str,
  step: int,
  policies: Mapping[str, Params],
  problems: ProblemSet | None = None,
) -> None:
  """Writes samples.json, unless it is there of this endpoint.

  Args:
    lab: problems and sampler.
    folder: of the last stage, below the seed's.
    step: the stage's last.
    policies: name -> parameters, such as entry and endpoint.
    problems: to show some of; None: the first that is measured.
  """
  path = lab.workdir / folder / "samples.json"
  if distributed.from_writer(_written(path, step)):
    return
  problems = problems or lab.problems.evaluation[0]
  shown = [
    problem | {"endpoint_step": step}
    for problem in show(lab, policies, problems)
  ]
  if distributed.is_writer():
    wholefile.write_text(path, json.dumps(shown))


def _written(path: pathlib.Path, step: int) -> bool:
  """Returns whether completions of this endpoint are there, not an older's."""
  if not path.is_file():
    return False
  return all(
    p.get("endpoint_step") == step for p in json.loads(path.read_text())
  )


def show(
  lab: Lab, policies: Mapping[str, Params], problems: ProblemSet
) -> list[dict[str, Any]]:
  """Returns a few problems with completions and their token entropies."""
  prompts, index = problems.batches[0]
  chat = lab.problems.chat
  chosen = [i for i in range(len(index)) if index[i] >= 0][:6]
  shown = []
  for i in chosen:
    row = problems.rows[index[i]]
    png = io.BytesIO()
    for picture in row.images[:1]:
      images.load(picture).save(png, "PNG")
    shown.append(
      {
        "image_png_base64": base64.b64encode(png.getvalue()).decode(),
        "question": row.question,
        "answer": row.reference_text,
        "completions": [],
      }
    )
  ids = np.maximum(index, 0).astype(np.int32)
  for stage, params in policies.items():
    generate = experience.everywhere(lab.evaluate, lab.mesh)
    samples = jax.device_get(generate(params, prompts, lab.evaluation_key, ids))
    for entry, i in zip(shown, chosen, strict=True):
      for g in range(min(2, samples.tokens.shape[1])):
        kept = samples.mask[i, g]
        tokens = samples.tokens[i, g][kept].tolist()
        row = problems.rows[index[i]]
        text = chat.decode(tokens)
        entry["completions"].append(
          {
            "tokens": [chat.tokenizer.decode([t]) for t in tokens],
            "entropies": samples.entropies[i, g][kept].astype(float).tolist(),
            "stage": stage,
            **_judged(problems.task, text, row),
          }
        )
  return shown


def _judged(task: Task | None, text: str, row: Row) -> dict[str, Any]:
  """Returns whether a completion is right, or what else can be said of it."""
  if task is None:
    return {"said": "not scored"}
  headline = task.metrics[0]
  value = float(score(task, [text], [row])[headline][0])
  if headline == "accuracy":
    return {"correct": value == 1}
  return {"said": f"{headline} {value:.3g}"}
