# The bundles with all that they need. How to build and run it: docs/installation.md.
FROM python:3.11-slim

# Where PyTorch comes from: for CPUs, or an index for a version of CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /opt/contrastive-segmentation
COPY constraints.txt ./
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" "$(grep -m 1 '^torch==' constraints.txt)"
COPY . ./
RUN pip install --no-cache-dir -c constraints.txt -e .

# Runs write to their bundle's folder, so a command runs in a copy of the bundle that outlives the container.
ENV BUNDLE=acdc HOME=/tmp
VOLUME /workspace
WORKDIR /workspace
ENTRYPOINT ["sh", "-ec", "test -d \"/workspace/bundle_$BUNDLE\" || python -m bundles copy \"$BUNDLE\" --out /workspace; cd \"/workspace/bundle_$BUNDLE\"; exec \"$@\"", "bundle"]
CMD ["python", "-m", "bundles", "--help"]
