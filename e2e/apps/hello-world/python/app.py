"""The sender of the hello-world tutorial: posts an order a second to nodeapp through its own sidecar."""

import json
import os
import time
import urllib.error
import urllib.request

URL = f"http://localhost:{os.environ.get('DAPR_HTTP_PORT', '3500')}/neworder"
HEADERS = {"Content-Type": "application/json", "dapr-app-id": "nodeapp"}

number = 0
while True:
    number += 1
    body = json.dumps({"data": {"orderId": number}}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(URL, body, HEADERS), timeout=5):
            print(f"Order {number} sent", flush=True)
    except urllib.error.HTTPError as error:
        print(f"HTTP {error.code} => {error.read().decode()}", flush=True)
    except OSError as error:
        print(error, flush=True)
    time.sleep(1)
