"""The two small models that ship with the package, made from nothing."""
