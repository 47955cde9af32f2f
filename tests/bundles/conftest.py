"""What other tests still import from here; it stands in `tests.phantoms` and `tests.places`."""

from tests.phantoms import *  # noqa: F403
from tests.places import BUNDLE, BUNDLES, CONFIGS, REPOSITORY  # noqa: F401
