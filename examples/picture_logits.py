"""Scores of the next word after a question about a picture, without torch.

python examples/picture_logits.py [FOLDER PICTURE QUESTION]

transformers' processor needs torch and torchvision; `Folder.ask` makes the
same tokens and patches. What a processor has made already,
`jaxvlm.models.batch_from_hf` takes.
"""

import sys

import numpy as np

from jaxvlm.data import diagrams
from jaxvlm.models import logits
from jaxvlm.tools import folder


def main(path="nano-teacher", picture=None, question=None):
  if picture is None:  # one of the generated world
    problem = diagrams.generate("triangle", 0)
    picture, question = problem.image, problem.question
  model = folder.load(path)
  batch = model.ask(question, [picture])
  scores = logits(model.config, model.params, batch)  # f32[1, S, V]
  best = np.argsort(np.asarray(scores)[0, -1])[::-1][:5]
  print(f"{scores.shape[1]} tokens; the next one is most likely:")
  for token in best.tolist():
    word = model.chat.tokenizer.decode([token])
    print(f"  {float(scores[0, -1, token]):8.3f}  {word!r}")


if __name__ == "__main__":
  main(*sys.argv[1:])
