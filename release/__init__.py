"""Makes what is given away: a bundle that needs nothing of this repository, as a folder and as a zip."""

from __future__ import annotations

import bundles as bundles  # checks which package `common` is found, before anything of it is imported
