# Builds the manager's image; `make docker-build` also builds the sample application's.
FROM golang:1.26 AS builder
ARG TARGETOS
ARG TARGETARCH

WORKDIR /workspace
# The modules are a layer of their own: it is built anew only when they change.
COPY go.mod go.sum ./
RUN go mod download

COPY . .
# GOARCH has no default, so that the image fits the machine that asks for it.
RUN CGO_ENABLED=0 GOOS=${TARGETOS:-linux} GOARCH=${TARGETARCH} go build -trimpath -ldflags="-s -w" -o manager ./cmd

FROM gcr.io/distroless/static:nonroot
WORKDIR /
COPY --from=builder /workspace/manager .
USER 65532:65532

ENTRYPOINT ["/manager"]
