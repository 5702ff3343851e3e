"""Row SD-11: a protected sidecar with the right, a wrong, and no token in DAPR_API_TOKEN."""

import os

from dapr.clients import DaprClient
from dapr.clients.exceptions import DaprInternalError

from rows import raises, row, same


def check():
    with DaprClient() as client:
        if os.environ.get("EXPECT") == "ok":
            same("status", 200, client.invoke_method("pyhttp", "text").status_code)
        else:
            error = raises(DaprInternalError, lambda: client.invoke_method("pyhttp", "text"))
            same("status", 401, error.as_dict()["status_code"])


row(os.environ["ROW"], check)
