# syntax=docker/dockerfile:1

# Tags, so that a local build follows them; the release workflow gives their digests of the day.
ARG BUILD_IMAGE=docker.io/library/node:24-trixie-slim
ARG FINAL_IMAGE=gcr.io/distroless/nodejs24-debian13:nonroot

# The bundle is the same for every platform, so it is built once, on the builder's own.
FROM --platform=$BUILDPLATFORM ${BUILD_IMAGE} AS build
WORKDIR /project
COPY package.json package-lock.json .npmrc ./
# Without scripts: the image has the Node that the package "node" would fetch, and esbuild needs none.
RUN npm ci --ignore-scripts --no-update-notifier
COPY tsconfig.json ./
COPY scripts/build.ts scripts/
COPY src src
RUN node scripts/build.ts

# Nothing is run here, so no platform needs to be emulated. A compile cache would need that, and saves a
# tenth of a second at the start.
FROM ${FINAL_IMAGE}
ARG VERSION=unreleased
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=https://github.com/node-termination-controller/node-termination-controller
LABEL org.opencontainers.image.title="node-termination-controller" \
      org.opencontainers.image.description="Empties Kubernetes nodes on EC2 before AWS takes them back" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
WORKDIR /app
COPY LICENSE ./
COPY --from=build /project/dist/main.js main.mjs
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/nodejs/bin/node", "/app/main.mjs"]
CMD ["run"]
