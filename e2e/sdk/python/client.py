"""Rows SD-02 to SD-10, SD-12, SD-13: the Python client against real sidecars.

The environment names the sidecar (DAPR_HTTP_PORT, DAPR_GRPC_PORT); the apps are pyhttp and pygrpc.
"""

import asyncio
import json
import os

import grpc
from dapr.aio.clients import DaprClient as AsyncDaprClient
from dapr.clients import DaprClient
from dapr.clients.exceptions import DaprInternalError
from google.protobuf.wrappers_pb2 import StringValue

from rows import raises, row, same


def with_data_and_no_verb():
    with DaprClient() as client:
        reply = client.invoke_method("pyhttp", "seen", data='{"a":1}')
    seen = json.loads(reply.text())
    same("method", "GET", seen["method"])
    same("body", '{"a":1}', seen["body"])
    same("length", "7", seen["headers"]["content-length"])
    same("type", "application/json; charset=utf-8", seen["headers"]["content-type"])


def grpc_app_with_text_reply():
    with DaprClient() as client:
        reply = client.invoke_method("pygrpc", "my-method", data=b"bytes")
    same("data", b"INVOKE_RECEIVED bytes", reply.data)
    same("status", 200, reply.status_code)
    same("type", "text/plain", reply.content_type)


def error_of_the_app():
    with DaprClient() as client:
        error = raises(DaprInternalError, lambda: client.invoke_method("pyhttp", "unavailable"))
    found = error.as_dict()
    same("message", "error occurred", found["message"])
    same("code", "MY_CODE", found["errorCode"])
    same("status", 503, found["status_code"])
    same("reason", "Service Unavailable", found["reason"])


def unknown_app():
    with DaprClient() as client:
        error = raises(DaprInternalError, lambda: client.invoke_method("nosuch", "x"))
    found = error.as_dict()
    same("code", "ERR_DIRECT_INVOKE", found["errorCode"])
    same("status", 500, found["status_code"])


def query_metadata_and_verb():
    with DaprClient() as client:
        reply = client.invoke_method(
            "pyhttp",
            "seen",
            http_verb="PUT",
            http_querystring=(("a", "1"), ("b", "x y")),
            metadata=(("X-Mine", "yes"),),
        )
    seen = json.loads(reply.text())
    same("query", "a=1&b=x+y", seen["query"])
    same("header", "yes", seen["headers"]["x-mine"])
    same("method", "PUT", seen["method"])


def protobuf_reply():
    with DaprClient() as client:
        reply = client.invoke_method("pygrpc", "message")
    value = StringValue()
    reply.unpack(value)
    same("value", "packed", value.value)
    same("type", "application/x-protobuf", reply.content_type)


def failing_handlers():
    with DaprClient() as client:
        unknown = raises(DaprInternalError, lambda: client.invoke_method("pygrpc", "no-such-method"))
        same("unknown method", 501, unknown.as_dict()["status_code"])
        failed = raises(DaprInternalError, lambda: client.invoke_method("pygrpc", "raise"))
        same("handler", 500, failed.as_dict()["status_code"])
        same("still there", 200, client.invoke_method("pygrpc", "my-method").status_code)


def over_grpc():
    os.environ["DAPR_API_METHOD_INVOCATION_PROTOCOL"] = "grpc"
    from dapr.conf import settings

    settings.DAPR_API_METHOD_INVOCATION_PROTOCOL = "grpc"
    try:
        with DaprClient() as client:
            reply = client.invoke_method("pyhttp", "seen", data="{}", http_verb="POST")
            same("method", "POST", json.loads(reply.text())["method"])
            error = raises(grpc.RpcError, lambda: client.invoke_method("pyhttp", "seen", data="{}"))
            same("code", grpc.StatusCode.INTERNAL, error.code())
            assert "missing HTTP extension field" in error.details(), error.details()
    finally:
        settings.DAPR_API_METHOD_INVOCATION_PROTOCOL = "http"


def metadata():
    with DaprClient() as client:
        same("id", "caller", client.get_metadata().application_id)
        for value in ("one", ""):
            client.set_metadata("label", value)
            same("label", value, client.get_metadata().extended_metadata["label"])


def two_hundred_at_once():
    async def run():
        async with AsyncDaprClient() as client:
            calls = (client.invoke_method("pyhttp", "seen", data="{}") for _ in range(200))
            replies = await asyncio.gather(*calls)
        same("replies", 200, sum(reply.status_code == 200 for reply in replies))

    asyncio.run(run())


row("SD-02", with_data_and_no_verb)
row("SD-03", grpc_app_with_text_reply)
row("SD-05", error_of_the_app)
row("SD-06", unknown_app)
row("SD-07", query_metadata_and_verb)
row("SD-08", protobuf_reply)
row("SD-09", failing_handlers)
row("SD-10", over_grpc)
row("SD-12", metadata)
row("SD-13", two_hundred_at_once)
