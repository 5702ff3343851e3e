"""A Flask app for the rows of the Python client: tells what it saw."""

import os

from flask import Flask, Response, jsonify, request

app = Flask(__name__)


@app.route("/seen", methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
def seen():
    """The request as JSON."""
    return jsonify(
        method=request.method,
        query=request.query_string.decode(),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=request.get_data(as_text=True),
    )


@app.route("/unavailable")
def unavailable():
    """An error in the SDK's own form."""
    return Response('{"message": "error occurred", "errorCode": "MY_CODE"}', 503, mimetype="application/json")


@app.route("/text")
def text():
    """A text with parameters in its type."""
    return Response("INVOKE_RECEIVED", 200, content_type="text/plain; charset=utf-8")


app.run(host="127.0.0.1", port=int(os.environ["APP_PORT"]), threaded=True)
