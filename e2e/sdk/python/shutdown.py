"""Row SD-12, its last part: the client ends its sidecar."""

from dapr.clients import DaprClient

with DaprClient() as client:
    client.shutdown()
print("asked", flush=True)
