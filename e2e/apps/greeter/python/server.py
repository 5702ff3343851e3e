"""The Greeter of the proxy how-to: listens on APP_PORT (50051) and greets; knows nothing of Dapr.

A few names steer it: `slow` sleeps until the caller gives up, `fail` ends with a status that has details.
"""

import os
import pathlib
import sys
import threading
from concurrent import futures

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
protos, services = grpc.protos_and_services("greeter.proto")


def say(text):
    """Writes one line at once: lines of two threads would mix, and tests count them."""
    os.write(1, f"{text}\n".encode())


class Greeter(services.GreeterServicer):
    """Answers `Hello <name>`."""

    def SayHello(self, request, context):
        say(f"Received: {request.name[:40]}")
        if request.name == "slow":
            gone = threading.Event()
            context.add_callback(gone.set)
            gone.wait(30)
            say(f"Cancelled: {request.name}")
        if request.name == "fail":
            context.abort_with_status(rpc_status.to_status(rich_status()))
        echo_metadata(context)
        return protos.HelloReply(message="Hello " + request.name)

    def ReplyToAll(self, requests, context):
        names = [request.name for request in requests]
        return protos.HelloReply(message="Hello " + ", ".join(names))

    def ReplyOften(self, request, context):
        for number in range(3):
            yield protos.HelloReply(message=f"Hello {request.name} {number}")

    def Chat(self, requests, context):
        for request in requests:
            yield protos.HelloReply(message="Hello " + request.name)


def echo_metadata(context):
    """Sends the caller's own metadata back: text in the header, bytes in the trailer."""
    seen = dict(context.invocation_metadata())
    context.send_initial_metadata((("seen-caller", seen.get("dapr-caller-app-id", "")), ("seen-text", seen.get("x-text", ""))))
    context.set_trailing_metadata((("seen-bytes-bin", seen.get("x-bytes-bin", b"")),))


def rich_status():
    """FailedPrecondition with one detail."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason="NOT_TODAY", domain="greeter"))
    return status_pb2.Status(code=9, message="cannot greet", details=[detail])


options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=options)
services.add_GreeterServicer_to_server(Greeter(), server)
port = os.environ.get("APP_PORT", "50051")
server.add_insecure_port(f"127.0.0.1:{port}")
server.start()
say(f"Listening on {port}")
server.wait_for_termination()
