# The book in a container, for Docker, Binder and dev containers alike.
#
#     docker build -t snt-book .                             on a CPU
#     docker build -t snt-book --build-arg DEVICE=cu130 .    on a CUDA card (then: docker run --gpus all)
#     docker run --rm -p 8888:8888 snt-book                  JupyterLab on the chapters
#     docker run --rm snt-book snt chapter table4 -p profile=smoke
FROM python:3.12-slim-bookworm

# which of PyTorch's builds: cpu, or a version of CUDA such as cu130
ARG DEVICE=cpu
# Binder says under which name and number it runs
ARG NB_USER=reader
ARG NB_UID=1000

# g++ compiles the one-pass kernels, git names the commit in records
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid "$NB_UID" "$NB_USER"

ENV HOME=/home/$NB_USER \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR $HOME/snt-book

# What the project needs comes before the project, so that an edited page installs nothing again.
# A local version (2.13.0+cpu) satisfies the lock and is preferred to the same without it.
COPY pyproject.toml requirements.lock ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = p['optional-dependencies']; \
print(*p['dependencies'], *extras['book'], *extras['lab'], sep='\n')" > /tmp/needs.txt \
    && pip install --no-cache-dir --extra-index-url "https://download.pytorch.org/whl/$DEVICE" \
        -c requirements.lock -r /tmp/needs.txt

COPY --chown=$NB_UID . .
RUN pip install --no-cache-dir --no-deps -e . && chown "$NB_UID" .

USER $NB_UID
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "book"]
