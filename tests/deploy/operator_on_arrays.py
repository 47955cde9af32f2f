"""Run MONAI Deploy's operator on a volume as a bare array, as its `NiftiDataLoader` hands it over.

Usage: python operator_on_arrays.py BUNDLE IMAGE.nii.gz
"""

from __future__ import annotations

import sys
from pathlib import Path

from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application, Image, IOType, Operator
from monai.deploy.operators import IOMapping, MonaiBundleInferenceOperator, NiftiDataLoader


class Sink(Operator):
    def setup(self, spec):
        spec.input("image")

    def compute(self, op_input, op_output, context):
        op_input.receive("image")


class ArrayApp(Application):
    def compose(self):
        bundle, image = map(Path, sys.argv[1:])
        loader = NiftiDataLoader(self, CountCondition(self, 1), input_path=image, name="loader")
        operator = MonaiBundleInferenceOperator(
            self,
            app_context=AppContext({}),
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            bundle_path=bundle,
            name="segmentation",
        )
        sink = Sink(self, name="sink")
        self.add_flow(loader, operator, {("image", "image")})
        self.add_flow(operator, sink, {("pred", "image")})


if __name__ == "__main__":
    ArrayApp().run()
