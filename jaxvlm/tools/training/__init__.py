"""What `jaxvlm train` is made of: settings, data, recipes, page."""
