#!/usr/bin/env bash
# Builds an environment for MONAI Deploy on a machine without a GPU, apart from any other.
#
#     deploy/install.sh [FOLDER]     # by default ./deployenv; takes minutes and 3 GB
#
# Holoscan, on which MONAI Deploy runs, is there for Linux on x86-64 and ARM. It comes without what it would bring for
# GPUs (CuPy, all of tritonclient); of CUDA it needs one library of 3 MB to start.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
environment=${1:-deployenv}
[ -x "$environment/bin/python" ] || python3 -m venv "$environment"
python=$environment/bin/python
"$python" -m pip install -q -r "$here/requirements.txt"
"$python" -m pip install -q --no-deps monai-deploy-app-sdk==4.0.0 holoscan-cu13==4.6.0 nvidia-cuda-runtime==13.5.37
# Where Holoscan looks for it; the first line also makes Python finish the installation of Holoscan.
site=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
ln -sf ../../nvidia/cu13/lib/libcudart.so.13 "$site/holoscan/lib/libcudart.so.13"
"$python" -c "from monai.deploy.operators import DICOMSegmentationWriterOperator, MonaiBundleInferenceOperator"
echo "Ready: $environment"
