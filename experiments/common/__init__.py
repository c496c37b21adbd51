"""What the experiments share: what a run is, how runs are made, and how results are read."""
