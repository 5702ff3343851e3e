"""Row SD-46: a client that pings every ten seconds without calls keeps its connection for a minute."""

import os
import time

import grpc

from rows import row, same

OPTIONS = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


def check():
    changes = []
    channel = grpc.insecure_channel(f"127.0.0.1:{os.environ['DAPR_GRPC_PORT']}", options=OPTIONS)
    grpc.channel_ready_future(channel).result(timeout=30)
    channel.subscribe(changes.append)
    time.sleep(60)
    same("states", [grpc.ChannelConnectivity.READY], changes[-1:])
    same("changes", 1, len(changes))


row("SD-46", check)
