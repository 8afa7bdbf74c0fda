"""`jaxvlm export`: a checkpoint of a run as a Hugging Face folder."""

import pathlib

from absl import flags

from jaxvlm import config as configs
from jaxvlm import distributed, program
from jaxvlm.tools import compute, publish
from jaxvlm.tools import folder as folders

_MODEL = configs.define_path(
  "model_dir", "nano-base", "what the run began with: a folder, or a shipped"
  " model's name"
)  # fmt: skip
_CHECKPOINTS = configs.define_path(
  "checkpoints",
  None,
  "folder `checkpoints` of a stage; required",
  required=True,
)
_STEP = flags.DEFINE_integer("step", None, "default: the newest whole one")
_OUT = configs.define_path(
  "out", None, "folder to write; required", required=True
)
compute.define_devices()
_GROUPS = {"The checkpoint": ("model_dir", "checkpoints", "step", "out")}


def main() -> None:
  with compute.on_devices() as mesh:
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
  program.run(main, "jaxvlm export", groups=_GROUPS)
