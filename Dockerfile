# The multihost command: a static program, alone, and not root.
#
#   docker build -t multihost .
#
# Where no image registry is at hand, BUILDER names an image that has Go and a shell.
ARG BUILDER=golang:1.26

FROM ${BUILDER} AS build
ARG GOPROXY=https://proxy.golang.org,direct
ARG GOSUMDB=sum.golang.org
ARG GOFLAGS=
ENV CGO_ENABLED=0 GOCACHE=/cache/build GOMODCACHE=/cache/modules
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/cache go mod download
COPY . .
RUN --mount=type=cache,target=/cache \
    go build -trimpath -ldflags='-s -w' -o /out/multihost ./cmd/multihost && mkdir /out/data

FROM scratch
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.title="multihost" \
      org.opencontainers.image.description="Lock, Semaphore, Event and Queue of Python's multiprocessing, for the processes of many hosts, over Redis" \
      org.opencontainers.image.source="https://github.com/multihost/multihost" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/multihost /multihost
# A volume that is mounted here takes its owner from this directory.
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
ENTRYPOINT ["/multihost"]
