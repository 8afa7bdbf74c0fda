"""Twenty small rows with pictures and text alone, as a user writes them."""

import json

import numpy as np
from PIL import Image


def write(folder, count=20, name="rows.jsonl", first=0, layout="rows"):
  """Writes pictures and rows that suit every objective; returns the file."""
  records = []
  for i in range(first, first + count):
    record = {
      "id": f"r{i}",
      "question": f"What is {i} and 1?",
      "answer": str(i + 1),
      "response": f"<think>{i}+1={i + 1}</think> \\boxed{{{i + 1}}}",
      "rejected": f"<think>{i}</think> \\boxed{{{i}}}",
    }
    if i % 4:  # some have no picture
      gray = np.full((56, 56 + 28 * (i % 2), 3), 7 * (i % 36), np.uint8)
      Image.fromarray(gray).save(folder / f"{i}.png")
      record["images"] = [f"{i}.png"]
    records.append(LAYOUTS[layout](record))
  file = folder / name
  file.write_text("".join(json.dumps(record) + "\n" for record in records))
  return file


def _turn(role, text, names=("role", "content")):
  return dict(zip(names, (role, text), strict=True))


def _beside(record, *names):
  return {name: record[name] for name in names if name in record}


_LLAVA = ("from", "value")
# Layout -> the record of `write` in it.
LAYOUTS = {
  "rows": lambda r: r,
  "messages": lambda r: {
    **_beside(r, "id", "images", "answer"),
    "messages": [
      _turn("user", r["question"]),
      _turn("assistant", r["response"]),
    ],
    "rejected_response": r["rejected"],
  },
  "conversations": lambda r: {
    **_beside(r, "id", "images", "answer"),
    "conversations": [_turn("human", r["question"], _LLAVA)],
    "chosen": _turn("gpt", r["response"], _LLAVA),
    "rejected": _turn("gpt", r["rejected"], _LLAVA),
  },
  "prompt_completion": lambda r: {
    **_beside(r, "id", "images", "answer"),
    "prompt": r["question"],
    "completion": r["response"],
  },
  "preference": lambda r: {
    **_beside(r, "id", "images", "answer", "rejected"),
    "prompt": r["question"],
    "chosen": r["response"],
  },
  "prompt": lambda r: {
    **_beside(r, "id", "images", "answer"),
    "prompt": r["question"],
  },
  "verl": lambda r: {
    "data_source": "own",
    "prompt": [_turn("user", r["question"])],
    "images": [{"path": path} for path in r.get("images", ())],
    "reward_model": {"style": "rule", "ground_truth": r["answer"]},
    "extra_info": {"split": "train", "index": int(r["id"][1:])},
  },
  "geometry3k": lambda r: {
    "problem": r["question"],
    "images": [{"path": path} for path in r.get("images", ())],
    "answer": r["answer"],
  },
}


REWARD = """
def reward(response, reference):
  return float(reference in response)
"""
