"""Twenty rows with pictures, as you would write them: rows.jsonl in a folder.

python examples/twenty_rows.py mine
"""

import json
import pathlib
import sys

from jaxvlm.data import images
from jaxvlm.data.sources.world import Mixture
from jaxvlm.tasks import world


def main(folder: pathlib.Path) -> None:
  folder.mkdir(exist_ok=True)
  with open(folder / "rows.jsonl", "w") as rows:
    for i, row in enumerate(
      world.task(Mixture(("add",))).rows("sft_traces")[:20]
    ):
      images.load(row.images[0]).save(folder / f"{i}.png")
      right, wrong = row.reference, str(int(row.reference) + 1)
      record = {
        "question": row.question,
        "images": [f"{i}.png"],
        "response": row.responses[0],  # what the model should learn to write
        "rejected": row.responses[0].replace(f"{{{right}}}", f"{{{wrong}}}"),
        "answer": right,
      }
      rows.write(json.dumps(record) + "\n")


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
