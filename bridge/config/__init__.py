"""The configuration: one YAML file, read strictly, every fault told at once with its place and its remedy."""
