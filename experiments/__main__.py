"""`python -m experiments demo | reproduce | probe | report`."""

from __future__ import annotations

import fire

from .demo import demo
from .probe import probe
from .report import report
from .reproduce import reproduce

if __name__ == "__main__":
    fire.Fire({"demo": demo, "reproduce": reproduce, "probe": probe, "report": report})
