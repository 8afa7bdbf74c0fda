"""`jaxvlm sample`: what is wrong is said before any weight is read."""

import json
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from jaxvlm import assets

PROGRAM = """
import json, sys
from absl import flags
from absl.testing import flagsaver
from jaxvlm.tools import sample
flags.FLAGS(["sample", "--prompt=x"])
for given in json.loads(sys.argv[1]):
  with flagsaver.flagsaver(**given):
    try:
      sample.main()
      print("done")
    except (ValueError, OSError) as e:
      print(e)
"""

# Flags -> what the message says.
BAD = [
  ({"prompt": "What is in <|image_pad|>?"}, "remove the placeholder"),
  ({"image": ["{folder}/absent.png"]}, "absent.png does not exist"),
  ({"image": ["{folder}/config.json"]}, "cannot be identified"),
  ({"max_new_tokens": 1020}, "the prompt has 2"),
  (
    {"image": ["{folder}/large.png"] * 4, "max_pixels": 560 * 560},
    "of them of pictures",
  ),
  ({"top_p": 0.0}, "top_p is 0.0, expected a mass in (0, 1]"),
  ({"top_p": 1.5}, "top_p is 1.5"),
  ({"temperature": -1.0}, "temperature is -1.0, expected 0 (argmax) or more"),
  ({"stop": ["ok", "<|im_end|>"]}, "'<|im_end|>' cannot be produced"),
  ({"stop": [""]}, "stop string '' is empty"),
  ({"n": 0}, "n is 0, expected at least 1"),
  ({"model_dir": "{folder}/nowhere"}, "/nowhere: expected a local"),
  ({"min_pixels": 0}, "min_pixels is 0, expected at least 1"),
  ({"mesh.data": 64}, "mesh.data is 64"),
  # Nothing is wrong but that the weights are missing.
  ({}, "safetensors"),
  ({"image": ["{folder}/small.png"] * 2, "stop": ["\n\n", "}"]}, "safetensors"),
]


@pytest.fixture(scope="module")
def messages(tmp_path_factory) -> list[str]:
  """What each of the calls says, all in one process."""
  folder = tmp_path_factory.mktemp("without weights")
  for path in assets.folder("nano-base").iterdir():
    if path.suffix != ".safetensors":
      shutil.copy(path, folder)
  Image.new("RGB", (56, 56)).save(folder / "small.png")
  Image.new("RGB", (560, 560)).save(folder / "large.png")
  given = json.loads(
    json.dumps([flags for flags, _ in BAD]).replace("{folder}", str(folder))
  )
  for flags in given:
    flags.setdefault("model_dir", str(folder))
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM, json.dumps(given)],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  found = done.stdout.splitlines()
  assert len(found) == len(BAD), done.stdout
  return found


@pytest.mark.parametrize("number", range(len(BAD)))
def test_what_is_wrong_is_said_before_weights_are_read(messages, number):
  assert BAD[number][1] in messages[number]
