"""Measures the bridge beside other programs that do the same work, in one run on one machine: `script/bench`."""
