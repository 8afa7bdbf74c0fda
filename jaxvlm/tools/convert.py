"""A Hugging Face folder as sharded arrays of ours, and back, both verified.

  jaxvlm convert --model_dir=Qwen2.5-VL-7B-Instruct --out=arrays
  jaxvlm convert --model_dir=arrays --out=folder

Which way it goes follows from what --model_dir holds: safetensors, or
`checkpoints`. Tensors are read one by one, each host what its devices hold;
config.json and tokenizer go along. Afterwards every tensor is read again from
both sides and compared, bit by bit.
"""

import pathlib

import jax

from jaxvlm import config as configs
from jaxvlm import distributed, program
from jaxvlm.tools import compute, conversion
from jaxvlm.tools import folder as folders

_MODEL = configs.define_path(
  "model_dir", None, "what is converted; required", required=True
)
_OUT = configs.define_path(
  "out", None, "folder to write; required", required=True
)
compute.define_devices()
_GROUPS = {"The folders": ("model_dir", "out")}


def main() -> None:
  with compute.on_devices() as mesh:
    source, out = folders.locate(_MODEL.value), pathlib.Path(_OUT.value)
    is_ours = (source / conversion.ARRAYS).is_dir()
    convert = conversion.to_folder if is_ours else conversion.to_arrays
    with jax.set_mesh(mesh):
      count = convert(source, out, mesh)
    if distributed.is_writer():
      print(f"{out}: {count} arrays of {source}, each compared bit by bit")


def run() -> None:
  program.run(main, "jaxvlm convert", groups=_GROUPS)
