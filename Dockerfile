# Builds a static binary and an image that holds nothing else.
#   docker build -t strongroom .
#   docker run -d --network host -v strongroom:/var/lib/strongroom strongroom
#
# As everywhere, the server listens on loopback addresses and unix sockets until
# it is told otherwise. In a network of its own (-p 10809:10809) it needs TLS, or
# the word that it does without, because neighbouring containers reach it too:
#   -e STRONGROOM_NBD_LISTEN=0.0.0.0:10809 -e STRONGROOM_NBD_ALLOW_INSECURE_PUBLIC=true

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
RUN CGO_ENABLED=0 go build -trimpath \
      -ldflags "-s -w -X github.com/strongroom-backup/strongroom/internal/buildinfo.version=$VERSION" \
      -o /out/strongroom ./cmd/strongroom \
 && install -d -m 0700 /out/data

FROM scratch
COPY --from=build /out/strongroom /strongroom
# Owned by nobody, and so is a volume made from it.
COPY --from=build --chown=65534:65534 /out/data /var/lib/strongroom
USER 65534:65534
VOLUME /var/lib/strongroom
ENV STRONGROOM_DATA=/var/lib/strongroom
EXPOSE 10809 2022
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["/strongroom", "health"]
ENTRYPOINT ["/strongroom"]
CMD ["serve"]
