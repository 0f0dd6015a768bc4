# Worker, server and the runs of container pools: docker build --tag pseudomask .
# With a GPU: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130
FROM python:3.11-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc g++ libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /srv/pseudomask
COPY . .
# Of wheels of one version pip takes the one with a local version, such as +cpu, which is that index's.
RUN python -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --constraint constraints.txt --extra-index-url "$TORCH_INDEX" --editable ".[s3]"

FROM python:3.11-slim
# gcc: Triton compiles the kernels of a GPU when they are first called.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 pseudomask \
    && install --directory --owner pseudomask --group pseudomask /data
COPY --from=build --chown=pseudomask:pseudomask /srv/pseudomask /srv/pseudomask
USER pseudomask
WORKDIR /srv/pseudomask
ENV PATH=/srv/pseudomask/.venv/bin:$PATH PYTHONUNBUFFERED=1 PSEUDOMASK_CACHE=/data/cache
# The kernels are compiled once, by the user who runs them.
RUN python -m kernels
CMD ["pseudomask", "worker"]
