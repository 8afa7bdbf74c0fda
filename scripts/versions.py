"""Is the wheel alone usable on this Python, with these versions?

  python scripts/versions.py --python=python3.12
  python scripts/versions.py --python=python3.11 --lowest --tests

Packs the committed tree, builds the wheel from the pack, installs it into an
environment of its own and uses it from a folder outside of any checkout: a
question about a picture, a training on a few rows, an export, a loss. With
--tests also the tests of the rooms that need no model, against the wheel.
Prints one row of docs/versions.md. A failed command ends it.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]
ROOMS = ("losses", "data", "rewards", "diagnostics")
SHOWN = ("jax", "flax", "transformers", "numpy", "scipy")

# What a user does, in the environment's Python; the last line is the loss.
ROWS = """
import json
from PIL import Image
from jaxvlm.data import diagrams
rows = []
for i in range(6):
  problem = diagrams.generate("triangle", i)
  Image.fromarray(problem.image).save(f"{i}.png")
  rows.append({"image": f"{i}.png", "question": problem.question,
               "response": f"<think></think> \\\\boxed{{{problem.answer}}}"})
open("rows.jsonl", "w").write("".join(json.dumps(r) + "\\n" for r in rows))
"""
LOSS = """
import importlib.resources as files
from jaxvlm.losses import dpo_loss
import jax.numpy as jnp
assert (files.files("jaxvlm") / "py.typed").is_file()
loss, _ = dpo_loss(*jnp.zeros((4, 2)), beta=0.1)
assert abs(float(loss) - 0.6931472) < 1e-6, loss
"""


def run(*words: object, cwd: pathlib.Path) -> str:
  """Runs a command; its failure ends the program with what it said."""
  done = subprocess.run(
    [str(word) for word in words], cwd=cwd, capture_output=True, text=True
  )
  if done.returncode:
    sys.exit(f"{words}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
  return done.stdout


def lowest() -> Iterator[str]:
  """Yields requirements.txt with each lower bound as the version."""
  for line in (ROOT / "requirements.txt").read_text().splitlines():
    if found := re.fullmatch(r"([\w-]+)>=([\w.]+)", line):
      yield f"{found[1]}=={found[2]}"


def install(
  python: str, env: pathlib.Path, work: pathlib.Path, *, low: bool
) -> pathlib.Path:
  """Builds and installs the wheel; returns the environment's programs."""
  if not env.exists():
    run(python, "-m", "venv", env, cwd=work)
  bin_, tree = env / "bin", work / "tree"
  tree.mkdir()
  run("git", "archive", "-o", work / "tree.tar", "HEAD", cwd=ROOT)
  run("tar", "-xf", work / "tree.tar", cwd=tree)
  pip = (bin_ / "python", "-m", "pip", "--quiet")
  run(*pip, "install", "setuptools>=68", "wheel", cwd=work)
  pack = "from setuptools import build_meta as b; b.build_sdist('../dist')"
  run(bin_ / "python", "-c", pack, cwd=tree)
  (source,) = (work / "dist").glob("*.tar.gz")
  built = ("--no-deps", "--no-build-isolation", "-w", work / "dist")
  run(*pip, "wheel", *built, source, cwd=work)
  (wheel,) = (work / "dist").glob("*.whl")
  limits = []
  if low:
    (work / "lowest.txt").write_text("\n".join(lowest()) + "\n")
    limits = ["-c", work / "lowest.txt"]
  run(*pip, "install", wheel, *limits, cwd=work)
  again = ("--force-reinstall", "--no-deps")  # of an environment used before
  run(*pip, "install", *again, wheel, cwd=work)
  return bin_


def use(bin_: pathlib.Path, away: pathlib.Path) -> None:
  """Does what a user does, in a folder that holds nothing of ours."""
  python, jaxvlm = bin_ / "python", bin_ / "jaxvlm"
  run(python, "-m", "pip", "check", cwd=away)
  run(python, "-c", ROWS, cwd=away)
  run(python, "-c", LOSS, cwd=away)
  asked = ("--image=0.png", "--prompt=Find the third angle x.", "--n=2")
  run(jaxvlm, "sample", "--model_dir=nano-teacher", *asked, cwd=away)
  trained = ("--data=rows.jsonl", "--steps=2", "--prompts=2", "--workdir=run")
  run(jaxvlm, "train", *trained, cwd=away)
  checkpoints = "--checkpoints=run/seed-0/run/sft/checkpoints"
  run(jaxvlm, "export", checkpoints, "--out=model", cwd=away)
  assert (away / "model" / "model.safetensors").is_file()
  assert (away / "run" / "report.html").is_file()


def test(bin_: pathlib.Path, tree: pathlib.Path) -> str:
  """Runs the tests of a few rooms against the wheel; returns what they say."""
  wanted = ("pytest>=8", "hypothesis>=6.130", "pyarrow>=20")
  run(bin_ / "python", "-m", "pip", "--quiet", "install", *wanted, cwd=tree)
  run("rm", "-r", "jaxvlm", cwd=tree)  # what is tested is the wheel
  rooms = [f"tests/{room}" for room in ROOMS]
  words = ("-m", "pytest", "-q", "-m", "not slow", *rooms)
  return run(bin_ / "python", *words, cwd=tree).splitlines()[-1]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--python", default=sys.executable)
  parser.add_argument("--env", help="environment to use; made if absent")
  parser.add_argument("--lowest", action="store_true", help="lower bounds")
  parser.add_argument("--tests", action="store_true", help="of four rooms")
  asked, start = parser.parse_args(), time.perf_counter()
  with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    away = work / "away"
    away.mkdir()
    env = pathlib.Path(asked.env or work / "env").absolute()
    bin_ = install(asked.python, env, work, low=asked.lowest)
    use(bin_, away)
    said = test(bin_, work / "tree") if asked.tests else "-"
    code = (
      "import platform\nfrom importlib.metadata import version as v\n"
      f"print(platform.python_version(), *map(v, {SHOWN}), sep=' | ')"
    )
    versions = run(bin_ / "python", "-c", code, cwd=away).strip()
  bound = "lowest" if asked.lowest else "newest"
  seconds = time.perf_counter() - start
  print(f"| {bound} | {versions} | yes | {said} | {seconds:.0f} s |")


if __name__ == "__main__":
  main()
