"""`python -m experiments demo | reproduce | report`."""

from __future__ import annotations

import fire

from .demo import demo
from .report import report
from .reproduce import reproduce

if __name__ == "__main__":
    fire.Fire({"demo": demo, "reproduce": reproduce, "report": report})
