"""The `jaxvlm` command: absl mains, one module each."""
