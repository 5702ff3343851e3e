"""The callee of the invocation quickstart: receives orders."""

import json
import os

from flask import Flask, request

app = Flask(__name__)


@app.route("/orders", methods=["POST"])
def orders():
    """Takes one order."""
    print("Order received : " + json.dumps(request.json), flush=True)
    return json.dumps({"success": True}), 200, {"Content-Type": "application/json"}


app.run(port=int(os.environ.get("APP_PORT", "8001")))
