"""`python -m experiments demo | reproduce | probe | figures | place | report | ship | prostate_smoke`."""

from __future__ import annotations

import fire

from .demo import demo
from .report import report
from .reproduce import reproduce
from .ship import ship
from .studies.figures import figures
from .studies.place import place
from .studies.probe import probe
from .studies.prostate_smoke import prostate_smoke

if __name__ == "__main__":
    fire.Fire(
        {
            "demo": demo,
            "reproduce": reproduce,
            "probe": probe,
            "figures": figures,
            "place": place,
            "report": report,
            "ship": ship,
            "prostate_smoke": prostate_smoke,
        }
    )
