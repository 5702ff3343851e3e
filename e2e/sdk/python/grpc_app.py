"""A gRPC app of the SDK's own server, with a health handler if HEALTH is set."""

import os

from dapr.clients.grpc._response import InvokeMethodResponse
from dapr.ext.grpc import App
from google.protobuf.wrappers_pb2 import StringValue

app = App()


@app.method("my-method")
def my_method(request):
    """Answers what it got, and which metadata came with it."""
    seen = dict(request.metadata)
    print(f"seen {request.text()} {seen.get('dapr-caller-app-id')}", flush=True)
    return InvokeMethodResponse(b"INVOKE_RECEIVED " + request.data, "text/plain; charset=UTF-8")


@app.method("message")
def message(request):
    """Answers a protobuf message."""
    return InvokeMethodResponse(StringValue(value="packed"))


@app.method("raise")
def fail(request):
    """Fails in the handler."""
    raise ValueError("handler failed")


if os.environ.get("HEALTH"):
    app.register_health_check(lambda: None)

app.run(int(os.environ["APP_PORT"]), "127.0.0.1")
