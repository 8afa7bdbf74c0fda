"""A checkpoint of a run as a Hugging Face folder; adapters are merged.

The parameters lie on the mesh all the time and leave it a layer at a time, so
that no host holds the model: on a slice, the same command runs on every host.
"""

import pathlib
import shutil

import jax

from jaxvlm import distributed, models, sharding
from jaxvlm.data import chat as chats
from jaxvlm.data import folder_files
from jaxvlm.models import lora
from jaxvlm.train import trained
from jaxvlm.typing import Params

# Copied beside the weights: tokenizer, chat template, picture settings.
_BESIDE = (
  "added_tokens.json",
  "chat_template.jinja",
  "chat_template.json",
  "generation_config.json",
  "merges.txt",
  "preprocessor_config.json",
  "processor_config.json",
  "special_tokens_map.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "video_preprocessor_config.json",
  "vocab.json",
)


def export(
  model: pathlib.Path,
  checkpoints: pathlib.Path,
  out: pathlib.Path,
  mesh: jax.sharding.Mesh,
  *,
  step: int | None = None,
) -> int:
  """Writes a checkpoint as a folder that transformers loads, model and all.

  Tokenizer, template and settings are those of `model`; what it lacks of
  settings is written as this project reads it.

  Args:
    model: folder that the run began with.
    checkpoints: folder of the run.
    out: folder to write; not `model`.
    mesh: where the parameters lie meanwhile.
    step: which checkpoint; default the newest whole one.

  Returns:
    The step.

  Raises:
    FileNotFoundError: `model` is no whole folder.
    ValueError: no whole checkpoint, one of another model, or `out` is `model`.
  """
  if out.resolve() == model.resolve():
    raise ValueError(
      f"out is {out}, the folder that the run began with; expected another:"
      " the checkpoint may need it again"
    )
  rules = models.partition_rules(models.read_config(model))
  found, identity, tree = trained.load_trained(
    checkpoints.absolute(),  # orbax reads no other path
    mesh,
    rules,
    step=step,
  )
  student = identity.get("student")
  if student not in (None, models.fingerprint(model)):
    raise ValueError(
      f"{checkpoints}: step {found} was trained from other weights than"
      f" {model} holds; give the run's --model_dir"
    )
  config, base = models.load_sharded(model, mesh, None)
  chats.load(model, config.layout)  # before anything is written
  shapes = jax.eval_shape(joined, base, tree)
  with jax.set_mesh(mesh):
    params = jax.jit(
      joined,
      out_shardings=sharding.partition(mesh, shapes, rules),
      donate_argnums=0,
    )(base, tree)
  models.save_pretrained(out, config, params)
  if distributed.is_writer():
    copy_beside(model, out)
    folder_files.complete(out, chats.load(out, config.layout))
  return found


def copy_beside(model: pathlib.Path, out: pathlib.Path, *more: str) -> None:
  """Copies tokenizer, template and settings, as far as they are there."""
  for name in (*_BESIDE, *more):
    if (model / name).is_file():
      shutil.copyfile(model / name, out / name)


def joined(base: Params, tree: Params) -> Params:
  """Returns the base with what was trained in its place, in its dtype.

  Raises:
    ValueError: something trained that the base has not.
  """
  adapters, params = {}, base
  for path, leaf in jax.tree.leaves_with_path(tree):
    names = [key.key for key in path]
    if names[-1].startswith("lora_"):
      adapters = _with(adapters, names, leaf)
    else:
      params = _with(params, names, leaf.astype(_at(base, names).dtype))
  return lora.merge_lora(params, adapters) if adapters else params


def _at(tree: Params, names: list[str]) -> jax.Array:
  for name in names:
    if name not in tree:
      raise ValueError(
        f"the checkpoint trains {'/'.join(names)}, which the model has not:"
        f" found {sorted(tree)[:8]}; give the run's --model_dir"
      )
    tree = tree[name]
  return tree


def _with(tree: Params, names: list[str], leaf: jax.Array) -> Params:
  """Returns a copy of `tree` with one leaf put in."""
  name, *rest = names
  inner = _with(tree.get(name, {}), rest, leaf) if rest else leaf
  return {**tree, name: inner}
