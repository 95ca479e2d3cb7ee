# chartpost's image (target `chartpost`, the default) and the sandbox's (target `sandbox`, for the demo).
# Not run where it was written: there was no Docker engine. `tests/deploy` reads it and runs what the containers would.

FROM python:3.11-slim-trixie AS base
ENV PATH=/opt/chartpost/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN groupadd --gid 10001 chartpost \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin chartpost
WORKDIR /opt/chartpost

# Everything that is installed is named with its hash, setuptools too, which builds our own wheel.
FROM base AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY requirements.lock requirements-dev.lock ./
RUN python -m venv /opt/chartpost \
    && /opt/chartpost/bin/pip install --require-hashes --only-binary :all: -r requirements.lock
RUN sed -n '/^setuptools==/,/[^\\]$/p' requirements-dev.lock > build.lock \
    && python -m venv /opt/tools \
    && /opt/tools/bin/pip install --require-hashes --only-binary :all: -r build.lock
COPY pyproject.toml README.md LICENSE ./
COPY config config
COPY tasks tasks
COPY worker worker
COPY sandbox sandbox
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir wheels . \
    && /opt/chartpost/bin/pip install --no-deps --no-index wheels/*.whl

# The sandbox needs the demo's packages; the lock that has them has the tests' as well, which do no harm in a demo.
FROM build AS build-sandbox
RUN /opt/chartpost/bin/pip install --require-hashes --only-binary :all: -r requirements-dev.lock

FROM base AS sandbox
COPY --from=build-sandbox /opt/chartpost /opt/chartpost
USER 10001:10001
EXPOSE 9000
ENTRYPOINT ["python", "-m", "sandbox"]

FROM base AS chartpost
COPY --from=build /opt/chartpost /opt/chartpost
# A named volume that is mounted here takes this owner over.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /data
USER 10001:10001
ENTRYPOINT ["chartpost"]
CMD ["--help"]
