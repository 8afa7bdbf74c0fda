"""`jaxvlm export`: a checkpoint of a run as a Hugging Face folder."""

import pathlib
import sys

from absl import app, flags

from jaxvlm import config as configs
from jaxvlm import distributed, sharding
from jaxvlm.sharding import MeshConfig
from jaxvlm.tools import folder as folders
from jaxvlm.tools import publish

_MODEL = flags.DEFINE_string(
  "model_dir", "nano-base", "what the run began with: a folder, or a shipped"
  " model's name"
)  # fmt: skip
_CHECKPOINTS = flags.DEFINE_string(
  "checkpoints", None, "folder `checkpoints` of a stage", required=True
)
_STEP = flags.DEFINE_integer("step", None, "default: the newest whole one")
_OUT = flags.DEFINE_string("out", None, "folder to write", required=True)
configs.define_flags(MeshConfig(), prefix="mesh")
configs.define_flags(distributed.DistributedConfig(), prefix="distributed")


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unknown arguments {argv[1:]}; see --help")
  try:
    _export()
  except (FileNotFoundError, ValueError) as e:
    sys.exit(f"jaxvlm export: {e}")


def _export() -> None:
  cluster = configs.from_flags(
    distributed.DistributedConfig(), flags.FLAGS, "distributed"
  )
  with distributed.session(cluster):
    mesh = sharding.make_mesh(
      configs.from_flags(MeshConfig(), flags.FLAGS, "mesh")
    )
    step = publish.export(
      folders.locate(_MODEL.value),
      pathlib.Path(_CHECKPOINTS.value).absolute(),
      pathlib.Path(_OUT.value),
      mesh,
      step=_STEP.value,
    )
    if distributed.is_writer():
      print(f"{_OUT.value}: step {step} of {_CHECKPOINTS.value}")


def run() -> None:
  app.run(main)
