"""Settings of every test: CPU, strict shapes, exact products."""

import os

# Before jax is imported anywhere: libtpu, where it is installed for
# ahead-of-time compilation, must not look for chips.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")

import jax

jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_debug_key_reuse", True)
