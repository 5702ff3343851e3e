"""Rows GP-01 to GP-07 with grpcio, sync and aio: the Greeter through the sidecar's gRPC port.

DAPR_GRPC_PORT names the sidecar; KIND is the row suffix; the app id is `greeter`.
"""

import asyncio
import os
import pathlib
import sys
import threading

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from rows import raises, row, same

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "apps" / "greeter"))
protos, services = grpc.protos_and_services("greeter.proto")

ADDRESS = f"localhost:{os.environ['DAPR_GRPC_PORT']}"
TO = (("dapr-app-id", "greeter"),)
channel = grpc.insecure_channel(ADDRESS)
stub = services.GreeterStub(channel)


def hello(name):
    return protos.HelloRequest(name=name)


def unary():
    metadata = TO + (("x-text", "text"), ("x-bytes-bin", bytes(range(8))))
    reply, call = stub.SayHello.with_call(hello("you"), timeout=30, metadata=metadata)
    same("reply", "Hello you", reply.message)
    initial = dict(call.initial_metadata())
    same("caller", os.environ.get("CALLER", "caller"), initial["seen-caller"])
    same("text", "text", initial["seen-text"])
    same("bytes", bytes(range(8)), dict(call.trailing_metadata())["seen-bytes-bin"])


async def aio():
    async with grpc.aio.insecure_channel(ADDRESS) as channel:
        stub = services.GreeterStub(channel)
        reply = await stub.SayHello(hello("aio"), timeout=30, metadata=TO)
        same("reply", "Hello aio", reply.message)
        chat = stub.Chat(metadata=TO)
        for name in ("a", "b"):
            await chat.write(hello(name))
            same("chat", f"Hello {name}", (await chat.read()).message)
        await chat.done_writing()
        same("end", grpc.aio.EOF, await chat.read())


def streams():
    for extra in ((), (("dapr-stream", "true"),)):
        metadata = TO + extra
        reply = stub.ReplyToAll(iter([hello("a"), hello("b")]), metadata=metadata, timeout=30)
        same("client stream", "Hello a, b", reply.message)
        replies = [reply.message for reply in stub.ReplyOften(hello("c"), metadata=metadata, timeout=30)]
        same("server stream", ["Hello c 0", "Hello c 1", "Hello c 2"], replies)
        replies = [reply.message for reply in stub.Chat(iter([hello("d"), hello("e")]), metadata=metadata, timeout=30)]
        same("both", ["Hello d", "Hello e"], replies)


def deadline():
    error = raises(grpc.RpcError, lambda: stub.SayHello(hello("slow"), timeout=0.1, metadata=TO))
    same("code", grpc.StatusCode.DEADLINE_EXCEEDED, error.code())


def cancel():
    call = stub.SayHello.future(hello("slow"), metadata=TO)
    timer = threading.Timer(1, call.cancel)
    timer.start()
    raises(grpc.FutureCancelledError, call.result)
    same("code", grpc.StatusCode.CANCELLED, call.code())


def details():
    error = raises(grpc.RpcError, lambda: stub.SayHello(hello("fail"), metadata=TO, timeout=30))
    same("code", grpc.StatusCode.FAILED_PRECONDITION, error.code())
    same("message", "cannot greet", error.details())
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    same("detail", ("NOT_TODAY", "greeter"), (info.reason, info.domain))


def no_target():
    error = raises(grpc.RpcError, lambda: stub.SayHello(hello("you"), timeout=30))
    same("code", grpc.StatusCode.UNKNOWN, error.code())
    same("text", "cannot proxy request: missing dapr-callee-app-id or dapr-app-id metadata", error.details())


def unknown_app():
    metadata = (("dapr-app-id", "nosuch"),)
    error = raises(grpc.RpcError, lambda: stub.SayHello(hello("you"), timeout=30, metadata=metadata))
    same("code", grpc.StatusCode.UNKNOWN, error.code())


def large():
    error = raises(grpc.RpcError, lambda: stub.SayHello(hello("x" * (5 << 20)), metadata=TO, timeout=30))
    same("code", grpc.StatusCode.RESOURCE_EXHAUSTED, error.code())


def a_thousand():
    calls = [stub.SayHello.future(hello(str(number)), metadata=TO, timeout=60) for number in range(1000)]
    same("replies", [f"Hello {number}" for number in range(1000)], [call.result().message for call in calls])


kind = os.environ.get("KIND", "grpcio")
row(f"GP-01 {kind}", unary)
row(f"GP-01 {kind} aio", lambda: asyncio.run(aio()))
row(f"GP-04 {kind}", streams)
row(f"GP-05 {kind} deadline", deadline)
row(f"GP-05 {kind} cancel", cancel)
row(f"GP-06 {kind}", details)
row(f"GP-07 {kind}", no_target)
row(f"GP-07 {kind} unknown app", unknown_app)
row(f"GP-01 {kind} message above the limit", large)
row(f"GP-01 {kind} 1000 calls on one connection", a_thousand)
