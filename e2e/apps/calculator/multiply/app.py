"""A part of the calculator tutorial: POST /multiply {"operandOne","operandTwo"} answers the product."""

import os

from flask import Flask, jsonify, request

app = Flask(__name__)


@app.route("/multiply", methods=["POST"])
def multiply():
    """The product of both operands."""
    content = request.json
    product = float(content["operandOne"]) * float(content["operandTwo"])
    return jsonify(int(product) if product.is_integer() else product)


app.run(port=int(os.environ.get("APP_PORT", "5001")))
