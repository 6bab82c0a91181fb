# facerecon on a CPU, not as root. docs/howto.md says how to build and run it.
#   docker build -t facerecon --build-arg TORCH="torch==2.13.0 --index-url URL" .
# URL: the CPU builds on PyTorch's install page; without the argument, CUDA's libraries come, too.
FROM python:3.12-slim AS build
ARG TORCH="torch==2.13.0"
RUN python -m venv /opt/facerecon
ENV PATH=/opt/facerecon/bin:$PATH
RUN pip install --no-cache-dir $TORCH
COPY pyproject.toml README.md LICENSE /source/
COPY src /source/src
RUN pip install --no-cache-dir /source
# Compile once, here: NUMBA_CPU_NAME=generic makes code that every processor of this kind runs.
ENV NUMBA_CPU_NAME=generic NUMBA_CACHE_DIR=/opt/facerecon/numba MPLCONFIGDIR=/opt/facerecon/matplotlib
RUN photo=$(python -c "import matplotlib; print(matplotlib.get_data_path())")/sample_data/grace_hopper.jpg \
 && facerecon reconstruct "$photo" --out /tmp/first --mesh model

FROM python:3.12-slim
COPY --from=build /opt/facerecon /opt/facerecon
# Only /tmp is written to, and the folder that the user mounts at /data; any user id may run it.
ENV PATH=/opt/facerecon/bin:$PATH \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    FACERECON_CACHE=/tmp/cache/facerecon \
    NUMBA_CPU_NAME=generic \
    NUMBA_CACHE_DIR=/tmp/numba \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
WORKDIR /data
# numba wants a cache that it can write: each container begins with a copy of the compiled code.
ENTRYPOINT ["sh", "-c", "cp -r /opt/facerecon/numba /opt/facerecon/matplotlib /tmp/ && exec facerecon \"$@\"", "facerecon"]
CMD ["--help"]
