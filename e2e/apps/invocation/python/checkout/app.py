"""The caller of the invocation quickstart: an order a second, by header, through its own sidecar."""

import json
import os
import time

import requests

BASE = os.environ.get("BASE_URL", "http://localhost") + ":" + os.environ.get("DAPR_HTTP_PORT", "3500")
HEADERS = {"dapr-app-id": "order-processor", "content-type": "application/json"}

for number in range(1, 20):
    order = {"orderId": number}
    result = requests.post(url=f"{BASE}/orders", data=json.dumps(order), headers=HEADERS, timeout=10)
    if result.ok:
        print("Order passed: " + json.dumps(order), flush=True)
    else:
        print(f"Order failed: HTTP {result.status_code} {result.text}", flush=True)
    time.sleep(1)
