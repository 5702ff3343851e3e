"""Row SD-14: a gRPC app with health checks on, without and with a handler. EXPECT says which."""

import os
import time

from dapr.clients import DaprClient
from dapr.clients.exceptions import DaprInternalError

from rows import raises, row, same


def check():
    with DaprClient() as client:
        if os.environ["EXPECT"] == "unhealthy":
            error = raises(DaprInternalError, lambda: client.invoke_method("pyhealth", "my-method"))
            assert "app is not in a healthy state" in error.as_dict()["message"], error
            return
        deadline = time.monotonic() + 60
        while True:
            try:
                same("status", 200, client.invoke_method("pyhealth", "my-method").status_code)
                return
            except DaprInternalError:
                assert time.monotonic() < deadline, "not healthy within a minute"
                time.sleep(0.1)


row(os.environ["ROW"], check)
