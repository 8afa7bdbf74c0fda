"""Twenty small rows with pictures and text alone, as a user writes them."""

import json

import numpy as np
from PIL import Image


def write(folder, count=20, name="rows.jsonl", first=0):
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
    records.append(record)
  file = folder / name
  file.write_text("".join(json.dumps(record) + "\n" for record in records))
  return file


REWARD = """
def reward(response, reference):
  return float(reference in response)
"""
