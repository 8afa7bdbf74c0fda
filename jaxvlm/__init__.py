"""jaxvlm: a JAX laboratory for post-training vision-language models.

Importing this package imports nothing heavy; import the room that you need:
`jaxvlm.losses`, `jaxvlm.models`, `jaxvlm.rollout`, …
"""

__version__ = "0.2.0"
