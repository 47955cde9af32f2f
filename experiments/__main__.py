"""`python -m experiments demo | reproduce | curve | report | ship | weights`, and the studies of single questions."""

from __future__ import annotations

import fire

from .curve import curve
from .demo import demo
from .report import report
from .reproduce import reproduce
from .ship import ship, ship_beside
from .studies.bias_field import bias_field
from .studies.choosing import choosing
from .studies.figures import figures
from .studies.local_stages import local_stages
from .studies.place import place
from .studies.probe import probe
from .studies.prostate_smoke import prostate_smoke
from .studies.report_picture import report_picture
from .studies.some_slices import some_slices
from .studies.turns import turns
from .weights import weights

if __name__ == "__main__":
    fire.Fire(
        {
            "demo": demo,
            "reproduce": reproduce,
            "curve": curve,
            "probe": probe,
            "figures": figures,
            "place": place,
            "local_stages": local_stages,
            "bias_field": bias_field,
            "report": report,
            "ship": ship,
            "ship_beside": ship_beside,
            "weights": weights,
            "prostate_smoke": prostate_smoke,
            "report_picture": report_picture,
            "some_slices": some_slices,
            "choosing": choosing,
            "turns": turns,
        }
    )
