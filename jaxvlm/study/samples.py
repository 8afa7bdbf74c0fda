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
from jaxvlm.study.lab import Lab
from jaxvlm.tasks import score
from jaxvlm.train import experience
from jaxvlm.typing import Params


def write(
  lab: Lab, folder: str, step: int, policies: Mapping[str, Params]
) -> None:
  """Writes samples.json, unless it is there of this endpoint.

  Args:
    lab: problems and sampler.
    folder: of the last stage, below the seed's.
    step: the stage's last.
    policies: name -> parameters, such as entry and endpoint.
  """
  path = lab.workdir / folder / "samples.json"
  if distributed.from_writer(_written(path, step)):
    return
  shown = [problem | {"endpoint_step": step} for problem in show(lab, policies)]
  if distributed.is_writer():
    wholefile.write_text(path, json.dumps(shown))


def _written(path: pathlib.Path, step: int) -> bool:
  """Returns whether completions of this endpoint are there, not an older's."""
  if not path.is_file():
    return False
  return all(
    p.get("endpoint_step") == step for p in json.loads(path.read_text())
  )


def show(lab: Lab, policies: Mapping[str, Params]) -> list[dict[str, Any]]:
  """Returns a few problems with completions and their token entropies."""
  problems = lab.problems.evaluation[0]
  headline = problems.task.metrics[0]
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
        scores = score(problems.task, [chat.decode(tokens)], [row])
        entry["completions"].append(
          {
            "tokens": [chat.tokenizer.decode([t]) for t in tokens],
            "entropies": samples.entropies[i, g][kept].astype(float).tolist(),
            "correct": bool(scores[headline][0] == 1),
            "stage": stage,
          }
        )
  return shown
