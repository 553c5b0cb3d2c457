# The image of a registry, of its sweep and of the check before a release: what Procfile runs. `docker build -t s3reg .`
#
# Nothing of it has to be written to but /tmp and, by gunicorn, /dev/shm: it runs on a read-only root, as nobody, with no
# capability. It holds no setting but where to listen, and no secret: compose.yaml and infra/terraform say the rest.

ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build

# server,traces: with OpenTelemetry too.
ARG EXTRAS=server

WORKDIR /build
RUN python -m venv /opt/s3reg
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/s3reg/bin/pip install --no-cache-dir --disable-pip-version-check ".[${EXTRAS}]"

FROM python:${PYTHON}

ARG VERSION=0.1.0
ARG REVISION=unknown

LABEL org.opencontainers.image.title="s3reg" \
      org.opencontainers.image.description="A registry for virtual-machine templates that keeps everything in object storage" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /opt/s3reg /opt/s3reg

# A volume of Fargate has the owner and mode that the image's folder has, but only of one named in VOLUME:
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/bind-mounts.html
RUN install -d -o 65532 -g 65532 -m 0755 /run/s3reg && chmod 1777 /tmp
VOLUME ["/tmp", "/run/s3reg"]

ENV PATH=/opt/s3reg/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    S3REG_LISTEN=0.0.0.0:8089 \
    S3REG_LOG_FORMAT=json

USER 65532:65532
EXPOSE 8089

# Whether the process answers, whatever the store does: a registry whose store is away is not to be started again.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8089, timeout=4); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]

# No shell between them: SIGTERM reaches the registry, which ends what it has under way.
ENTRYPOINT ["s3reg"]
CMD ["serve"]
