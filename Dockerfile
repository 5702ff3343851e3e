# The image that `cargo xtask images` makes without an engine: the same list of files (xtask/src/images/list.rs;
# a test compares them). One binary; which program it is, is said by the link that a pod calls: no ENTRYPOINT.
#
#   docker build -t REGISTRY/daprd:TAG .      and the same image under the names injector, operator, sentry, ironside
#
# On arm64 add --build-arg TRIPLET=aarch64-linux-gnu --build-arg LOADER=/lib/ld-linux-aarch64.so.1
ARG TRIPLET=x86_64-linux-gnu
ARG LOADER=/lib64/ld-linux-x86-64.so.2

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package ironside --bin ironside && strip --strip-debug target/release/ironside
RUN mkdir /links && \
    ln -s /ironside /links/daprd && \
    ln -s /ironside /links/injector && \
    ln -s /ironside /links/operator && \
    ln -s /ironside /links/sentry

FROM scratch
ARG TRIPLET
ARG LOADER
COPY --from=build ${LOADER} ${LOADER}
COPY --from=build /lib/${TRIPLET}/libc.so.6 /lib/${TRIPLET}/libc.so.6
COPY --from=build /lib/${TRIPLET}/libgcc_s.so.1 /lib/${TRIPLET}/libgcc_s.so.1
COPY --from=build /lib/${TRIPLET}/libm.so.6 /lib/${TRIPLET}/libm.so.6
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/release/ironside /ironside
COPY --from=build /links/ /
USER 65532:65532
