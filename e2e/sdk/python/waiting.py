"""Row SD-01: constructs a client while its sidecar starts, and says when that is done."""

from dapr.clients import DaprClient

print("waiting", flush=True)
with DaprClient():
    print("constructed", flush=True)
