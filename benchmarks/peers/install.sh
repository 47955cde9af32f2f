#!/usr/bin/env bash
# Builds an environment for `python -m benchmarks run peers`, with nnU-Net and lightly, apart from any other.
#
#     benchmarks/peers/install.sh [FOLDER]     # by default ./peersenv; takes minutes and 3 GB
#
# On a machine with a GPU first make the environment yourself (python3 -m venv FOLDER) and install the PyTorch 2.13.0
# build for it there; one that is installed is kept.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
environment=${1:-peersenv}
[ -x "$environment/bin/python" ] || python3 -m venv "$environment"
python=$(cd "$environment/bin" && pwd)/python
"$python" -m pip install -q -c "$repository/constraints.txt" -e "$repository[benchmarks]" -r "$here/requirements.txt"
"$python" -m pip install -q --no-deps nnunetv2==2.8.1 batchgenerators==0.25.5 batchgeneratorsv2==0.3.6 \
  dynamic-network-architectures==0.4.4 acvl-utils==0.2.6 lightly==1.6.0 torchvision==0.28.0
"$python" "$repository/label/patch_torchvision.py"
(cd "$repository" && "$python" -c "import benchmarks.peers.nnunet, benchmarks.peers.simclr")
echo "Ready: $environment"
