"""A gRPC app of the SDK's own server, in a pod: greets, and calls other apps with the SDK's client when told."""

import json
import os

from dapr.clients import DaprClient
from dapr.clients.exceptions import DaprInternalError
from dapr.clients.grpc._response import InvokeMethodResponse
from dapr.ext.grpc import App

app = App()


@app.method("hello")
def hello(request):
    """Greets, and says whose callee it is."""
    (caller,) = dict(request.metadata)["dapr-caller-app-id"]
    return InvokeMethodResponse(f"hello {request.text()}, says {caller}'s callee".encode(), "text/plain")


@app.method("relay")
def relay(request):
    """Calls the app and the method that the request names; answers with what came of it."""
    wish = json.loads(request.text())
    with DaprClient() as client:
        try:
            reply = client.invoke_method(wish["app"], wish["method"], data=wish["data"], http_verb="POST")
            said = {"status": reply.status_code, "text": reply.text()}
        except DaprInternalError as error:
            found = error.as_dict()
            said = {"status": found["status_code"], "code": found["errorCode"], "text": found["message"]}
    return InvokeMethodResponse(json.dumps(said).encode(), "application/json")


app.run(int(os.environ["APP_PORT"]), "127.0.0.1")
