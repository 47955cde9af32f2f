"""What makes bundles: stage templates, the facts of a dataset, and the configs written from both."""

from .own_code import check_own_code

check_own_code()
