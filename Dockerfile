# One image for every service: Ballpoint, and Debian's PostgreSQL for the databases that stand
# beside it - or below it, when it runs alone.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin ballpoint

FROM debian:bookworm-slim
RUN mkdir -p /etc/postgresql-common \
 && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
 && apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates postgresql-15 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/ballpoint ballpoint \
 && install -d -o ballpoint -g ballpoint -m 0750 /var/lib/ballpoint /var/lib/postgresql
COPY --from=build /src/target/release/ballpoint /usr/local/bin/ballpoint
COPY tools/container/postgres-service /usr/local/bin/postgres-service
USER ballpoint
WORKDIR /var/lib/ballpoint
VOLUME /var/lib/ballpoint
EXPOSE 4000
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m \
  CMD ["/usr/local/bin/ballpoint", "--data-dir", "/var/lib/ballpoint", "status", "--ready"]
ENTRYPOINT ["/usr/local/bin/ballpoint", "--data-dir", "/var/lib/ballpoint"]
# A container's loopback cannot be reached from outside of it, and any other address needs TLS: this
# exits 2 and says so, until BALLPOINT__SERVER__TLS_TERMINATED=true takes responsibility for the way
# to it (docker-compose.yml shows how).
CMD ["up", "--listen", "0.0.0.0:4000"]
