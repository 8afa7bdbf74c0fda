"""A few problems with completions, for the report's painted text."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxvlm.data import images
from jaxvlm.study.lab import Draws, Lab
from jaxvlm.tasks import score
from jaxvlm.train import experience
from jaxvlm.typing import Params


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
    generate = experience.everywhere(lab.programs.evaluate, lab.mesh)
    samples = jax.device_get(
      generate(params, prompts, lab.key(Draws.EVALUATION), ids)
    )
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
