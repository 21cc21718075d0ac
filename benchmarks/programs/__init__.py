"""Programs that are measured beside the bridge, each run by itself."""
