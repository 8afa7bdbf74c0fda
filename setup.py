"""Packaging of jaxvlm."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent


def _requirements() -> list[str]:
  lines = (ROOT / "requirements.txt").read_text().splitlines()
  return [line for line in lines if line and not line.startswith("#")]


def _version() -> str:
  """Returns the version that the package says, without importing it."""
  text = (ROOT / "jaxvlm" / "__init__.py").read_text()
  return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1]


setuptools.setup(
  name="jaxvlm",
  version=_version(),
  description=(
    "A JAX laboratory for post-training vision-language models: Qwen2.5-VL and"
    " Qwen3-VL in Flax, pure losses, exact entropy, reproducible studies"
  ),
  long_description=(ROOT / "README.md").read_text(),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  python_requires=">=3.11,<3.14",
  classifiers=[
    "Intended Audience :: Science/Research",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Programming Language :: Python :: 3.13",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
    "Typing :: Typed",
  ],
  # Experiments are run from a checkout: as a package in site-packages they
  # would take a name that everybody uses.
  packages=setuptools.find_packages(include=["jaxvlm", "jaxvlm.*"]),
  package_data={"jaxvlm": ["py.typed", "assets/**/*"]},
  install_requires=_requirements(),
  extras_require={
    # torch is the parity reference and nothing else: never needed to run.
    "test": [
      "pytest>=8",
      "pytest-xdist>=3.6",
      "hypothesis>=6.130",
      "ruff>=0.14",
      "mypy>=1.18",
      "torch==2.13.0",
      "equinox>=0.13",
      "pyarrow>=20",
      # Compiles for TPU without one: memory and HLO tests.
      "libtpu==0.0.51; sys_platform == 'linux'",
    ],
    "parquet": ["pyarrow>=20"],
    "verify": ["math-verify>=0.9"],
    "wandb": ["wandb>=0.19"],
    "hub": ["datasets>=4"],
    # `jaxvlm plan`: the TPU compiler, which needs no TPU.
    "plan": ["libtpu==0.0.51; sys_platform == 'linux'"],
    # METEOR and SPICE, which are Java; all other scores are our own.
    "captions": ["pycocoevalcap>=1.2"],
    # `make docs`: the site, and its reference from docstrings.
    # ruff breaks the lines of signatures.
    "docs": ["mkdocs-material>=9.6", "mkdocstrings[python]>=1", "ruff>=0.14"],
    "tpu": ["jax[tpu]>=0.10"],
    "cuda": ["jax[cuda13]>=0.10"],
  },
  entry_points={"console_scripts": ["jaxvlm=jaxvlm.tools.main:run"]},
)
