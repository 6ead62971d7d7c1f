# plaudit in a container, on the CPU:
#
#   docker build -t plaudit .
#   docker run --rm -v "$PWD:/here" plaudit demo --out runs/demo
#   docker run --rm -v "$PWD:/here" -p 8300:8300 plaudit board runs --host 0.0.0.0
#
# With CUDA, UNTESTED (nobody has built or run it; the driver is the host's):
#
#   docker build -t plaudit:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#   docker run --rm --gpus all -v "$PWD:/here" plaudit:cuda demo

FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
ARG TORCH=2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=serve
# torch first and from its own index: the ordinary one answers with several gigabytes of CUDA packages.
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" "torch==$TORCH"
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt "$(echo /wheels/plaudit-*.whl)[$EXTRAS]" \
    && useradd --create-home plaudit
USER plaudit
WORKDIR /here
ENTRYPOINT ["plaudit"]
CMD ["--help"]
