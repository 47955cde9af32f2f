"""What makes bundles: stage templates, the facts of a dataset, and the configs written from both."""
