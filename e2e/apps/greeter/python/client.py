"""The client of the proxy how-to: greets `server` through its own sidecar's gRPC port."""

import os
import pathlib
import sys

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
protos, services = grpc.protos_and_services("greeter.proto")

address = f"localhost:{os.environ.get('DAPR_GRPC_PORT', '50007')}"
with grpc.insecure_channel(address) as channel:
    stub = services.GreeterStub(channel)
    metadata = (("dapr-app-id", os.environ.get("GREETER_APP_ID", "server")),)
    reply = stub.SayHello(protos.HelloRequest(name="Darth Tyrannus"), timeout=30, metadata=metadata)
    print("Greeting:", reply.message, flush=True)
