# syntax=docker/dockerfile:1
# One image for every role: the role is the subcommand.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# Both caches outlive a change of the sources, so only what changed is compiled again. target is a
# cache and not part of the layer: hence the copy.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked && \
    cp target/release/tablecast /usr/local/bin/tablecast

FROM debian:bookworm-slim
# The certificates are for object stores reached over TLS.
RUN apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates && \
    rm -rf /var/lib/apt/lists/*
# A number, so that Kubernetes can see that it is not root. /data is for `--store file:///data` and
# belongs to that user, so that a volume mounted there does as well.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin tablecast && \
    install --directory --owner=10001 --group=10001 /data
COPY --from=build /usr/local/bin/tablecast /usr/local/bin/tablecast
USER 10001:10001
VOLUME /data
# The gateway, and what every role tells about itself.
EXPOSE 8420 9100
ENTRYPOINT ["tablecast"]
CMD ["--help"]
