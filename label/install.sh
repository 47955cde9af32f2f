#!/usr/bin/env bash
# Builds the environment of the MONAI Label server, apart from any other: MONAI Label needs numpy 1.26.
#
#     label/install.sh [FOLDER]     # by default ./labelenv; takes a minute or two and 3 GB
#
# On a machine with a GPU first make the environment yourself (python3 -m venv FOLDER) and install the PyTorch 2.13.0
# build for it there; one that is installed is kept.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
environment=${1:-labelenv}
[ -x "$environment/bin/python" ] || python3 -m venv "$environment"
python=$environment/bin/python
"$python" -c 'import sys; sys.exit(None if sys.version_info[:2] == (3, 11) else "The pinned versions are for Python 3.11.")'
"$python" -m pip install -q -r "$here/requirements.txt"
# Without what they ask for: parts of MONAI Label that are not used here, and a second PyTorch.
"$python" -m pip install -q --no-deps torchvision==0.28.0 monailabel==0.8.5
"$python" "$here/patch_torchvision.py"
"$python" -c "import monailabel.interfaces.app, monailabel.tasks.infer.bundle, monailabel.tasks.train.bundle"
echo "Ready: $environment"
